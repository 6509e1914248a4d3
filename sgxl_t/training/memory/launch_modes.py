"""What each launch mode makes of a process's memory: what stays whole, what is shared out, what is added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sgxl_t.objectives.config import ObjectiveConfig
from sgxl_t.training.memory.estimate import NetworkBytes, PhaseBytes, StepBytes
from sgxl_t.training.parallel.deepspeed import LIVE_PARAMETERS, REDUCE_BUCKET
from sgxl_t.training.parallel.launch_check import refuse_second_order

Mode = Literal["single", "ddp", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload", "fsdp2"]
NAMES: dict[Mode, str] = {
    "single": "one process",
    "ddp": "DDP",
    "zero1": "ZeRO-1",
    "zero2": "ZeRO-2",
    "zero3": "ZeRO-3",
    "zero2_offload": "ZeRO-2, moments on the CPU",
    "zero3_offload": "ZeRO-3, moments on the CPU",
    "fsdp2": "FSDP2",
}
LAUNCH_FILES: dict[Mode, dict[int, str]] = {
    "single": {1: "gpu1.yaml"},
    "ddp": {2: "cpu2.yaml", 8: "gpu8_ddp.yaml", 16: "nodes2x8.yaml"},
    "zero2": {2: "cpu2_zero2.yaml", 8: "gpu8_zero2.yaml"},
    "zero3": {8: "gpu8_zero3.yaml"},
}
"""Under configs/launch/, by the number of processes."""

FLOAT = 4
"""Bytes of a number: weights, gradients and optimizer state are float32 in all modes, whatever maps are."""
WRAPPED = ("g", "d")
"""Roles that a back end shards or synchronises where they learn; all else stays whole on every process."""


@dataclass(frozen=True)
class Share:
    """Bytes of one process in one mode, at the peak of the phase that needs most.

    weights: parameters and buffers of the trained networks. frozen: networks that never learn. ema:
    moving averages. optimizer: Adam's moments, and the parts of weights that it holds. gradients. transit:
    buckets of gradients and gathered weights. maps: what the backward pass waits for, the batch, and what
    operations make. host: beside all this, in the machine's own memory.
    """

    phase: str
    weights: int
    frozen: int
    ema: int
    optimizer: int
    gradients: int
    transit: int
    maps: int
    host: int = 0

    @property
    def total(self) -> int:
        """On the device."""
        parts = (self.weights, self.frozen, self.ema, self.optimizer)
        return sum(parts) + self.gradients + self.transit + self.maps


def share(step: StepBytes, mode: Mode, world_size: int, rounds: int) -> Share:
    """One process's share of the phase that needs most. rounds: of an update on each process."""
    shares = [_in_phase(step, phase, mode, world_size, rounds) for phase in step.phases]
    return max(shares, key=lambda one: one.total)


def refusal(objective: ObjectiveConfig, mode: Mode, precision: str) -> str | None:
    """Why a mode cannot train this configuration; None where it can."""
    if mode.startswith("zero3"):
        try:
            refuse_second_order(objective, 3)
        except ValueError as error:
            return str(error)
    if precision == "fp16" and mode not in ("single", "ddp"):
        return "mixed_precision=fp16 goes with one process and DDP alone: use bf16"
    return None


def launch_file(mode: Mode, world_size: int) -> str:
    """The launch file of a mode, and what to change in it where none fits exactly; empty without one."""
    files = LAUNCH_FILES.get(mode, {})
    if world_size in files:
        return files[world_size]
    if mode == "zero1":
        return "gpu8_zero2.yaml, stage 1"
    if mode.endswith("_offload"):
        return f"gpu8_{mode.removesuffix('_offload')}.yaml, optimiser offloaded to cpu"
    if 8 in files:
        return f"{files[8]}, {world_size} processes"
    return ""


def _in_phase(step: StepBytes, phase: PhaseBytes, mode: Mode, world_size: int, rounds: int) -> Share:
    wrapped = {name: step.networks[name] for name in WRAPPED if step.networks[name].trained}
    rest = [network for name, network in step.networks.items() if name not in wrapped]
    text = None if phase.name == "d" else step.networks.get("text")
    learning = wrapped.get("d" if phase.name == "d" else "g", NetworkBytes(0, 0, 0))
    sharded = _sharded(list(wrapped.values()), learning, mode, world_size)
    # A rank keeps no whole gradients, so it never saves by their growing while the maps go.
    divided = mode in ("zero2", "zero3", "zero2_offload", "zero3_offload", "fsdp2")
    return Share(
        phase=phase.name,
        weights=sharded.weights + sum(network.weights + network.buffers for network in rest),
        frozen=sum(step.frozen.values()),
        ema=step.ema,
        optimizer=sharded.optimizer + sum(2 * network.trained for network in rest),
        gradients=sharded.gradients + (0 if text is None else text.trained),
        transit=sharded.transit,
        maps=step.batch * rounds + (phase.apart + phase.waiting(rounds) if divided else phase.beside(rounds)),
        host=sharded.host,
    )


@dataclass(frozen=True)
class _Sharded:
    weights: int
    optimizer: int
    gradients: int
    transit: int
    host: int = 0


def _sharded(wrapped: list[NetworkBytes], learning: NetworkBytes, mode: Mode, n: int) -> _Sharded:
    """Generator and heads together, as far as they learn at all. learning: the one that the phase trains."""
    weights, buffers = sum(one.weights for one in wrapped), sum(one.buffers for one in wrapped)
    trained, whole = sum(one.trained for one in wrapped), learning.trained
    bucket = REDUCE_BUCKET * FLOAT
    state, part = 2 * trained, -(-trained // n)
    parts = buffers - (-weights // n)
    # Stage 3 keeps its buckets and its parts of the gradients of both networks all the time.
    standing, passing = len(wrapped) * bucket, bucket if whole else 0
    # Measured on two processes: of the network that learns it holds two more copies while it does.
    copies = [*wrapped, learning, learning]
    gathered = sum(min(one.weights, LIVE_PARAMETERS * FLOAT) for one in copies)
    match mode:
        case "single":
            return _Sharded(weights + buffers, state, whole, 0)
        case "ddp":
            return _Sharded(weights + buffers, state, whole, trained)
        case "zero1":
            return _Sharded(weights + buffers, 3 * part, whole, passing)
        case "zero2":
            return _Sharded(weights + buffers, 3 * part, -(-whole // n), passing)
        case "zero2_offload":
            return _Sharded(weights + buffers, 0, 0, passing, host=5 * part)
        case "zero3":
            return _Sharded(parts, 2 * part, part, standing + gathered)
        case "zero3_offload":
            return _Sharded(parts, 0, 0, standing + gathered, host=4 * part)
        case "fsdp2":
            return _Sharded(parts, 2 * part, -(-whole // n) + whole, weights)
