"""The training loop of both papers: micro-batches of one network, its step, then the other; EMA; ticks."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgxl_t.datasets.base import Batch
from sgxl_t.objectives.objective import Phase, Stats
from sgxl_t.training.callbacks.callback import Callbacks
from sgxl_t.training.checkpoint.divergence import roll_back
from sgxl_t.training.checkpoint.run_checkpoints import RunCheckpoints
from sgxl_t.training.config.compute_config import ComputeConfig, chosen_forms
from sgxl_t.training.config.parts import ScheduleConfig
from sgxl_t.training.loop.data import TrainingBatches
from sgxl_t.training.loop.device_batch import Intake, Round, Taken
from sgxl_t.training.loop.running_statistics import RunningStatistics
from sgxl_t.training.parallel.interrupt import StopRequest
from sgxl_t.training.parallel.machines import check_agreement
from sgxl_t.training.parallel.runtime import Runtime, stream
from sgxl_t.training.parallel.trained_network import TrainedNetwork
from sgxl_t.training.train_state import TrainState

log = logging.getLogger("sgxl_t")


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """What of the configuration the loop itself reads.

    images: of one update, which splits into `rounds` micro-batches of `round_images` on every process.
    """

    images: int
    rounds: int
    round_images: int
    schedule: ScheduleConfig
    final_lr_share: float
    compute: ComputeConfig


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
        self.settings, self.runtime, self.objective = settings, runtime, state.objective
        self.intake = Intake(runtime.device)
        self.statistics = RunningStatistics(
            (state.g.raw, state.d.raw),
            (state.objective.path_length.mean,),
            mean=runtime.mean,
            world_size=runtime.world_size,
        )

    # The run ---------------------------------------------------------------------------------------------

    def train(self) -> bool:
        """Goes on to the configured length; False when it was interrupted or ran into its time limit."""
        state, schedule, ending = self.state, self.settings.schedule, False
        self.begin()
        self.callbacks.start(state)
        self.data.open(state)
        started, at_rest = time.monotonic(), self._asked_to_end()
        with chosen_forms(self.settings.compute), StopRequest() as stop, closing(self.callbacks):
            while not (self.is_done or at_rest or ending):
                before = state.images_seen
                self._set_learning_rates()
                self.update(self.next_rounds())
                self.callbacks.update(state)
                minutes = (time.monotonic() - started) / 60
                out_of_time = schedule.max_minutes is not None and minutes >= schedule.max_minutes
                ending = self.runtime.soon(stop.requested or out_of_time)
                if self._due(schedule.tick_kimg, before) or self.is_done or ending:
                    self.callbacks.tick(state)
                    if state.skipped_in_a_row >= schedule.max_skipped_steps:
                        roll_back(state, self.checkpoints, self.callbacks)
                        self.data.open(state)
                        continue
                if self._due(schedule.snapshot_kimg, before) or self.is_done:
                    self.callbacks.snapshot(state)
                    at_rest = self._asked_to_end()
                due = self._due(schedule.checkpoint_kimg, before) and not state.skipped_in_a_row
                if due or self.is_done or at_rest or ending:
                    self.save()
        self.data.close()
        self.callbacks.end()
        done = self.is_done or at_rest
        if done:
            log.info("ended by %s at %.1f kimg", self.ended_by, state.kimg)
        else:
            log.info("stopped at %.1f kimg and saved; the same command goes on", state.kimg)
        return done

    def begin(self) -> None:
        """Restores the newest checkpoint, or begins a new run; all processes must then agree."""
        state, schedule = self.state, self.settings.schedule
        self.checkpoints.restore(state, self.callbacks)
        trained = [network.raw for network in state.networks.values()]
        check_agreement(self.runtime, state.images_seen, state.frozen, trained)
        if self.is_done:
            has = f"the run has {state.kimg:g} kimg and schedule.kimg is {schedule.kimg:g}"
            log.info("%s: nothing is left to train; a larger --schedule.kimg goes on", has)

    def save(self) -> None:
        """Writes a checkpoint."""
        self.state.data_positions = self.data.positions()
        self.checkpoints.save(self.state, self.callbacks)

    @property
    def is_done(self) -> bool:
        """Whether the run has its configured length."""
        return self.state.images_seen >= round(self.settings.schedule.kimg * 1000)

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

    def _set_learning_rates(self) -> None:
        total = round(self.settings.schedule.kimg * 1000)
        late = max(0.0, self.state.images_seen / total * 2 - 1)
        factor = 1 - (1 - self.settings.final_lr_share) * late
        for network in self.state.networks.values():
            network.scale_rates(factor)

    # One update ------------------------------------------------------------------------------------------

    def update(self, rounds: list[Round]) -> None:
        """All micro-batches of one network, its step, then the other, in the order of the paper."""
        state, kept = self.state, list[Any]()
        for phase in self.objective.phases(state.iteration, state.images_seen):
            network, other = (state.d, state.g) if phase == "d" else (state.g, state.d)
            with other.frozen():
                for part in self.statistics.over(rounds):
                    with network.micro_batch(last=part is rounds[-1]):
                        self.callbacks.loss(self._learn(network, phase, part, kept))
                network.step()
        self._average()
        state.images_seen += self.settings.images
        state.iteration += 1

    def _learn(self, network: TrainedNetwork[Any], phase: Phase, part: Round, kept: list[Any]) -> Stats:
        """Forward and backward pass of one micro-batch; the graph is gone when it returns."""
        with self.runtime.autocast():
            loss, stats = self.loss(phase, part, kept)
        network.backward(loss, self.settings.rounds)
        return stats

    def loss(self, phase: Phase, part: Round, kept: list[Any]) -> tuple[Tensor, Stats]:
        """Loss of one micro-batch in one phase; its randomness depends on seed, phase and position alone."""
        state, config = self.state, self.objective.config
        rng = stream(state.seed, phase, part.position)
        z = torch.randn(len(part.pixels), state.g.raw.z_dim, generator=rng)
        z = z.to(self.runtime.device, non_blocking=True)
        share = config.share_fakes
        drawn_before = phase == "d" and share
        with torch.set_grad_enabled(phase != "d"):
            c, text = (None, None) if drawn_before else self._taken(part)
        if phase == "pl":
            return self.objective.pl_loss(state.g.engine, c, z, rng, text=text)
        if phase == "g":
            return self.objective.g_loss(
                state.g.engine,
                state.d.raw,
                state.features,
                c,
                z,
                state.images_seen,
                rng,
                text=text,
                labels=part.labels,
                text_features=state.condition.guide_target(part.c),
                c_heads=part.c,
                kept_features=kept if share else None,
                real=part.real if config.loss == "relativistic" else None,
            )
        return self.objective.d_loss(
            state.d.engine,
            state.features,
            state.g.raw,
            part.real,
            part.c,
            z,
            state.images_seen,
            rng,
            c_generator=c,
            text=text,
            fake_features=kept.pop(0) if drawn_before else None,
        )

    def _average(self) -> None:
        """Moves the averages of generator and text encoder."""
        state, images = self.state, self.settings.images
        with state.g.whole():
            state.ema.update(state.g.parameters(), state.g.raw.buffers(), images, state.images_seen)
        if state.condition_ema:
            condition = state.condition
            state.condition_ema.update(condition.parameters(), condition.buffers(), images, state.images_seen)

    # Data ------------------------------------------------------------------------------------------------

    def next_rounds(self) -> list[Round]:
        """The micro-batches of one update, on the device and with their conditions encoded."""
        state, size = self.state, self.settings.round_images
        chunk, first = size * self.runtime.world_size, state.images_seen + self.runtime.rank * size
        with self.intake.beside():
            rounds = [
                self._round(self.data.next(state.iteration), first + n * chunk)
                for n in range(self.settings.rounds)
            ]
        return self.intake.hand_over(rounds)

    def _round(self, batch: Batch, position: int) -> Round:
        pixels = self.intake.send(batch.images)
        given = self.state.condition.take(batch)
        c = self.state.condition.encode_target(given)
        c = None if c is None else c.to(self.runtime.device)
        labels = None if batch.labels is None else self.intake.send(batch.labels)
        taken = None
        if not self.state.text:
            with torch.no_grad():
                taken = self._encode(given)
        return Round(pixels, given, c, taken, labels, position)

    def _encode(self, given: Any) -> Taken:
        c, text = self.state.condition.encode_both(given)
        return None if c is None else c.to(self.runtime.device, non_blocking=True), text

    def _taken(self, part: Round) -> Taken:
        """What the generator takes; through a text tower that learns, it changes from phase to phase."""
        return self._encode(part.given) if part.taken is None else part.taken
