"""The choice: from survey, machine, minutes and what the user gave to the settings of a run. No files, no
clock, no networks: equal values give equal settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sgxl_t.training.recipe import rules
from sgxl_t.training.recipe.rules import Side
from sgxl_t.training.recipe.survey import Survey

COND, SIDE, KIMG = "cond", "generator.img_resolution", "schedule.kimg"
START, FEATURES = "start", "features"


NETWORKS = ("generator.", "discriminator.")
"""Beginnings of settings that decide whether other weights fit."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What a trial of one side found. images: trained per second by all processes together. feature_seconds:
    that local feature networks train where nothing limits them; 0 where none are trained."""

    images: float
    feature_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where the run trains. gpu: else on the CPU. processes: that take part. published: whether a published
    network is at hand for the discriminator. speeds: by side in pixels, of the sides that were tried."""

    gpu: bool = False
    processes: int = 1
    published: bool = False
    speeds: Mapping[int, Speed] = field(default_factory=dict)

    @property
    def sides(self) -> tuple[Side, ...]:
        """All sides that there is a rule for, small to large."""
        return rules.GPU_SIDES if self.gpu else rules.CPU_SIDES


@dataclass(frozen=True)
class Choice:
    """A setting by its dotted key, its value, and why in a few words."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True, kw_only=True)
class Times:
    """Where the seconds of a run go, as far as they are known."""

    start: float
    features: float
    reading: float
    training: float
    snapshots: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.start + self.features + self.reading + self.training + self.snapshots


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """choices: what a person reads, with the reasons. settings: all dotted keys that the recipe sets, beside
    what was given and the preset of the condition. times: None where the user said how long the run is."""

    cond: str
    choices: tuple[Choice, ...]
    settings: Mapping[str, Any]
    times: Times | None


def to_try(survey: Survey, machine: Machine, given: Mapping[str, Any]) -> list[int]:
    """Sides in pixels whose speed must be known for a choice, small to large; none where nothing hangs on it.

    given: the user's own settings by dotted key.
    """
    if KIMG in given:
        return []
    return [given[SIDE]] if SIDE in given else [side.px for side in _possible(survey, machine)]


def worth_trying(side: int, machine: Machine, minutes: float) -> bool:
    """Whether a side may be reached in the minutes, by the speed of a smaller one that was tried."""
    below = [tried for tried in machine.speeds if tried < side]
    if not below:
        return True
    reached = machine.speeds[max(below)].images / rules.STEP * minutes * 60 / 1000
    return reached >= _rule_of(side, machine).kimg


def too_few(survey: Survey) -> str | None:
    """Why nothing can be learnt from these data, in a sentence without their name; None where it can."""
    if survey.pictures >= rules.MIN_PICTURES or not survey.all_known:
        return None
    are = "s are" if survey.pictures > 1 else " is"
    return (
        f"{survey.pictures} picture{are} too few to learn from: put at least {rules.MIN_PICTURES} there, and "
        "some hundred for images worth keeping"
    )


def choose(survey: Survey, machine: Machine, minutes: float, given: Mapping[str, Any]) -> Recipe:
    """The settings of a run on these data. given: the user's own, which win and are not chosen.

    ValueError where the data is too little for any.
    """
    if (few := too_few(survey)) is not None:
        raise ValueError(few)
    cond = _condition(survey)
    chosen = [Choice(COND, given[COND], "as given") if COND in given else cond]
    feature_seconds = _feature_seconds(minutes)
    side, times = _side(survey, machine, minutes, given)
    rule = _rule_of(side.value, machine)
    start = _start(survey, machine, given, chosen[0].value)
    width = f"feature maps, {rule.channel_base // rule.px} at {rule.px} px"
    wide = Choice("generator.stylegan_t.channel_max", rule.channel_max, width)
    chosen += [side, wide if start is None else start]
    if start is None and machine.published and not machine.gpu and FEATURES not in given:
        chosen.append(Choice(FEATURES, "local", "published networks win too fast against random weights"))
    batch = _batch(machine, given)
    chosen.append(batch)
    kimg = given.get(KIMG)
    if kimg is None:
        assert times is not None
        speed = machine.speeds[side.value].images
        kimg = max(rounded(speed * times.training / 1000, digits=3), batch.value / 1000)
        chosen.append(Choice(KIMG, kimg, f"at {speed:.0f} images per second, in {minutes:g} minutes"))
    quiet = {
        **(_fresh(rule) if start is None else _started(chosen[0].value)),
        "generator.img_channels": 1 if survey.gray else 3,
        "optimizer.d_lr": rules.D_LR,
        "optimizer.final_lr_share": rules.FINAL_LR_SHARE,
        "conditioning.feature_seconds": feature_seconds,
        "log.track_images": min(rules.TRACKED, survey.pictures) if survey.all_known else rules.TRACKED,
        "data.num_workers": _workers(survey, machine, side.value),
        **_spacing(kimg, minutes if times is not None else None, batch.value),
    }
    g_lr = rules.G_LR if start is None else rules.START_G_LR
    chosen += _rest(survey, kimg, given.get(COND, cond.value), g_lr)
    told = tuple(
        Choice(one.key, given.get(one.key, one.value), "as given" if one.key in given else one.reason)
        for one in chosen
    )
    settings = {one.key: one.value for one in told} | quiet
    return Recipe(
        cond=told[0].value,
        choices=told,
        settings={key: value for key, value in settings.items() if key not in given},
        times=times,
    )


# The condition ---------------------------------------------------------------------------------------------


def _condition(survey: Survey) -> Choice:
    no_text = _against_text(survey)
    if no_text is None:
        return Choice(COND, "text", f"captions: {survey.distinct} different ones, with words in common")
    if survey.classes < 2:
        return Choice(COND, "none", f"{no_text}, and no class folders")
    if survey.per_class < rules.CLASS_PICTURES:
        few = f"of {survey.classes} classes some have {survey.per_class} pictures, fewer than"
        return Choice(COND, "none", f"{no_text}, and {few} {rules.CLASS_PICTURES}")
    has = f"{survey.classes} classes of {survey.per_class} pictures or more"
    return Choice(COND, "class", f"{has}; {no_text}" if survey.captions else has)


def _against_text(survey: Survey) -> str | None:
    """Why captions are not taken as condition; None where they are."""
    if not survey.captions:
        return "no captions"
    if survey.distinct <= max(survey.classes, 1):
        return "captions say no more than labels"
    if survey.pictures < rules.TEXT_PICTURES and survey.all_known:
        return f"captions of fewer than {rules.TEXT_PICTURES} pictures"
    if survey.shared < rules.TEXT_SHARED:
        return "captions with few words in common"
    return None


# Side and length -------------------------------------------------------------------------------------------


def _possible(survey: Survey, machine: Machine) -> Sequence[Side]:
    """Sides that most pictures have, those that are too small for any choice left out."""
    fitting = [side for side in machine.sides if survey.usual is None or side.px <= survey.usual]
    fitting = fitting or [machine.sides[0]]
    return [side for side in fitting if side.px >= rules.MIN_TRIED] or fitting[-1:]


def _rule_of(px: int, machine: Machine) -> Side:
    """The rule of a side; the user may ask for one beyond all rules, which takes the widest."""
    fitting = [side for side in machine.sides if side.px <= px]
    return fitting[-1] if fitting else machine.sides[0]


def _side(
    survey: Survey, machine: Machine, minutes: float, given: Mapping[str, Any]
) -> tuple[Choice, Times | None]:
    """The side, and how the time goes there; of a length that the user gave no time is known."""
    if KIMG in given:
        possible = _possible(survey, machine)
        side = max((one for one in possible if one.kimg <= given[KIMG]), key=lambda one: one.px)
        return Choice(SIDE, given.get(SIDE, side.px), _limits(side, possible, survey, given[KIMG])), None
    if SIDE in given:
        return Choice(SIDE, given[SIDE], "as given"), times_of(given[SIDE], survey, machine, minutes)
    possible = [side for side in _possible(survey, machine) if side.px in machine.speeds]
    reached = {side.px: _reached(side.px, survey, machine, minutes) for side in possible}
    side = max((one for one in possible if reached[one.px] >= one.kimg or one is possible[0]), key=_px)
    everything = _possible(survey, machine)
    reason = _limits(side, everything, survey, reached.get(_next(side, everything)))
    return Choice(SIDE, side.px, reason), times_of(side.px, survey, machine, minutes)


def _px(side: Side) -> int:
    return side.px


def _next(side: Side, possible: Sequence[Side]) -> int:
    """The next larger side, 0 where there is none."""
    return next((one.px for one in possible if one.px > side.px), 0)


def _limits(side: Side, possible: Sequence[Side], survey: Survey, kimg: float | None) -> str:
    """Why no larger side. kimg: how long the next larger one would train, None where it is far off."""
    larger = next((one for one in possible if one.px > side.px), None)
    if larger is not None:
        sees = "fewer" if kimg is None else f"{rounded(kimg):g}"
        return f"{larger.px} px asks for {larger.kimg:g} thousand images, and there is time for {sees}"
    if survey.usual is not None and survey.usual < 2 * side.px:
        return f"most pictures have {survey.usual} px, none is enlarged for more"
    return "the largest for this machine"


def _reached(px: int, survey: Survey, machine: Machine, minutes: float) -> float:
    """Thousand images that a side trains in the minutes."""
    return machine.speeds[px].images * times_of(px, survey, machine, minutes).training / 1000


def times_of(px: int, survey: Survey, machine: Machine, minutes: float) -> Times:
    """How the minutes are spent at a side, by its measured speed."""
    speed, whole = machine.speeds[px], minutes * 60 * (1 - rules.END_SHARE)
    features = min(_feature_seconds(minutes), speed.feature_seconds)
    each = rules.SNAPSHOT_SECONDS
    each += min(rules.TRACKED, survey.pictures) * rules.SNAPSHOT_IMAGES / speed.images
    snapshots = min(rules.SNAPSHOTS * each, whole / 4)
    start = min(rules.START_SECONDS, whole / 4)
    left = max(whole - start - features - snapshots, whole / 4)
    # Pictures that stay in memory are read once, all others each time.
    once = survey.pictures * survey.read_seconds
    if survey.stays_in_memory(px):
        reading = min(once, left / 2)
        return _times(start, features, reading, left - reading, snapshots)
    training = left / (1 + speed.images * survey.read_seconds / max(machine.processes, 1))
    return _times(start, features, left - training, training, snapshots)


def _times(start: float, features: float, reading: float, training: float, snapshots: float) -> Times:
    return Times(start=start, features=features, reading=reading, training=training, snapshots=snapshots)


def _feature_seconds(minutes: float) -> float:
    least, most = rules.FEATURE_SECONDS
    part = min(max(minutes * 60 * rules.FEATURE_SHARE, least), most)
    return max(rounded(min(part, minutes * 60 / 4)), 0.5)


# What it begins with ---------------------------------------------------------------------------------------


def _start(survey: Survey, machine: Machine, given: Mapping[str, Any], cond: str) -> Choice | None:
    """The packaged model where its weights fit and a discriminator looks on that it does not fool at once."""
    own_sizes = any(key.startswith(NETWORKS) and key != SIDE for key in given)
    if machine.gpu or survey.gray or own_sizes or not machine.published:
        return None
    reads = {"text": ", and reads the captions", "class": ", and reads the classes' names"}.get(cond, "")
    reason = f"knows shapes and colours{reads}; the discriminator is a published network"
    return Choice(START, rules.START, reason)


def _started(cond: str) -> dict[str, Any]:
    """Quiet settings of a generator that begins with a start. Nothing has to be trained before it: captions
    are read by the start's text encoder, for heads too, and that has no image tower, to guide or to remember
    pictures."""
    found: dict[str, Any] = {"objective.d_alone_kimg": rules.START_ALONE_KIMG}
    if cond == "text":
        without = {"instances": 0, "exaggeration": 0.0}
        found |= {f"generator.stylegan_t.{name}": value for name, value in without.items()}
        found["objective.clip_weight"] = 0.0
    return found


def _fresh(rule: Side) -> dict[str, Any]:
    """Quiet settings of a generator that begins with random weights."""
    return {
        "generator.stylegan_t.channel_base": rule.channel_base,
        "generator.stylegan_t.use_noise": rules.USE_NOISE,
    }


# All else --------------------------------------------------------------------------------------------------


def _batch(machine: Machine, given: Mapping[str, Any]) -> Choice:
    even = math.ceil(rules.BATCH / machine.processes) * machine.processes
    return Choice("batch.images", given.get("batch.images", even), "images per update")


def _rest(survey: Survey, kimg: float, cond: str, g_lr: float) -> list[Choice]:
    half_life = rounded(min(rules.EMA_KIMG, kimg * rules.EMA_SHARE))
    policy = next(name for most, name in rules.AUGMENTATION if most is None or survey.pictures <= most)
    few = f"{survey.pictures} pictures" if survey.all_known else "many pictures"
    found = [
        Choice("optimizer.g_lr", g_lr, f"falls to {rules.FINAL_LR_SHARE:g} of it over the last half"),
        Choice("ema.half_life_kimg", half_life, "of the average that makes the images"),
        Choice("discriminator.diff_augment", policy, f"against learning {few} by heart"),
    ]
    if cond == "class":
        reason = "so that pictures of one class differ"
        found.append(Choice("objective.diversity_weight", rules.CLASS_DIVERSITY, reason))
    return found


def _workers(survey: Survey, machine: Machine, px: int) -> int:
    """On a CPU loaders would take the cores that train."""
    return rules.WORKERS if machine.gpu and not survey.stays_in_memory(px) else 0


def _spacing(kimg: float, minutes: float | None, batch: int) -> dict[str, Any]:
    """When something is written. minutes: of a run whose length they decide."""
    snapshot = max(rounded(kimg / rules.SNAPSHOTS), batch / 1000)
    found: dict[str, Any] = {
        "schedule.tick_kimg": max(rounded(kimg / rules.TICKS), batch / 1000),
        "schedule.snapshot_kimg": snapshot,
        "schedule.checkpoint_kimg": snapshot,
    }
    if minutes is not None:
        found["schedule.max_minutes"] = minutes
        found["schedule.fit_minutes"] = True
        found["schedule.snapshot_minutes"] = rounded(min(rules.PREVIEW_MINUTES, minutes / rules.SNAPSHOTS))
    return found


def rounded(value: float, digits: int = 2) -> float:
    """Downwards to so many digits, so that nothing takes longer than it may."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - digits)
    return float(f"{math.floor(value / unit + 1e-9) * unit:.6g}")
