"""Render the sprites of emoji-worlds: every thing of scripts/worlds.txt in the designs of several artists.

Run once, when the list changes; the results are stored in the package:

    npm pack @iconify-json/noto@1.2.9 ...      # the packages of DESIGNS and cldr-annotations-full
    pip install resvg-py
    python scripts/make_world_sprites.py FOLDER    # where each package is unpacked as FOLDER/NAME/package

One sheet for each design, 96 px a sprite, cut tight and standing on its lower edge.
"""

from __future__ import annotations

import colorsys
import io
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import resvg_py
from PIL import Image

SPRITE_PX, COLUMNS = 96, 12
RENDER_PX = 384
"""Drawings are rendered at this size and reduced, so that cutting them tight costs no sharpness."""
HERE = Path(__file__).resolve().parent
ASSETS = HERE.parent / "sgxl_t" / "datasets" / "embedded" / "worlds" / "assets"
DESIGNS = {
    "noto": "@iconify-json/noto",
    "twemoji": "@iconify-json/twemoji",
    "blob": "@iconify-json/noto-v1",
    "flat": "@iconify-json/fluent-emoji-flat",
    "3d": "@lobehub/fluent-emoji-3d",
}
"""Package of each design. noto-v1 is Noto Emoji as it was up to 2017, the blobs."""

HUES = (
    (0.038, "red"),
    (0.115, "orange"),
    (0.185, "yellow"),
    (0.45, "green"),
    (0.71, "blue"),
    (0.81, "purple"),
    (0.945, "pink"),
    (1.0, "red"),
)
"""Upper ends of the hues by name."""


def read_list(path: Path) -> list[dict[str, Any]]:
    """Lines `CODE | names | names kept for tests | colours by nature`; `#` begins a comment."""
    things = []
    for line in path.read_text(encoding="ascii").splitlines():
        line = line.split("#")[0].strip()
        if line:
            code, *fields = [field.strip() for field in line.split("|")]
            names, unseen, colours = (
                [word.strip() for word in field.split(",") if word.strip()] for field in [*fields, "", ""][:3]
            )
            things.append({"code": code, "names": names, "unseen": unseen, "colours": colours})
    return things


class Package:
    """The drawings of one package by code point."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "package"
        self.icons: dict[str, Any] = {}
        if (self.folder / "icons.json").is_file():
            self.icons = json.loads((self.folder / "icons.json").read_text(encoding="utf-8"))
            self.names = json.loads((self.folder / "chars.json").read_text(encoding="utf-8"))

    def draw(self, code: str, name: str) -> Image.Image | None:
        """RGBA at RENDER_PX or the size it is stored in; None where the package lacks it.

        name: the icon's name in other packages, for one without a list of code points.
        """
        code = code.lower()
        if not self.icons:
            paths = [self.folder / "assets" / f"{code}{ending}.webp" for ending in ("", "-fe0f")]
            found = next((path for path in paths if path.is_file()), None)
            return None if found is None else Image.open(found).convert("RGBA")
        name = self.names.get(code) or self.names.get(f"{code}-fe0f") or name
        name = self.icons.get("aliases", {}).get(name, {}).get("parent", name)
        icon = self.icons["icons"].get(name)
        if icon is None:
            return None
        width, height = (icon.get(side, self.icons.get(side, 16)) for side in ("width", "height"))
        svg = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        svg += f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}">{icon["body"]}</svg>'
        png = resvg_py.svg_to_bytes(svg_string=svg, width=RENDER_PX, height=RENDER_PX)
        return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def fitted(drawing: Image.Image) -> Image.Image:
    """RGBA, SPRITE_PX square: cut tight, the longer side filling it, in the middle of the lower edge."""
    box = drawing.getchannel("A").point(lambda alpha: 255 * (alpha > 24)).getbbox()
    if box is None:
        raise click.ClickException("a drawing is empty: remove its code from the list")
    tight = drawing.crop(box)
    side = max(tight.size)
    square = Image.new("RGBA", (side, side))
    square.paste(tight, ((side - tight.width) // 2, side - tight.height))
    # Premultiplied resizing: transparent pixels must not darken the edges.
    return square.convert("RGBa").resize((SPRITE_PX, SPRITE_PX), Image.Resampling.LANCZOS).convert("RGBA")


def look(drawing: Image.Image) -> str:
    """The name of the colour that most of a drawing has."""
    pixels = np.asarray(drawing, np.float64)
    solid = pixels[pixels[..., 3] > 200][:, :3] / 255
    chroma = solid.max(1) - solid.min(1)
    coloured = solid[chroma > 0.22] if (chroma > 0.22).mean() > 0.35 else solid[solid.max(1) > 0.3]
    red, green, blue = np.median(coloured, axis=0).tolist() if len(coloured) else (0.0, 0.0, 0.0)
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    if saturation < 0.18:
        return "white" if value > 0.8 else "black" if value < 0.3 else "grey"
    if (hue > 0.9 or hue < 0.04) and saturation < 0.55 and value > 0.7:
        return "pink"
    name = next(name for end, name in HUES if hue <= end)
    return "brown" if name in ("red", "orange") and hue > 0.02 and value < 0.68 and hue < 0.2 else name


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--list", "list_path", type=Path, default=HERE / "worlds.txt", show_default=True)
@click.option("--out", type=Path, default=ASSETS, show_default=True)
def main(folder: Path, list_path: Path, out: Path) -> None:
    """Write one sheet for each design and things.json into OUT, from the packages unpacked in FOLDER."""
    things = read_list(list_path)
    packages = {design: Package(folder / name.replace("/", "_")) for design, name in DESIGNS.items()}
    annotations = folder / "cldr-annotations-full/package/annotations/en/annotations.json"
    spoken = json.loads(annotations.read_text(encoding="utf-8"))["annotations"]["annotations"]
    rows = -(-len(things) // COLUMNS)
    sheets = {design: Image.new("RGBA", (COLUMNS * SPRITE_PX, rows * SPRITE_PX)) for design in DESIGNS}
    for index, thing in enumerate(things):
        row, column = divmod(index, COLUMNS)
        entry = spoken.get(chr(int(thing["code"], 16)), {})
        thing["cldr"] = entry["tts"][0]
        name = packages["noto"].names.get(thing["code"].lower(), "")
        # A design shows the colour by nature, or another one: some cars are blue.
        natural, thing["designs"] = thing["colours"], {}
        for design, package in packages.items():
            drawing = package.draw(thing["code"], name)
            if drawing is not None:
                sheets[design].paste(fitted(drawing), (column * SPRITE_PX, row * SPRITE_PX))
                colour = look(drawing)
                thing["designs"][design] = colour if colour in natural else ""
        if len(thing["designs"]) < 3:
            raise click.ClickException(
                f"{thing['names'][0]} has {len(thing['designs'])} designs: choose another thing"
            )
    out.mkdir(parents=True, exist_ok=True)
    for design, sheet in sheets.items():
        sheet.save(out / f"{design}.webp", lossless=True, quality=60, method=3)
    table = {"sprite_px": SPRITE_PX, "columns": COLUMNS, "designs": list(DESIGNS)}
    lines = ",\n  ".join(json.dumps(thing) for thing in things)
    text = json.dumps(table)[:-1] + f', "things": [\n  {lines}\n]}}\n'
    (out / "things.json").write_text(text, encoding="ascii")
    size = sum(path.stat().st_size for path in out.iterdir())
    click.echo(f"{len(things)} things in {len(DESIGNS)} designs, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
