"""The HTML of a report: one file that opens from the disk, without anything from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from sgxl_t.files.whole import write_whole


def table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    """rows of cells; floats are shown with four significant digits."""

    def cell(value: Any) -> str:
        return html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))

    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def picture(image: Image.Image, words: str) -> str:
    """An image inside the page. words: for people who do not see it."""
    stream = io.BytesIO()
    image.save(stream, format="WEBP", quality=88, method=2)
    return _embedded(stream.getvalue(), words)


def figure(path: Path, caption: str, *, across: int | None = None) -> str:
    """An image file inside the page; nothing where it cannot be read. across: largest side in pixels."""
    image = opened(path)
    if image is None:
        return ""
    if across is not None:
        image.thumbnail((across, across), Image.Resampling.BOX)
    return f"<figure>{picture(image, caption)}<figcaption>{html.escape(caption)}</figcaption></figure>"


def opened(path: Path) -> Image.Image | None:
    """An image file in RGB; None where it is not there or broken, which is what Pillow says in many ways."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return None


def picture_file(path: Path, words: str) -> str:
    """A small WebP file inside the page."""
    return _embedded(path.read_bytes(), words)


def _embedded(webp: bytes, words: str) -> str:
    data = base64.b64encode(webp).decode()
    return f'<img src="data:image/webp;base64,{data}" alt="{html.escape(words)}">'


def folded(summary: str, content: str) -> str:
    """Content that is shown on a click; nothing for none."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>" if content else ""


def link(target: str, words: str | None = None) -> str:
    """A link to a file beside the page."""
    return f'<a href="{html.escape(target)}">{html.escape(words or target)}</a>'


def page(title: str, sections: Sequence[tuple[str, str]], *, lead: str = "") -> str:
    """sections: heading and ready HTML; empty ones are left out. lead: HTML below the title."""
    body = "".join(f"<h2>{html.escape(heading)}</h2>{content}" for heading, content in sections if content)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_part('page.css')}</style></head><body>"
        f"<h1>{html.escape(title)}</h1>{lead}{body}<script>{_part('page.js')}</script></body></html>"
    )


@cache
def _part(name: str) -> str:
    """Style or script, which lie beside this file."""
    return resources.files("sgxl_t.training.callbacks.report").joinpath(name).read_text(encoding="utf-8")


def write_page(path: Path, content: str) -> None:
    """Whole or not at all."""
    write_whole(path, content)
