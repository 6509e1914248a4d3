"""Curves of runs as one SVG: a row of charts per run, a column per number, as in docs/healthy-run.md.

python benchmarks/healthy_run.py --names signs/real,signs/fake,loss/d --out curves.svg "as it should be=RUN"
"""

from __future__ import annotations

import argparse
import html
import re
from pathlib import Path

from sgxl_t.training.callbacks.report.charts import chart as drawn_chart
from sgxl_t.training.callbacks.report.words import Curve
from sgxl_t.training.callbacks.stats_file import read_stats

POINTS = 80
"""Points of a chart at most, so that files stay small."""
STYLE = ".grid{stroke:#e4e4e4} svg svg text{font-size:11px;fill:#555}"
WIDTH, HEIGHT, TITLE = 330, 186, 26
"""Of one chart with its caption, and of the line above a row, in pixels."""


def chart(run: Path, name: str, x: int, y: int) -> str:
    """One number of a run folder with its name below, at (x, y); "no such number" where no line has it."""
    lines = [line for line in read_stats(run / "stats.jsonl") if name in line]
    figure = drawn_chart(Curve(name, {name: ""}, ""), lines[:: max(1, -(-len(lines) // POINTS))])
    found = re.search(r"<svg (.*</svg>)", re.sub(r' data-chart="[^"]*"', "", figure))
    drawn = f'<svg x="{x}" y="{y}" width="320" height="160" {found[1]}' if found else ""
    caption = name if found else f"{name}: no such number"
    return f'{drawn}<text x="{x + 30}" y="{y + 176}" font-size="12" fill="#555">{html.escape(caption)}</text>'


def sheet(runs: dict[str, Path], names: list[str]) -> str:
    """A whole SVG file. runs: title to run folder."""
    width, height = WIDTH * len(names), (HEIGHT + TITLE) * len(runs)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="system-ui,sans-serif"><style>{STYLE}</style>'
        '<rect width="100%" height="100%" fill="#fff"/>'
    ]
    for row, (title, run) in enumerate(runs.items()):
        top = row * (HEIGHT + TITLE)
        parts.append(f'<text x="8" y="{top + 18}" font-size="14">{html.escape(title)}</text>')
        parts += [chart(run, name, column * WIDTH, top + TITLE) for column, name in enumerate(names)]
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    """Writes one file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="TITLE=RUN", help="run folders from top to bottom")
    parser.add_argument("--names", required=True, help="numbers of stats.jsonl, parted by commas")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    runs = {title: Path(run) for title, _, run in (entry.partition("=") for entry in arguments.runs)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(sheet(runs, arguments.names.split(",")))


if __name__ == "__main__":
    main()
