"""The training loop of both papers: rounds of one network, its step, then the other; EMA; ticks."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.datasets.base import Batch, ImageSource
from sgxl_t.files.terminal import visible
from sgxl_t.objectives.micro_batch import MicroBatch
from sgxl_t.objectives.objective import Networks, Objective, Phase, Stats
from sgxl_t.ops.random import rollback_seed, training_rng
from sgxl_t.training.build import build_parts
from sgxl_t.training.callbacks.recorder import Recorder
from sgxl_t.training.checkpoint.divergence import has_diverged, roll_back, skipped_in_a_row
from sgxl_t.training.checkpoint.state import restore_state, save_state
from sgxl_t.training.config.compute_config import chosen_backend
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.loop.data import Positions, open_loader
from sgxl_t.training.loop.device_batch import DeviceBatches
from sgxl_t.training.loop.ema import Ema
from sgxl_t.training.loop.running_statistics import RunningStatistics
from sgxl_t.training.parallel.interrupt import StopRequest
from sgxl_t.training.parallel.machines import check_agreement, share_checkpoint
from sgxl_t.training.parallel.main_process import main_writes
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.parallel.trained_network import Role

log = logging.getLogger("sgxl_t")

BAR = "{desc}: {percentage:3.0f}% {n:.1f}/{total:.1f} kimg [{elapsed}<{remaining}] {postfix}"


class Trainer:
    """One run in one folder. `train()` starts it, or goes on where the newest checkpoint stands."""

    def __init__(
        self, config: TrainConfig, runtime: Runtime, folder: Path, source: ImageSource | None = None
    ) -> None:
        """source: the data, where it has been opened and checked already."""
        self.config, self.runtime, self.folder = config, runtime, folder
        self.rounds = config.rounds(runtime.world_size)
        self.round_images = config.round_images(runtime.world_size)
        self.images_seen = 0
        self.iteration = 0
        self.rollbacks = 0
        self.rolled_back = False
        self.data_positions: Positions | None = None
        self.loader: Iterator[Batch] | None = None
        parts = build_parts(config, runtime, folder, source)
        self.source, self.condition = parts.source, parts.condition
        self.features = parts.discriminator.features
        self.objective = Objective(
            config.objective,
            classifier=parts.classifier,
            clip=parts.clip,
            stem=parts.stem,
            device=runtime.device,
        )
        # Averages are copies of whole networks, made before a back end takes these apart.
        self.ema = Ema(parts.generator.to(runtime.device), config.ema)
        self.g = self._prepare(parts.generator, config.optimizer.g_lr)
        self.d = self._prepare(parts.discriminator.heads, config.optimizer.d_lr)
        if parts.stem is not None:
            parts.stem.watch(self.g.raw)
        self.text: Role | None = None
        self.condition_ema: Ema | None = None
        if isinstance(self.condition, TextCondition) and self.condition.learns:
            tower = self.condition.own
            assert tower is not None
            self.text = self._prepare(tower, config.optimizer.text_lr, follows=self.g)
            self.condition_ema = Ema(self.condition, config.ema)
        self.statistics = RunningStatistics(
            (self.g.raw, self.d.raw),
            (self.objective.path_length.mean,),
            mean=runtime.mean,
            world_size=runtime.world_size,
        )
        self.device_batches = DeviceBatches(self.condition, runtime.device)
        self.recorder = Recorder(self)

    def _prepare(self, network: nn.Module, lr: float, *, follows: Role | None = None) -> Role:
        rates = self.config.optimizer

        def adam(network: nn.Module) -> torch.optim.Optimizer:
            # Resting parameters get no gradient, so Adam passes over them and keeps what it knew of them.
            group = {"params": list(network.parameters()), "lr": lr, "first_lr": lr}
            betas = (float(rates.beta1), float(rates.beta2))
            return torch.optim.Adam([group], betas=betas, eps=rates.eps, fused=True)

        return self.runtime.prepare(
            network, adam, rounds=self.rounds, per_device=self.round_images, follows=follows
        )

    @property
    def seed(self) -> int:
        """Of the random streams of data and losses; another one after each time the run went back."""
        return rollback_seed(self.config.seed, self.rollbacks)

    def roles(self) -> dict[str, Role]:
        """The trained networks by name."""
        return {"g": self.g, "d": self.d, **({"text": self.text} if self.text else {})}

    # One update ------------------------------------------------------------------------------------------

    def update(self, batches: list[MicroBatch]) -> None:
        """All rounds of one network, its step, then the other, in the order of the paper."""
        for phase in self.objective.phases(self.iteration, self.images_seen):
            role, other = (self.d, self.g) if phase == "d" else (self.g, self.d)
            with other.resting():
                for batch in self.statistics.over(batches):
                    with role.round(last=batch is batches[-1]):
                        self.recorder.collect(self._learn(role, phase, batch))
                role.step()
        self._average()
        self.images_seen += self.config.batch.images
        self.iteration += 1

    def _learn(self, role: Role, phase: Phase, batch: MicroBatch) -> Stats:
        """Forward and backward pass of one round; the graph is gone when it returns."""
        with self.runtime.autocast():
            loss, stats = self.loss(phase, batch)
        role.backward(loss, self.rounds)
        return stats

    def loss(self, phase: Phase, batch: MicroBatch) -> tuple[Tensor, Stats]:
        """Loss of one round in one phase; randomness is a function of seed, phase and position alone."""
        rng = training_rng(self.seed, phase, batch.position)
        z = torch.randn(len(batch.images), self.g.raw.z_dim, generator=rng)
        z = z.to(self.runtime.device, non_blocking=True)
        if phase != "d" or not self.config.objective.share_fakes:
            with torch.set_grad_enabled(phase != "d"):
                batch = self.device_batches.encoded(batch)
        if phase == "d":
            networks = Networks(self.g.raw, self.d.engine, self.features)
            return self.objective.d_loss(networks, batch, z, self.images_seen, rng)
        if phase == "pl":
            return self.objective.pl_loss(self.g.engine, batch, z, rng)
        networks = Networks(self.g.engine, self.d.raw, self.features)
        return self.objective.g_loss(networks, batch, z, self.images_seen, rng)

    def _average(self) -> None:
        """Moves the averages of generator and text tower."""
        images = self.config.batch.images
        with self.g.whole():
            self.ema.update(self.g.parameters(), self.g.raw.buffers(), images, self.images_seen)
        if self.condition_ema:
            current = self.condition.parameters()
            self.condition_ema.update(current, self.condition.buffers(), images, self.images_seen)

    # Data ------------------------------------------------------------------------------------------------

    def next_batches(self, loader: Iterator[Batch]) -> list[MicroBatch]:
        """The micro-batches of one update, on the device and with their conditions encoded."""
        chunk = self.round_images * self.runtime.world_size
        first = self.images_seen + self.runtime.rank * self.round_images
        next_batch, make = self.recorder.next_batch, self.device_batches.micro_batch
        with self.device_batches.beside():
            batches = [make(next_batch(loader), first + n * chunk) for n in range(self.rounds)]
        return self.device_batches.hand_over(batches)

    # The run ---------------------------------------------------------------------------------------------

    def train(self) -> bool:
        """Runs to the configured length; False when it was interrupted or ran into its time limit."""
        schedule, total = self.config.schedule, round(self.config.schedule.kimg * 1000)
        share_checkpoint(self.runtime, self.folder, keep=schedule.keep_checkpoints)
        restore_state(self)
        check_agreement(self)
        if self.images_seen >= total:
            has = f"the run has {self.images_seen / 1000:g} kimg and schedule.kimg is {schedule.kimg:g}"
            log.info("%s: nothing is left to train; a larger --schedule.kimg goes on", has)
        self.recorder.start()
        loader = self.loader = open_loader(self)
        started = time.monotonic()
        forms = chosen_backend(self.config.compute)
        with forms, StopRequest() as stop, self._progress_bar(total) as bar:
            done, ending = self.images_seen >= total or self.recorder.at_rest, False
            while not done and not ending:
                before = self.images_seen
                self._set_learning_rates(total)
                self.update(self.next_batches(loader))
                minutes = (time.monotonic() - started) / 60
                out_of_time = schedule.max_minutes is not None and minutes >= schedule.max_minutes
                ending = self.runtime.soon(stop.requested or out_of_time)
                done = self.images_seen >= total
                bar.update((self.images_seen - before) / 1000)
                if self._due(schedule.tick_kimg, before) or done or ending:
                    bar.set_postfix_str(self.recorder.tick())
                    if has_diverged(self):
                        roll_back(self)
                        loader = self.loader = open_loader(self)
                        bar.n = self.images_seen / 1000
                        done = False
                        continue
                if self._due(schedule.snapshot_kimg, before) or done:
                    self.recorder.snapshot()
                    done = done or self.recorder.at_rest
                due = self._due(schedule.checkpoint_kimg, before) and not skipped_in_a_row(self)
                if due or done or ending:
                    with main_writes(self.runtime, self.folder, "a checkpoint"):
                        save_state(self)
                    self.rolled_back = False
        self.recorder.close()
        if done:
            log.info("ended by %s at %.1f kimg", self.ended_by, self.images_seen / 1000)
        else:
            log.info("stopped at %.1f kimg and saved; the same command goes on", self.images_seen / 1000)
        return done

    @property
    def ended_by(self) -> str | None:
        """Why the run is over: kimg, or what the plateau rule says; None while it is not."""
        if self.images_seen >= round(self.config.schedule.kimg * 1000):
            return "kimg"
        return self.recorder.plateau.reason if self.recorder.plateau.stop else None

    def _progress_bar(self, total: int) -> Any:
        return tqdm(
            total=total / 1000,
            initial=self.images_seen / 1000,
            unit="kimg",
            desc=visible(self.folder.name),
            disable=not (self.runtime.is_main and self.config.log.progress) or self.images_seen >= total,
            bar_format=BAR,
        )

    def _due(self, interval_kimg: float, before: int) -> bool:
        size = interval_kimg * 1000
        return int(self.images_seen / size) > int(before / size)

    def _set_learning_rates(self, total: int) -> None:
        late = max(0.0, self.images_seen / total * 2 - 1)
        factor = 1 - (1 - self.config.optimizer.final_lr_share) * late
        for role in self.roles().values():
            role.scale_rates(factor)
