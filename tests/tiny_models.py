"""Models of a few thousand weights, built in a moment, for tests that need a whole one."""

from __future__ import annotations

from pathlib import Path

import torch

from sgxl_t.conditioning import ClassCondition, Condition, NoCondition, TextCondition
from sgxl_t.model_io.model_folder import save_model
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.text.clip import ClipModel, local_clip
from sgxl_t.networks.text.text_tower import TextTowerConfig
from sgxl_t.networks.text.vocab import WordTokenizer

WORDS = ["a", "red", "blue", "green", "small", "fox", "dog", "car", "in", "on", "snow", "beach"]
PETS = ("fox", "dog", "goldfish, Carassius auratus", "car")


def tiny_clip(dim: int = 16) -> ClipModel:
    """A text tower over a dozen words."""
    tokenizer = WordTokenizer(WORDS, 12)
    config = TextTowerConfig(
        embed_dim=dim, context_length=12, vocab_size=tokenizer.vocab_size, width=16, heads=2, layers=1
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        return local_clip(config, tokenizer, None).eval().requires_grad_(False)


def tiny_condition(kind: str) -> Condition:
    """class (four pets), text or none."""
    if kind == "class":
        return ClassCondition(PETS, dim=8)
    return TextCondition(tiny_clip()) if kind == "text" else NoCondition()


def tiny_model(kind: str, name: str = "sgt-tiny-16") -> tuple[Generator, Condition]:
    """A registered tiny generator with its condition; its truncation centre lies off zero."""
    condition = tiny_condition(kind)
    generator = build_generator(name, condition.spec, seed=1).eval()
    for buffer_name, buffer in generator.mapping.named_buffers():
        if buffer_name.endswith("_avg"):
            buffer.normal_(generator=torch.Generator().manual_seed(2))
    return generator, condition


def tiny_folder(folder: Path, kind: str, name: str = "sgt-tiny-16") -> Path:
    """A saved model folder."""
    generator, condition = tiny_model(kind, name)
    return save_model(folder, generator, condition, {"data": "made up", "seed": 1, "licence": "cc0-1.0"})
