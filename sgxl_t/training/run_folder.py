"""The run folder before training begins: what runs, on what, from which sources."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

import torch

from sgxl_t import __version__
from sgxl_t.training.config import TrainConfig
from sgxl_t.training.config_file import write_config


def prepare_folder(folder: Path, config: TrainConfig) -> None:
    """Makes the run folder and writes down what runs: configuration, versions, commit, seed."""
    try:
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        write_config(config, folder / "config.yaml")
        (folder / "environment.json").write_text(json.dumps(environment(config), indent=1))
    except OSError as error:
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
