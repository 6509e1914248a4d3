"""Entry point of training: flags in, run folder out, one sentence when the user made a mistake."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from sgxl_t.files.memory import is_out_of_memory
from sgxl_t.files.streams import forgiving_streams
from sgxl_t.files.terminal import VisibleFormatter, say
from sgxl_t.training.checkpoint.disk import RunFolderError, is_full
from sgxl_t.training.checkpoint.divergence import DivergedError
from sgxl_t.training.checkpoint.run_folder import held, prepare_folder
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.parallel.exit_codes import DIVERGED, INTERRUPTED, USER_ERROR, WRITE_FAILED
from sgxl_t.training.parallel.main_process import ElsewhereError, on_main_process
from sgxl_t.training.parallel.watchdog import watched
from sgxl_t.training.recipe.wanted import wants_recipe, without_printing

if TYPE_CHECKING:
    from sgxl_t.training.config.auto_networks import AutoNetworks
    from sgxl_t.training.config.settings import NetworkSettings
    from sgxl_t.training.parallel.runtime import Runtime
    from sgxl_t.training.progressive.planner import RunPlan

log = logging.getLogger("sgxl_t")

LESS_MEMORY = "lower batch.per_device, and see with --dry-run what each way to launch needs"
DRY_RUN = ("--dry-run", "--dry_run")
"""A flag beside the configuration, which does not hold it."""


def main(arguments: list[str] | None = None) -> None:
    """Trains as the flags say; the exit codes are those of `exit_codes`, 0 when the run is done.

    `--dry-run` prints the memory that training would need instead, and writes nothing.
    """
    with forgiving_streams():
        code = _main(sys.argv[1:] if arguments is None else arguments)
    if code:
        sys.exit(code)


def _main(arguments: list[str]) -> int:
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("httpx", "timm", "accelerate"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        given = [argument for argument in arguments if argument not in DRY_RUN]
        dry_run = bool(set(arguments) & set(DRY_RUN))
        if wants_recipe(given):
            return _run_recipe(given, dry_run=dry_run)
        config = parse_config(given)
        if dry_run:
            from sgxl_t.training.memory.dry_run import launch, print_report
            from sgxl_t.training.progressive.planner import plan_run
            from sgxl_t.training.start.origin import going_on

            settings = going_on(config.network_settings(), config.folder())
            networks = _networks_planned(settings, config.to_dict(), config.folder(), gpu=launch().gpu)
            print_report(plan_run(config.with_networks(networks)).wanted())
            return 0
        return run(config)
    except ElsewhereError as error:
        if str(error):
            say(f"error: {error}", err=True)
        return 1
    except (DivergedError, RunFolderError, ValueError, OSError, SafetensorError) as error:
        if str(error):
            say(f"error: {error}", err=True)
        return _code_of(error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        say(f"error: there is not enough memory for training ({error}): {LESS_MEMORY}", err=True)
        return USER_ERROR


def _code_of(error: Exception) -> int:
    if isinstance(error, DivergedError):
        return DIVERGED
    return WRITE_FAILED if isinstance(error, RunFolderError) or is_full(error) else USER_ERROR


def run(config: TrainConfig, runtime: Runtime | None = None, recipe: str | None = None) -> int:
    """Trains until the configured length, an interrupt, or the time limit; returns the exit code.

    runtime: where there is one already. recipe: text for a file of the run folder that says what was chosen.
    """
    from sgxl_t.training.parallel.runtime import Runtime
    from sgxl_t.training.pretrained.settle import settle
    from sgxl_t.training.progressive.planner import plan_run
    from sgxl_t.training.start.origin import going_on

    runtime = runtime or Runtime(deterministic=config.deterministic)
    with _in_group(runtime):
        minutes = config.schedule.watchdog_minutes
        folder, watch = config.folder(), {"rank": runtime.rank, "world_size": runtime.world_size}
        with watched(folder, minutes, **watch), held(folder, runtime):
            networks = settle(going_on(config.network_settings(), folder), config.to_dict(), folder, runtime)
            finished = _train(plan_run(config.with_networks(networks)), runtime, recipe)
            runtime.wait()  # a process that leaves early can take the others' connections with it
    return 0 if finished else INTERRUPTED


def _run_recipe(arguments: list[str], *, dry_run: bool) -> int:
    """As `run`, with the settings that suit the data and this machine."""
    from sgxl_t.networks.backbones.precision import cpu_gains_by_bf16
    from sgxl_t.training.config.config_file import typed_settings
    from sgxl_t.training.memory.dry_run import print_report
    from sgxl_t.training.parallel.runtime import Runtime
    from sgxl_t.training.progressive.planner import plan_run
    from sgxl_t.training.recipe.configure import chosen_for

    typed = typed_settings(without_printing(arguments))
    deterministic = bool(typed.get("deterministic"))
    runtime = Runtime(deterministic=deterministic, bf16_on_cpu=cpu_gains_by_bf16())
    with _in_group(runtime):
        chosen = chosen_for(arguments, runtime)
        if not dry_run:
            return run(chosen.config, runtime, chosen.recipe)
        config = chosen.config
        gpu = runtime.device.type != "cpu"  # what was chosen is for this machine
        networks = _networks_planned(config.network_settings(), config.to_dict(), config.folder(), gpu=gpu)
        print_report(plan_run(config.with_networks(networks)).wanted())
    return 0


def _networks_planned(
    settings: NetworkSettings, written: dict[str, Any], folder: Path, *, gpu: bool
) -> AutoNetworks:
    """What `auto:` would stand for in a run; nothing is fetched."""
    from sgxl_t.training.pretrained.settle import decide

    return decide(settings, written, folder, "gpu" if gpu else "cpu", fetch=False)[0]


@contextmanager
def _in_group(runtime: Runtime) -> Iterator[None]:
    """The processes of a run leave their group behind the block, however it ends."""
    from sgxl_t.training.parallel.runtime import is_lost_connection

    if not runtime.is_main:
        log.setLevel(logging.WARNING)
    try:
        yield
    except RuntimeError as error:
        if runtime.world_size == 1 or not is_lost_connection(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise ElsewhereError(f"another process has ended, its own log says why ({reason})") from None
    finally:
        runtime.finish()


def _train(plan: RunPlan, runtime: Runtime, recipe: str | None) -> bool:
    if plan.has_stages:
        from sgxl_t.training.progressive.run_stages import run_stages

        return run_stages(plan, runtime)
    from sgxl_t.training.build_trainer import build_trainer
    from sgxl_t.training.checks import open_checked
    from sgxl_t.training.loop.data import size_notes
    from sgxl_t.training.start.origin import going_on

    config, folder = plan.stages[0].config, plan.folder
    rounds, settings = config.rounds(runtime.world_size), going_on(config.network_settings(), folder)
    source = open_checked(settings, config.data, config.log, plan.written, folder, runtime)
    for line in size_notes(source):
        log.info("%s: %s", config.data.source, line)
    with on_main_process(runtime, folder, "its configuration"):
        if runtime.is_main:
            prepare_folder(folder, plan.written, recipe)
    log.info(
        "%d process(es) take part, %d round(s) of %d images each",
        runtime.world_size,
        rounds,
        config.round_images(runtime.world_size),
    )
    return build_trainer(config, runtime, folder, source).train()


if __name__ == "__main__":
    main()
