"""Finding directions: between prompts, classes or examples, by the spread of w, by the weights alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.networks.text.clip import ClipModel
from sgxl_t.sampling.directions.affines import sensitivity
from sgxl_t.sampling.directions.by_clip import OWN, ClipSettings, clip_direction, open_clip_of
from sgxl_t.sampling.directions.direction import Directions, mapping_hash
from sgxl_t.sampling.given import Source, latents_of
from sgxl_t.sampling.latents import Latents, open_rows
from sgxl_t.sampling.sample_spec import SampleSpec
from sgxl_t.sampling.truncation.centroids import free_width
from sgxl_t.sampling.truncation.truncation import Truncation

SAMPLES = 4096
"""Styles that the spread of w is measured on."""
PAIRED = 256
"""Seeds whose styles two classes are compared on."""

End = Any
"""A prompt or class as people write it, Latents, or a file of them with or without rows."""


@dataclass(frozen=True)
class DirectionFinder:
    """Finds directions of one model. layers, of every method: those that move; None for all."""

    source: Source

    def between(
        self, first: End, last: End, *, name: str | None = None, layers: Sequence[int] | None = None
    ) -> Directions:
        """One direction from `first` to `last`, or the mean of several, from a list to a list as long.

        Two prompts or two classes: what changes between the styles that both give the same z, in mean. With
        StyleGAN-T's mapping that is the difference of the text's features, since z does not move there.
        Latents, labelled by being in one or the other: the normal of a linear boundary between both, as long
        as the way between their means along it.
        """
        firsts, lasts = _listed(first), _listed(last)
        if len(firsts) != len(lasts) or not firsts:
            raise ValueError(
                f"{len(firsts)} beginnings came with {len(lasts)} ends of a direction: give as many, one "
                "or more"
            )
        pairs = list(zip(firsts, lasts, strict=True))
        found = [self._pair(*pair) for pair in pairs]
        told = [
            {"from": _told(one), "to": _told(other), **how}
            for (one, other), (_, how) in zip(pairs, found, strict=True)
        ]
        vector = torch.stack([vector for vector, _ in found]).mean(dim=0)
        label = name or f"{_told(firsts[0])} to {_told(lasts[0])}"
        return self.made(
            self._spread_over(vector[None], layers), [label], {"method": "between", "pairs": told}
        )

    def by_clip(
        self,
        first: str | Sequence[str],
        last: str | Sequence[str],
        clip: ClipModel | str = OWN,
        conditions: Any = None,
        *,
        name: str | None = None,
        layers: Sequence[int] | None = None,
        settings: ClipSettings | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Directions:
        """One direction from what some texts say to what others say, as CLIP sees it; see `clip_direction`.

        For models of any condition, which need not know the words. clip: loaded, by reference
        (`open_clip:MODEL/TAG`, `local:FOLDER`), or "own" for that of a text model. conditions: as of `pca`,
        of the images that are looked at. stop: asked after every step; true keeps the direction so far.
        """
        settings = settings or ClipSettings()
        self._spread_over(torch.zeros(1, 1), layers)  # refuses layers before CLIP is loaded
        texts = _listed(first), _listed(last)
        if not texts[0] or not texts[1]:
            raise ValueError("a direction from words takes a text to begin at and one to end at: give both")
        known = self._conditions(conditions)
        found = open_clip_of(self.source, clip)
        vector, steps = clip_direction(self.source, found, texts, known, layers, settings, stop)
        told = {"from": texts[0], "to": texts[1], "clip": clip if isinstance(clip, str) else "given"}
        label = name or f"{texts[0][0]} to {texts[1][0]}"
        return self.made(
            vector[None], [label], {"method": "clip", **told, **asdict(settings), "steps": steps}
        )

    def pca(
        self, count: int = 5, conditions: Any = None, *, layers: Sequence[int] | None = None
    ) -> Directions:
        """The `count` directions along which w spreads most (GANSpace, Harkonen et al. 2020, section 2.1).

        conditions: prompts or classes; for a class model None takes all. w is compared with the mean of its
        own condition, so directions show what differs among pictures of one thing. Strength 1 is one
        standard deviation.
        """
        w = self._spread(conditions)
        self._check_count(count)
        _, sizes, across = torch.linalg.svd(w, full_matrices=False)
        deviations = sizes[:count] / len(w) ** 0.5
        shares = (sizes.square() / sizes.square().sum())[:count]
        vectors = _signed(across[:count]) * deviations[:, None]
        names = [f"component {number}" for number in range(count)]
        return self.made(
            self._spread_over(self._whole(vectors), layers),
            names,
            {"method": "pca", "shares": [float(f"{share:.4g}") for share in shares.tolist()]},
        )

    def closed_form(
        self, count: int = 5, conditions: Any = None, *, layers: Sequence[int] | None = None
    ) -> Directions:
        """The `count` directions of w that change the styles of the layers most (SeFa, Shen & Zhou 2021).

        conditions: as of `pca`; what the affine layers of stylegan_t do depends on where in w they are asked,
        which is the mean of these. Strength 1 is one standard deviation of w.
        """
        self._check_count(count)
        specs = self._specs(conditions, SAMPLES)
        w = self._w(specs)
        device = next(self.source.generator.parameters()).device
        form = sensitivity(self.source.generator, w.mean(dim=0).float().to(device), layers)
        width = free_width(self.source.generator)
        values, across = torch.linalg.eigh(form[:width, :width])
        chosen = _signed(across.T.flip(0)[:count])
        deviations = (_centred(w, specs)[:, :width] @ chosen.T).std(dim=0)
        names = [f"closed form {number}" for number in range(count)]
        shares = (values.flip(0) / values.sum())[:count]
        return self.made(
            self._spread_over(self._whole(chosen * deviations[:, None]), layers),
            names,
            {"method": "closed form", "shares": [float(f"{share:.4g}") for share in shares.tolist()]},
        )

    def made(self, vectors: Tensor, names: Sequence[str], found: dict[str, Any]) -> Directions:
        """Directions of this model. vectors: [K, num_ws, w_dim]."""
        return Directions(vectors, names, mapping_hash(self.source.generator), self.source.model, found)

    def _pair(self, first: End, last: End) -> tuple[Tensor, dict[str, Any]]:
        """Vector [w_dim] from one end to the other, and JSON values about it."""
        ends = [self._latents(end) for end in (first, last)]
        if all(end is not None for end in ends):
            one, other = (end.ws.double().mean(dim=1) for end in ends if end is not None)
            return boundary(one, other)
        if any(end is not None for end in ends):
            raise ValueError(
                "a direction goes between two files of latents or two prompts or classes: give alike"
            )
        resolved = [self.source.condition.resolve([end]) for end in (first, last)]
        if len(resolved[0]) != 1 or len(resolved[1]) != 1:
            raise ValueError("a direction goes from one class to another: name one class at each end")
        seeds = range(PAIRED)
        one, other = (self._w([SampleSpec(side[0], seed) for seed in seeds]) for side in resolved)
        return (other - one).mean(dim=0), {}

    def _latents(self, end: End) -> Latents | None:
        """The latents of an end; None for a prompt or class."""
        if isinstance(end, Latents):
            latents, what = end, "the latents"
        elif isinstance(end, Path) or (isinstance(end, str) and ".safetensors" in end.lower()):
            latents, what = open_rows(str(end))[0], str(end)
        else:
            return None
        latents.check_fits(self.source.generator, self.source.model, what)
        return latents

    def _specs(self, conditions: Any, count: int) -> list[SampleSpec]:
        """Specs whose conditions take turns."""
        resolved = self._conditions(conditions)
        return [SampleSpec(resolved[number % len(resolved)], number) for number in range(count)]

    def _conditions(self, conditions: Any) -> Sequence[Any]:
        """As resolved; all classes where none is named."""
        condition = self.source.condition
        if conditions is None and condition.kind == "class":
            return range(self.source.generator.condition.num_classes)
        if conditions is None and condition.kind == "text":
            raise ValueError("what w looks like depends on the prompt: name at least one")
        return condition.resolve(conditions)

    def _w(self, specs: Sequence[SampleSpec]) -> Tensor:
        """float64 [N, w_dim], without truncation."""
        return latents_of(self.source, specs, Truncation()).ws[:, 0].double()

    def _spread(self, conditions: Any) -> Tensor:
        """The free part of w around the mean of its condition, [SAMPLES, F]."""
        specs = self._specs(conditions, SAMPLES)
        return _centred(self._w(specs), specs)[:, : free_width(self.source.generator)]

    def _check_count(self, count: int) -> None:
        width = free_width(self.source.generator)
        if not 1 <= count <= width:
            raise ValueError(f"{count} directions cannot be found: the model has 1 to {width}, such as 5")

    def _whole(self, vectors: Tensor) -> Tensor:
        """Vectors [K, F] of the free part of w as [K, w_dim]."""
        return F.pad(vectors, (0, self.source.generator.w_dim - vectors.shape[1]))

    def _spread_over(self, vectors: Tensor, layers: Sequence[int] | None) -> Tensor:
        """Vectors [K, w_dim] for all layers, or some: [K, num_ws, w_dim]."""
        count = self.source.generator.num_ws
        if layers is not None and (not layers or min(layers) < 0 or max(layers) >= count):
            raise ValueError(f"layers {list(layers)} do not fit: the model has 0 to {count - 1}")
        moving = torch.zeros(count, dtype=vectors.dtype)
        moving[list(range(count) if layers is None else layers)] = 1
        return vectors[:, None] * moving[:, None]


def boundary(first: Tensor, last: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """From examples [N, D] to examples [M, D]: the normal [D] of a linear boundary between both.

    Fisher's discriminant, whose covariance is drawn towards a round one by D / (D + N + M), the more the
    fewer examples there are. As long as the way between the means along it. Also says which share of the
    examples lies on its own side of the middle.
    """
    means = [part.mean(dim=0) for part in (first, last)]
    if not bool((means[0] != means[1]).any()):
        raise ValueError("both sets of latents have the same mean, so nothing leads from one to the other")
    inner = torch.cat([part - mean for part, mean in zip((first, last), means, strict=True)])
    count, width = inner.shape
    covariance = inner.T @ inner / count
    level = covariance.diagonal().mean()
    round_share = width / (width + count) if level > 0 else 1.0
    shrunk = (1 - round_share) * covariance + round_share * (level if level > 0 else 1.0) * torch.eye(
        width
    ).to(inner)
    normal = F.normalize(torch.linalg.solve(shrunk, means[1] - means[0]), dim=0)
    middle = (means[0] + means[1]) @ normal / 2
    right = torch.cat([first @ normal < middle, last @ normal > middle]).double().mean()
    vector = normal * ((means[1] - means[0]) @ normal)
    return vector, {"examples": [len(first), len(last)], "separated": float(f"{right:.4g}")}


def _centred(w: Tensor, specs: Sequence[SampleSpec]) -> Tensor:
    """w [N, D] less the mean of all rows of the same condition."""
    known = {
        condition: number for number, condition in enumerate(dict.fromkeys(spec.condition for spec in specs))
    }
    numbers = torch.tensor([known[spec.condition] for spec in specs])
    sums = torch.zeros(len(known), w.shape[1], dtype=w.dtype).index_add(0, numbers, w)
    return w - (sums / numbers.bincount()[:, None])[numbers]


def _signed(vectors: Tensor) -> Tensor:
    """Vectors [K, D] whose largest number is positive, since their sign means nothing."""
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return vectors * largest.sign()


def _listed(ends: Any) -> list[Any]:
    return list(ends) if isinstance(ends, list | tuple) else [ends]


def _told(end: End) -> str:
    return f"{len(end)} latents" if isinstance(end, Latents) else str(end)
