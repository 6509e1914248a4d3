"""Three sets of drawings that nobody tuned for, as folders that a person might have: `docs/own-pictures.md`.

    apt-get install fonts-noto-color-emoji unicode-data tuxpaint-stamps-default openclipart-png
    python benchmarks/own_sets.py sets

`sets/emoji`: 1,384 drawings without labels, 128 px. `sets/emoji-classes`: the ten kinds of EMOJI_CLASSES,
one folder each. `sets/stamps`: Tux Paint's stamps with an English sentence each. `sets/clipart`: 8,000
pictures of Open Clip Art in the folders they came in.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
EMOJI_TABLE = Path("/usr/share/unicode/emoji/emoji-test.txt")
STAMPS = Path("/usr/share/tuxpaint/stamps")
CLIPART = Path("/usr/share/openclipart/png")
STRIKE_PX, SIDE = 109, 128
"""The font's only size, and the side of a drawing in pixels."""
VARIANTS = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF", "200D"}
"""Skin tones and joined characters, which would show a drawing several times."""
EMOJI_CLASSES = {
    "animals": ("animal-mammal",),
    "arrows": ("arrow",),
    "buildings": ("place-building",),
    "clocks": ("time",),
    "clothes": ("clothing",),
    "faces": ("face-smiling", "face-affection", "face-neutral-skeptical", "face-concerned"),
    "fruit": ("food-fruit", "food-vegetable"),
    "hearts": ("heart",),
    "letters": ("alphanum", "zodiac"),
    "vehicles": ("transport-ground",),
}
"""Classes and the groups of Unicode's table that they are made of."""


def emoji() -> Iterator[tuple[str, str, Image.Image]]:
    """File name, group and RGBA drawing of every emoji that looks like no other."""
    font = ImageFont.truetype(str(FONT), STRIKE_PX)
    group, seen = "", set()
    for line in EMOJI_TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("# subgroup:"):
            group = line.partition(":")[2].strip()
        found = re.match(r"([0-9A-F ]+);\s*fully-qualified", line)
        if found is None or "flag" in group or VARIANTS & set(found[1].split()):
            continue
        codes = found[1].split()
        drawn = Image.new("RGBA", (136, SIDE))
        text = "".join(chr(int(code, 16)) for code in codes)
        ImageDraw.Draw(drawn).text((0, 0), text, font=font, embedded_color=True)
        box = drawn.getbbox()
        if box is None:
            continue
        drawn = drawn.crop(box)
        drawn.thumbnail((SIDE, SIDE))
        square = Image.new("RGBA", (SIDE, SIDE))
        square.paste(drawn, ((SIDE - drawn.width) // 2, (SIDE - drawn.height) // 2))
        if square.tobytes() not in seen:
            seen.add(square.tobytes())
            yield "_".join(codes).lower() + ".png", group, square


def write_emoji(out: Path) -> None:
    """The flat folder and the folder of classes."""
    kinds = {group: name for name, groups in EMOJI_CLASSES.items() for group in groups}
    for name, group, drawing in emoji():
        for folder in ["emoji", *(["emoji-classes/" + kinds[group]] if group in kinds else [])]:
            (out / folder).mkdir(parents=True, exist_ok=True)
            drawing.save(out / folder / name)


def write_stamps(out: Path) -> None:
    """Pictures with the first line of their description, in one folder; mirrored copies are left out."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(STAMPS.rglob("*.png")):
        words = path.with_suffix(".txt")
        if "_mirror" in path.name or not words.is_file():
            continue
        name = "_".join(path.relative_to(STAMPS).with_suffix("").parts)
        shutil.copyfile(path, out / f"{name}.png")
        first = words.read_text(encoding="utf-8", errors="replace").splitlines()[:1]
        (out / f"{name}.txt").write_text("".join(first).strip() + "\n", encoding="utf-8")


def main() -> None:
    """Writes all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    write_emoji(out)
    write_stamps(out / "stamps")
    shutil.copytree(CLIPART, out / "clipart", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
