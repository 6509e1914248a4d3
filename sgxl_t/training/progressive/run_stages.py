"""Stages as one run: each goes on from the one before, to a larger side or with other parts trained."""

from __future__ import annotations

import gc
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sgxl_t.datasets.base import ImageSource
from sgxl_t.files.whole import whole_folder
from sgxl_t.model_io.model_folder import read_info
from sgxl_t.training.build_trainer import build_trainer
from sgxl_t.training.checkpoint.run_folder import prepare_folder
from sgxl_t.training.parallel import watchdog
from sgxl_t.training.parallel.machines import share_checkpoint, share_files
from sgxl_t.training.parallel.main_process import end_together, on_main_process
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.progressive.judgement import judge_stage
from sgxl_t.training.progressive.planner import RunPlan, Stage, check_below, check_plan
from sgxl_t.training.progressive.stages_report import write_stages_report
from sgxl_t.training.progressive.stages_state import StagesState, StageState, open_stages

log = logging.getLogger("sgxl_t")


def run_stages(plan: RunPlan, runtime: Runtime) -> bool:
    """Trains the stages that are not done yet, or the one that `plan.only` names.

    Each stage has its folder RUN/stage_*; RUN/best is the model of the highest finished one and
    RUN/chain.json says where the stages stand, so the same call goes on in the right one. False when it was
    interrupted or ran into its time limit. Raises ValueError, before anything trains, for data, stems and
    batches that do not fit.
    """
    root, planned = plan.folder, plan.stages
    state = _open(root, planned, runtime)
    todo = [stage for stage in planned if _wanted(stage, state, plan.only)]
    with end_together(runtime):
        sources = check_plan(todo or planned, runtime.world_size)
        if runtime.is_main:  # the others are sent what they lack
            _check_starts(planned, todo, state)
    with on_main_process(runtime, root, "the state of the stages"):
        if runtime.is_main:
            prepare_folder(root, plan.written | {"stage": None})
            state.write(root)
    log.info("%d process(es) take part in %d of %d stages", runtime.world_size, len(todo), len(planned))
    for stage in planned:
        if stage not in todo:
            one = state.of(stage)
            log.info("stage %s is %s, %s", stage.label, one.state, _ending(one))
    return _train(plan, todo, state, runtime, sources[-1])


def _open(root: Path, planned: Sequence[Stage], runtime: Runtime) -> StagesState:
    """The state that the main process finds, on all processes."""
    state = None
    with end_together(runtime):
        if runtime.is_main:
            state = open_stages(root, planned)
    found = runtime.gather_objects(state)[0]
    assert isinstance(found, StagesState)
    return found


def _train(
    plan: RunPlan, todo: Sequence[Stage], state: StagesState, runtime: Runtime, source: ImageSource
) -> bool:
    """All stages of `todo` in order, with what belongs to the whole run after each."""
    root, limit, started = plan.folder, plan.max_minutes, time.monotonic()
    with on_main_process(runtime, root, "its best model"):
        if runtime.is_main:
            _publish(root, state)
    for stage in todo:
        minutes = None if limit is None else limit - (time.monotonic() - started) / 60
        if minutes is not None and minutes <= 0:
            log.info("stopped before stage %s; the same command goes on", stage.label)
            return False
        finished = _train_stage(plan, stage, state, runtime, minutes)
        gc.collect()  # the stage's networks refer to each other and would stay beside the next one's
        with on_main_process(runtime, root, "its best model and report"):
            if runtime.is_main:
                _publish(root, state)
                write_stages_report(
                    root, state, source, finished_now=finished, seed=plan.seed, device=runtime.device
                )
        if not finished:
            return False
    return True


def _train_stage(
    plan: RunPlan, stage: Stage, state: StagesState, runtime: Runtime, minutes: float | None
) -> bool:
    """One stage to its end; keeps chain.json up to date. False when it was interrupted."""
    root, one = plan.folder, state.of(stage)
    config = stage.config
    if minutes is not None:
        config = replace(config, schedule=replace(config.schedule, max_minutes=minutes))
    one.state = "running"
    with on_main_process(runtime, root, "the state of the stages"):
        if runtime.is_main:
            prepare_folder(stage.folder, stage.config.to_dict())
            state.write(root)
    _share_below(stage, state, root, runtime)
    watchdog.beat(f"stage {stage.label}, building networks", long=True)
    origin = f"from {stage.below[0]}" if stage.below else "from random weights"
    log.info(
        "stage %s: %d of %d layers train, %s, in rounds of %d images",
        stage.label,
        stage.new_layers,
        stage.layers,
        origin,
        config.round_images(runtime.world_size),
    )
    began = time.monotonic()
    trainer = build_trainer(config, runtime, stage.folder)
    finished = trainer.train()
    one.kimg, one.ended_by = trainer.state.kimg, trainer.ended_by
    one.minutes = round(one.minutes + (time.monotonic() - began) / 60, 2)
    if finished:
        one.state = "finished"
        log.info("stage %s has %s", stage.label, _ending(one))
        if one.ended_by == "diverged":
            log.warning("its tracked metric diverged; the run goes on from its best model, before that")
    with on_main_process(runtime, root, "the state of the stages"):
        if runtime.is_main:
            one.metrics = _metrics(plan, stage, runtime) if finished else {}
            state.write(root)
    return finished


def _share_below(stage: Stage, state: StagesState, root: Path, runtime: Runtime) -> None:
    """What earlier stages have made comes to machines that have not seen them train."""
    for earlier in state.stages:
        if earlier.folder == stage.folder.name:
            break
        share_files(runtime, root / earlier.folder / "features")
    if stage.below is not None and stage.below[0].parent.parent == root:
        share_files(runtime, stage.below[0])
        if stage.config.start:
            share_checkpoint(runtime, stage.below[0].parent, keep=stage.config.schedule.keep_checkpoints)


def _wanted(stage: Stage, state: StagesState, only: str | None) -> bool:
    if only is not None:
        return stage.label == only
    return state.of(stage).state != "finished"


def _check_starts(planned: Sequence[Stage], todo: Sequence[Stage], state: StagesState) -> None:
    """Every stage starts from one that trains before it in this run, or from a model that is there."""
    coming = {stage.folder for stage in todo}
    done = {stage.folder for stage in state.finished()}
    for stage in planned:
        waits = stage.below is not None and stage.below[0].parent in coming
        finished = stage.folder.name in done and stage not in todo
        if (stage in todo or finished) and not waits:
            check_below(stage)
        if finished and not (stage.best / "config.json").is_file():
            raise ValueError(
                f"stage {stage.label} is finished but {stage.best} is missing: restore the folder, "
                f"or remove {stage.folder} and train it again with --stage {stage.label}"
            )


def _ending(state: StageState) -> str:
    if state.state != "finished":
        return f"{state.kimg:g} of {state.planned_kimg:g} kimg are trained"
    return f"ended by {state.ended_by} at {state.kimg:g} kimg"


def _metrics(plan: RunPlan, stage: Stage, runtime: Runtime) -> dict[str, float]:
    """Tracked numbers of the stage's best model, and what a judge says of it; empty where there are none."""
    metrics = read_info(stage.best).metrics or {}
    tracked = {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float))}
    below = stage.below[0] if stage.below else None
    judged = judge_stage(stage.best, below, plan.data, plan.cond, seed=plan.seed, device=runtime.device)
    for name, value in judged.items():
        log.info("stage %s: %s %.4g", stage.label, name, value)
    return tracked | judged


def _publish(root: Path, state: StagesState) -> None:
    """RUN/best becomes the model of the highest finished stage."""
    models = [root / stage.folder / "best" for stage in state.finished()]
    there = [model for model in models if (model / "config.json").is_file()]
    if there:
        with whole_folder(root / "best", mark="config.json", parents=False) as aside:
            shutil.copytree(there[-1], aside, dirs_exist_ok=True)
