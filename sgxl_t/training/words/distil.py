"""Fits a word tower to what a large sentence encoder says of many phrases (Hinton et al. 2015)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import trange

from sgxl_t.networks.text.word_tower import WordTower, WordTowerConfig

CAPTIONS, WORDS = 128, 256
"""Captions of an update, and entries of the word list, which are short, beside them."""
PARAPHRASES = 192
"""Free phrases of an update."""
ENCODED = 1024


@dataclass(frozen=True)
class Axes:
    """The directions in which phrases differ most: (features - mean) @ directions, then of unit length.

    mean: [D]; directions: [D, dim]. share: of the variance that the directions keep.
    """

    mean: Tensor
    directions: Tensor
    share: float

    def __call__(self, features: Tensor) -> Tensor:
        """Teacher's features [N, D] to targets [N, dim]."""
        return F.normalize((features - self.mean) @ self.directions, dim=-1)


@dataclass(frozen=True)
class Examples:
    """Texts and the unit vectors float32 [N, dim] that the tower is to give for them."""

    texts: Sequence[str]
    targets: Tensor


def principal_axes(features: Tensor, dim: int) -> Axes:
    """The first `dim` principal axes of features [N, D]."""
    mean = features.mean(0)
    centred = (features - mean).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    share = float(values[-dim:].sum() / values.sum())
    return Axes(mean, vectors[:, -dim:].flip(1).float(), share)


def fit_tower(
    config: WordTowerConfig, captions: Examples, words: Examples, *, steps: int, seed: int, lr: float = 4e-3
) -> WordTower:
    """A tower that gives unit vectors close to the targets, by the cosine; frozen, its numbers in float16.

    Each update sees captions and single words, which count the same: a word is learnt from both.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = WordTower(config)
    table = tower.network.words.table.weight
    rest = [value for value in tower.network.parameters() if value is not table]
    groups = [{"params": [table], "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.01}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    lesson = _Lesson("fitting the tower", ((captions, CAPTIONS), (words, WORDS)), rest)
    return lesson.learnt(tower, optimizer, steps=steps, seed=seed)


def _in_half(tower: WordTower) -> WordTower:
    for value in tower.network.parameters():
        value.data = value.data.half().float()
    return tower.eval().requires_grad_(False)


def fit_paraphrases(
    tower: WordTower, free: Examples, kept: Sequence[str], *, steps: int, seed: int, lr: float = 2e-3
) -> WordTower:
    """The tower with free phrases brought to the targets of plain captions, which what reads it has learnt.

    free: phrases, and what the tower says of the plain captions in their place. kept: texts of which it goes
    on to say the same. Frozen, its numbers in float16.
    """
    kept_as = Examples(kept, encode_many(tower, kept))
    ours = tower.text_copy().train().requires_grad_(True)
    optimizer = torch.optim.AdamW(ours.network.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    parts = ((free, PARAPHRASES), (kept_as, CAPTIONS))
    lesson = _Lesson("free phrases", parts, list(ours.network.parameters()))
    return lesson.learnt(ours, optimizer, steps=steps, seed=seed)


@dataclass(frozen=True)
class _Lesson:
    """title: of its progress bar. parts: examples, and how many of them an update sees; all parts count the
    same. clipped: parameters whose gradient is held to unit length."""

    title: str
    parts: Sequence[tuple[Examples, int]]
    clipped: Sequence[Tensor]

    def learnt(
        self, tower: WordTower, optimizer: torch.optim.Optimizer, *, steps: int, seed: int
    ) -> WordTower:
        """The tower itself, brought to the targets by the cosine; frozen, its numbers in float16."""
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / steps))
        rng = torch.Generator().manual_seed(seed)
        draws = [_draws(examples, batch, rng) for examples, batch in self.parts]
        shown = trange(steps, desc=self.title, unit="step", delay=2, leave=False)
        for _ in shown:
            losses = []
            for (examples, _), order in zip(self.parts, draws, strict=True):
                index = next(order)
                found = tower.encode_text([examples.texts[number] for number in index.tolist()])
                losses.append(1 - (found * examples.targets[index]).sum(1).mean())
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            torch.nn.utils.clip_grad_norm_(self.clipped, 1.0)
            optimizer.step()
            schedule.step()
            cosines = ", ".join(f"{1 - float(loss.detach()):.3f}" for loss in losses)
            shown.set_postfix_str(f"cosine {cosines}", refresh=False)
        return _in_half(tower)


@torch.no_grad()
def encode_many(tower: WordTower, texts: Sequence[str]) -> Tensor:
    """Unit vectors [N, dim], in batches."""
    parts = [texts[at : at + ENCODED] for at in range(0, len(texts), ENCODED)]
    return torch.cat([tower.encode_text(part) for part in parts])


def mean_cosine(tower: WordTower, examples: Examples) -> float:
    """Of the tower's vectors with the targets."""
    return float((encode_many(tower, examples.texts) * examples.targets).sum(1).mean())


def _draws(examples: Examples, batch: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Indices of one batch after the other, every example once per round."""
    while True:
        order = torch.randperm(len(examples.texts), generator=rng)
        yield from order.split(batch)


def _rate(share: float) -> float:
    """Up over the first twentieth, then down to zero as a cosine."""
    return min(share / 0.05, 1.0) * (0.5 + 0.5 * math.cos(math.pi * share))
