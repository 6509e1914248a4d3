"""What changes while a run trains, and nothing that acts on it: counters, trained networks, averages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sgxl_t.conditioning import Condition
from sgxl_t.files.untrusted import Value
from sgxl_t.networks.discriminators.discriminator_t import DinoHeads, TokenFeatures
from sgxl_t.networks.discriminators.discriminator_xl import ProjectedHeads
from sgxl_t.networks.discriminators.projector import ProjectedFeatures
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.text.text_encoder import TextEncoder
from sgxl_t.objectives.objective import Objective
from sgxl_t.ops.random import rollback_seed
from sgxl_t.training.loop.ema import Ema
from sgxl_t.training.parallel.trained_network import TrainedNetwork

Tensors = dict[str, dict[str, Tensor]]
"""Tensors by name, in groups that a checkpoint holds as one file each."""
Positions = list[dict[str, Any]]
"""Where the data readers of each rank are, rank after rank, as JSON values."""


@dataclass
class TrainState:
    """Everything that a checkpoint must hold for the updates to go on exactly.

    g, d: generator and discriminator heads with their optimisers. text: the generator's own text encoder
    where it learns. ema, condition_ema: moving averages of generator and condition. features: frozen, but
    their scales are calibrated when a run begins.
    """

    g: TrainedNetwork[Generator]
    d: TrainedNetwork[ProjectedHeads | DinoHeads]
    text: TrainedNetwork[TextEncoder] | None
    ema: Ema[Generator]
    condition: Condition
    condition_ema: Ema[Condition] | None
    features: ProjectedFeatures | TokenFeatures
    objective: Objective
    first_seed: int
    frozen: tuple[nn.Module, ...] = ()
    """Networks that losses look through; a checkpoint does not hold them."""
    images_seen: int = 0
    iteration: int = 0
    rollbacks: int = 0
    data_positions: Positions | None = None
    """None for data that needs no more than the count of images."""
    fitted: tuple[int, int] | None = None
    """Configured length in images, and what fits the minutes of the run instead; see `FittedLength`."""

    @property
    def seed(self) -> int:
        """Seed of the random streams of data and losses."""
        return rollback_seed(self.first_seed, self.rollbacks)

    @property
    def kimg(self) -> float:
        """Thousand images seen."""
        return self.images_seen / 1000

    @property
    def networks(self) -> dict[str, TrainedNetwork[Any]]:
        """The trained networks by name."""
        return {"g": self.g, "d": self.d, **({"text": self.text} if self.text else {})}

    @property
    def averaged_condition(self) -> Condition:
        """The condition that belongs to the averaged generator."""
        return self.condition_ema.network if self.condition_ema else self.condition

    @property
    def skipped_steps(self) -> int:
        """Optimiser steps left out so far; reading it waits for the device."""
        return sum(network.skipped_steps for network in self.networks.values())

    @property
    def skipped_in_a_row(self) -> int:
        """Steps in a row that one of the networks has left out; equal on all processes."""
        return max(network.skipped_in_a_row for network in self.networks.values())

    def state_dict(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors of whole shape by group and name, and counters as JSON values.

        All processes call it together: sharded networks are gathered, so that any number of processes in any
        mode can load the result.
        """
        tensors: Tensors = {
            "ema": self.ema.network.state_dict(),
            "projection": self.features.projection_state(),
            "objective": self.objective.state_dict(),
        }
        for name, network in self.networks.items():
            tensors[f"network_{name}"] = network.weights()
            tensors[f"optimizer_{name}"] = network.optimizer_state()
        if self.condition_ema:
            tensors["ema_text"] = self.condition_ema.network.state_dict()
        return tensors, {
            "images_seen": self.images_seen,
            "iteration": self.iteration,
            "data": self.data_positions,
            "skipped_steps": {name: network.skipped_steps for name, network in self.networks.items()},
            "loss_scale": {name: network.scaler_state() for name, network in self.networks.items()},
            "rollbacks": self.rollbacks,
            "fitted": self.fitted,
        }

    def load_networks(self, tensors: Tensors) -> None:
        """Loads networks, optimizers, ema; KeyError, RuntimeError or ValueError for other names or shapes."""
        self.ema.network.load_state_dict(tensors["ema"])
        self.features.load_projection_state(tensors["projection"])
        for name, network in self.networks.items():
            network.load_weights(tensors[f"network_{name}"])
            network.load_optimizer_state(tensors[f"optimizer_{name}"])
        if self.condition_ema:
            self.condition_ema.network.load_state_dict(tensors["ema_text"])

    def load_counters(self, counters: Mapping[str, Any], file: str) -> None:
        """Loads what `state_dict` gave beside tensors. file: where it was read, for error messages."""
        read = Value(counters, file)
        self.images_seen = read["images_seen"].integer(0, 2**53)
        self.iteration = read["iteration"].integer(0, 2**53)
        self.data_positions = counters.get("data")
        self.rollbacks = counters.get("rollbacks", 0)
        of, fitted = counters.get("fitted") or (0, 0)
        self.fitted = (int(of), int(fitted)) if of else None
        for name, network in self.networks.items():
            network.restore_counts(counters["skipped_steps"][name])
            network.load_scaler_state(counters.get("loss_scale", {}).get(name, {}))
