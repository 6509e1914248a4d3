"""Entry point of training: flags in, run folder out, one sentence when the user made a mistake."""

from __future__ import annotations

import logging
import sys

from sgxl_t.training.config import TrainConfig
from sgxl_t.training.config_file import parse_config
from sgxl_t.training.divergence import DivergedError
from sgxl_t.training.exit_codes import DIVERGED, INTERRUPTED, USER_ERROR
from sgxl_t.training.run_folder import prepare_folder

log = logging.getLogger("sgxl_t")


def main(arguments: list[str] | None = None) -> None:
    """Trains as the flags say; the exit codes are those of `exit_codes`, 0 when the run is done."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for noisy in ("httpx", "timm", "accelerate"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        code = run(parse_config(arguments))
    except DivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        code = DIVERGED
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = USER_ERROR
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
        if config.stages:
            from sgxl_t.training.chain import run_chain

            return 0 if run_chain(config, runtime) else INTERRUPTED
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
    return 0 if finished else INTERRUPTED


if __name__ == "__main__":
    main()
