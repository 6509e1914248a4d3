"""Whole CLIPs of a few thousand weights: one of ours, and one that open_clip knows by name."""

from __future__ import annotations

import open_clip
import pytest
import torch
from open_clip import factory, pretrained
from tiny_models import WORDS

from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallCNNConfig
from sgxl_t.networks.text.clip import ClipModel, local_clip
from sgxl_t.networks.text.text_tower import TextTowerConfig
from sgxl_t.networks.text.vocab import WordTokenizer

OPEN_CLIP = "open_clip:tiny/tag"
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def tiny_whole_clip(dim: int = 16) -> ClipModel:
    """Both towers, over a dozen words and pictures of 16 px; frozen."""
    tokenizer = WordTokenizer(WORDS, 12)
    text = TextTowerConfig(
        embed_dim=dim, context_length=12, vocab_size=tokenizer.vocab_size, width=16, heads=2, layers=1
    )
    image = SmallCNNConfig(image_size=16, channels=(4, 4, 8, 8), convs=(1, 1, 1, 1), projection=dim)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(4)
        return local_clip(text, tokenizer, SmallCNN(image)).eval().requires_grad_(False)


def tiny_open_clip(monkeypatch: pytest.MonkeyPatch) -> open_clip.CLIP:
    """Lets open_clip know a small model under OPEN_CLIP, and returns one with random weights."""
    config = {
        "embed_dim": 12,
        "vision_cfg": {"layers": 1, "width": 16, "head_width": 8, "image_size": 32, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
    }
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny", config)
    known = {"url": "", "hf_hub": "", "mean": MEAN, "std": STD, "quick_gelu": True}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", {"tag": known})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        return open_clip.create_model("tiny", load_weights=False, force_quick_gelu=True).eval()
