"""The run folder before training begins: what runs, on what, from which sources."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
from pathlib import Path

import torch

from sgxl_t import __version__
from sgxl_t.files.whole import put_back, whole_file
from sgxl_t.training.config import TrainConfig
from sgxl_t.training.config_file import write_config
from sgxl_t.training.disk import is_full

log = logging.getLogger("sgxl_t")

PARTS = ("checkpoints", "samples", "waiting", "features", "captions", "real_side")
"""Folders inside of a run folder in which files and folders appear whole or not at all."""


def prepare_folder(folder: Path, config: TrainConfig) -> None:
    """Makes the run folder and writes down what runs: configuration, versions, commit, seed.

    Repairs first what a killed process left half done in it. ValueError where nothing can be written there,
    OSError where the disk is full.
    """
    for part in (".", *PARTS):
        for back in put_back(folder / part):
            log.warning("%s had been moved aside when the run was killed, and is back", back)
    try:
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "config.yaml") as aside:
            write_config(config, aside)
        with whole_file(folder / "environment.json") as aside:
            aside.write_text(json.dumps(environment(config), indent=1))
    except OSError as error:
        if is_full(error):
            raise
        raise ValueError(
            f"the run folder {folder} cannot be written ({error.strerror}): choose another with --run-dir"
        ) from None


def environment(config: TrainConfig) -> dict[str, str | int]:
    """Versions, machine and seed, as far as results depend on them."""
    import accelerate
    import open_clip
    import timm

    return {
        "sgxl_t": __version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "open_clip": open_clip.__version__,
        "accelerate": accelerate.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "seed": config.seed,
    }


def _commit() -> str:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.strip() or "unknown"
