"""Render the sprites of emoji-scenes from Noto Color Emoji into one PNG sheet and a JSON list of names.

Run once, when the list changes; the result is stored in the package:

    apt-get install fonts-noto-color-emoji
    python scripts/make_sprites.py

The first 24 entries of scripts/sprites.txt are the objects of `emoji-scenes:24x8`; append new ones at the
end, so that indices stay.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
from PIL import Image, ImageDraw, ImageFont

STRIKE_PX = 109
"""The only size of the font's bitmaps."""
SPRITE_PX = 64
COLUMNS = 20
HERE = Path(__file__).resolve().parent
ASSETS = HERE.parent / "sgxl_t" / "datasets" / "embedded" / "assets"


def read_list(path: Path) -> list[tuple[str, list[str]]]:
    """Lines `HEX name/other name` to (character, names); `#` begins a comment."""
    entries = []
    for line in path.read_text(encoding="ascii").splitlines():
        line = line.split("#")[0].strip()
        if line:
            code, names = line.split(" ", 1)
            entries.append((chr(int(code, 16)), names.split("/")))
    return entries


def render(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One character as RGBA, SPRITE_PX square: tight crop, centred, longest side filling the sprite."""
    canvas = Image.new("RGBA", (256, 256))
    ImageDraw.Draw(canvas).text((40, 40), character, font=font, embedded_color=True)
    box = canvas.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    if box is None:
        raise click.ClickException(
            f"the font draws nothing for U+{ord(character):04X}: remove it from the list"
        )
    tight = canvas.crop(box)
    side = max(tight.size)
    square = Image.new("RGBA", (side, side))
    square.paste(tight, ((side - tight.width) // 2, (side - tight.height) // 2))
    # Premultiplied resizing: transparent pixels must not darken the edges.
    return square.convert("RGBa").resize((SPRITE_PX, SPRITE_PX), Image.Resampling.LANCZOS).convert("RGBA")


@click.command()
@click.option(
    "--font", "font_path", default="/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf", show_default=True
)
@click.option("--list", "list_path", type=Path, default=HERE / "sprites.txt", show_default=True)
@click.option("--out", type=Path, default=ASSETS, show_default=True)
def main(font_path: str, list_path: Path, out: Path) -> None:
    """Write sprites.png and sprites.json into OUT."""
    entries = read_list(list_path)
    font = ImageFont.truetype(font_path, STRIKE_PX)
    rows = -(-len(entries) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * SPRITE_PX, rows * SPRITE_PX))
    for index, (character, _) in enumerate(entries):
        row, column = divmod(index, COLUMNS)
        sheet.paste(render(character, font), (column * SPRITE_PX, row * SPRITE_PX))
    out.mkdir(parents=True, exist_ok=True)
    sheet.save(out / "sprites.png", optimize=True)
    table = {
        "sprite_px": SPRITE_PX,
        "columns": COLUMNS,
        "source": "Noto Color Emoji, Google LLC, SIL Open Font License 1.1",
        "sprites": [{"code": f"{ord(character):04X}", "names": names} for character, names in entries],
    }
    (out / "sprites.json").write_text(json.dumps(table, indent=1) + "\n", encoding="ascii")
    click.echo(f"{len(entries)} sprites, {(out / 'sprites.png').stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
