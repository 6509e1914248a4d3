"""The rules of a healthy run: which numbers of ticks and snapshots are trouble, and what to do about them.

docs/healthy-run.md shows what the numbers look like in runs that went well and in runs that did not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sgxl_t.training.callbacks import health_advice
from sgxl_t.training.config.settings import HealthSettings

Line = dict[str, float]
Read = Callable[[Line, Line], float | None]
"""A line of stats.jsonl and the tick before it (empty at first) to a rule's value; None: no word on it."""

TICKS = 3
"""Ticks in a row before a warning begins or is over, as one can slip."""
POOLED = 500
"""Images that signs, which are near their bound where they are sick, are averaged over: a short tick is a
mean over few images, and ticks in a row that all do not slip may never come."""
SNAPSHOTS = 2
"""The same for snapshots, which are rare and measured on fixed latents, so that they hardly slip."""
AT_SNAPSHOTS: dict[str, Any] = {"patience": SNAPSHOTS, "counted": "snapshots"}
"""What rules over numbers of snapshots share."""

# Limits: of our own runs (docs/healthy-run.md), the ones that went well stay clear of them at every tick.
SIGNS, SIGNS_WELL = 0.94, 0.9
"""Runs that went well settle between -.2 and .75; last stages of chains rise to .91, first ticks to .92.
Where the generator stands still, .94 is passed after 700 to 1,400 images."""
SCORES, SCORES_WELL = 10.0, 5.0
"""Hinge asks for 1, and runs that went well stay below 3.4."""
FOLLOWED, FOLLOWED_WELL = 0.01, 0.02
"""An average with a half life of a hundred ticks has gone .01 of the way after three, shorter ones more."""
LOADER, LOADER_WELL = 0.25, 0.2
"""A quarter of the time is worth the change of a setting."""
ALIKE, ALIKE_WELL = 0.15, 0.18
"""Runs that went well: .21 to .25 by captions that say nearly all (real images .38), .3 to 1.1 by class."""
IGNORED, IGNORED_WELL = 0.1, 0.15
"""Runs that went well: .43 to 4.1."""
ONE_EACH, ONE_EACH_WELL = 8.0, 6.0
"""The same number on the other side: the latent changes an eighth of what another condition changes."""
REPEATED, REPEATED_WELL = 0.3, 0.4
"""Real images beside others .9 to 1.2, runs that went well .73 to 1.2; where pictures repeat it is 0."""
GRAIN, GRAIN_WELL = 2.5, 1.5
"""Noise of 8 grey levels adds 2.2 to 5.4, of 12 levels 3.6 to 7.8; runs that went well are below .9."""
NOISE, NOISE_WELL = 0.4, 0.25
"""Noise of 8 grey levels is .3, of 12 levels .5 of the fine contrast of emoji; a run that all called grainy
had .6."""
BLURRED, BLURRED_WELL = 0.35, 0.45
"""A Gaussian of one pixel leaves .22 to .27 at 32 px; runs that went well have .6 to 1.2."""
MUSH_SHARE = 0.25
"""Share of a run, from its start, in which pictures are blurred by nature."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When to warn of one kind of trouble, and when it is over.

    sick: the limit beyond which a value is trouble, on the side away from `well`. well: the limit within
    which trouble is over; between the two nothing changes. measured: the value in words, with {value}.
    advice: what to do, a sentence. patience: lines in a row before the state changes. pooled: images that the
    line is averaged over, from several ticks where one has fewer; 0 takes each line as it is.
    """

    name: str
    read: Read
    sick: float
    well: float
    trouble: str
    measured: str
    advice: str
    patience: int = 1
    pooled: int = 0
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
        over = f"over {self.pooled} images" if self.pooled else f"{self.patience} {self.counted} in a row"
        limit = f"should be {side} {self.sick:g} ({over})"
        return f"{self.trouble}: {self.measured.format(value=value)}, {limit}. {self.advice}"

    def ends(self, value: float) -> str:
        """The all-clear."""
        return f"over: {self.trouble}: {self.measured.format(value=value)}"


def rules_of(settings: HealthSettings) -> tuple[Rule, ...]:
    """All rules for a run."""
    return (
        *_discriminator_rules(settings),
        *_course_rules(settings),
        *_look_rules(settings),
        *_image_rules(settings),
    )


def _discriminator_rules(settings: HealthSettings) -> tuple[Rule, ...]:
    relativistic = settings.objective.loss == "relativistic"

    def margin(line: Line, before: Line) -> float | None:
        if not {"signs/real", "signs/fake"} <= line.keys():
            return None
        return (line["signs/real"] - line["signs/fake"]) / 2

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
            pooled=POOLED,
            trouble="the discriminator is too strong",
            measured="(signs/real - signs/fake) / 2 is {value:.3f}",
            advice=health_advice.for_strong_discriminator(settings),
        ),
        Rule(
            name="saturated",
            read=size,
            sick=SCORES,
            well=SCORES_WELL,
            patience=TICKS,
            trouble="the discriminator's scores are saturated",
            measured=f"{compared} is {{value:.1f}}",
            advice=health_advice.for_saturated_scores(settings),
        ),
    )


def _course_rules(settings: HealthSettings) -> tuple[Rule, ...]:
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
            advice=health_advice.for_standing_average(settings),
        ),
        Rule(
            name="loader_bound",
            read=_named("loader_share"),
            sick=LOADER,
            well=LOADER_WELL,
            patience=TICKS,
            trouble="training waits for the data",
            measured="its share of the time is {value:.2f}",
            advice=f"Raise data.num_workers, which is {settings.num_workers}, or store the pictures at "
            "the training resolution (sgxl-t prepare).",
        ),
    )


def _look_rules(settings: HealthSettings) -> tuple[Rule, ...]:
    mush = 1000 * max(MUSH_SHARE * settings.kimg, settings.blurred_kimg)

    def sharpness(line: Line, before: Line) -> float | None:
        return line.get("looks/sharpness") if line["images"] > mush else None

    noise = Rule(
        name="noise_inputs",
        read=_named("looks/noise"),
        sick=NOISE,
        well=NOISE_WELL,
        trouble="the generator's noise inputs cover pictures with grain",
        measured="what they add over all fine contrast of real pictures is {value:.2f}",
        advice="Start a new run without them: generator.stylegan_t.use_noise false.",
        **AT_SNAPSHOTS,
    )
    return (
        *([noise] if settings.uses_noise else []),
        Rule(
            name="grainy",
            read=_named("looks/grain"),
            sick=GRAIN,
            well=GRAIN_WELL,
            trouble="pictures are grainy",
            measured="flat places have {value:.1f} grey levels more noise than those of real pictures",
            advice=health_advice.for_grain(settings),
            **AT_SNAPSHOTS,
        ),
        Rule(
            name="blurred",
            read=sharpness,
            sick=BLURRED,
            well=BLURRED_WELL,
            trouble="pictures are blurred",
            measured="their edges over those of real pictures are {value:.2f}",
            advice=health_advice.for_blur(settings),
            **AT_SNAPSHOTS,
        ),
    )


def _image_rules(settings: HealthSettings) -> tuple[Rule, ...]:
    of_one = {"class": "samples of one class", "text": "samples of one caption", "none": "samples"}
    alike = Rule(
        name="too_alike",
        read=_named("variety/samples"),
        sick=ALIKE,
        well=ALIKE_WELL,
        **AT_SNAPSHOTS,
        trouble=f"{of_one.get(settings.cond, 'samples of one condition')} are too alike",
        measured="their distance over that of real pictures is {value:.3f}",
        advice=health_advice.for_alike_samples(settings),
    )
    if settings.cond == "none":
        return (alike, _repeated(settings))
    conditions = {"class": "classes", "text": "captions"}
    ignored = Rule(
        name="condition_ignored",
        read=_named("variety/conditions"),
        sick=IGNORED,
        well=IGNORED_WELL,
        **AT_SNAPSHOTS,
        trouble=f"{conditions.get(settings.cond, 'conditions')} are ignored",
        measured="what another of them changes over what another latent changes is {value:.3f}",
        advice=health_advice.for_ignored_condition(settings),
    )
    one = {"class": "class", "text": "caption"}.get(settings.cond, "condition")
    one_each = Rule(
        name="one_picture_each",
        read=_named("variety/conditions"),
        sick=ONE_EACH,
        well=ONE_EACH_WELL,
        **AT_SNAPSHOTS,
        trouble=f"every {one} has one picture alone",
        measured="what another of them changes over what another latent changes is {value:.1f}",
        advice=health_advice.for_alike_samples(settings),
    )
    return (alike, ignored, one_each)


def _repeated(settings: HealthSettings) -> Rule:
    # Of samples of one condition that may be alike, such as those of a caption, the rule above speaks.
    return Rule(
        name="repeated",
        read=_named("variety/nearest"),
        sick=REPEATED,
        well=REPEATED_WELL,
        trouble="pictures repeat",
        measured="the distance to the nearest other picture, over that of real pictures, is {value:.2f}",
        advice=health_advice.for_repeated_pictures(settings),
        **AT_SNAPSHOTS,
    )


def _named(name: str) -> Read:
    return lambda line, before: line.get(name)
