"""What the numbers of a run mean, what is good and what to do, for people who did not write it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sgxl_t.training.callbacks.callback import Line


@dataclass(frozen=True)
class Curve:
    """A chart. series: name of a number in stats.jsonl to its word in the chart. meaning: HTML-free text."""

    title: str
    series: dict[str, str]
    meaning: str


DUEL = (
    Curve(
        "Who is fooled",
        {"signs/real": "real", "signs/fake": "generated"},
        "1: the discriminator takes every picture for real, -1: none. Good: the two lines come towards each "
        "other and stay apart by some tenths. Far apart (near 1 and -1) it wins and teaches little: raise "
        "optimizer.g_lr or add data. On top of each other it sees no difference: train longer, or give it "
        "stronger features.",
    ),
    Curve(
        "Scores of the discriminator",
        {"scores/real": "real", "scores/fake": "generated"},
        "How sure it is, beyond right and wrong. Good: both stay within about 3 of 0. Beyond 10 its heads "
        "run away: go back to best/ and lower both learning rates.",
    ),
    Curve(
        "Speed",
        {"images_per_second": ""},
        "Pictures trained on per second, without the time for snapshots. Good: level. When it falls, "
        "something else uses the machine, or the data comes too slowly (loader_share).",
    ),
)
"""Charts that every run has, beside its tracked metrics."""
MEANINGS = {
    "loss/d": "What the discriminator minimises. Its height alone says little in a duel.",
    "loss/g": "What the generator minimises, guidance included. Its height alone says little.",
    "loss/g_adversarial": "The part of the generator's loss that comes from the discriminator.",
    "loss/classifier": "How badly a classifier reads the asked-for class off the pictures; should fall.",
    "loss/clip": "How far pictures are from their captions for CLIP; should fall.",
    "loss/stem": "How far a grown stage has moved from the pictures of the stage below.",
    "loss/mismatch": "How often real pictures beside wrong captions pass; should fall.",
    "loss/diversity": "How far latents lie apart beside their pictures; high: seeds are alike.",
    "loss/r1": "Gradient penalty at real pictures.",
    "loss/r2": "Gradient penalty at generated pictures.",
    "loss/path_length": "Path length penalty.",
    "path_length/mean": "Mean length that the path length penalty holds pictures to.",
    "scores/g": "Scores of generated pictures while the generator learns.",
    "signs/g": "Signs of these scores.",
    "blur_sigma": "Blur before the discriminator, in pixels; fades to 0 at the beginning of a run.",
    "skipped_steps": "Steps left out because numbers were not finite; should stay level.",
    "loader_share": "Share of the time spent waiting for pictures; above .25, raise data.num_workers.",
    "memory_gib": "Most memory of the main process so far, in GiB.",
    "ema/followed": "How far the averaged generator has followed the trained one; should come close to 1.",
    "variety/samples": "How different pictures of one condition are, beside real ones; near 0: alike.",
    "variety/conditions": "How much the condition changes a picture, beside the latent; near 0: ignored.",
    "variety/nearest": "How far a picture is from the nearest other, beside real ones; near 0: they repeat.",
    "looks/grain": "Fine noise in flat places, in grey levels above that of real pictures; above 2.5: grain.",
    "looks/noise": "Fine noise that the generator's noise inputs add, beside real contrast; above .4: grain.",
    "looks/sharpness": "Edges beside those of real pictures; below .35: blurred, as first pictures are.",
}
_DISTANCES = ("fd", "fid", "sfid", "cleanfid", "rfid", "kd", "kid", "cmmd")
_SMALL = "With few real pictures the number is noisy: believe trends over several snapshots."
_RISING = {
    "recall": "Share of real pictures that have generated ones like them: how much of the data's variety is "
    "made. Higher is better, 1 is all. Low while pictures look good: the run makes the same few things; more "
    "data or a lower optimizer.d_lr may help.",
    "coverage": "Share of real pictures with a generated one close by. Higher is better.",
    "precision": "Share of generated pictures that lie among real ones: how many look right. Higher is "
    "better.",
    "density": "How thickly generated pictures lie among real ones. Higher is better.",
}


def metric_curves(names: Iterable[str]) -> list[Curve]:
    """A chart for each tracked metric, in the order in which they are tracked."""
    return [Curve(name, {name: ""}, _of_metric(name, first=not at)) for at, name in enumerate(names)]


def _of_metric(name: str, *, first: bool) -> str:
    ending = name.rpartition("_")[2]
    if ending in _RISING:
        return _RISING[ending]
    if name.split("_")[0].rstrip("0123456789k") in _DISTANCES:
        chooses = " best/ is the model where it was lowest, lucky values left out." if first else ""
        return (
            "Distance between generated and real pictures, as a network sees them. Lower is better. Good: it "
            "falls, fast at first. Level for long: the run has learnt what it can, so look at the pictures. "
            f"Rising: it gets worse; stop, and take best/. {_SMALL}{chooses}"
        )
    return f"A tracked metric. {_SMALL}"


def tracked_names(stats: Sequence[Line]) -> list[str]:
    """Names of the tracked metrics, the one that chooses best/ first: numbers of snapshots, not of ticks."""
    found: dict[str, None] = {}
    for line in stats:
        if "skipped_steps" not in line:
            found |= dict.fromkeys(name for name in line if name != "images" and "/" not in name)
    return list(found)


def chosen_curves(stats: Sequence[Line]) -> tuple[list[Curve], list[Curve]]:
    """Charts to show at once, and those to fold away."""
    names = tracked_names(stats)
    metrics = metric_curves(names)
    shown = [curve for at, curve in enumerate(metrics) if at == 0 or curve.title.endswith("_recall")]
    shown += DUEL
    taken = {name for curve in shown for name in curve.series}
    others = [curve for curve in metrics if curve not in shown]
    rest = {name for line in stats for name in line} - taken - set(names) - {"images", "kimg"}
    others += [Curve(name, {name: ""}, MEANINGS.get(name, "")) for name in sorted(rest)]
    return shown, others
