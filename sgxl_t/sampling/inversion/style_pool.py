"""Styles to begin from: w of random latents under every condition that a photograph may show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sgxl_t.conditioning.condition import Condition
from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.datasets.embedded.emoji_scenes import EmojiScenes
from sgxl_t.datasets.embedded.worlds.source import EmojiWorlds
from sgxl_t.datasets.open import is_embedded, open_source
from sgxl_t.model_io.model_folder import ModelInfo
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.text.clip import ClipModel
from sgxl_t.networks.text.vocab import WordTokenizer
from sgxl_t.sampling.truncation.centroids import free_width

GENERAL_CAPTIONS = tuple(
    f"a {kind} of {thing}"
    for kind in ("photo", "painting")
    for thing in (
        *("a person", "a face", "a cat", "a dog", "a bird", "a horse", "a flower", "a tree", "a car"),
        *("a house", "a street", "a room", "food", "the sea", "mountains", "a forest", "the sky at night"),
    )
)
"""What a photograph may show, for text models whose captions nobody knows."""
MOST_CAPTIONS = 2048
SAMPLES = 4096
"""Draws behind the mean and spread of w."""
BATCH = 64
"""Latents mapped, and candidates drawn, at a time."""


def known_captions(condition: TextCondition, info: ModelInfo | None) -> list[str]:
    """Captions that a text model was trained with, as far as its folder tells.

    Those of an embedded data set; else the single words that a local text tower knows, which its own
    captions were made of; else general ones.
    """
    data = "" if info is None else str(info.provenance.get("data", ""))
    source = open_source(data, resolution=32) if is_embedded(data) else None
    if isinstance(source, EmojiScenes | EmojiWorlds):
        every = [one for split in ("train", "held_out") for one in source.attribute_tuples(split)]
        return [source.prompt(one) for one in every[:: -(-len(every) // MOST_CAPTIONS)]]
    encoder = condition.encoder
    if isinstance(encoder, ClipModel) and isinstance(encoder.tokenizer, WordTokenizer):
        return list(encoder.tokenizer.words[:MOST_CAPTIONS])
    return list(GENERAL_CAPTIONS)


def all_conditions(condition: Condition, info: ModelInfo | None) -> list[Any]:
    """Every condition that photographs may show: all classes, the captions known of it, or None alone.

    ValueError for text that enters through a condition of somebody's own.
    """
    if isinstance(condition, TextCondition):
        return known_captions(condition, info)
    if condition.kind == "text":
        raise ValueError(
            "nobody knows what may be said to this model: say what the photographs show with --prompt"
        )
    return list(range(len(condition.names))) if condition.kind == "class" else [None]


@dataclass(frozen=True)
class Drawn:
    """Styles w [N, w_dim] and what they show: places in the pool's `conditions`, one each."""

    w: Tensor
    shown: list[int]


class StylePool:
    """Random w of one generator under given conditions, each of which is encoded once.

    conditions: as resolved; [None] for an unconditional model.
    """

    def __init__(self, generator: Generator, condition: Condition, conditions: Sequence[Any]) -> None:
        self.generator, self.condition, self.conditions = generator, condition, list(conditions)
        self.device = next(generator.parameters()).device
        self.free_width = free_width(generator)

    @torch.no_grad()
    def draw(self, count: int, rng: torch.Generator, among: Sequence[int] | None = None) -> Drawn:
        """`count` styles; conditions in turn in a random order, of all or of those `among` the pool's.

        rng: on the CPU, so that every device draws the same.
        """
        places = list(range(len(self.conditions))) if among is None else list(among)
        order = torch.cat(
            [torch.randperm(len(places), generator=rng) for _ in range(-(-count // len(places)))]
        )
        shown = [places[place] for place in order[:count].tolist()]
        z = torch.randn(count, self.generator.z_dim, generator=rng)
        w = [
            self.generator.mapping(part.to(self.device), self._vectors(shown[start : start + BATCH]))[:, 0]
            for start, part in zip(range(0, count, BATCH), z.split(BATCH), strict=True)
        ]
        return Drawn(torch.cat(w).float(), shown)

    @torch.no_grad()
    def conditioning(self, shown: Sequence[int]) -> Conditioning:
        """c and tokens of these conditions, tokens for generators that attend to them."""
        if not self.generator.attends:
            return Conditioning(c=self._vectors(shown))
        return self.condition.encode([self.conditions[place] for place in shown])

    @cached_property
    def spread(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [w_dim] of w, from a fixed seed."""
        w = self.draw(SAMPLES, torch.Generator().manual_seed(123)).w
        return w.mean(dim=0), w.std(dim=0).clamp(min=1e-4)

    def _vectors(self, shown: Sequence[int]) -> Tensor | None:
        return None if self._encoded.c is None else self._encoded.c[list(shown)]

    @cached_property
    @torch.no_grad()
    def _encoded(self) -> Conditioning:
        parts = [
            self.condition.encode(self.conditions[start : start + BATCH]).c
            for start in range(0, len(self.conditions), BATCH)
        ]
        vectors = [part for part in parts if part is not None]
        return Conditioning(c=torch.cat(vectors) if vectors else None)


def synthesize(generator: Generator, ws: Tensor, tokens: Any = None) -> Tensor:
    """Images [N, C, R, R] of ws [N, 1 or num_ws, w_dim], with constant noise; one w serves all layers."""
    if ws.shape[1] != generator.num_ws:
        ws = ws.expand(-1, generator.num_ws, -1)
    return generator.synthesis(ws, noise_mode="const", tokens=tokens)
