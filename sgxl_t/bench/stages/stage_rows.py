"""Rows of the stages' table: times, arithmetic and rates of layers, stages and networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from sgxl_t.bench.cases.workloads import conv_gflop, filter_gflop
from sgxl_t.bench.machine import device_name
from sgxl_t.bench.request import BenchRequest
from sgxl_t.bench.rows import plain
from sgxl_t.bench.timing import quartiles
from sgxl_t.networks.generators.schedule_xl import LayerSpec


@dataclass(frozen=True, kw_only=True)
class LayerTimes:
    """Milliseconds of a layer's parts and GFLOP/s of the product beside them, turn by turn."""

    spec: LayerSpec
    dtype: str
    variant: str
    batch: int
    clock: str
    load: float
    conv: list[float]
    filter: list[float]
    whole: list[float]
    gemm: list[float]

    @property
    def conv_gflop(self) -> float:
        """Of the batch."""
        return conv_gflop(self.spec, self.batch)

    @property
    def filter_gflop(self) -> float:
        """Of the batch."""
        return filter_gflop(self.spec, self.spec.out_channels, self.batch)


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """A layer, the layers that a stage adds, or a whole network. Times are medians in ms of the batch."""

    model: str
    kind: str
    """layer (one of each sort), stage (what it adds, ToRGB included) or network (all its layers)."""
    resolution: int
    """Side of the images of the first network that has it."""
    layer: str
    """Name of the first layer of its sort; empty for sums."""
    layers: int
    """Layers summed up."""
    batch: int
    dtype: str
    variant: str
    ms: float
    """The layers as they are, with the affine maps of their styles."""
    conv_ms: float
    filter_ms: float
    spread: float | None
    """Inter-quartile range of `ms` over its median; none for sums."""
    gflop: float
    conv_gflop: float
    """By the direct convolution."""
    filter_gflop: float
    """Of separable polyphase filters."""
    gflop_per_s: float
    conv_gflop_per_s: float
    filter_gflop_per_s: float
    gemm_gflop_per_s: float
    """A matrix product of this dtype in the same turns."""
    conv_share: float
    """conv_gflop_per_s over gemm_gflop_per_s: of a layer the median of the turns."""
    lowest_share: float
    """The least conv_share of the 3x3 convolutions summed up."""
    clock: str
    threads: int
    repeats: int
    device: str
    torch: str
    keeps_memory: bool
    """Whether the process gave no memory back (--keep-memory)."""
    load: float
    """Processes that wanted a core when the measurement began, in the mean of a minute."""

    def as_json(self) -> dict[str, Any]:
        """See `rows.plain`."""
        return plain(asdict(self))


def _share(times: LayerTimes) -> float:
    """Rate of the convolution over that of the product, turn by turn."""
    pairs = zip(times.conv, times.gemm, strict=True)
    return quartiles([times.conv_gflop / ms * 1000 / rate for ms, rate in pairs]).median


def layer_row(request: BenchRequest, resolution: int, times: LayerTimes) -> StageRow:
    """The row of one sort of layer."""
    return _row(
        request, "layer", resolution, [times], layer=times.spec.name, spread=quartiles(times.whole).spread
    )


def network_row(request: BenchRequest, kind: str, resolution: int, layers: Sequence[LayerTimes]) -> StageRow:
    """The sum over layers; a sort that occurs several times was measured once and counts as often."""
    return _row(request, kind, resolution, layers, layer="", spread=None)


def _row(
    request: BenchRequest, kind: str, resolution: int, layers: Sequence[LayerTimes], **more: Any
) -> StageRow:
    first = layers[0]
    ms, conv_ms, filter_ms = (
        sum(quartiles(getattr(times, part)).median for times in layers)
        for part in ("whole", "conv", "filter")
    )
    conv, filters = (sum(getattr(times, name) for times in layers) for name in ("conv_gflop", "filter_gflop"))
    # What a machine that multiplies at each layer's neighbouring rate would need for the convolutions.
    ideal = sum(times.conv_gflop / quartiles(times.gemm).median for times in layers)
    spatial = [_share(times) for times in layers if times.spec.kernel > 1]
    return StageRow(
        model=str(request.stages),
        kind=kind,
        resolution=resolution,
        layers=len(layers),
        batch=first.batch,
        dtype=first.dtype,
        variant=first.variant,
        ms=ms,
        conv_ms=conv_ms,
        filter_ms=filter_ms,
        gflop=conv + filters,
        conv_gflop=conv,
        filter_gflop=filters,
        gflop_per_s=(conv + filters) / ms * 1000,
        conv_gflop_per_s=conv / conv_ms * 1000,
        filter_gflop_per_s=filters / filter_ms * 1000,
        gemm_gflop_per_s=conv / ideal,
        conv_share=_share(first) if len(layers) == 1 else 1000 * ideal / conv_ms,
        lowest_share=min(spatial, default=_share(first)),
        clock=first.clock,
        threads=torch.get_num_threads(),
        repeats=request.repeats,
        device=device_name(request.device),
        torch=torch.__version__,
        keeps_memory=request.keep_memory,
        load=first.load,
        **more,
    )


STAGE_HEADER = (
    f"{'kind':7} {'px':>4} {'layer':16} {'layers':>6} {'batch':>5} {'dtype':8} {'variant':17} {'ms':>9} "
    f"{'conv ms':>9} {'filter ms':>9} {'GFLOP':>8} {'GFLOP/s':>8} {'conv':>7} {'filter':>7} {'GEMM':>7} "
    f"{'conv/GEMM':>9} {'lowest':>6}"
)


def stage_line(row: StageRow) -> str:
    """The row under STAGE_HEADER."""
    cells = [
        f"{row.kind:7} {row.resolution:4} {row.layer:16} {row.layers:6} {row.batch:5} {row.dtype:8}",
        f"{row.variant:17} {row.ms:9.2f} {row.conv_ms:9.2f} {row.filter_ms:9.2f} {row.gflop:8.3g}",
        f"{row.gflop_per_s:8.0f} {row.conv_gflop_per_s:7.0f} {row.filter_gflop_per_s:7.0f}",
        f"{row.gemm_gflop_per_s:7.0f} {row.conv_share:9.2f} {row.lowest_share:6.2f}",
    ]
    return " ".join(cells)
