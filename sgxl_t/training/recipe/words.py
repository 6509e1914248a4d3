"""A recipe in words: the table that a start prints, and the YAML that gives the same settings again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sgxl_t.files.terminal import visible
from sgxl_t.training.recipe import rules
from sgxl_t.training.recipe.choose import Recipe
from sgxl_t.training.recipe.survey import Survey

NAMES = {
    "cond": "condition",
    "generator.img_resolution": "resolution",
    "generator.stylegan_t.channel_max": "width",
    "start": "starts from",
    "features": "networks",
    "batch.images": "batch",
    "schedule.kimg": "thousand images",
    "optimizer.g_lr": "learning rate",
    "ema.half_life_kimg": "average, kimg",
    "discriminator.diff_augment": "augmentation",
    "objective.diversity_weight": "variety",
}
MAX_VALUE = 26


def found(source: str, survey: Survey) -> str:
    """What the data is, in one line."""
    words = [f"{survey.pictures:,} pictures" + ("" if survey.all_known else " seen, there may be more")]
    if survey.median is not None:
        words[0] += f" of about {survey.median} px (the smallest {survey.smallest} px)"
    words.append(f"{survey.classes} classes" if survey.classes else "no labels")
    words.append(f"{survey.distinct:,} different captions" if survey.captions else "no captions")
    words.append("gray" if survey.gray else "colour")
    if survey.repeated > rules.REPEATED_SHARE * survey.looked_at:
        same = f"{survey.repeated} of {survey.looked_at} looked at are nearly the same one"
        words.append(f"{same}, which the model will draw as often")
    return f"{visible(source)}: {', '.join(words)}"


def table(recipe: Recipe) -> list[str]:
    """Setting, value and reason, a line each."""
    rows = [("setting", "value", "because")]
    rows += [(NAMES[one.key], _shown(one.value), visible(one.reason)) for one in recipe.choices]
    first, second = (max(len(row[column]) for row in rows) + 2 for column in (0, 1))
    return [f"{name:{first}}{value:{second}}{reason}" for name, value, reason in rows]


def _shown(value: Any) -> str:
    text = visible(f"{value:g}" if isinstance(value, float) else value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}..."


def duration(recipe: Recipe) -> str | None:
    """How long the run takes, and what for; None where the user said how long it is."""
    times = recipe.times
    if times is None:
        return None
    parts = [
        (times.features, "for feature networks"),
        (times.reading, "for reading pictures"),
        (times.training, "for training"),
        (times.snapshots + times.start, "for the start and snapshots"),
    ]
    told = ", ".join(f"{_time(seconds)} {what}" for seconds, what in parts if seconds >= 1)
    return f"about {_time(times.total)} in all: {told}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def recipe_yaml(values: Mapping[str, Any], told: Sequence[str]) -> str:
    """A file for `--config`. values: nested settings. told: the lines above them, as comments."""
    import yaml

    comments = "".join(f"# {line}\n" for line in told)
    return comments + yaml.safe_dump(dict(values), sort_keys=False)
