"""From a configuration to a trainer: state, data, callbacks and checkpoints of a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sgxl_t.conditioning import Condition
from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.datasets.base import ImageSource
from sgxl_t.objectives.objective import Objective
from sgxl_t.training.build import Parts, build_parts
from sgxl_t.training.callbacks.best import BestModel
from sgxl_t.training.callbacks.callback import Callback, Callbacks
from sgxl_t.training.callbacks.health import rules_of
from sgxl_t.training.callbacks.health_numbers import EmaFollowed, VarietyOfSamples
from sgxl_t.training.callbacks.health_watch import HealthWatch
from sgxl_t.training.callbacks.plateau import PlateauRule
from sgxl_t.training.callbacks.progress_bar import ProgressBar
from sgxl_t.training.callbacks.report import RunReport
from sgxl_t.training.callbacks.sample_grid import SampleGrid
from sgxl_t.training.callbacks.statistics import Statistics
from sgxl_t.training.callbacks.tracked_metrics import TrackedMetrics
from sgxl_t.training.callbacks.tracking import Tracker
from sgxl_t.training.checkpoint.origin import model_of
from sgxl_t.training.checkpoint.run_checkpoints import RunCheckpoints
from sgxl_t.training.checkpoint.start import NewRun
from sgxl_t.training.config.config import TrainConfig, tracked_specs
from sgxl_t.training.config.config_file import config_to_dict
from sgxl_t.training.loop.data import LoaderSettings, TrainingBatches, open_tracked
from sgxl_t.training.loop.ema import Ema
from sgxl_t.training.loop.trainer import LoopSettings, Trainer
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.parallel.trained_network import Network, TrainedNetwork
from sgxl_t.training.train_state import TrainState


def build_trainer(
    config: TrainConfig, runtime: Runtime, folder: Path, source: ImageSource | None = None
) -> Trainer:
    """A trainer of one run in one folder, before it has looked for a checkpoint.

    source: the data, where it has been opened and checked already.
    """
    parts = build_parts(config, runtime, folder, source)
    source = parts.source
    state = _state(config, runtime, parts)
    rounds, round_images = config.rounds(runtime.world_size), config.round_images(runtime.world_size)
    loader = LoaderSettings(
        batch_size=round_images,
        ahead=rounds,
        num_workers=config.data.num_workers,
        caption_dropout=config.data.caption_dropout,
    )
    data = TrainingBatches(source, loader, runtime)
    model = model_of(config)
    new_run = NewRun(
        folder=folder,
        source=source,
        seed=config.seed,
        features=config.discriminator.features,
        start=config.start,
        model=None if model is None else model.folder,
        resumes_only=config.freeze_stem and not config.stem,
    )
    checkpoints = RunCheckpoints(
        folder,
        runtime,
        source,
        config_to_dict(config),
        keep=config.schedule.keep_checkpoints,
        begin=partial(new_run.begin, runtime=runtime),
    )
    settings = LoopSettings(
        images=config.batch.images,
        rounds=rounds,
        round_images=round_images,
        schedule=config.schedule,
        final_lr_share=config.optimizer.final_lr_share,
        compute=config.compute,
    )
    callbacks = _callbacks(config, runtime, folder, state, data)
    return Trainer(state, data, callbacks, checkpoints, settings, runtime)


def _state(config: TrainConfig, runtime: Runtime, parts: Parts) -> TrainState:
    """The state at the first weights."""
    objective = Objective(
        config.objective,
        classifier=parts.classifier,
        clip=parts.clip,
        stem=parts.stem,
        device=runtime.device,
    )
    rates = config.optimizer
    # Averages copy whole networks, so they are made before a back end shards these.
    ema = Ema(parts.generator.to(runtime.device), config.ema)
    g = _trained(config, runtime, parts.generator, rates.g_lr)
    d = _trained(config, runtime, parts.discriminator.heads, rates.d_lr)
    if parts.stem is not None:
        parts.stem.watch(g.raw)
    condition = parts.condition
    text, condition_ema = None, None
    if isinstance(condition, TextCondition) and condition.learns:
        assert condition.own is not None
        text = _trained(config, runtime, condition.own, rates.text_lr, follows=g)
        condition_ema = Ema[Condition](condition, config.ema)
    stem = None if parts.stem is None else parts.stem.stem
    frozen = (parts.discriminator.features, parts.classifier, parts.clip, stem)
    return TrainState(
        g=g,
        d=d,
        text=text,
        ema=ema,
        condition=condition,
        condition_ema=condition_ema,
        features=parts.discriminator.features,
        objective=objective,
        first_seed=config.seed,
        frozen=tuple(network for network in frozen if network is not None),
    )


def _trained(
    config: TrainConfig,
    runtime: Runtime,
    network: Network,
    lr: float,
    *,
    follows: TrainedNetwork[Any] | None = None,
) -> TrainedNetwork[Network]:
    """A network with its optimiser, as the launch configuration spreads it over processes."""
    rates, processes = config.optimizer, runtime.world_size

    def adam(network: nn.Module) -> torch.optim.Optimizer:
        # Frozen parameters get no gradient, so Adam passes over them and keeps what it knew of them.
        group = {"params": list(network.parameters()), "lr": lr, "first_lr": lr}
        betas = (float(rates.beta1), float(rates.beta2))
        return torch.optim.Adam([group], betas=betas, eps=rates.eps, fused=True)

    rounds, images = config.rounds(processes), config.round_images(processes)
    return runtime.prepare(network, adam, rounds=rounds, per_device=images, follows=follows)


def _callbacks(
    config: TrainConfig, runtime: Runtime, folder: Path, state: TrainState, data: TrainingBatches
) -> Callbacks:
    """All callbacks of this process in their order; a snapshot's numbers go from one to the next."""
    followed: list[tuple[Ema[Any], nn.Module]] = [(state.ema, state.g.raw)]
    if state.condition_ema:
        followed.append((state.condition_ema, state.condition))
    found: list[Callback] = [Statistics(runtime, data), EmaFollowed(followed)]
    if runtime.is_main:
        found += _writing(config, folder, data.source)
    return Callbacks(found, runtime, folder)


def _writing(config: TrainConfig, folder: Path, source: ImageSource) -> list[Callback]:
    """The callbacks of the main process, which write files."""
    log, objective = config.log, config.objective
    grid = SampleGrid(folder, source, rows=log.grid_rows, columns=log.grid_columns, seed=config.seed)
    provenance = {
        "data": config.data.source,
        "data_fingerprint": source.fingerprint(),
        "seed": config.seed,
        "features": list(config.discriminator.features),
    }
    blur_kimg = objective.blur_fade_kimg if objective.blur_init_sigma > 0 else 0.0
    found: list[Callback] = [grid]
    if log.track_images > 0 and log.metrics:
        compared = partial(open_tracked, source, config.data, log.track_source, config.cond)
        specs = tracked_specs(log.metrics, log.track_images)
        found.append(TrackedMetrics(folder, specs, compared, seed=config.seed))
    found += [
        BestModel(folder, provenance),
        PlateauRule(config.schedule.snapshot_kimg, ramp_kimg=blur_kimg, ends=config.schedule.plateau),
        VarietyOfSamples(grid, seed=config.seed),
        Tracker(folder, tensorboard=log.tensorboard),
        HealthWatch(folder, rules_of(config)),
        RunReport(folder, source),
    ]
    if log.progress:
        found.append(ProgressBar(folder.name, config.schedule.kimg))
    return found
