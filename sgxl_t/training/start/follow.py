"""Which settings of a run follow from its start, or from the run itself when it is resumed."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from sgxl_t.datasets.base import ImageSource
from sgxl_t.datasets.open import open_source
from sgxl_t.networks.text.vocab import FILE, WordTokenizer
from sgxl_t.training.loop.data import usual_resolution
from sgxl_t.training.start.origin import find_origin, is_run, names_scale
from sgxl_t.training.start.recipe import fine_tuning

log = logging.getLogger("sgxl_t")

Settings = dict[str, Any]
"""Values by dotted key."""
OWN_TEXT, RAMP = "conditioning.own_text_encoder", "ema.rampup"
MINUTES, FIT_MINUTES = "schedule.max_minutes", "schedule.fit_minutes"
RESOLUTION, ATTENTION = "generator.img_resolution", "generator.stylegan_t.attention_resolutions"
CLASS_TABLE = "conditioning.class_table"
TEXT_SCALE = "generator.stylegan_t.text_scale"
INSTANCES, EXAGGERATION = "generator.stylegan_t.instances", "generator.stylegan_t.exaggeration"
MIRRORED = "generator.stylegan_t.mirrored"
CAPTIONS = 1000
"""Captions that decide whether the start's text encoder stays."""
KNOWN_SHARE = 0.5
"""Share of captions of which it must know every word."""


@dataclass(frozen=True)
class Beginning:
    """What decides on the settings that follow.

    start: as given. cond: of the run. data: reference of the images. given: dotted
    keys on the command line, which nothing changes. tuned: whether the recipe for fine-tuning applies.
    """

    start: str
    cond: str
    data: str
    given: Collection[str]
    tuned: bool


def followed(beginning: Beginning) -> Settings:
    """Settings of a new run from its start: the generator's, so that its weights fit, the text encoder's and
    the averages', which begin at the start's weights and so need no ramp; and those of the recipe.

    ValueError where the start is none.
    """
    origin = find_origin(beginning.start, beginning.cond)
    cond = beginning.cond
    source = _open(beginning.data, origin.generator.get("img_resolution", 32))
    found = _dotted(origin.generator, "generator.")
    if cond != "text" and ATTENTION in found:
        found[ATTENTION] = []
    if cond != "text" and INSTANCES in found:
        found |= {INSTANCES: 0, EXAGGERATION: 0.0}
    if found.get(MIRRORED) and beginning.data != origin.data:
        found[MIRRORED] = False  # other pictures, such as letters, may not be as often one way as the other
        log.info(
            "start=%s mirrors every other picture and this run none; use %s=true for pictures that face "
            "either way",
            beginning.start,
            MIRRORED,
        )
    reads_names = cond == "class" and origin.names_as_classes and CLASS_TABLE not in beginning.given
    if reads_names and origin.model is not None:
        found[TEXT_SCALE] *= names_scale(origin.model.condition.dim)
    _fit_data(found, source, beginning)
    found[RAMP] = None
    if cond == "text" and origin.text_encoder is not None and _reads(origin.text_encoder, source, beginning):
        found[OWN_TEXT] = f"local:{origin.text_encoder}"
    if beginning.tuned:
        found |= fine_tuning(None if source is None else len(source))
        if MINUTES in beginning.given:
            found[FIT_MINUTES] = True  # minutes say how long the run is; the recipe's length is an estimate
    return {key: value for key, value in found.items() if key not in beginning.given}


def resumed(folder: Path, *, tuned: bool) -> Settings | None:
    """What `followed` gave when the run in a folder began, from its config.yaml; None for a new run."""
    if not is_run(folder) or not (folder / "config.yaml").is_file():
        return None
    stored = _dotted(yaml.safe_load((folder / "config.yaml").read_text()) or {})
    keys = {"cond", OWN_TEXT, RAMP, *((*fine_tuning(None), FIT_MINUTES) if tuned else ())}
    found = {key: stored[key] for key in stored if key in keys or key.startswith("generator.")}
    own, kept = found.get(OWN_TEXT), folder / "last" / "text_encoder"
    if isinstance(own, str) and kept.is_dir() and not Path(own.removeprefix("local:")).is_dir():
        found[OWN_TEXT] = f"local:{kept}"  # the start is gone
    return found


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Settings:
    found: Settings = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= _dotted(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def _open(data: str, resolution: int) -> ImageSource | None:
    """The images, for a look at how many and of what kind they are; None where they cannot be read now, which
    is for later checks to say."""
    try:
        return open_source(data, resolution=resolution)
    except (ValueError, OSError):
        return None


def _fit_data(found: Settings, source: ImageSource | None, beginning: Beginning) -> None:
    """Lowers the resolution of a stylegan_t generator, whose lower blocks are whole, to that of the data."""
    theirs = found.get(RESOLUTION)
    usual = None if source is None else usual_resolution(source)
    family = found.get("generator.family")
    if theirs is None or usual is None or family != "stylegan_t" or RESOLUTION in beginning.given:
        return
    if usual >= theirs:
        return
    found[RESOLUTION] = max(usual, 8)
    log.info(
        "start=%s makes %d px and the pictures have %d: the run makes these", beginning.start, theirs, usual
    )


def _reads(encoder: Path, source: ImageSource | None, beginning: Beginning) -> bool:
    """Whether a text encoder stays: it knows the words of enough captions, and no other one is asked for."""
    if OWN_TEXT in beginning.given or source is None or not source.has_captions:
        return OWN_TEXT not in beginning.given
    if not (encoder / FILE).is_file():  # it spells words out
        return True
    words = WordTokenizer.load(encoder)
    step = max(1, len(source) // CAPTIONS)
    captions = [source[index].caption for index in islice(range(0, len(source), step), CAPTIONS)]
    texts = [text for text in captions if text]
    known = sum(not words.unknown_words([text]) for text in texts) / len(texts) if texts else 1.0
    if known < KNOWN_SHARE:
        log.info(
            "start=%s: its text encoder knows all words of %.0f %% of the captions: the run's own reads them",
            beginning.start,
            100 * known,
        )
    return known >= KNOWN_SHARE
