"""The sections of a report that show pictures: over time, beside real ones, beside their nearest ones."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from sgxl_t.files.untrusted import Value, read_json
from sgxl_t.metrics.distances.nearest import RESOLUTION
from sgxl_t.training.callbacks.pictures import nearest
from sgxl_t.training.callbacks.pictures.timelapse import TIMELAPSE, Frame, spread
from sgxl_t.training.callbacks.report.page import figure, link, opened, picture, picture_file
from sgxl_t.training.callbacks.sample_grid import PADDING, REALS, RowsOfGrid, read_rows

SHOWN_FRAMES = 12
"""Frames inside a page; the film has more."""
CELL, ACROSS = 72, 540
"""Largest side of one image in a row, and largest width of a whole grid, in pixels of the page."""
MOST_REAL = 4
COPIES, CLOSE = 0.25, 0.5
"""Distances, in shares of the usual one, below which a sample counts as a copy and as close to one."""
TWINS = 0.05
"""The usual distance where it is 0, as most training pictures have a twin; pixels are in [0, 1]."""
TOLD = 2000
"""Characters of a caption that are shown."""


def over_time(frames: Sequence[Frame], folder: Path, *, captions: Sequence[str] = ()) -> str:
    """The progression of sample grids; empty where there are none.

    captions: of the frames, in place of their own. folder: of the page, which may have a timelapse.
    """
    if not frames:
        return ""
    told = dict(zip(frames, captions or [frame.caption for frame in frames], strict=True))
    shown = spread(frames, SHOWN_FRAMES)
    buttons = "".join(
        f'<button type="button" aria-pressed="{"true" if frame is shown[-1] else "false"}">'
        f"{picture_file(frame.path, f'samples at {told[frame]}')}{html.escape(told[frame])}</button>"
        for frame in shown
    )
    film = f" {link(TIMELAPSE, 'All as a film')}." if (folder / TIMELAPSE).exists() else ""
    view = picture_file(shown[-1].path, f"samples at {told[shown[-1]]}")
    return (
        "<p>The same seeds and conditions each time, from the averaged generator. Good: shapes come first, "
        "then details, and neighbours differ. Colourful grain that stays, or neighbours that grow alike, are "
        f"signs to stop and change something.{film}</p>"
        f'<div class="frames"><div class="view">{view}</div>'
        f'<input type="range" min="0" max="{len(shown) - 1}" value="{len(shown) - 1}" step="1" '
        f'aria-label="moment"><div class="strip">{buttons}</div></div>'
    )


def beside_real(folder: Path) -> str:
    """Rows of the newest grid beside real images of the same condition; empty where there is no grid."""
    grid, real = newest_grid(folder), folder / "samples" / REALS
    if grid is None:
        return ""
    files = f"<p>In full: {link(f'samples/{grid.name}')}"
    files += f", {link(f'samples/{real.name}')}.</p>" if real.exists() else ".</p>"
    rows = read_rows(folder / "samples")
    if rows is None or not real.exists() or rows.names[0] is None:
        both = figure(grid, "generated", across=ACROSS) + figure(real, "real", across=ACROSS)
        return f'<div class="pair">{both}</div>{files}'
    try:
        cards = _rows(grid, real, rows)
    except ValueError:  # one of the grids is broken
        return files
    return (
        "<p>Each row has its caption or class above it: what was asked for, real pictures of exactly that, "
        "and what the model makes of it from several seeds. Good: every seed shows what is written, and no "
        f"two seeds look the same.</p>{files}{cards}"
    )


def newest_grid(folder: Path) -> Path | None:
    """The newest sample grid or preview of a run."""
    samples = folder / "samples"
    found = [*samples.glob("fakes_*.png"), *samples.glob("preview_*.png")]
    return max(found, key=lambda path: path.stem.partition("_")[2], default=None)


def _rows(grid: Path, real: Path, rows: RowsOfGrid) -> str:
    generated = _strips(grid, len(rows.names))
    reals = _strips(real, len(rows.names))
    across = max(1, *rows.real)
    cards = []
    for name, made, known, count in zip(rows.names, generated, reals, rows.real, strict=True):
        told, shown = html.escape((name or "")[:TOLD]), min(count, MOST_REAL)
        sides = ""
        if count:
            part = known.crop((0, 0, _cells(known.width, across, shown), known.height))
            sides = _side(part, shown, "real", f"real: {name}")
        sides += _side(made, rows.columns, "generated", f"generated: {name}")
        cards.append(f'<div class="row"><h3>{told}</h3><div class="sides">{sides}</div></div>')
    return f'<div class="rows whole">{"".join(cards)}</div>'


def _cells(width: int, columns: int, count: int) -> int:
    """Width of the first `count` images of a grid that has so many columns."""
    return PADDING + (width - PADDING) // columns * count


def _side(image: Image.Image, columns: int, word: str, words: str) -> str:
    """Images of one row at a size for reading."""
    width, height = image.width, image.height
    if (cell := width / columns) > CELL:
        width, height = round(width * CELL / cell), round(height * CELL / cell)
        image = image.resize((width, height), Image.Resampling.BOX)
    return f"<figure>{picture(image, words)}<figcaption>{word}</figcaption></figure>"


def _strips(path: Path, rows: int) -> list[Image.Image]:
    """The rows of a grid, each with the lines around it; ValueError where it cannot be read."""
    image = opened(path)
    if image is None:
        raise ValueError(f"{path} is no picture: remove it")
    step = (image.height - PADDING) // rows
    return [image.crop((0, step * row, image.width, step * (row + 1) + PADDING)) for row in range(rows)]


def nearest_pictures(folder: Path) -> str:
    """Samples beside the training images nearest to them, and what their distance means; empty for none."""
    samples = folder / "samples"
    try:
        table = read_json(samples / nearest.TABLE, way_out="remove it")
        entries = list(table["rows"].rows(nearest.SAMPLES))
        usual, compared = table["usual"].number(0), table["compared"].integer(0, 10**12)
        of = table["pictures"].integer(0, 10**12)
        shares = [entry["distance"].number(0) / (usual or TWINS) for entry in entries]
        names = [[_told(entry.get("sample")), *map(_told, _names(entry))] for entry in entries]
        strips = _strips(samples / nearest.IMAGES, len(entries)) if entries else []
    except (OSError, ValueError):
        return ""
    cards = [_near(strip, told, share) for strip, told, share in zip(strips, names, shares, strict=True)]
    looked = f"all {of:,}" if compared >= of else f"{compared:,} of {of:,}"
    return f"<p>{_verdict(shares)}</p>{_how(looked)}" + f'<div class="rows">{"".join(cards)}</div>'


def _how(looked: str) -> str:
    return (
        f'<p class="note">Left a sample, beside it the training pictures nearest to it among {looked} '
        f"training pictures, by their pixels at {RESOLUTION} px. The number is its distance over "
        "the usual distance of a training picture to the nearest other one: 0 is a copy, about 1 and more is "
        "as new as another picture of the set.</p>"
    )


def _verdict(shares: Sequence[float]) -> str:
    copies, close = sum(share < COPIES for share in shares), sum(share < CLOSE for share in shares)
    if copies:
        return (
            f'<b class="bad">{copies} of {len(shares)} samples are nearly copies of training pictures.</b> '
            "The run memorises: take an earlier model, add pictures or mirror them (data.mirror), or augment "
            "(discriminator.diff_augment)."
        )
    if close:
        return (
            f"<b>{close} of {len(shares)} samples come close to a training picture.</b> Look whether they "
            "show the same thing; with more training that may become copying."
        )
    return '<b class="good">None of these samples is a copy of a training picture that was compared.</b>'


def _near(strip: Image.Image, told: Sequence[str], share: float) -> str:
    """A sample and its nearest images, each above its own words."""
    step = (strip.width - PADDING) // len(told)
    figures = []
    for number, words in enumerate(told):
        left = PADDING + number * step
        cell = strip.crop((left, PADDING, left + step - PADDING, strip.height - PADDING))
        cell.thumbnail((2 * CELL, 2 * CELL), Image.Resampling.BOX)
        role = "sample" if number == 0 else f"{share:.2f}" if number == 1 else ""
        below = ": ".join(part for part in (role, html.escape(words)) if part)
        figures.append(f"<figure>{picture(cell, words)}<figcaption>{below}</figcaption></figure>")
    return f'<div class="row near">{"".join(figures)}</div>'


def _names(entry: Value) -> Iterator[Value]:
    return entry["nearest"].rows(nearest.NEAREST)


def _told(name: Value | None) -> str:
    """A name from a file as text; empty for none."""
    return name.text()[:TOLD] if name is not None and name.raw is not None else ""
