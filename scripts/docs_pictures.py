"""Draws the pictures in docs/images that the packaged models make: `python scripts/docs_pictures.py`.

They are made by the commands that the documents show, and reduced to a palette.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from PIL import Image
from tqdm import tqdm

IMAGES = Path("docs/images")
README_SHARE = 0.75
"""By how much the sheet on the first page, which everybody loads, is reduced."""
COLOURS = 256
FOX, CAR = "a red fox in snow", "a blue car at night"
README_PROMPTS = (
    *(FOX, "an owl in a forest", "a sailboat on the open sea", "two penguins on a beach"),
    *(
        "a sunflower in a meadow",
        "a rocket at night",
        "a blue car in the city",
        "a blue mushroom in the woods",
    ),
    *("my poodle dozing on the grass", "a cottage in the desert"),
)
WORLDS_PROMPTS = (
    *(FOX, "a cat in the city", "an airplane at night", "a dog on a beach", "a bird in a forest"),
    *("a green apple on grass", "a sailboat on the sea", "two penguins in snow", CAR),
    *("a sunflower in a meadow", "an owl in a forest", "a rocket in the desert"),
)
CLASSES = ("fox", "owl", "penguin", "house", "boat", "mushroom", "sunflower", "rocket", "bus")
WALK = ("interpolate", FOX, CAR, "a tree on a beach", "--curve", "smooth", "--loop")
JUDGE = "data/emoji-worlds/judge_emoji_worlds_24x8.safetensors"


def commands(aside: Path) -> dict[str, tuple[str, ...]]:
    """Arguments of sgxl-t by the picture that they make; the film of an edit comes along with its sheet."""
    named = [part for name in CLASSES for part in ("--class", name)]
    night = ("edit", FOX, "a penguin in snow", "--edits", "data/prompts/edits.txt", "--pick", "at night")
    moving = ("interpolate", FOX, "--frames", "6", "--move")
    return {
        "sheet.png": ("grid", *README_PROMPTS, "--seeds", "0-9", "--out"),
        "emoji-worlds.png": ("grid", *WORLDS_PROMPTS, "--seeds", "0-7", "--out"),
        "classes.png": ("grid", *named, "--seeds", "0-9", "--out"),
        "walk.png": (*WALK, "--frames", "2", "--strip"),
        "walk.webp": (*WALK, "--scale", "3", "--animation"),
        "moved.png": (*moving, "translate", "--strip"),
        "rotated.png": (*moving, "rotate", "--strip"),
        "latents-psi.png": ("grid", FOX, CAR, "--psi", "0,0.5,1,1.5", "--out"),
        "latents-mix.png": (
            *("grid", FOX, "a green tree on a beach", "--mix", CAR, "--mix", "a fox in a city"),
            *("--layers", "0-2", "--layers", "3-7", "--out"),
        ),
        "latents-nearest.png": (
            *("grid", FOX, CAR, "--nearest", "emoji-worlds:24x8", "--compare", "1000", "--out"),
        ),
        "edit-night.png": (
            *(*night, "--strengths", "0,0.5,1", "--save-direction", str(aside / "night.safetensors")),
            *("--film", str(IMAGES / "edit-night.webp"), "--scale", "3", "--out"),
        ),
        "edit-closed.png": ("edit", FOX, "--closed-form", "3", "--strengths=-2,0,2", "--out"),
    }


@click.command()
def main() -> None:
    """Writes docs/images."""
    sgxl_t = [sys.executable, "-m", "sgxl_t.cli"]
    with TemporaryDirectory() as aside:
        for name, arguments in tqdm(commands(Path(aside)).items(), unit="picture"):
            made = [*sgxl_t, *arguments, str(IMAGES / name), "--overwrite"]
            subprocess.run(made, check=True, stdout=subprocess.PIPE)
            if name.endswith(".png"):
                _smaller(IMAGES / name, IMAGES / name, README_SHARE if name == "sheet.png" else 1)
        bench = [sys.executable, "scripts/prompt_bench.py", "--judge", JUDGE, "--out", aside]
        subprocess.run(bench, check=True, stdout=subprocess.PIPE)
        _smaller(Path(aside) / "prompts.png", IMAGES / "emoji-worlds-prompts.png")


def _smaller(picture: Path, path: Path, share: float = 1.0) -> None:
    image = Image.open(picture).convert("RGB")
    size = round(image.width * share), round(image.height * share)
    small = image.resize(size, Image.Resampling.LANCZOS)
    small.quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


if __name__ == "__main__":
    main()
