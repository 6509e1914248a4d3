"""What is asked of a measurement."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sgxl_t.bench.cases.cases import MODES, Case, find_cases
from sgxl_t.bench.stages.schedule import stages_of
from sgxl_t.bench.timing import REPEATS
from sgxl_t.bench.variants import CUDA_GRAPH, variants


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """What to measure; empty tuples take all there is."""

    quick: bool = False
    """Small cases and short turns."""
    only: tuple[str, ...] = ()
    """Shell patterns of names."""
    batches: tuple[int, ...] = ()
    dtypes: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    variants: tuple[str, ...] = ("default",)
    repeats: int = REPEATS
    threads: int = 0
    """Threads of torch; 0 leaves its choice. One alone is timed by the clock of the process."""
    device: str = "cpu"
    against: str | None = None
    """Folder of another version, which takes the place of the plain operators."""
    same_dtype: bool = False
    """Let the reference run in the dtype of each row instead of float32; errors are still against float32."""
    keep_memory: bool = False
    """Give no memory back to the system, so that large results cost no fresh pages."""
    stages: str | None = None
    """A model whose layers are measured stage by stage instead of the cases."""
    progress: bool = True

    def jobs(self, case: Case) -> list[tuple[int, str]]:
        """Batch sizes and modes of a case that are asked for."""
        batches = [batch for batch in case.batches if batch in (self.batches or case.batches)]
        modes = [mode for mode in MODES if mode in case.modes and mode in (self.modes or MODES)]
        return [(batch, mode) for mode in modes for batch in batches]

    def reference_dtype(self, dtype: str) -> str:
        """Dtype of the reference that a row of `dtype` is timed against; another version takes the same."""
        return dtype if self.same_dtype or self.against is not None else "float32"


def check(request: BenchRequest) -> list[Case]:
    """The cases of a request; ValueError for one that cannot be carried out."""
    if request.repeats < REPEATS:
        raise ValueError(f"--repeats {request.repeats} is too few for quartiles: use {REPEATS} or more")
    device = torch.device(request.device)
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device {request.device} cannot be timed: use cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {request.device}: torch sees no GPU here, so use --device cpu")
    for name in request.variants:
        if name not in variants(device):
            raise ValueError(
                f"--variant {name} is unknown on {request.device}: use {', '.join(variants(device))}"
            )
    if request.stages is not None:
        _check_stages(request)
        return []
    cases = find_cases(request.quick, request.only)
    if not any(request.jobs(case) for case in cases):
        raise ValueError("no case has that batch and mode: leave out --batch or --mode, or choose others")
    return cases


def _check_stages(request: BenchRequest) -> None:
    """ValueError for options that mean nothing to the table of stages, and for models without stages."""
    stages_of(str(request.stages))
    options = {
        "--only": request.only,
        "--mode forward_backward": "forward_backward" in request.modes,
        "--against": request.against,
        "--same-dtype": request.same_dtype,
        f"--variant {CUDA_GRAPH}": CUDA_GRAPH in request.variants,
    }
    for name, given in options.items():
        if given:
            raise ValueError(f"{name} means nothing to --stages, which times single layers: leave it out")
