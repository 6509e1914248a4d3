"""The training loop of both papers: micro-batches of one network, its step, then the other; EMA; ticks."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from sgxl_t.files.interrupt import StopRequest
from sgxl_t.objectives.micro_batch import MicroBatch
from sgxl_t.objectives.objective import Networks, Phase, Stats
from sgxl_t.ops.random import training_rng
from sgxl_t.training.callbacks.callback import Callbacks
from sgxl_t.training.checkpoint.divergence import roll_back
from sgxl_t.training.checkpoint.run_checkpoints import RunCheckpoints
from sgxl_t.training.config.compute_config import chosen_backend
from sgxl_t.training.config.settings import LoopSettings
from sgxl_t.training.loop.data import TrainingBatches
from sgxl_t.training.loop.device_batch import DeviceBatches
from sgxl_t.training.loop.learning_rate import learning_rate_factor
from sgxl_t.training.loop.length import FittedLength
from sgxl_t.training.loop.picture_features import picture_features
from sgxl_t.training.loop.preview_clock import PreviewClock
from sgxl_t.training.loop.running_statistics import RunningStatistics
from sgxl_t.training.parallel.machines import check_agreement
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.parallel.trained_network import TrainedNetwork
from sgxl_t.training.train_state import TrainState

log = logging.getLogger("sgxl_t")


class Trainer:
    """Changes a `TrainState` update by update; callbacks do the rest. `build_trainer` makes one."""

    def __init__(
        self,
        state: TrainState,
        data: TrainingBatches,
        callbacks: Callbacks,
        checkpoints: RunCheckpoints,
        settings: LoopSettings,
        runtime: Runtime,
    ) -> None:
        self.state, self.data, self.callbacks, self.checkpoints = state, data, callbacks, checkpoints
        self.length = FittedLength(settings.schedule, runtime)
        self.settings, self.runtime, self.objective = settings, runtime, state.objective
        self.device_batches = DeviceBatches(
            state.condition, runtime.device, picture_features(state.ema.network, state.condition, state.seed)
        )
        self.statistics = RunningStatistics(
            (state.g.raw, state.d.raw),
            (state.objective.path_length.mean,),
            mean=runtime.mean,
            world_size=runtime.world_size,
        )

    def update(self, batches: list[MicroBatch]) -> None:
        """All micro-batches of one network, its step, then the other, in the order of the paper."""
        state = self.state
        for phase in self.objective.phases(state.iteration, state.images_seen):
            network, other = (state.d, state.g) if phase == "d" else (state.g, state.d)
            with other.frozen():
                for batch in self.statistics.over(batches):
                    with network.micro_batch(last=batch is batches[-1]):
                        self.callbacks.loss(self._learn(network, phase, batch))
                network.step()
        self._average()
        state.images_seen += self.settings.images
        state.iteration += 1
        self.runtime.has_trained = True

    def _learn(self, network: TrainedNetwork[Any], phase: Phase, batch: MicroBatch) -> Stats:
        """Forward and backward pass of one micro-batch; the graph is gone when it returns."""
        with self.runtime.autocast():
            loss, stats = self.loss(phase, batch)
        network.backward(loss, self.settings.rounds)
        return stats

    def loss(self, phase: Phase, batch: MicroBatch) -> tuple[Tensor, Stats]:
        """Scalar loss of one micro-batch in one phase; noise depends on seed, phase and position alone."""
        state, objective = self.state, self.objective
        rng = training_rng(state.seed, phase, batch.position)
        z = torch.randn(len(batch.images), state.g.raw.z_dim, generator=rng)
        z = z.to(self.runtime.device, non_blocking=True)
        if phase != "d" or not batch.shared_fakes:
            with torch.set_grad_enabled(phase != "d"):
                batch = self.device_batches.encoded(batch)
        if phase == "d":
            networks = Networks(state.g.raw, state.d.engine, state.features)
            return objective.d_loss(networks, batch, z, state.images_seen, rng)
        if phase == "pl":
            return objective.pl_loss(state.g.engine, batch, z, rng)
        networks = Networks(state.g.engine, state.d.raw, state.features)
        return objective.g_loss(networks, batch, z, state.images_seen, rng)

    def _average(self) -> None:
        """Moves the averages of generator and text encoder."""
        state, images = self.state, self.settings.images
        with state.g.whole():
            state.ema.update(state.g.parameters(), state.g.raw.buffers(), images, state.images_seen)
        if state.condition_ema:
            condition = state.condition
            state.condition_ema.update(condition.parameters(), condition.buffers(), images, state.images_seen)

    def next_batches(self) -> list[MicroBatch]:
        """The micro-batches of one update, on the device and with their conditions encoded."""
        state, size, make = self.state, self.settings.round_images, self.device_batches.micro_batch
        first, chunk = state.images_seen + self.runtime.rank * size, size * self.runtime.world_size
        positions = range(first, first + self.settings.rounds * chunk, chunk)
        with self.device_batches.beside():
            batches = [make(self.data.next(state.iteration), position) for position in positions]
        return self.device_batches.hand_over(batches)

    def train(self) -> bool:
        """Goes on to the configured length; False when it was interrupted or ran into its time limit."""
        state, schedule, ending = self.state, self.settings.schedule, False
        self.begin()
        self.callbacks.start(state)
        self.data.open(state)
        self.length.start(state)
        started, at_rest = time.monotonic(), self._asked_to_end()
        clock = PreviewClock(schedule.snapshot_minutes if self.runtime.is_main else None)
        with chosen_backend(self.settings.compute), StopRequest() as stop, closing(self.callbacks):
            while not (self.is_done or at_rest or ending):
                before = state.images_seen
                rate = learning_rate_factor(before, self.total_images, self.settings.final_lr_share)
                for network in state.networks.values():
                    network.scale_rates(rate)
                self.update(self.next_batches())
                self.callbacks.update(state)
                minutes = (time.monotonic() - started) / 60
                out_of_time = schedule.max_minutes is not None and minutes >= schedule.max_minutes
                ending, late = self.runtime.soon(stop.requested or out_of_time, clock.is_due())
                if self._due(schedule.tick_kimg, before) or self.is_done or ending:
                    self.length.fit(state)
                    self.callbacks.tick(state)
                    if state.skipped_in_a_row >= schedule.max_skipped_steps:
                        roll_back(state, self.checkpoints, self.callbacks)
                        self.data.open(state)
                        continue
                snapshot = self._due(schedule.snapshot_kimg, before) or self.is_done
                if snapshot:
                    self.callbacks.snapshot(state)
                    at_rest = self._asked_to_end()
                    clock.start()
                elif late and not ending:
                    self.callbacks.preview(state)
                due = self._due(schedule.checkpoint_kimg, before) and not state.skipped_in_a_row
                if due or self.is_done or at_rest or ending:
                    state.data_positions = self.data.positions()
                    self.checkpoints.save(state, self.callbacks)
                if ending and not snapshot:  # after the checkpoint, as there may be little time
                    self.callbacks.preview(state)
        self.data.close()
        self.callbacks.end()
        done = self.is_done or at_rest
        ended = f"ended by {self.ended_by} at %.1f kimg"
        log.info(ended if done else "stopped at %.1f kimg and saved; the same command goes on", state.kimg)
        return done

    def begin(self) -> None:
        """Restores the newest checkpoint, or begins a new run; all processes must then agree."""
        state, schedule = self.state, self.settings.schedule
        self.checkpoints.restore(state, self.callbacks)
        check_agreement(self.runtime, state)
        if self.is_done:
            has = f"the run has {state.kimg:g} kimg and schedule.kimg is {schedule.kimg:g}"
            if self.total_images != self.length.configured:
                has += ", which its minutes have fitted"
            log.info("%s: nothing is left to train; a larger --schedule.kimg goes on", has)

    @property
    def total_images(self) -> int:
        """Length of the run: as configured, or what fits its minutes."""
        return self.length.of(self.state)

    @property
    def is_done(self) -> bool:
        """Whether the run has its configured length."""
        return self.state.images_seen >= self.total_images

    @property
    def ended_by(self) -> str | None:
        """Why the run is over: kimg, or what a callback says; None while it is not."""
        return "kimg" if self.is_done else self.callbacks.ended_by

    def _asked_to_end(self) -> bool:
        """Whether a callback asks to, on any process."""
        return self.runtime.any(self.callbacks.ended_by is not None)

    def _due(self, interval_kimg: float, before: int) -> bool:
        size = interval_kimg * 1000
        return int(self.state.images_seen / size) > int(before / size)
