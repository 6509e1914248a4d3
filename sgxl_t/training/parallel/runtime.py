"""Devices, ranks, precision and back ends: the only file that knows Accelerate."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sgxl_t.files.lock import Lock
from sgxl_t.training.parallel.deepspeed import DeepSpeedNetwork, prepare_deepspeed, zero_settings
from sgxl_t.training.parallel.fsdp import FsdpNetwork
from sgxl_t.training.parallel.trained_network import MakeOptimizer, Network, TrainedNetwork

ParallelMode = Literal["single", "ddp", "zero", "fsdp"]
PATIENCE = timedelta(hours=12)
"""Processes wait so long for one that trains features or measures; the watchdog finds those that hang."""
SENT_AT_ONCE = 64 * 2**20
"""Bytes of a file that are on their way between processes."""
GOODBYE = timedelta(seconds=10)
"""How long the main process waits at the end for the others to leave."""
LAUNCHED_PRECISION = "ACCELERATE_MIXED_PRECISION"
"""Variable of the environment by which launchers of Accelerate say it."""
LOW_PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}


_LOST = re.compile(
    r"closed by peer|reset by peer|remote process exited|Broken pipe|Connection refused", re.IGNORECASE
)


class Runtime:
    """Wraps Accelerate for networks that are trained in turns (explicit rounds, no `accumulate`).

    The launch configuration alone decides on devices, processes, precision and back end: one process, data
    parallel (DDP), DeepSpeed's ZeRO 1 to 3, or FSDP2. Raises ValueError when the launcher and the process
    group disagree about the number of processes, and for launch configurations that cannot work.
    """

    def __init__(self, *, deterministic: bool, bf16_on_cpu: bool = False) -> None:
        """bf16_on_cpu: compute so on a CPU whose launch says nothing of precision; else that is float32."""
        self.began = time.monotonic()
        self.accelerator = _accelerator(bf16_on_cpu)
        self.device = self.accelerator.device
        self.rank = self.accelerator.process_index
        self.world_size = self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process
        self.precision: str = self.accelerator.mixed_precision
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        if launched != self.world_size:
            raise ValueError(
                f"{launched} processes were launched but {self.world_size} take part: "
                "launch through torchrun or accelerate with a file from configs/launch/"
            )
        self.machine = int(os.environ.get("GROUP_RANK", "0"))
        self.first_on_machine = self.accelerator.is_local_main_process
        self.lock: Lock | None = None
        """Of the run folder, on the main process."""
        self.has_trained = False
        """Whether an update is done; until then the run is only starting."""
        self.mode = self._find_mode()
        self._asked: _Answer | None = None
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)

    def _find_mode(self) -> ParallelMode:
        if _asked_for("DEEPSPEED"):
            return "zero"
        if _asked_for("FSDP"):
            if os.environ.get("FSDP_VERSION", "1") != "2":
                raise ValueError(
                    "the launch configuration asks for version 1 of FSDP: add fsdp_version: 2 to fsdp_config"
                )
            if self.precision == "fp16":
                raise ValueError("mixed_precision=fp16 does not go with FSDP here: use bf16")
            return "fsdp" if self.world_size > 1 else "single"
        return "ddp" if self.world_size > 1 else "single"

    @property
    def zero_stage(self) -> int:
        """Stage of DeepSpeed's ZeRO, 0 without it."""
        if self.mode != "zero":
            return 0
        return int(self._asked_of_deepspeed().get("zero_optimization", {}).get("stage", 0))

    def _asked_of_deepspeed(self) -> dict[str, Any]:
        settings: dict[str, Any] = self.accelerator.state.deepspeed_plugin.deepspeed_config
        return settings

    # Networks --------------------------------------------------------------------------------------------

    def prepare(
        self,
        network: Network,
        make_optimizer: MakeOptimizer,
        *,
        rounds: int,
        per_device: int,
        follows: TrainedNetwork[Any] | None = None,
    ) -> TrainedNetwork[Network]:
        """Moves a network to the device and gives it to the back end, unless it is frozen as a whole.

        rounds, per_device: of an update. follows: the network in whose backward passes this one takes part;
        its trained network then steps with that one and stays whole on every process.
        """
        network.to(self.device)
        frozen = not any(parameter.requires_grad for parameter in network.parameters())
        wrap = follows is None and not frozen
        if wrap and self.mode == "zero":
            settings = zero_settings(
                self._asked_of_deepspeed(), precision=self.precision, per_device=per_device, rounds=rounds
            )
            return DeepSpeedNetwork(network, make_optimizer, settings, mean=self.mean)
        if wrap and self.mode == "fsdp":
            return FsdpNetwork(network, make_optimizer, mesh=self._mesh(), mean=self.mean)
        engine = self._synchronised(network) if wrap and self.mode == "ddp" else network
        trained = TrainedNetwork(
            network,
            engine,
            make_optimizer(network),
            mean=self.mean,
            by_hand=engine is network and self.world_size > 1,
            scaler=follows.scaler if follows is not None else self._scaler(),
        )
        if follows is not None:
            follows.followers.append(trained)
        return trained

    def _scaler(self) -> torch.amp.GradScaler | None:
        return torch.amp.GradScaler(self.device.type) if self.precision == "fp16" else None

    def _synchronised(self, network: nn.Module) -> nn.Module:
        ids = [self.device.index] if self.device.type == "cuda" else None
        # Gradients of 1 x 1 kernels come with strides that mean the same and are copied at no cost.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        with warnings.catch_warnings():
            # Newer releases rename broadcast_buffers, older ones lack the new name.
            warnings.simplefilter("ignore", FutureWarning)
            return nn.parallel.DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False)

    def _mesh(self) -> Any:
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh(self.device.type, (self.world_size,))

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision as the launch configuration asks for it."""
        dtype = LOW_PRECISION.get(self.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype=dtype)

    # Between processes -----------------------------------------------------------------------------------

    def mean(self, value: Tensor) -> Tensor:
        """Mean over all processes, on every process, in the shape of `value`."""
        if self.world_size == 1:
            return value
        value = value.clone()
        torch.distributed.all_reduce(value)
        return value / self.world_size

    def any(self, flag: bool) -> bool:
        """True everywhere when true on one process."""
        if self.world_size == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        torch.distributed.all_reduce(value)
        return bool(value > 0)

    def soon(self, *flags: bool) -> list[bool]:
        """`any` of each flag of the call before, False at first: nothing waits for work on the device.

        Asked after every update, it lets processes go on while their devices work on this one. One process
        gets its own flags.
        """
        if self.world_size == 1:
            return list(flags)
        asked = torch.tensor([float(flag) for flag in flags]).to(self.device, non_blocking=True)
        torch.distributed.all_reduce(asked)
        before, self._asked = self._asked, _Answer(asked)
        return [False] * len(flags) if before is None else before.read()

    def gather_objects(self, value: Any) -> list[Any]:
        """One Python object of each process, rank after rank."""
        if self.world_size == 1:
            return [value]
        found: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(found, value)
        return found

    def heard(self, text: str | None) -> str:
        """What this process says of the texts of those that have one, so that each machine's log has them.

        All processes call it. Those that have a text say it; on a machine where none does, its first process
        says the first text and of whom it is. The others say nothing: an empty text.
        """
        everywhere = self.gather_objects((self.machine, text))
        if text is not None:
            return text
        here = [theirs for machine, theirs in everywhere if machine == self.machine]
        if not self.first_on_machine or any(theirs is not None for theirs in here):
            return ""
        return next((f"process {rank}: {told}" for rank, (_, told) in enumerate(everywhere) if told), "")

    def from_main(self, data: bytes) -> bytes:
        """The main process's bytes, on every process; what the others give does not count."""
        size = torch.tensor(len(data), device=self.device)
        torch.distributed.broadcast(size, 0)
        whole = torch.empty(int(size), dtype=torch.uint8)
        if self.is_main and data:
            whole = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        for start in range(0, int(size), SENT_AT_ONCE):
            part = whole[start : start + SENT_AT_ONCE].to(self.device)
            torch.distributed.broadcast(part, 0)
            whole[start : start + SENT_AT_ONCE] = part.cpu()
        return whole.numpy().tobytes()

    def check_same(self, facts: Sequence[tuple[str, str]]) -> None:
        """All processes must start from the same (name, text) pairs; ValueError with the one that differs."""
        everywhere = self.gather_objects(list(facts))
        for rank, theirs in enumerate(everywhere):
            for (name, first), (_, other) in zip(everywhere[0], theirs, strict=True):
                if other != first:
                    raise ValueError(
                        f"process {rank} has another {name} than process 0 ({other[:80]}, not {first[:80]}): "
                        "start all processes with the same command, files and versions"
                    )

    def one_per_machine_first(self) -> AbstractContextManager[None]:
        """A block that the first process of each machine goes through before the others of it do."""
        return self.accelerator.local_main_process_first()

    def wait(self) -> None:
        """All processes meet here."""
        if self.world_size > 1:
            torch.distributed.barrier()

    def finish(self) -> None:
        """Leaves the process group; the main process last, as it may serve the store that all meet at."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        store = torch.distributed.distributed_c10d._get_default_store()
        torch.distributed.destroy_process_group()
        with suppress(RuntimeError):  # of a store that has gone with a process that failed
            if self.is_main:
                left = [f"sgxl_t/left/{rank}" for rank in range(1, self.world_size)]
                store.wait(left, GOODBYE)
            else:
                store.set(f"sgxl_t/left/{self.rank}", "1")


class _Answer:
    """Numbers on their way from the device."""

    def __init__(self, numbers: Tensor) -> None:
        self._numbers, self._arrived = numbers, None
        if numbers.is_cuda:
            self._numbers = torch.empty_like(numbers, device="cpu", pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def read(self) -> list[bool]:
        """Which are above 0; waits for the work that the device had when the numbers set out."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return (self._numbers > 0).tolist()  # type: ignore[no-any-return]


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether a collective call failed because another process has gone."""
    return bool(_LOST.search(str(error)))


def _asked_for(back_end: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{back_end}", "false").lower() == "true"


def _accelerator(bf16_on_cpu: bool) -> Any:
    """The Accelerator of this process: on GPUs where there are some, else on the CPU over gloo."""
    from accelerate import Accelerator
    from accelerate.state import is_initialized
    from accelerate.utils import InitProcessGroupKwargs

    if torch.cuda.is_available():
        return Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
    launched = "LOCAL_RANK" in os.environ
    group = InitProcessGroupKwargs(backend="gloo", timeout=PATIENCE)
    if not _asked_for("DEEPSPEED"):
        # A process keeps the precision of its first run.
        free = LAUNCHED_PRECISION not in os.environ and not is_initialized()
        precision = "bf16" if bf16_on_cpu and free else None
        return Accelerator(cpu=True, mixed_precision=precision, kwargs_handlers=[group] if launched else [])
    if not launched:
        raise ValueError(
            "DeepSpeed needs a launcher: start through accelerate launch with a file of configs/launch/"
        )
    # With cpu=True, Accelerate would leave DeepSpeed out without a word.
    prepare_deepspeed("cpu")
    return Accelerator(kwargs_handlers=[group])
