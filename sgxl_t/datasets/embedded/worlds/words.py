"""The words of emoji-worlds: what a picture with given attributes may be called."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from sgxl_t.datasets.embedded import scene_captions

BARE_SHARE, THE_SHARE = 0.2, 0.05
"""Single things without an article, and with "the"."""
STYLED_SHARE = 0.2
LARGE_SAID_SHARE = 0.12
PLACELESS_SHARE = 0.06
"""Training captions that say nothing of the scene, as people often do."""


@dataclass(frozen=True)
class Shown:
    """What a picture shows, in words. names: of the thing, of which a caption takes one.

    size: `large` or `small`. colour: the word said, "" for none. count: `one`, `two` or `three`. others:
    names of the second thing, () for none. design: the artist's.
    """

    names: Sequence[str]
    scene: str
    size: str = "large"
    colour: str = ""
    count: str = "one"
    others: Sequence[str] = ()
    design: str = ""


def with_article(phrase: str) -> str:
    """The phrase behind its indefinite article, or without one where it has none ("bread", "grapes")."""
    if phrase.split(" ")[-1] in word_table()["uncounted"] and " of " not in phrase:
        return phrase
    return f"a {phrase}" if phrase.startswith("ewe") else scene_captions.with_article(phrase)


@cache
def word_table() -> dict[str, Any]:
    """All words but the names of things; see assets/words.json."""
    stored = files("sgxl_t.datasets.embedded.worlds").joinpath("assets/words.json")
    return json.loads(stored.read_text(encoding="ascii"))


def plural(name: str) -> str:
    """The plural of a name; of `slice of pizza` that of its first word."""
    head, of, rest = name.partition(" of ")
    words, known = head.split(" "), word_table()["plurals"]
    last = words[-1]
    if last in known:
        last = known[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")) or last in ("potato", "tomato"):
        last += "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return " ".join([*words[:-1], last]) + of + rest


def plain_caption(shown: Shown) -> str:
    """The one plain caption, for example "a small blue fox in snow" or "a fox and a cat at night"."""
    words = word_table()
    size = words["sizes"]["small"][0] if shown.size == "small" else ""
    adjectives = [word for word in (size, shown.colour) if word]
    if shown.count == "one":
        thing = with_article(" ".join([*adjectives, shown.names[0]]))
    else:
        thing = " ".join([shown.count, *adjectives, plural(shown.names[0])])
    if shown.others:
        thing = f"{thing} and {with_article(shown.others[0])}"
    return f"{thing} {words['scenes'][shown.scene]['places'][0]}"


def draw_caption(shown: Shown, random: np.random.RandomState, *, unseen: bool, complete: bool) -> str:
    """One of the many captions of a picture.

    unseen: places are called by words that no training caption has; the names are the caller's.
    complete: always says the scene.
    """
    words = word_table()
    scene = words["scenes"][shown.scene]
    styled = random.random_sample() < STYLED_SHARE and shown.design != ""
    style = words["styles"][shown.design] if styled else {}
    way = random.randint(3)
    thing = _things(shown, _pick(random, style["adjectives"]) if style and way == 0 else "", random)
    if style and way == 1:
        thing = f"{_pick(random, style['beginnings'])} {thing}"
    place = _pick(random, scene["unseen" if unseen else "places"])
    form = _pick(random, words["forms"])
    if unseen:
        form = "{place}, {thing}" if form.startswith("{place}") else "{thing} {place}"
    if style and way == 1 and not form.startswith("{"):
        form = "{thing} {place}"
    if not complete and random.random_sample() < PLACELESS_SHARE:
        form = "{thing}"
    text = form.format(thing=thing, place=place, noun=_pick(random, scene["nouns"]))
    return f"{text}, {_pick(random, style['endings'])}" if style and way == 2 else text


def _pick(random: np.random.RandomState, options: Sequence[str]) -> str:
    return options[random.randint(len(options))]


def _things(shown: Shown, style: str, random: np.random.RandomState) -> str:
    """The thing or things as one phrase."""
    words = word_table()
    said = random.random_sample() < LARGE_SAID_SHARE and not shown.others and shown.count == "one"
    size = _pick(random, words["sizes"][shown.size]) if shown.size == "small" or said else ""
    adjectives = [word for word in (size, style, shown.colour) if word]
    name = _pick(random, shown.names)
    bare, draw = BARE_SHARE, random.random_sample()
    if shown.count != "one":
        count = _pick(random, words["counts"][shown.count])
        return " ".join([count, *adjectives, plural(name)])
    one = _determined(" ".join([*adjectives, name]), draw)
    if not shown.others:
        return one
    other = _pick(random, shown.others)
    other = other if draw < bare else _determined(other, max(random.random_sample(), bare))
    if random.random_sample() < 0.4:
        one, other = other, one
    return _pick(random, words["joints"]).format(one=one, other=other)


def _determined(phrase: str, draw: float) -> str:
    """The phrase without an article, with "the" or with "a", by a number in [0, 1)."""
    if draw < BARE_SHARE:
        return phrase
    return f"the {phrase}" if draw < BARE_SHARE + THE_SHARE else with_article(phrase)
