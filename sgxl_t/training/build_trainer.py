"""From a configuration to a trainer: state, data, callbacks and checkpoints of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sgxl_t.conditioning import Condition
from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.datasets.base import ImageSource
from sgxl_t.datasets.loading.options import BatchOptions
from sgxl_t.objectives.objective import Objective
from sgxl_t.training.build import Parts, build_parts
from sgxl_t.training.callbacks.best import BestModel
from sgxl_t.training.callbacks.callback import Callback, Callbacks
from sgxl_t.training.callbacks.health_numbers import EmaFollowed, LooksOfSamples
from sgxl_t.training.callbacks.health_rules import rules_of
from sgxl_t.training.callbacks.health_watch import HealthWatch
from sgxl_t.training.callbacks.pictures.nearest import NearestImages
from sgxl_t.training.callbacks.pictures.timelapse import Timelapse
from sgxl_t.training.callbacks.plateau import PlateauRule
from sgxl_t.training.callbacks.progress_bar import ProgressBar
from sgxl_t.training.callbacks.report.run_report import RunReport
from sgxl_t.training.callbacks.sample_grid import SampleGrid
from sgxl_t.training.callbacks.statistics import Statistics
from sgxl_t.training.callbacks.tracked_metrics import TrackedMetrics
from sgxl_t.training.callbacks.tracking import Tracker
from sgxl_t.training.checkpoint.run_checkpoints import RunCheckpoints
from sgxl_t.training.checks import open_checked
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.config.parts import EmaConfig, LogConfig, OptimizerConfig, ScheduleConfig
from sgxl_t.training.config.settings import HealthSettings, LoopSettings, NetworkSettings
from sgxl_t.training.loop.data import TrainingBatches, open_tracked
from sgxl_t.training.loop.ema import Ema
from sgxl_t.training.loop.trainer import Trainer
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.parallel.trained_network import Network, TrainedNetwork
from sgxl_t.training.start.begin import NewRun
from sgxl_t.training.start.origin import going_on
from sgxl_t.training.train_state import TrainState


def build_trainer(
    config: TrainConfig, runtime: Runtime, folder: Path, source: ImageSource | None = None
) -> Trainer:
    """A trainer of one run in one folder, before it has looked for a checkpoint.

    source: the data, where it has been opened and checked already.
    """
    networks, written = going_on(config.network_settings(), folder), config.to_dict()
    if source is None:
        source = open_checked(networks, config.data, config.log, written, folder, runtime)
    parts = build_parts(networks, config.data.source, source, folder, runtime, progress=config.log.progress)
    loop = LoopSettings(
        images=config.batch.images,
        rounds=config.rounds(runtime.world_size),
        round_images=config.round_images(runtime.world_size),
        schedule=config.schedule,
        final_lr_share=config.optimizer.final_lr_share,
        compute=config.compute,
    )
    options = BatchOptions(
        batch_size=loop.round_images,
        seed=config.seed,
        rank=runtime.rank,
        world_size=runtime.world_size,
        num_workers=config.data.num_workers,
        ahead=loop.rounds,
        caption_dropout=config.data.caption_dropout,
        alike=config.data.alike,
    )
    state = _state(parts, networks, config.optimizer, config.ema, loop, runtime)
    data = TrainingBatches(source, options, runtime)
    callbacks: list[Callback] = [Statistics(runtime, data), _ema_followed(state)]
    if runtime.is_main:
        specs = config.log.tracked_specs()
        compared = partial(open_tracked, source, config.data, config.log.track_source, config.cond)
        tracked = [TrackedMetrics(folder, specs, compared, seed=config.seed)] if specs else []
        about = {"data": config.data.source, "seed": config.seed}
        provenance = about | {"features": list(config.discriminator.features)}
        health = config.health_settings()
        callbacks += _writing(folder, source, tracked, provenance, config.log, config.schedule, health)
    checkpoints = RunCheckpoints(
        folder,
        runtime,
        source,
        written,
        keep=config.schedule.keep_checkpoints,
        begin=partial(_new_run(networks, folder, source).begin, runtime=runtime),
    )
    return Trainer(state, data, Callbacks(callbacks, runtime, folder), checkpoints, loop, runtime)


def _new_run(settings: NetworkSettings, folder: Path, source: ImageSource) -> NewRun:
    return NewRun(
        folder=folder,
        source=source,
        seed=settings.seed,
        features=settings.discriminator.features,
        cond=settings.cond,
        start=settings.start,
        resumes_only=settings.frozen.stem and settings.stem is None,
    )


def _state(
    parts: Parts,
    settings: NetworkSettings,
    rates: OptimizerConfig,
    ema_config: EmaConfig,
    loop: LoopSettings,
    runtime: Runtime,
) -> TrainState:
    """The state at the first weights."""
    condition, features = parts.condition, parts.discriminator.features
    objective = Objective(
        settings.objective,
        classifier=parts.classifier,
        clip=parts.clip,
        stem=parts.stem,
        device=runtime.device,
    )
    # Averages copy whole networks, so they are made before a back end shards these.
    ema = Ema(parts.generator.to(runtime.device), ema_config)
    trained = partial(_trained, rates=rates, loop=loop, runtime=runtime)
    g = trained(parts.generator, rates.g_lr)
    d = trained(parts.discriminator.heads, rates.d_lr)
    if parts.stem is not None:
        parts.stem.watch(g.raw)
    text, condition_ema = None, None
    if isinstance(condition, TextCondition) and condition.learns:
        assert condition.own is not None
        text = trained(condition.own, rates.text_lr, follows=g)
        condition_ema = Ema[Condition](condition, ema_config)
    stem = None if parts.stem is None else parts.stem.stem
    frozen = (features, parts.classifier, parts.clip, stem)
    return TrainState(
        g=g,
        d=d,
        text=text,
        ema=ema,
        condition=condition,
        condition_ema=condition_ema,
        features=features,
        objective=objective,
        first_seed=settings.seed,
        frozen=tuple(network for network in frozen if isinstance(network, nn.Module)),
    )


def _trained(
    network: Network,
    lr: float,
    *,
    rates: OptimizerConfig,
    loop: LoopSettings,
    runtime: Runtime,
    follows: TrainedNetwork[Any] | None = None,
) -> TrainedNetwork[Network]:
    """A network with its optimiser, spread over the processes as the launch configuration says."""

    def adam(network: nn.Module) -> torch.optim.Optimizer:
        # Frozen parameters get no gradient, so Adam passes over them and keeps what it knew of them.
        group = {"params": list(network.parameters()), "lr": lr, "first_lr": lr}
        betas = (float(rates.beta1), float(rates.beta2))
        return torch.optim.Adam([group], betas=betas, eps=rates.eps, fused=True)

    return runtime.prepare(network, adam, rounds=loop.rounds, per_device=loop.round_images, follows=follows)


def _ema_followed(state: TrainState) -> EmaFollowed:
    averages: list[tuple[Ema[Any], nn.Module]] = [(state.ema, state.g.raw)]
    if state.condition_ema:
        averages.append((state.condition_ema, state.condition))
    return EmaFollowed(averages)


def _writing(
    folder: Path,
    source: ImageSource,
    tracked: Sequence[Callback],
    provenance: Mapping[str, Any],
    log: LogConfig,
    schedule: ScheduleConfig,
    health: HealthSettings,
) -> list[Callback]:
    """The callbacks of the main process; what one finds out at a snapshot, those after it use."""
    seed = provenance["seed"]
    grid = SampleGrid(folder, source, rows=log.grid_rows, columns=log.grid_columns, seed=seed)
    return [
        grid,
        Timelapse(folder, resolution=source.resolution),
        NearestImages(folder, source, grid),
        *tracked,
        BestModel(folder, {**provenance, "data_fingerprint": source.fingerprint()}),
        PlateauRule(schedule.snapshot_kimg, ramp_kimg=health.blurred_kimg, ends=schedule.plateau),
        LooksOfSamples(grid, seed=seed),
        Tracker(folder, tensorboard=log.tensorboard),
        HealthWatch(folder, rules_of(health)),
        RunReport(folder, source),
        *([ProgressBar(folder.name, schedule.kimg)] if log.progress else []),
    ]
