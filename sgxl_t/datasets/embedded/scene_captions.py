"""The words of emoji-scenes: what an image with given attributes may be called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SIZES = ("large", "small")
SIZE_WORDS: dict[str, tuple[str, ...]] = {
    # No word at all means large, so "a red fox in snow" asks for one definite image.
    "large": ("big", "", "large", ""),
    "small": ("small", "little", "tiny"),
}


@dataclass(frozen=True)
class SceneWords:
    """places: phrases that follow the thing; nouns: the scene as a thing of its own."""

    places: tuple[str, ...]
    nouns: tuple[str, ...]


SCENE_WORDS: dict[str, SceneWords] = {
    "snow": SceneWords(("in snow", "in the snow", "on a snowy field"), ("a snowy field", "snow")),
    "beach": SceneWords(("on a beach", "at the beach", "on a sandy beach"), ("a beach", "a sandy beach")),
    "night": SceneWords(("at night", "in the night", "under a night sky"), ("a night sky", "night")),
    "grass": SceneWords(("on grass", "in a meadow", "on a green meadow"), ("a green meadow", "grass")),
    "city": SceneWords(
        ("in a city", "in the city", "in front of tall buildings"), ("a city", "tall buildings")
    ),
    "water": SceneWords(("in water", "in the water", "in the blue sea"), ("blue water", "the sea")),
    "desert": SceneWords(("in a desert", "in the desert", "on desert sand"), ("a desert", "desert sand")),
    "plain": SceneWords(
        ("on a plain background", "on a blank background", "on plain paper"),
        ("a plain background", "plain paper"),
    ),
}

FORMS: tuple[str, ...] = (
    "{thing} {place}",
    "{thing} {place}",
    "{place}, {thing}",
    "a picture of {thing} {place}",
    "{noun} with {thing}",
)
"""Word orders; the plain one stands twice because it is what people type."""


def with_article(phrase: str) -> str:
    """The phrase behind its indefinite article."""
    vowel = phrase[0] in "aeiou" and not phrase.startswith(("uni", "euro"))
    return f"{'an' if vowel or phrase.startswith('hour') else 'a'} {phrase}"


def canonical_caption(name: str, scene: str, size: str, colour: str = "", time: str = "day") -> str:
    """The one plain caption of given attributes, for example "a small fox in snow"."""
    word = SIZE_WORDS[size][0]
    return _fill(
        FORMS[0], name, word, colour, SCENE_WORDS[scene].places[0], SCENE_WORDS[scene].nouns[0], time
    )


def draw_caption(
    names: Sequence[str], scene: str, size: str, colour: str, time: str, draws: Sequence[float]
) -> str:
    """One of the captions of given attributes, chosen by five numbers in [0, 1)."""
    words = SCENE_WORDS[scene]
    choices = (names, SIZE_WORDS[size], words.places, words.nouns, FORMS)
    name, word, place, noun, form = (
        options[int(draw * len(options))] for options, draw in zip(choices, draws, strict=True)
    )
    return _fill(form, name, word, colour, place, noun, time)


def _fill(form: str, name: str, size: str, colour: str, place: str, noun: str, time: str) -> str:
    thing = with_article(" ".join(word for word in (size, colour, name) if word))
    night = " at night" if time == "night" else ""
    return form.format(thing=thing, place=place + night, noun=noun + night)
