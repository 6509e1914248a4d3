"""Made the run folders beside it, in a checkout of commit 3bb8cf5 (README.md); it does not run today."""

# ruff: noqa: I001

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from conftest import WORDS
from tiny_runs import tiny_run

from sgxl_t.networks.clip import TextTowerConfig, local_clip
from sgxl_t.networks.local_networks import SmallCNN, SmallCNNConfig, SmallViT, SmallViTConfig, save_local
from sgxl_t.networks.vocabulary import WordTokenizer
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.training.train import main

EVERY = {
    "conditioning__class_features": "auto:cnn",
    "conditioning__text_encoder": "auto:clip",
    "conditioning__classifier": "auto:cnn",
    "objective__share_fakes": "true",
    "batch__per_device": 4,
    "schedule__keep_checkpoints": 1,
    "deterministic": "true",
}
RUNS = {
    "class": {
        "cond": "class",
        "generator": "stylegan3",
        "discriminator__features": '["auto:cnn"]',
        "discriminator__projected__cout": 4,
        "discriminator__projected__head_width": 2,
        "objective__pl_weight": 0.25,
        "objective__pl_start_kimg": 0,
        "objective__cls_weight": 1.0,
        "schedule__snapshot_kimg": 0.008,
    },
    "text": {
        "cond": "text",
        "discriminator": "dino",
        "discriminator__features": '["auto:vit"]',
        "conditioning__train_text_encoder": "true",
        "objective__clip_weight": 0.2,
    },
}
ASKED = {"class": [0, 3, 7], "text": ["a red fox in snow", "a cat", "an owl at night"]}


def features(root, kind):
    """Untrained networks where a run looks for those that it has trained."""
    cnn = SmallCNNConfig(
        image_size=16, channels=(4, 4, 8, 8), convs=(1, 1, 1, 1), num_classes=10, projection=16
    )
    vit = SmallViTConfig(image_size=16, stem_width=4, width=8, depth=2, heads=2, num_classes=10)
    tokenizer = WordTokenizer(WORDS, 12)
    text = TextTowerConfig(
        embed_dim=16, context_length=12, vocab_size=tokenizer.vocab_size, width=16, heads=2, layers=1
    )
    torch.manual_seed(0)
    save_local(root / "cnn", SmallCNN(cnn))
    if kind == "text":
        save_local(root / "vit", SmallViT(vit))
        local_clip(text, tokenizer, SmallCNN(cnn)).save(root / "clip")


def train(folder, kind, kimg):
    """A run whose folder holds all that it refers to."""
    features(folder / "features", kind)
    os.chdir(folder.parent)
    main(tiny_run(Path(folder.name), Path("."), schedule__kimg=kimg, **RUNS[kind], **EVERY))


if __name__ == "__main__":
    dest = Path(sys.argv[1]).resolve()
    for kind in RUNS:
        train(dest / kind, kind, 0.016)
        train(dest / "longer" / kind, kind, 0.032)
        shutil.copy(dest / "longer" / kind / "stats.jsonl", dest / f"{kind}_longer.jsonl")
        pipe = Pipeline.from_pretrained(dest / kind / "best")
        images = [np.asarray(pipe(asked, seed=5, psi=0.7).images[0]) for asked in ASKED[kind]]
        np.savez_compressed(dest / f"{kind}_images.npz", images=np.stack(images))
        for name in ("real_side", "samples", "captions", "last"):
            shutil.rmtree(dest / kind / name, ignore_errors=True)
        for path in [dest / kind / "report.html", *(dest / kind).glob(".*")]:
            path.unlink(missing_ok=True)
    shutil.rmtree(dest / "longer")
