"""A run folder that goes on from a published file's training state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from sgxl_t.model_io.published.discriminator import StoredDiscriminator
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.ops.resample.blur import blur_sigma
from sgxl_t.training.checkpoint.checkpoint import save_checkpoint

SETTINGS = "run.yaml"
FURTHER_KIMG = 1000.0
"""Length of the continued run beyond what the file has seen, unless --schedule.kimg says otherwise."""
BLUR_SIGMA, BLUR_FADE_KIMG = 2.0, 300.0
"""The release's blur before the discriminator at the start, in pixels, and where it has faded out."""


def write_training_state(
    folder: Path,
    trained: Generator,
    ema: Generator,
    discriminator: StoredDiscriminator,
    progress: Mapping[str, float],
) -> list[str]:
    """Writes a checkpoint and `run.yaml`, the settings that build these networks again; returns what the user
    should know about them, one sentence a line.

    progress: counters by the file's names; what is missing starts at zero. Moments of the optimisers are in
    no published file, so they start fresh, as they do in the release.
    """
    images = round(progress.get("cur_nimg", 0.0))
    parts = {
        "ema": ema.state_dict(),
        "projection": discriminator.projection,
        "objective": {"path_length.mean": torch.tensor(progress.get("pl_mean", 0.0))},
        "network_g": trained.state_dict(),
        "network_d": discriminator.heads,
        "optimizer_g": {},
        "optimizer_d": {},
    }
    state = {
        "images_seen": images,
        "iteration": round(progress.get("batch_idx", 0.0)),
        "skipped_steps": {"g": 0, "d": 0},
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder / "checkpoints", images / 1000, parts, state, keep=1)
    text = yaml.safe_dump(_plain(run_settings(trained, discriminator, progress)), sort_keys=False)
    (folder / SETTINGS).write_text(text, encoding="utf-8")
    return _notes(trained, progress)


def run_settings(
    trained: Generator, discriminator: StoredDiscriminator, progress: Mapping[str, float]
) -> dict[str, Any]:
    """The part of a configuration that the file decides, with the release's way to train.

    The blur fades on from where the file is; a file that does not say takes no blur, since it would not be
    the first. With heads the newest one and the Fourier input train, mapping and stem rest.
    """
    classes, heads = trained.condition.kind == "class", bool(trained.config.stylegan3.superres)
    settings: dict[str, Any] = {
        "cond": trained.condition.kind,
        "generator": asdict(trained.config),
        "discriminator": asdict(discriminator.config),
        "objective": {
            "order": "g_first",
            "average_w": "d_phase",
            "blur_init_sigma": BLUR_SIGMA if "cur_nimg" in progress else 0.0,
            "blur_fade_kimg": BLUR_FADE_KIMG,
            "pl_weight": 0.0 if heads else 0.25,
        },
        "optimizer": {"g_lr": 0.002, "d_lr": 0.00188235},
        "schedule": {"kimg": progress.get("cur_nimg", 0.0) / 1000 + FURTHER_KIMG},
    }
    if heads:
        settings |= {"freeze_stem": True, "freeze_input": False}
    if classes:
        # Only the width of its features counts: the tables themselves come from the file.
        settings["conditioning"] = {"class_features": "timm:tf_efficientnet_lite0.in1k"}
    return settings


def _notes(trained: Generator, progress: Mapping[str, float]) -> list[str]:
    notes = []
    if "cur_nimg" not in progress:
        notes.append("the file does not say how far it was trained: counters start at 0, without blur")
    else:
        images = progress["cur_nimg"]
        sigma = blur_sigma(images, BLUR_SIGMA, BLUR_FADE_KIMG)
        blur = (
            f"blurred by {sigma:.2f} px, until {BLUR_FADE_KIMG:g} kimg" if sigma else "not blurred any more"
        )
        notes.append(f"goes on at {images / 1000:g} kimg, where images are {blur}")
    if trained.config.stylegan3.superres:
        notes.append(
            "the newest head and the Fourier input train, mapping and stem rest, as in the release: "
            "--freeze_stem false trains all"
        )
    return notes


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
