"""The measurement: equality first, then turns, then rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch

from sgxl_t.bench.against.other import OtherVersion
from sgxl_t.bench.allocator import keep_memory
from sgxl_t.bench.arithmetic import Work
from sgxl_t.bench.cases.cases import DTYPES
from sgxl_t.bench.job import Job, Side, first_line
from sgxl_t.bench.machine import Roof, device_name, load, measure_roof
from sgxl_t.bench.request import BenchRequest, check
from sgxl_t.bench.rows import BenchRow
from sgxl_t.bench.runner import Runner
from sgxl_t.bench.stages import stages
from sgxl_t.bench.stages.stage_rows import StageRow
from sgxl_t.bench.timing import clock_name, quartiles


def measure(request: BenchRequest, tell: Callable[[str], None]) -> Iterator[BenchRow]:
    """Rows one after the other. tell: gets one sentence for every row that there is not, and why."""
    cases = check(request)
    with settings(request):
        threads, device = torch.get_num_threads(), torch.device(request.device)
        clock = clock_name(device, threads)
        dtypes = [dtype for dtype in DTYPES if dtype in (request.dtypes or DTYPES)]
        opened = (
            OtherVersion(request.against, threads, request.keep_memory) if request.against else nullcontext()
        )
        with opened as other:
            roofs = {
                dtype: measure_roof(DTYPES[dtype], device, clock, small=request.quick) for dtype in dtypes
            }
            for case in cases:
                for batch, mode in request.jobs(case):
                    if other is not None:
                        other.ask(do="forget")
                    began = load()
                    try:
                        job = Job(case, batch, mode, request, other, clock)
                        sides = job.measure(dtypes)
                    except RuntimeError as error:
                        tell(f"{case.name} batch {batch} {mode}: no rows, {first_line(error)}")
                        continue
                    for sentence in job.missing:
                        tell(sentence)
                    yield from _rows(job, sides, roofs, began)
                    del job, sides  # before the next workload takes its memory


def measure_stages(request: BenchRequest, tell: Callable[[str], None]) -> Iterator[StageRow]:
    """The same for the layers, stages and networks on the way to the model that `request.stages` names."""
    check(request)
    with settings(request):
        yield from stages.measure_stages(request, tell)


@contextmanager
def settings(request: BenchRequest) -> Iterator[None]:
    """Threads as asked; float32 means float32. Memory that shall be kept is kept to the end."""
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    torch.set_num_threads(request.threads or before[0])
    torch.backends.cudnn.allow_tf32 = False
    if request.keep_memory:
        keep_memory()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _rows(job: Job, sides: list[Side], roofs: dict[str, Roof], began: float) -> list[BenchRow]:
    if not sides:
        return []
    done = Runner(job.work, job.mode, torch.float32, job.clock).work_done()
    return [_row(job, side, roofs[side.dtype], done, began) for side in sides]


def _row(job: Job, side: Side, roof: Roof, done: Work, began: float) -> BenchRow:
    reference = job.references[job.request.reference_dtype(side.dtype)]
    ours, theirs = quartiles(side.times), quartiles(reference.times)
    pairs = quartiles([slow / fast for fast, slow in zip(side.times, reference.times, strict=True)])
    traffic = None
    if job.mode == "forward":
        traffic = done.megabytes * (2 if side.dtype == "float32" else 1) / ours.median
    return BenchRow(
        name=job.case.name,
        resolution=job.case.resolution,
        batch=job.batch,
        dtype=side.dtype,
        variant=side.variant,
        mode=job.mode,
        ms=ours.median,
        reference_ms=theirs.median,
        ratio=theirs.median / ours.median,
        error=side.error,
        spread=ours.spread,
        reference_spread=theirs.spread,
        ratio_low=pairs.low,
        ratio_high=pairs.high,
        system_share=side.system_share,
        reference_system_share=reference.system_share,
        keeps_memory=job.request.keep_memory,
        reference=job.request.against or f"plain {reference.dtype}",
        first_ms=side.first_ms,
        repeats=job.request.repeats,
        clock=job.clock,
        threads=torch.get_num_threads(),
        device=device_name(job.request.device),
        torch=torch.__version__,
        load=began,
        gflop=done.gflop,
        gflop_per_s=done.gflop / ours.median * 1000,
        gemm_gflop_per_s=roof.gemm,
        gb_per_s=traffic,
        copy_gb_per_s=roof.copy,
        saved_mib=side.memory.saved,
        reference_saved_mib=reference.memory.saved,
        peak_mib=side.memory.peak,
        reference_peak_mib=reference.memory.peak,
    )
