"""Peak memory and time of one training step of a text configuration, with frozen networks of the real sizes.

Weights are random, since sizes are all that counts: ViT-S/16 as the discriminator's transformer, CLIP
ViT-L/14 with both towers for captions and guidance, on embedded scenes.

    python benchmarks/text_step_memory.py --config configs/text/lite.yaml --resolution 256 --images 8
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import open_clip
import torch

from sgxl_t.networks.text.open_clip_model import OpenClipModel
from sgxl_t.training import build
from sgxl_t.training.build_trainer import build_trainer
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.parallel.runtime import Runtime

CLIP = "ViT-L-14"


def random_clip(reference: str, *, images: bool = True) -> OpenClipModel:
    """CLIP as `open_clip:ViT-L-14/openai`, without its weights."""
    model = open_clip.create_model(CLIP, load_weights=False, force_quick_gelu=True)
    mean, std = model.visual.image_mean, model.visual.image_std
    return OpenClipModel(
        model, open_clip.get_tokenizer(CLIP), CLIP, quick_gelu=True, image_size=224, mean=mean, std=std
    )


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/text/lite.yaml")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--images", type=int, default=8, help="images of the step, in rounds of --round")
    parser.add_argument("--round", type=int, default=4)
    arguments = parser.parse_args()
    build.load_text_encoder = random_clip
    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(
            [
                *("--config", arguments.config, "--run-dir", folder, "--stages", "[]"),
                *("--data.source", "emoji-scenes:24x8", "--data.num_workers", "0"),
                *("--discriminator.features", '["random:vit_small_patch16_224.dino"]'),
                *("--generator.img_resolution", str(arguments.resolution)),
                *("--batch.images", str(arguments.images), "--batch.per_device", str(arguments.round)),
                *("--log.track_images", "0"),
            ]
        )
        trainer = build_trainer(config, Runtime(deterministic=False), Path(folder))
        built, began = peak_gib(), time.perf_counter()
        trainer.data.open(trainer.state)
        trainer.update(trainer.next_batches())
    print(
        json.dumps(
            {
                "config": arguments.config,
                "resolution": arguments.resolution,
                "images": arguments.images,
                "round": arguments.round,
                "threads": torch.get_num_threads(),
                "precision": trainer.runtime.accelerator.mixed_precision,
                "built_gib": round(built, 2),
                "peak_gib": round(peak_gib(), 2),
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
