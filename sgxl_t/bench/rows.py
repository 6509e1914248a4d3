"""Rows of the result: what the JSON file holds and what the terminal shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """One measured run. Times are medians in milliseconds; a ratio above 1 is faster than the reference."""

    name: str
    resolution: int
    """Side of the result in pixels."""
    batch: int
    dtype: str
    variant: str
    """Backend of the operators."""
    mode: str
    """forward or forward_backward (gradients of all weights and inputs)."""
    ms: float
    reference_ms: float
    ratio: float
    """reference_ms / ms."""
    error: float
    """Difference from the reference: the largest value for an operator's forward pass, else Euclidean."""
    spread: float
    """Inter-quartile range of the times over their median."""
    reference_spread: float
    ratio_low: float
    """First quartile of the ratios of neighbouring turns."""
    ratio_high: float
    """Third quartile of the same."""
    system_share: float | None
    """Part of our CPU time that the operating system took, mostly to give fresh memory; where it is known."""
    reference_system_share: float | None
    keeps_memory: bool
    """Whether the process gave no memory back (--keep-memory), which makes that part small."""
    reference: str
    """What it was compared with: "plain float32" (sgxl_t.ops.reference) or the folder of --against."""
    first_ms: float
    """The first call, with compilation where there is any."""
    repeats: int
    clock: str
    """cpu (time of the process), wall or cuda (events)."""
    threads: int
    device: str
    torch: str
    load: float
    """Processes that wanted a core when the row began, in the mean of a minute."""
    gflop: float
    """Arithmetic of one run by the direct convolution; polyphase filters for a filter alone."""
    gflop_per_s: float
    gemm_gflop_per_s: float
    """A matrix product of this dtype here, by the faster library of torch and the same clock."""
    gb_per_s: float | None
    """Traffic that cannot be avoided over the time of a forward pass: weights, maps in and out of layers."""
    copy_gb_per_s: float
    """A copy on this machine, reads and writes counted."""
    saved_mib: float
    """Kept for the backward pass, weights excluded."""
    reference_saved_mib: float
    peak_mib: float
    """Largest memory of one run above what was there before."""
    reference_peak_mib: float

    def as_json(self) -> dict[str, Any]:
        """See `plain`."""
        return plain(asdict(self))


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values of a row for JSON; four digits are more than a measurement has."""
    return {key: float(f"{v:.4g}") if isinstance(v, float) else v for key, v in values.items()}


def header(width: int) -> str:
    """Names of the columns; width: of the longest name."""
    return (
        f"{'name':{width}} {'batch':>5} {'dtype':8} {'variant':17} {'mode':7} {'ms':>9} {'reference':>9} "
        f"{'ratio':>6} {'quartiles':>11} {'error':>7} {'GFLOP/s (GEMM)':>15} {'GB/s (copy)':>13} "
        f"{'saved MiB':>12} {'peak MiB':>13} {'system %':>8}"
    )


def line(row: BenchRow, width: int) -> str:
    """The row under the header; memory and the system's part of the time are ours / the reference's."""
    saved = "" if row.mode == "forward" else _pair(row.saved_mib, row.reference_saved_mib)
    cells = [
        f"{row.name:{width}} {row.batch:5} {row.dtype:8} {row.variant:17}",
        f"{'forward' if row.mode == 'forward' else 'fwd+bwd':7}",
        f"{row.ms:9.2f} {row.reference_ms:9.2f} {row.ratio:6.2f}",
        f"{f'{row.ratio_low:.2f}-{row.ratio_high:.2f}':>11} {row.error:7.0e}",
        f"{f'{row.gflop_per_s:.0f} ({row.gemm_gflop_per_s:.0f})':>15}",
        f"{f'{row.gb_per_s:.1f} ({row.copy_gb_per_s:.1f})' if row.gb_per_s else '':>13}",
        f"{saved:>12} {_pair(row.peak_mib, row.reference_peak_mib):>13}",
        f"{'/'.join(_percent(share) for share in (row.system_share, row.reference_system_share)):>8}",
    ]
    return " ".join(cells)


def _pair(ours: float, theirs: float) -> str:
    """MiB; tenths only where they are few."""
    return "/".join(f"{mib:.0f}" if mib >= 10 else f"{mib:.1f}" for mib in (ours, theirs))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"


def protocol(rows: Sequence[dict[str, Any]]) -> str:
    """One sentence on how the rows were measured, from their JSON."""
    row = rows[0]
    clock = {
        "cpu": "CPU time of the process",
        "wall": "clock on the wall",
        "cuda": "events after warming up",
    }[row["clock"]]
    loads = [row["load"] for row in rows]
    return (
        f"medians of {row['repeats']} turns; {clock}; {row['threads']} "
        f"thread{'s' * (row['threads'] > 1)}; {row['device']}; torch {row['torch']}; "
        f"{'memory kept; ' * row['keeps_memory']}load of the machine {min(loads):g} to {max(loads):g}"
    )
