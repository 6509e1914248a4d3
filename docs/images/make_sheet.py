"""Draws the picture at the top of the README: objects by scenes, one prompt and one seed per picture.

    python docs/images/make_sheet.py

The model is the one that ships in the package. Framed pictures show pairs of object and scene that no
training picture showed. The objects are the half of its 24 that it draws most clearly; every picture is
seed 0 at psi 1.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import sgxl_t
from sgxl_t.datasets.embedded.emoji_scenes import is_held_out
from sgxl_t.datasets.embedded.scene_captions import SCENE_WORDS, with_article
from sgxl_t.datasets.open import open_source

OBJECTS = ("fox", "cat", "penguin", "apple", "frog", "car")
OBJECTS += ("mushroom", "pine tree", "house", "cactus", "sunflower", "snowman")
CELL, GAP, LEFT, TOP = 96, 4, 160, 24
FRAME = (214, 40, 40)


def main() -> None:
    """Writes sheet.png beside this file."""
    names = open_source("emoji-scenes:24x8", resolution=32).class_names
    scenes = list(SCENE_WORDS)
    places = [SCENE_WORDS[scene].places[0] for scene in scenes]
    pipe = sgxl_t.Pipeline.from_pretrained(Path(sgxl_t.__file__).parent / "assets" / "demo_text")
    prompts = [f"{with_article(thing)} {place}" for place in places for thing in OBJECTS]
    images = iter(pipe(prompts, seed=0).images)
    step = CELL + GAP
    sheet = Image.new("RGB", (LEFT + len(OBJECTS) * step, TOP + len(scenes) * step), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, thing in enumerate(OBJECTS):
        draw.text((LEFT + column * step + CELL // 2, TOP // 2), thing, "black", font, "mm")
    for row, place in enumerate(places):
        y = TOP + row * step
        draw.text((LEFT - 10, y + CELL // 2), place, "black", font, "rm")
        for column, thing in enumerate(OBJECTS):
            x = LEFT + column * step
            sheet.paste(next(images).resize((CELL, CELL), Image.Resampling.LANCZOS), (x, y))
            if is_held_out(names.index(thing), row):
                draw.rectangle((x, y, x + CELL - 1, y + CELL - 1), outline=FRAME, width=2)
    sheet.quantize(128, dither=Image.Dither.NONE).save(Path(__file__).with_name("sheet.png"), optimize=True)


if __name__ == "__main__":
    main()
