"""A network whose state DeepSpeed shards over the processes: ZeRO stages 1 to 3 (Rajbhandari et al. 2020).

The engine keeps float32 weights and computes under autocast, so a checkpoint holds the same tensors as that
of one process and opens in every mode.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from sgxl_t.training.parallel.trained_network import MakeOptimizer, Mean, Network, TrainedNetwork

MOMENTS = ("exp_avg", "exp_avg_sq")
REDUCE_BUCKET = 50_000_000
"""Numbers in the buffer for gradients on their way, unless `reduce_bucket_size` says otherwise."""
LIVE_PARAMETERS = 100_000_000
"""Gathered numbers that stage 3 keeps at most, unless `stage3_max_live_parameters` says otherwise.

DeepSpeed's own billion would keep the whole of every generator here.
"""


def prepare_deepspeed(device_type: str) -> None:
    """Before DeepSpeed is imported: without a GPU it must not compile its shared-memory collectives."""
    if device_type != "cpu":
        return
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from deepspeed import ops

    table = getattr(ops, "__compatible_ops__", None)
    if isinstance(table, dict):
        table["deepspeed_shm_comm"] = False


def zero_settings(
    asked: Mapping[str, Any], *, precision: str, per_device: int, rounds: int
) -> dict[str, Any]:
    """A whole DeepSpeed configuration: what the launch file says of ZeRO, everything else decided here.

    Raises ValueError for stage 0 and for float16, whose loss scale DeepSpeed keeps per network.
    """
    said = deepcopy(asked.get("zero_optimization", {}))
    zero = {key: value for key, value in said.items() if value != "auto"}
    if zero.get("stage", 0) not in (1, 2, 3):
        raise ValueError(
            f"the launch configuration asks for ZeRO stage {zero.get('stage', 0)}, which shards nothing: "
            "use stage 1, 2 or 3, or a DDP launch file such as configs/launch/gpu8_ddp.yaml"
        )
    if precision == "fp16":
        raise ValueError(
            "mixed_precision=fp16 does not go with DeepSpeed here: use bf16, or a DDP launch file such as "
            "configs/launch/gpu8_ddp.yaml"
        )
    return {
        "train_micro_batch_size_per_gpu": per_device,
        "gradient_accumulation_steps": rounds,
        "gradient_clipping": 0.0,
        "steps_per_print": 10**12,
        "zero_allow_untested_optimizer": True,
        # Its own Adam for the CPU would have to be compiled.
        "zero_force_ds_cpu_optimizer": False,
        "torch_autocast": {
            "enabled": precision == "bf16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # gradients travel in float32
        },
        "zero_optimization": {
            "reduce_bucket_size": REDUCE_BUCKET,
            "stage3_max_live_parameters": LIVE_PARAMETERS,
            **zero,
        },
    }


class DeepSpeedNetwork(TrainedNetwork[Network]):
    """A network in a DeepSpeed engine. Stage 1 shards optimizer state, 2 also gradients, 3 also weights."""

    def __init__(
        self, network: Network, make_optimizer: MakeOptimizer, settings: Mapping[str, Any], *, mean: Mean
    ) -> None:
        import deepspeed

        optimizer = make_optimizer(network)
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if parameter.requires_grad]
        engine, wrapped, _, _ = deepspeed.initialize(
            model=network, optimizer=optimizer, config=deepcopy(dict(settings)), dist_init_required=False
        )
        super().__init__(network, engine, wrapped, mean=mean)
        self.stage = int(settings["zero_optimization"]["stage"])
        self._names = [name for name, p in network.named_parameters() if p.requires_grad]

    def micro_batch(self, *, last: bool) -> AbstractContextManager[None]:
        """See TrainedNetwork."""
        self.engine.set_gradient_accumulation_boundary(last)  # type: ignore[operator]
        return nullcontext()

    def backward(self, loss: Tensor, rounds: int) -> None:
        """loss: scalar; the engine itself divides by the number of rounds, which its configuration holds."""
        self.engine.backward(loss)  # type: ignore[operator]

    def _step(self) -> None:
        """The engine leaves out steps whose norm of gradients is not finite."""
        engine: Any = self.engine
        engine.step()
        applied = bool(engine.was_step_applied())
        self._count(torch.tensor(not applied, device=self._skipped.device))

    def whole(self) -> AbstractContextManager[None]:
        """See TrainedNetwork."""
        return self._gathered() if self.stage == 3 else nullcontext()

    def _gathered(self, modifier_rank: int | None = None) -> AbstractContextManager[None]:
        from deepspeed.runtime.zero import GatheredParameters

        context: AbstractContextManager[None] = GatheredParameters(
            list(self.raw.parameters()), modifier_rank=modifier_rank
        )
        return context

    def weights(self) -> dict[str, Tensor]:
        """See `TrainedNetwork.weights`; whole shapes on every process."""
        with self.whole():
            return {name: tensor.detach().clone() for name, tensor in self.raw.state_dict().items()}

    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """See `TrainedNetwork.load_weights`; takes whole shapes."""
        if self.stage < 3:
            self.raw.load_state_dict(tensors)
            self._zero.refresh_fp32_params()
            return
        with self._gathered(modifier_rank=0):
            self.raw.load_state_dict(tensors)
        for name, parameter in self.raw.named_parameters():
            if parameter.requires_grad:
                _set_sharded(parameter, tensors[name])

    def optimizer_state(self) -> dict[str, Tensor]:
        """See `TrainedNetwork.optimizer_state`; whole shapes on every process."""
        from deepspeed.utils import safe_get_full_optimizer_state

        steps = [entry["step"] for entry in self._zero.optimizer.state.values() if "step" in entry]
        if not steps:
            return {}
        found: dict[str, Tensor] = {}
        for name, parameter in self._trained():
            for moment in MOMENTS:
                found[f"{name}.{moment}"] = safe_get_full_optimizer_state(parameter, moment).cpu()
            found[f"{name}.step"] = torch.as_tensor(steps[0]).cpu()
        return found

    def load_optimizer_state(self, tensors: Mapping[str, Tensor], *, partly: bool = False) -> None:
        """See `TrainedNetwork.load_optimizer_state`; takes whole shapes."""
        trained = dict(self._trained())
        unknown = {key.rpartition(".")[0] for key in tensors} - set(trained)
        if unknown and not partly:
            raise ValueError(
                f"optimizer state of {sorted(unknown)[0]} belongs to no parameter that is trained"
            )
        steps = [value for key, value in tensors.items() if key.endswith(".step")]
        if not steps:
            return
        self._make_states(steps[0])
        for name, parameter in trained.items():
            for moment in MOMENTS:
                value = tensors.get(f"{name}.{moment}")
                if value is not None and value.shape == _shape(parameter):
                    _set_sharded(parameter, value, moment)

    def _make_states(self, step: Tensor) -> None:
        """States of zeros for every flat shard, as the first step would make them."""
        shards = (
            self._zero.fp32_partitioned_groups_flat
            if self.stage == 3
            else self._zero.single_partition_of_fp32_groups
        )
        for shard in shards:
            state = {moment: torch.zeros_like(shard) for moment in MOMENTS}
            self._zero.optimizer.state[shard] = {"step": step.clone().to(shard.device), **state}
        if self.stage < 3:
            self._zero._lazy_init_hp_params_optimizer_state()

    @property
    def _zero(self) -> Any:
        return self.optimizer

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        own = dict(self.raw.named_parameters())
        return [(name, own[name]) for name in self._names]


def _set_sharded(parameter: nn.Parameter, value: Tensor, moment: str | None = None) -> None:
    """Sets the master weight or a moment of a parameter from its whole tensor, on all processes."""
    from deepspeed.utils import (
        safe_set_full_optimizer_state,
        safe_set_local_fp32_param,
        safe_set_local_optimizer_state,
    )

    value = value.to(parameter.device)
    shard = getattr(parameter, "ds_tensor", None)
    if shard is None:
        assert moment is not None, "stages 1 and 2 refresh their master weights at once"
        safe_set_full_optimizer_state(parameter, value, moment)
        return
    # Stage 3 pads parameters to equal shards, which its setters of whole tensors do not expect.
    count, rank = int(shard.ds_numel), torch.distributed.get_rank()
    flat = torch.nn.functional.pad(
        value.flatten(), (0, count * torch.distributed.get_world_size() - value.numel())
    )
    mine = flat.narrow(0, count * rank, count)
    if moment is None:
        safe_set_local_fp32_param(parameter, mine)
    else:
        safe_set_local_optimizer_state(parameter, mine, moment)


def _shape(parameter: nn.Parameter) -> torch.Size:
    """Of the whole parameter, also where stage 3 has taken it apart."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))
