"""Entry point of training: flags in, run folder out, one sentence when the user made a mistake."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
import sys
from pathlib import Path

import torch

from sgxl_t import __version__
from sgxl_t.training.config import TrainConfig, parse_config, write_config

log = logging.getLogger("sgxl_t")

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Trains as the flags say; exits 0 when done, 2 on a user's mistake, 130 after Ctrl-C (resumable)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for noisy in ("httpx", "timm", "accelerate"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        code = run(parse_config(arguments))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_USER_ERROR
    if code:
        sys.exit(code)


def run(config: TrainConfig) -> int:
    """Trains until the configured length, an interrupt, or the time limit; returns the exit code."""
    from sgxl_t.training.runtime import Runtime
    from sgxl_t.training.trainer import Trainer

    runtime = Runtime(deterministic=config.deterministic)
    try:
        if not runtime.is_main:
            log.setLevel(logging.WARNING)
        rounds = config.rounds(runtime.world_size)
        folder = config.folder()
        if runtime.is_main:
            prepare_folder(folder, config)
        runtime.wait()
        log.info(
            "%d process(es) take part, %d round(s) of %d images each",
            runtime.world_size,
            rounds,
            config.round_images(runtime.world_size),
        )
        finished = Trainer(config, runtime, folder).train()
    finally:
        runtime.finish()
    return 0 if finished else EXIT_INTERRUPTED


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


if __name__ == "__main__":
    main()
