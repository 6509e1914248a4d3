"""Cost against work: the layers of every stage of a generator, one at a time, beside a matrix product."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from tqdm import tqdm

from sgxl_t.bench.cases.cases import DTYPES
from sgxl_t.bench.job import shortest_turn
from sgxl_t.bench.machine import Product, load, matrix_product
from sgxl_t.bench.request import BenchRequest
from sgxl_t.bench.runner import WARM_UP
from sgxl_t.bench.stages.layer_parts import PARTS, LayerParts
from sgxl_t.bench.stages.schedule import Cost, GrowthStage, cost, stages_of
from sgxl_t.bench.stages.stage_rows import LayerTimes, StageRow, layer_row, network_row
from sgxl_t.bench.timing import alternate, clock_name, loops_for, timed
from sgxl_t.bench.variants import obstacle, runner_class, variant_backend
from sgxl_t.networks.configs import GeneratorConfig
from sgxl_t.networks.generators.registry import model_config
from sgxl_t.networks.generators.schedule_xl import LayerSpec


def measure_stages(request: BenchRequest, tell: Callable[[str], None]) -> Iterator[StageRow]:
    """Rows of distinct layers as they are measured, then those of every stage and every whole network.

    tell: gets one sentence for every backend that could not run.
    """
    assert request.stages is not None
    config, stages = model_config(request.stages), stages_of(request.stages)
    distinct: dict[Cost, tuple[int, LayerSpec]] = {}
    for stage in stages:
        for spec in stage.kept + stage.added:
            distinct.setdefault(cost(spec), (stage.resolution, spec))
    clock = clock_name(torch.device(request.device), torch.get_num_threads())
    for dtype in [dtype for dtype in DTYPES if dtype in (request.dtypes or DTYPES)]:
        variants = [name for name in request.variants if _runs(name, dtype, request, tell)]
        product = matrix_product(DTYPES[dtype], torch.device(request.device), clock, small=request.quick)
        for batch in request.batches or (1,):
            found: dict[Cost, dict[str, LayerTimes]] = {}
            for key, (resolution, spec) in distinct.items():
                meter = _Meter(request, config, dtype, batch, clock, product)
                found[key] = meter.measure(spec, variants)
                yield from (layer_row(request, resolution, times) for times in found[key].values())
            for variant in variants:
                yield from _sums(request, stages, {key: times[variant] for key, times in found.items()})


def _sums(
    request: BenchRequest, stages: Sequence[GrowthStage], times: dict[Cost, LayerTimes]
) -> Iterator[StageRow]:
    for stage in stages:
        yield network_row(request, "stage", stage.resolution, [times[cost(spec)] for spec in stage.added])
    for stage in stages:
        yield network_row(
            request, "network", stage.resolution, [times[cost(spec)] for spec in stage.kept + stage.added]
        )


def _runs(name: str, dtype: str, request: BenchRequest, tell: Callable[[str], None]) -> bool:
    """Whether a backend is one of its own in that dtype and on that device."""
    if runner_class(name, "forward", dtype) is None:
        return False
    reason = obstacle(name, torch.device(request.device), DTYPES[dtype])
    if reason is not None:
        tell(f"--stages {request.stages} {dtype} {name}: no rows, {reason}")
    return reason is None


@dataclass(frozen=True)
class _Meter:
    """How one layer is timed."""

    request: BenchRequest
    config: GeneratorConfig
    dtype: str
    batch: int
    clock: str
    product: Product

    def measure(self, spec: LayerSpec, variants: Sequence[str]) -> dict[str, LayerTimes]:
        """Times of the parts in every variant, in turns with the matrix product."""
        request, began = self.request, load()
        parts = LayerParts(spec, self.config.stylegan3.w_dim, self.batch, DTYPES[self.dtype], request.device)
        names = [(variant, part) for variant in variants for part in PARTS]
        calls = [partial(parts.run, part, variant_backend(variant, always=False)) for variant, part in names]
        runs: list[Callable[[], object]] = [self.product.run, *calls]
        label = f"{spec.name} batch {self.batch} {self.dtype}"
        hide = None if request.progress else True
        with tqdm(desc=label, total=len(runs) * request.repeats, disable=hide, leave=False) as bar:
            sides = [self._side(run) for run in runs]
            product, *times = alternate(sides, request.repeats, bar.update)
        found = dict(zip(names, times, strict=True))
        return {
            variant: LayerTimes(
                spec=spec,
                dtype=self.dtype,
                variant=variant,
                batch=self.batch,
                clock=self.clock,
                load=began,
                **{part: found[variant, part] for part in PARTS},
                gemm=[self.product.gflop / ms * 1000 for ms in product],
            )
            for variant in variants
        }

    def _side(self, run: Callable[[], object]) -> Callable[[], float]:
        """A turn of one call, long enough for the clock; the calls before it warm up and compile."""
        timed(run, self.clock, WARM_UP if self.clock == "cuda" else 1)
        loops = loops_for(timed(run, self.clock), shortest_turn(self.request, self.clock))
        return lambda: timed(run, self.clock, loops)
