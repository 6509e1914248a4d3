"""`report.html` of a run, from what lies in its folder."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from sgxl_t.datasets.base import ImageSource
from sgxl_t.files.untrusted import read_json
from sgxl_t.model_io.model_folder import read_info
from sgxl_t.training.callbacks.callback import Callback, Line, Snapshot
from sgxl_t.training.callbacks.health import read_health, warnings_on
from sgxl_t.training.callbacks.pictures.timelapse import TIMELAPSE, read_frames, when
from sgxl_t.training.callbacks.report.charts import charts
from sgxl_t.training.callbacks.report.page import folded, link, page, table, write_page
from sgxl_t.training.callbacks.report.picture_sections import beside_real, nearest_pictures, over_time
from sgxl_t.training.callbacks.report.words import chosen_curves, tracked_names
from sgxl_t.training.callbacks.stats_file import newest_numbers, read_stats
from sgxl_t.training.train_state import TrainState

REPORT = "report.html"
FILES = {
    TIMELAPSE: "the sample grid over time, as a film",
    "best": "the model where the first tracked metric was best; commands that are given the run take it",
    "last": "the newest model",
    "samples": "sample grids (fakes_*.png), the newest preview, real pictures (reals.png), nearest ones",
    "config.yaml": "every setting; the same command goes on with the run",
    "stats.jsonl": "the numbers of all ticks and snapshots",
    "health.jsonl": "what was noticed, and when it was over",
    "rejects.jsonl": "pictures of the data that could not be used, and why",
    "checkpoints": "what the run needs to go on exactly; may go when it is over",
    "features": "feature networks that the run trained for itself",
    "environment.json": "versions and machine",
    "tensorboard": "the same numbers for TensorBoard",
}
"""What lies in a run folder, the things for people first."""


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
    listed = f'<div class="words">{table(rows, ("kimg", "", "what was noticed"))}</div>'
    return shown + folded("All that was noticed", listed)


def curves(stats: Sequence[Line]) -> str:
    """The charts that matter, with their words, and the others folded."""
    shown, others = chosen_curves(stats)
    hint = '<p class="note">kimg: thousand pictures trained on. Point at a curve to read its values.</p>'
    drawn = charts(shown, stats)
    return (hint + drawn if drawn else "") + folded("All other numbers", charts(others, stats))


def newest(stats: Sequence[Line]) -> str:
    """The newest value of every number, folded."""
    if not stats:
        return ""
    return folded("Newest values as a table", table(sorted(newest_numbers(stats).items()), ("name", "value")))


def summary(folder: Path, stats: Sequence[Line]) -> str:
    """Where the run stands, in a line of facts."""
    facts: list[tuple[str, str]] = []
    frames, numbers = read_frames(folder), newest_numbers(stats)
    kimg = max([numbers.get("images", 0) / 1000, *(frame.kimg for frame in frames[-1:])])
    facts.append((when(kimg, None), "thousand pictures trained on"))
    if frames and frames[-1].minutes is not None:
        facts.append((when(0, frames[-1].minutes).partition(", ")[2], "time until the newest samples"))
    if "images_per_second" in numbers:
        facts.append((f"{numbers['images_per_second']:.4g}", "pictures per second"))
    if names := tracked_names(stats):
        first = [line[names[0]] for line in stats if names[0] in line]
        facts.append((f"{first[-1]:.4g}", f"{names[0]}, lowest {min(first):.4g}"))
    if (best := _best_kimg(folder)) is not None:
        facts.append((when(best, None), "model in best/"))
    said = "".join(
        f"<div><b>{html.escape(what)}</b><span>{html.escape(of)}</span></div>" for what, of in facts
    )
    return f'<div class="facts">{said}</div>'


def _best_kimg(folder: Path) -> float | None:
    try:
        kimg = read_info(folder / "best").provenance.get("kimg")
    except (OSError, ValueError):
        return None
    return float(kimg) if isinstance(kimg, int | float) else None


def files_of(folder: Path) -> str:
    """What lies in the folder, with links."""
    there = [(name, words) for name, words in FILES.items() if (folder / name).exists()]
    rows = "".join(f"<tr><td>{link(name)}</td><td>{html.escape(words)}</td></tr>" for name, words in there)
    return f'<div class="words scroll"><table>{rows}</table></div>'


def write_run_report(folder: Path) -> Path:
    """`report.html` of a run folder from what lies in it: samples/, stats, health, environment.json."""
    stats = read_stats(folder / "stats.jsonl")
    sections = [
        ("Samples over time", over_time(read_frames(folder), folder)),
        ("Generated beside real", beside_real(folder)),
        ("Nearest training pictures", nearest_pictures(folder)),
        ("Health", health(folder)),
        ("Curves", curves(stats) + newest(stats)),
        ("In this folder", files_of(folder) + environment(folder)),
    ]
    write_page(folder / REPORT, page(f"Run {folder.name}", sections, lead=summary(folder, stats)))
    return folder / REPORT


def environment(folder: Path) -> str:
    """Versions and machine, folded; empty where they are not known."""
    if not (folder / "environment.json").exists():
        return ""
    facts = read_json(folder / "environment.json", way_out="remove it").group()
    return folded("Versions and machine", table(sorted(facts.items()), ("name", "value")))


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
