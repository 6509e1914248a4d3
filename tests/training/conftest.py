"""Feature networks that every tiny run of training shares; untrained, so they cost nothing."""

import pytest
import torch

from sgxl_t.networks.backbones.local_networks import (
    SmallCNN,
    SmallCNNConfig,
    SmallViT,
    SmallViTConfig,
    save_local,
)
from sgxl_t.networks.text.clip import local_clip
from sgxl_t.networks.text.text_tower import TextTowerConfig
from sgxl_t.networks.text.vocab import WordTokenizer
from sgxl_t.training.callbacks.pictures import nearest

WORDS = (
    "a",
    "red",
    "fox",
    "cat",
    "dog",
    "owl",
    "in",
    "on",
    "snow",
    "beach",
    "night",
    "grass",
    "small",
    "large",
)


@pytest.fixture(scope="session", autouse=True)
def few_pictures_to_compare_with():
    """Tiny runs compare their samples with few training pictures: reading more was a quarter of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "MOST", 64)
        yield


@pytest.fixture(scope="session")
def tiny_features(tmp_path_factory):
    """Folder with cnn/, vit/ (ten classes) and clip/, all for 16 px pictures."""
    root = tmp_path_factory.mktemp("features")
    cnn = SmallCNNConfig(
        image_size=16, channels=(4, 4, 8, 8), convs=(1, 1, 1, 1), num_classes=10, projection=16
    )
    vit = SmallViTConfig(image_size=16, stem_width=4, width=8, depth=2, heads=2, num_classes=10)
    tokenizer = WordTokenizer(WORDS, 12)
    text = TextTowerConfig(
        embed_dim=16, context_length=12, vocab_size=tokenizer.vocab_size, width=16, heads=2, layers=1
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_local(root / "cnn", SmallCNN(cnn))
        save_local(root / "vit", SmallViT(vit))
        local_clip(text, tokenizer, SmallCNN(cnn)).save(root / "clip")
    return root
