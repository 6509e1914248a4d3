"""One HTML page per run: curves, newest grid, numbers. Opens offline; nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sgxl_t.datasets.base import ImageSource
from sgxl_t.files.untrusted import read_json
from sgxl_t.files.whole import whole_file
from sgxl_t.training.callbacks.callback import Callback, Snapshot
from sgxl_t.training.callbacks.health import read_health, warnings_on
from sgxl_t.training.callbacks.stats_file import newest_numbers, read_stats
from sgxl_t.training.train_state import TrainState

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.6em} h2{margin-top:2em;border-bottom:1px solid #ddd}
img{image-rendering:pixelated;max-width:100%}
table{border-collapse:collapse} td,th{padding:.2em .8em;border-bottom:1px solid #eee;text-align:right}
td:first-child,th:first-child{text-align:left} .curves{display:flex;flex-wrap:wrap;gap:1em}
figure{margin:0} figcaption{color:#555;font-size:.9em} svg{background:#fafafa;border:1px solid #eee}
.note{color:#555} .words td{text-align:left;vertical-align:top}
"""


def curve(points: Sequence[tuple[float, float]], title: str, *, unit: str = "kimg") -> str:
    """One line chart as inline SVG. points: (x, y), any number."""
    width, height, pad = 320, 160, 30
    points = [(x, y) for x, y in points if y == y and abs(y) != float("inf")]
    if len(points) < 2:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(ys), max(ys)
    span_x, span_y = (max(xs) - min(xs)) or 1, (high - low) or 1

    def place(x: float, y: float) -> str:
        across = pad + (x - min(xs)) / span_x * (width - pad - 8)
        up = height - pad + 8 - (y - low) / span_y * (height - pad - 8)
        return f"{across:.1f},{up:.1f}"

    line = " ".join(place(x, y) for x, y in points)
    return (
        f'<figure><svg width="{width}" height="{height}" role="img" aria-label="{html.escape(title)}">'
        f'<polyline points="{line}" fill="none" stroke="#1668b8" stroke-width="1.5"/>'
        f'<text x="2" y="14" font-size="11">{high:.4g}</text>'
        f'<text x="2" y="{height - pad + 12}" font-size="11">{low:.4g}</text>'
        f'<text x="{pad}" y="{height - 6}" font-size="11">{min(xs):.4g}</text>'
        f'<text x="{width - 70}" y="{height - 6}" font-size="11">{max(xs):.4g} {unit}</text></svg>'
        f"<figcaption>{html.escape(title)}</figcaption></figure>"
    )


def curves(stats: Sequence[dict[str, float]], *, leave_out: Sequence[str] = ("images", "kimg")) -> str:
    """A chart for every number that the ticks report."""
    names = sorted({name for line in stats for name in line if name not in leave_out})
    charts = [curve([(s["images"] / 1000, s[name]) for s in stats if name in s], name) for name in names]
    return f'<div class="curves">{"".join(charts)}</div>'


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """rows of cells; floats are shown with four significant digits."""

    def cell(value: Any) -> str:
        return html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))

    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def figure(path: Path, caption: str) -> str:
    """An image file inside the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{html.escape(caption)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """sections: heading and ready HTML."""
    body = "".join(f"<h2>{html.escape(heading)}</h2>{content}" for heading, content in sections)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>{body}</html>"
    )


def write_page(path: Path, content: str) -> None:
    """Whole or not at all."""
    with whole_file(path) as aside:
        aside.write_text(content)


def health(folder: Path) -> str:
    """What the rules of health noticed in a run; empty where it has not been watched."""
    entries = read_health(folder)
    if entries is None:
        return ""
    if not entries:
        return "<p>Nothing noticed.</p>"
    going_on = warnings_on(entries)
    now = "".join(f"<li>{html.escape(entry['text'])}</li>" for entry in going_on)
    shown = f"<p>Still so:</p><ul>{now}</ul>" if going_on else "<p>All that was noticed is over.</p>"
    rows = [(entry["kimg"], entry["state"], entry["text"]) for entry in entries]
    return f'{shown}<div class="words">{table(rows, ("kimg", "", "what was noticed"))}</div>'


def write_run_report(folder: Path) -> Path:
    """`report.html` of a run folder from what lies in it: stats, health, samples/, environment.json."""
    stats = read_stats(folder / "stats.jsonl")
    found = [*(folder / "samples").glob("fakes_*.png"), *(folder / "samples").glob("preview_*.png")]
    grids = sorted(found, key=lambda path: path.stem.partition("_")[2])
    sections = []
    if grids:
        sections.append(("Samples", figure(grids[-1], f"{grids[-1].stem}, average generator, psi 1")))
    if (folder / "samples" / "reals.png").exists():
        sections.append(
            ("Training pictures", figure(folder / "samples" / "reals.png", "real, same conditions"))
        )
    if noticed := health(folder):
        sections.append(("Health", noticed))
    if stats:
        sections.append(("Newest numbers", table(sorted(newest_numbers(stats).items()), ("name", "value"))))
        sections.append(("Curves", curves(stats)))
    if (folder / "environment.json").exists():
        environment = read_json(folder / "environment.json", way_out="remove it").group()
        sections.append(("Environment", table(sorted(environment.items()), ("name", "value"))))
    write_page(folder / "report.html", page(f"Run {folder.name}", sections))
    return folder / "report.html"


class RunReport(Callback):
    """Writes rejects.jsonl, the images that the data could not give, and keeps report.html up to date."""

    def __init__(self, folder: Path, source: ImageSource) -> None:
        """folder: of the run."""
        self._folder, self._source = folder, source

    def on_start(self, state: TrainState) -> None:
        """Writes what opening the data has found."""
        self._source.rejects.write(self._folder / "rejects.jsonl")

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Comes after all callbacks that write what the page shows."""
        write_run_report(self._folder)

    def on_preview(self, snapshot: Snapshot) -> None:
        """Shows the newest grid."""
        write_run_report(self._folder)

    def on_end(self) -> None:
        """Shows the newest ticks."""
        write_run_report(self._folder)
