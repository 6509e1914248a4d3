"""Line charts as inline SVG; a script of the page tells the values under the pointer."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence

from sgxl_t.training.callbacks.callback import Line
from sgxl_t.training.callbacks.report.words import Curve

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 200, 44, 10, 26, 22
COLOURS = ("#1668b8", "#d9630e", "#2e8b57", "#8e44ad")
MOST_POINTS = 240
"""Points of a curve; of more, neighbours are averaged."""

Points = list[tuple[float, float]]


def charts(curves: Sequence[Curve], stats: Sequence[Line]) -> str:
    """A figure for every curve that has two points or more; nothing where none has."""
    figures = "".join(chart(curve, stats) for curve in curves)
    return f'<div class="curves">{figures}</div>' if figures else ""


def chart(curve: Curve, stats: Sequence[Line]) -> str:
    """One figure with its words; nothing for fewer than two points."""
    series = {name: _points(stats, name) for name in curve.series}
    series = {name: points for name, points in series.items() if len(points) > 1}
    if not series:
        return ""
    every = [point for points in series.values() for point in points]
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    ticks = _ticks(min(y for _, y in every), max(y for _, y in every))
    across = (WIDTH - LEFT - RIGHT) / ((right - left) or 1)
    up = (HEIGHT - TOP - BOTTOM) / (ticks[-1] - ticks[0])

    def place(x: float, y: float) -> tuple[float, float]:
        return round(LEFT + (x - left) * across, 1), round(HEIGHT - BOTTOM - (y - ticks[0]) * up, 1)

    parts, described, key = [], [], ""
    for colour, (name, points) in zip(COLOURS, series.items(), strict=False):
        places = [place(x, y) for x, y in points]
        line = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        described.append(
            {
                "name": curve.series[name],
                "at": [x for x, _ in places],
                "kimg": [x for x, _ in points],
                "value": [float(f"{y:.5g}") for _, y in points],
            }
        )
        if len(series) > 1:
            word = html.escape(curve.series[name])
            key += f'<span class="keys"><span class="key" style="background:{colour}"></span>{word}</span>'
    newest = ", ".join(
        f"{curve.series[name]} {_short(points[-1][1])}".strip() for name, points in series.items()
    )
    newest = f"newest: {newest}"
    data = json.dumps({"width": WIDTH, "newest": newest, "series": described}, separators=(",", ":"))
    return (
        f"<figure><h3>{html.escape(curve.title)}{key}</h3>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(curve.title)}" '
        f'data-chart="{html.escape(data)}">{_axes(ticks, left, right, up)}{"".join(parts)}'
        f'<line class="at" y1="{TOP}" y2="{HEIGHT - BOTTOM}" visibility="hidden"/>'
        f'<text class="said" x="{LEFT}" y="16">{html.escape(newest)}</text></svg>'
        f"<figcaption>{html.escape(curve.meaning)}</figcaption></figure>"
    )


def _axes(ticks: Sequence[float], left: float, right: float, up: float) -> str:
    lines = []
    for tick in ticks:
        y = round(HEIGHT - BOTTOM - (tick - ticks[0]) * up, 1)
        lines.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text x="{LEFT - 5}" y="{y + 4}" text-anchor="end">{_short(tick)}</text>'
        )
    bottom = HEIGHT - 6
    return "".join(lines) + (
        f'<text x="{LEFT}" y="{bottom}">{_short(left)}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{bottom}" text-anchor="end">{_short(right)} kimg</text>'
    )


def _short(value: float) -> str:
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def _points(stats: Sequence[Line], name: str) -> Points:
    """Finite values over thousand images, at most MOST_POINTS means of neighbours; the last stays so."""
    points = [
        (line["images"] / 1000, float(line[name]))
        for line in stats
        if name in line and math.isfinite(line[name]) and abs(line[name]) < 1e30
    ]
    size = -(-len(points) // MOST_POINTS)
    if size < 2:
        return points
    groups = [points[at : at + size] for at in range(0, len(points) - 1, size)]
    means = [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]
    return [*means, points[-1]] if means[-1][0] != points[-1][0] else [*means[:-1], points[-1]]


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that enclose both."""
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
