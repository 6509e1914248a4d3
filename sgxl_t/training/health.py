"""Whether a run is healthy: rules over the numbers of ticks and snapshots, told in words when one breaks.

docs/healthy-run.md shows what the numbers look like in runs that went well and in runs that did not.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgxl_t.files.whole import whole_file

if TYPE_CHECKING:
    from sgxl_t.training.config import TrainConfig

log = logging.getLogger("sgxl_t")

FILE = "health.jsonl"
Line = dict[str, float]
Read = Callable[[Line, Line], float | None]
"""A line of stats.jsonl and the tick before it (empty at first) to a rule's value; None: no word on it."""

TICKS = 3
"""Ticks in a row before a warning begins or is over: a tick is a mean over few images, and one can slip."""
SNAPSHOTS = 2
"""The same for snapshots, which are rare and measured on fixed latents, so that they hardly slip."""

# Limits: of our own runs (docs/healthy-run.md), the ones that went well stay clear of them at every tick.
SIGNS, SIGNS_WELL = 0.95, 0.9
"""Runs that went well settle between -.2 and .75; last stages of chains rise to .91, first ticks to .92."""
SCORES, SCORES_WELL = 10.0, 5.0
"""Hinge asks for 1, and runs that went well stay below 3.4."""
FOLLOWED, FOLLOWED_WELL = 0.01, 0.02
"""An average with a half life of a hundred ticks has gone .01 of the way after three, shorter ones more."""
LOADER, LOADER_WELL = 0.25, 0.2
"""A quarter of the time is worth the change of a setting."""
ALIKE, ALIKE_WELL = 0.15, 0.18
"""Runs that went well: .21 to .25 by captions that say nearly all (real pictures .38), .3 to 1.1 by class."""
IGNORED, IGNORED_WELL = 0.1, 0.15
"""Runs that went well: .43 to 4.1."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One way to be ill.

    sick: the value beyond which it is, on the side away from `well`, the value within which it is over; in
    between nothing changes. measured: the value in words, with {value}. advice: what to do, a sentence.
    """

    name: str
    read: Read
    sick: float
    well: float
    patience: int
    trouble: str
    measured: str
    advice: str
    counted: str = "ticks"

    @property
    def _high(self) -> bool:
        return self.sick >= self.well

    def broken(self, value: float) -> bool:
        """Whether it is beyond the limit; False for NaN."""
        return value > self.sick if self._high else value < self.sick

    def kept(self, value: float) -> bool:
        """Whether it is well within; False for NaN."""
        return value <= self.well if self._high else value >= self.well

    def begins(self, value: float) -> str:
        """The warning."""
        side = "at most" if self._high else "at least"
        limit = f"should be {side} {self.sick:g} ({self.patience} {self.counted} in a row)"
        return f"{self.trouble}: {self.measured.format(value=value)}, {limit}. {self.advice}"

    def ends(self, value: float) -> str:
        """The all-clear."""
        return f"over: {self.trouble}: {self.measured.format(value=value)}"


def rules_of(config: TrainConfig) -> tuple[Rule, ...]:
    """All rules for a run."""
    return (*_discriminator_rules(config), *_course_rules(config), *_picture_rules(config))


def _discriminator_rules(config: TrainConfig) -> tuple[Rule, ...]:
    relativistic = config.objective.loss == "relativistic"

    def margin(line: Line, before: Line) -> float | None:
        if not {"signs/real", "signs/fake"} <= line.keys():
            return None
        return min(line["signs/real"], -line["signs/fake"])

    def size(line: Line, before: Line) -> float | None:
        if not {"scores/real", "scores/fake"} <= line.keys():
            return None
        real, fake = line["scores/real"], line["scores/fake"]
        # The relativistic loss sees differences alone; what both have in common may drift.
        return abs(real - fake) / 2 if relativistic else max(abs(real), abs(fake))

    compared = "(scores/real - scores/fake) / 2" if relativistic else "max(|scores/real|, |scores/fake|)"
    return (
        Rule(
            name="d_too_strong",
            read=margin,
            sick=SIGNS,
            well=SIGNS_WELL,
            patience=TICKS,
            trouble="the discriminator is too strong",
            measured="min(signs/real, -signs/fake) is {value:.3f}",
            advice="It tells nearly all pictures apart and teaches little: see to other warnings first, then "
            "raise optimizer.g_lr or lower d_lr, blur longer (objective.blur_init_sigma, blur_fade_kimg), "
            "set discriminator.diff_augment, or add data (data.mirror).",
        ),
        Rule(
            name="saturated",
            read=size,
            sick=SCORES,
            well=SCORES_WELL,
            patience=TICKS,
            trouble="the discriminator's scores are saturated",
            measured=f"{compared} is {{value:.1f}}",
            advice="Its heads run away from the data: go back to best/, lower optimizer.d_lr and g_lr.",
        ),
    )


def _course_rules(config: TrainConfig) -> tuple[Rule, ...]:
    def skipped(line: Line, before: Line) -> float | None:
        if "skipped_steps" not in line:
            return None
        return line["skipped_steps"] - before.get("skipped_steps", 0)

    return (
        Rule(
            name="steps_skipped",
            read=skipped,
            sick=0,  # one step may overflow, but not in three ticks in a row
            well=0,
            patience=TICKS,
            trouble="gradients are not finite",
            measured="steps skipped since the tick before: {value:.0f}",
            advice="Train in bfloat16 or float32 instead of float16, or lower the learning rates; where all "
            "steps are skipped, go back to an earlier checkpoint.",
        ),
        Rule(
            name="average_stands",
            read=_named("ema/followed"),
            sick=FOLLOWED,
            well=FOLLOWED_WELL,
            patience=TICKS,
            trouble="the average of the generator does not move",
            measured="it has gone {value:.4f} of the way that the weights have gone",
            advice=f"Samples, best/ and last/ show the average: lower ema.half_life_kimg, which is "
            f"{config.ema.half_life_kimg:g} (thousand images), or set ema.rampup.",
        ),
        Rule(
            name="loader_bound",
            read=_named("loader_share"),
            sick=LOADER,
            well=LOADER_WELL,
            patience=TICKS,
            trouble="training waits for the data",
            measured="its share of the time is {value:.2f}",
            advice=f"Raise data.num_workers, which is {config.data.num_workers}, or store the pictures at "
            "the training resolution (sgxl-t prepare).",
        ),
    )


def _picture_rules(config: TrainConfig) -> tuple[Rule, ...]:
    of_one, lower = {
        "class": ("samples of one class", "generator.stylegan_t.text_scale, objective.cls_weight"),
        "text": ("samples of one caption", "generator.stylegan_t.text_scale, objective.clip_weight"),
        "none": ("samples", "optimizer.g_lr"),
    }[config.cond]
    alike = Rule(
        name="too_alike",
        read=_named("variety/samples"),
        sick=ALIKE,
        well=ALIKE_WELL,
        patience=SNAPSHOTS,
        counted="snapshots",
        trouble=f"{of_one} are too alike",
        measured="their distance over that of real pictures is {value:.3f}",
        advice=f"The latent hardly counts: lower {lower} or optimizer.d_lr, raise generator.z_dim.",
    )
    if config.cond == "none":
        return (alike,)
    names, remedy = {
        "class": ("classes", "check that labels fit their pictures, raise objective.cls_weight"),
        "text": (
            "captions",
            "check that captions fit their pictures, raise objective.clip_weight, objective.mismatch_weight "
            "or generator.stylegan_t.text_scale",
        ),
    }[config.cond]
    ignored = Rule(
        name="condition_ignored",
        read=_named("variety/conditions"),
        sick=IGNORED,
        well=IGNORED_WELL,
        patience=SNAPSHOTS,
        counted="snapshots",
        trouble=f"{names} are ignored",
        measured="what another of them changes over what another latent changes is {value:.3f}",
        advice=f"Pictures are the same whatever is asked for: {remedy}.",
    )
    return (alike, ignored)


def _named(name: str) -> Read:
    return lambda line, before: line.get(name)


class Health:
    """Watches a run by its rules; a warning is logged and kept once when it begins and once when it is over.

    Entries of RUN/health.jsonl: images and kimg of its tick or snapshot, rule, state (begins or over), value,
    text. On resume, entries past the checkpoint are dropped.
    """

    def __init__(
        self, folder: Path, rules: Sequence[Rule], *, images_seen: int, stats: Iterable[Line] = ()
    ) -> None:
        """stats: the lines up to images_seen, from which counts in a row go on as if never stopped."""
        self.path, self.rules = folder / FILE, tuple(rules)
        kept = [entry for entry in read_health(folder) or [] if entry["images"] <= images_seen]
        with whole_file(self.path) as aside:
            aside.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
        self.active = {entry["rule"] for entry in warnings_on(kept)}
        self._in_a_row = dict.fromkeys((rule.name for rule in self.rules), 0)
        self._before: Line = {}
        for line in stats:
            self._count(line)

    def take(self, line: Line) -> None:
        """line: of stats.jsonl, of a tick or a snapshot."""
        for rule, value in self._count(line):
            if self._in_a_row[rule.name] < rule.patience:
                continue
            self._in_a_row[rule.name] = 0
            begins = rule.name not in self.active
            (self.active.add if begins else self.active.discard)(rule.name)
            text = rule.begins(value) if begins else rule.ends(value)
            (log.warning if begins else log.info)("%.1f kimg: %s", line["images"] / 1000, text)
            entry = {
                "images": line["images"],
                "kimg": line["images"] / 1000,
                "rule": rule.name,
                "state": "begins" if begins else "over",
                "value": float(f"{value:.4g}"),
                "text": text,
            }
            with self.path.open("a") as stream:
                stream.write(json.dumps(entry) + "\n")

    def _count(self, line: Line) -> list[tuple[Rule, float]]:
        """Counts how often in a row each rule speaks against its state; returns those that speak at all."""
        spoken = []
        for rule in self.rules:
            value = rule.read(line, self._before)
            if value is None or math.isnan(value):
                continue
            turns = rule.kept(value) if rule.name in self.active else rule.broken(value)
            self._in_a_row[rule.name] = self._in_a_row[rule.name] + 1 if turns else 0
            spoken.append((rule, value))
        if "skipped_steps" in line:
            self._before = line
        return spoken


def read_health(folder: Path) -> list[dict[str, Any]] | None:
    """All whole entries of a run, oldest first; None where the run has not been watched."""
    if not (folder / FILE).exists():
        return None
    entries = []
    for text in (folder / FILE).read_text().splitlines():
        try:
            entries.append(json.loads(text))
        except ValueError:
            continue
    return entries


def warnings_on(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of warnings that have begun and are not over."""
    last = {entry["rule"]: entry for entry in entries}
    return [entry for entry in last.values() if entry["state"] == "begins"]
