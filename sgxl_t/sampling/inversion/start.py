"""Where inversion begins: the nearest of many random w, or what the model's encoder says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sgxl_t.conditioning.condition import Condition
from sgxl_t.model_io.model_folder import ModelInfo
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.frozen import load_feature_network
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.ops.images import as_rgb
from sgxl_t.sampling.best import open_scorer
from sgxl_t.sampling.inversion.encoder import Encoder
from sgxl_t.sampling.inversion.optimise import Goal
from sgxl_t.sampling.inversion.settings import InversionSettings
from sgxl_t.sampling.inversion.style_pool import Drawn, StylePool, all_conditions, synthesize

ENCODED = "encoder"
FITTING = 8
"""Classes or captions that a classifier or CLIP leaves in the choice for each photograph."""
SEARCHED = 32
"""Candidates in one pass."""


@dataclass(frozen=True)
class Start:
    """Styles w [N, w_dim] to begin with. conditions: what each shows, as resolved; None: nobody knows.
    how: in words, for people. conditioning: c and tokens of the conditions.
    """

    w: Tensor
    conditions: list[Any]
    how: list[str]
    conditioning: Conditioning

    @property
    def encoded(self) -> bool:
        """Whether an encoder found them."""
        return all(how == ENCODED for how in self.how)


@dataclass(frozen=True)
class Choices:
    """What photographs may show. pool: all of it. among: for each photograph the places in the pool that it
    may be; None: all. found: who chose, in words; empty where nobody did."""

    pool: StylePool
    among: list[list[int] | None]
    found: str = ""


def choices(
    generator: Generator,
    condition: Condition,
    info: ModelInfo | None,
    asked: Sequence[Any],
    photos: Tensor,
    settings: InversionSettings,
) -> Choices:
    """What N photographs [N, C, R, R] in [-1, 1] may show.

    asked: conditions as resolved, one for all or one each; without any a classifier (class models) or CLIP
    (text models) chooses some for each photograph, and without these every one is possible.
    """
    count = len(photos)
    if condition.kind == "none":
        return Choices(StylePool(generator, condition, [None]), [None] * count)
    if asked:
        if len(asked) not in (1, count):
            raise ValueError(
                f"{len(asked)} prompts or classes came with {count} photographs: give one for all or one each"
            )
        pool = StylePool(generator, condition, list(dict.fromkeys(asked)))
        each = list(asked) * (count if len(asked) == 1 else 1)
        return Choices(pool, [[pool.conditions.index(one)] for one in each], "as asked for")
    pool = StylePool(generator, condition, all_conditions(condition, info))
    if condition.kind == "text":
        return _by_clip(pool, photos, settings)
    if settings.classifier is None:
        return Choices(pool, [None] * count)
    among = _by_classifier(settings.classifier, len(condition.names), photos)
    return Choices(pool, [*among], f"by {settings.classifier}")


def nearest_start(generator: Generator, found: Choices, goal: Goal, settings: InversionSettings) -> Start:
    """The nearest of `settings.candidates` random w for each photograph, by the loss that follows.

    Candidates are shared by all photographs that may show the same, so that many cost as much as one.
    """
    groups: dict[tuple[int, ...] | None, list[int]] = {}
    for row, among in enumerate(found.among):
        groups.setdefault(None if among is None else tuple(among), []).append(row)
    w = goal.photos.new_zeros(len(goal.photos), generator.w_dim)
    shown = [0] * len(goal.photos)
    for number, (places, members) in enumerate(groups.items()):
        rng = torch.Generator().manual_seed(settings.seed + number)
        drawn = found.pool.draw(settings.candidates, rng, places)
        nearest = _nearest(found.pool, drawn, goal, members).tolist()
        for row, place in zip(members, nearest, strict=True):
            w[row], shown[row] = drawn.w[place], drawn.shown[place]
    names = [found.pool.conditions[place] for place in shown]
    how = f"nearest of {settings.candidates} random w" + (f", condition {found.found}" if found.found else "")
    return Start(w, names, [how] * len(w), found.pool.conditioning(shown))


@torch.no_grad()
def _nearest(pool: StylePool, drawn: Drawn, goal: Goal, members: Sequence[int]) -> Tensor:
    """For each member of the photographs, the place [M] of the drawn w with the least loss."""
    losses = []
    passes = range(0, len(drawn.w), SEARCHED)
    for start in tqdm(passes, desc="start", unit="pass", delay=2, leave=False, disable=None):
        part = slice(start, start + SEARCHED)
        images = synthesize(pool.generator, drawn.w[part, None], pool.conditioning(drawn.shown[part]).tokens)
        embedded = goal.features.embed(images)
        losses.append(torch.stack([goal.losses_of_many(images, embedded, row) for row in members]))
    return torch.cat(losses, dim=1).argmin(dim=1)


def encoded_start(encoder: Encoder, photos: Tensor) -> Start:
    """What the encoder says of photographs [N, C, R, R] in [-1, 1]; it knows no condition."""
    with torch.no_grad():
        w = encoder.to(photos.device)(photos)
    return Start(w, [None] * len(photos), [ENCODED] * len(photos), Conditioning())


def _by_classifier(reference: str, classes: int, photos: Tensor) -> list[list[int]]:
    """The classes with the highest scores of a network for each photograph."""
    network = load_feature_network(reference).to(photos.device)
    with torch.no_grad():
        scores = network.logits(as_rgb(photos).add(1).div(2))
    if scores.shape[1] != classes:
        raise ValueError(
            f"{reference} tells {scores.shape[1]} classes apart and the model makes {classes}: name a "
            "classifier of the same classes, or the class with --class"
        )
    return scores.topk(min(FITTING, classes), dim=1).indices.tolist()


def _by_clip(pool: StylePool, photos: Tensor, settings: InversionSettings) -> Choices:
    """The captions of the pool that fit best by CLIP; all of them where there is no image tower."""
    try:
        scorer = open_scorer(pool.condition, settings.clip, photos.device)
    except ValueError:
        if settings.clip is not None:
            raise
        return Choices(pool, [None] * len(photos))
    captions = [str(one) for one in pool.conditions]
    with torch.no_grad():
        words = scorer.clip.encode_text(captions)
        cosines = scorer.clip.encode_image(as_rgb(photos).add(1).div(2)) @ words.T
    among = cosines.topk(min(FITTING, len(captions)), dim=1).indices.tolist()
    return Choices(pool, [*among], "by CLIP")
