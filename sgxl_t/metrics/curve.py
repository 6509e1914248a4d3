"""Quality against text alignment: a Frechet distance and CLIP score at every truncation psi.

After Sauer et al. 2023 (FID against CLIP score). All points share one list of (latent, prompt)
pairs and one real side, so that a step along the curve shows psi and nothing else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

from sgxl_t.metrics.distances.clip_score import check_prompts
from sgxl_t.metrics.distances.feature_statistics import FeatureStatistics
from sgxl_t.metrics.distances.frechet import covariance_root, frechet_from_statistics
from sgxl_t.metrics.generated import GeneratedImages
from sgxl_t.metrics.results import write_text
from sgxl_t.metrics.sampling_rng import per_sample

PSIS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Truncations of the curve."""

WIDTH, HEIGHT, MARGIN = 480, 360, 60
"""Size of the drawing and of its border, in pixels."""


@dataclass(frozen=True)
class CurvePoint:
    """One psi: the distance (lower is better), the CLIP score (higher), whether no point beats it."""

    psi: float
    distance: float
    clip_score: float
    pareto: bool


@dataclass(frozen=True)
class RealReference:
    """What generated images are compared with at every psi."""

    statistics: FeatureStatistics
    """Of the features of real images."""
    features: Callable[[Tensor], Tensor]
    """Images uint8 [N, 3, R, R] to features [N, D], such as `lambda x: extractor(x)["pool3"]`."""
    ddof: int = 1
    """Covariances are divided by N - ddof."""


def fid_clip_curve(
    images_at: Callable[[float], GeneratedImages],
    prompts: Sequence[str],
    real: RealReference,
    cosines: Callable[[Tensor, Sequence[str]], Tensor],
    *,
    psis: Sequence[float] = PSIS,
    count: int = 30_000,
    batch_size: int = 32,
) -> list[CurvePoint]:
    """The curve in the order of psis; one pass over the images of each psi feeds both numbers.

    images_at: generated images of one psi, where image i shows prompts[i] from the latent of i at every psi;
    for COCO they are `CocoImages`. cosines: images uint8 [N, 3, R, R] and their prompts to cosines [N], such
    as `ClipScore().cosines`. Processes of torch's default group share the work and get the same points.
    ValueError for fewer prompts than images and for no psi, or one twice.
    """
    check_prompts(prompts, count)
    if not psis or len(set(psis)) < len(psis):
        raise ValueError(f"psis={list(psis)} make no curve: give each truncation once")
    root = covariance_root(real.statistics, real.ddof)
    scores = []
    for psi in psis:
        generated, statistics = images_at(psi), FeatureStatistics(real.statistics.dim)
        generated.check_count(count)

        def measure(
            indices: list[int],
            generated: GeneratedImages = generated,
            statistics: FeatureStatistics = statistics,
        ) -> Tensor:
            images = generated.images(indices)
            statistics.update(real.features(images))
            return cosines(images, [prompts[index] for index in indices])

        name = f"psi {psi:g}"
        score = float(per_sample(measure, count=count, batch_size=batch_size, name=name).mean())
        found = statistics.all_reduce()
        distance = frechet_from_statistics(real.statistics, found, ddof=real.ddof, real_root=root)
        scores.append((psi, distance, score))
    best = pareto_front([(distance, score) for _, distance, score in scores])
    return [CurvePoint(*point, pareto) for point, pareto in zip(scores, best, strict=True)]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (distance, score) whether no other point is as good in both and better in one."""
    return [
        not any(
            other[0] <= one[0] and other[1] >= one[1] and (other[0] < one[0] or other[1] > one[1])
            for other in points
        )
        for one in points
    ]


def points_of(entries: Sequence[Mapping[str, Any]]) -> tuple[list[CurvePoint], str]:
    """The curve of entries of one model at several psi, in their order, and the name of its distance.

    Of each psi the first Frechet distance and the first CLIP score count.
    """
    by_psi: dict[float, dict[str, Mapping[str, Any]]] = {}
    for entry in entries:
        by_psi.setdefault(entry["psi"], {}).setdefault(entry["reduction"], entry)
    pairs = [(psi, found["frechet"], found["clip_score"]) for psi, found in by_psi.items()]
    best = pareto_front([(one["value"], other["value"]) for _, one, other in pairs])
    points = [
        CurvePoint(psi, one["value"], other["value"], pareto)
        for (psi, one, other), pareto in zip(pairs, best, strict=True)
    ]
    return points, pairs[0][1]["metric"]


def write_curve(
    points: Sequence[CurvePoint], destination: str | Path, *, name: str = "fid30k_coco64"
) -> None:
    """Writes the points as `destination` (.csv) and their drawing beside it (.svg).

    name: of the distance, as the column and the axis call it. Files appear whole or not at all.
    """
    target = Path(destination)
    if target.suffix.lower() != ".csv":
        raise ValueError(f"{target} does not end in .csv: name it {target.name}.csv")
    write_text(target, curve_csv(points, name))
    write_text(target.with_suffix(".svg"), curve_svg(points, name))


def curve_csv(points: Sequence[CurvePoint], name: str) -> str:
    """One line per psi with all digits; `pareto` is 1 for points that no other beats."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    header = [field.name for field in fields(CurvePoint)]
    table.writerow([name if column == "distance" else column for column in header])
    table.writerows([*astuple(point)[:-1], int(point.pareto)] for point in points)
    return text.getvalue()


def curve_svg(points: Sequence[CurvePoint], name: str) -> str:
    """A drawing: CLIP score to the right, distance upwards, the Pareto front filled, psi at each point."""
    scores = [point.clip_score for point in points]
    distances = [point.distance for point in points]
    across = [_placed(score, scores, MARGIN, WIDTH - MARGIN) for score in scores]
    down = [_placed(distance, distances, HEIGHT - MARGIN, MARGIN) for distance in distances]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<path d="M{MARGIN // 2},{MARGIN // 2} V{HEIGHT - MARGIN // 2} H{WIDTH - MARGIN // 2}" fill="none" '
        'stroke="#888"/>',
        _label(WIDTH / 2, HEIGHT - 10, f"CLIP score, {min(scores):.4f} to {max(scores):.4f}", "middle"),
        _label(MARGIN / 2, 18, f"{name}, {min(distances):.2f} to {max(distances):.2f}", "start"),
        f'<polyline points="{line}" fill="none" stroke="#36c"/>',
    ]
    for point, x, y in zip(points, across, down, strict=True):
        fill = "#36c" if point.pareto else "#fff"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="#36c"/>')
        parts.append(_label(x + 7, y - 5, f"{point.psi:g}", "start"))
    return "\n".join([*parts, "</svg>", ""])


def _placed(value: float, values: Sequence[float], first: float, last: float) -> float:
    low, high = min(values), max(values)
    return first + (last - first) * ((value - low) / (high - low) if high > low else 0.5)


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
