"""What an inversion leaves in its folder: latents, tuned generator, pictures, sheet, curve, film."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torchvision.transforms.functional import to_pil_image

from sgxl_t.sampling.inversion.curve import loss_curve
from sgxl_t.sampling.inversion.invert import Inversion, Inverted
from sgxl_t.sampling.inversion.state import drop_state, save_report, save_state
from sgxl_t.sampling.output.animation import save_animation, tiled
from sgxl_t.sampling.output.grid import labelled_grid
from sgxl_t.sampling.output.image_files import image_names, save_png

LATENTS, TUNED, SHEET, CURVE = "latents.safetensors", "tuned.safetensors", "sheet.png", "loss.png"
HEADINGS = {"start": "start", "w": "in W", "w+": "in W+", "pti": "tuned"}
SMALLEST = 96
"""Side to which small pictures of a film are enlarged, by a whole factor."""
IN_FILM = 8
"""Photographs side by side in a film at most."""
HELD = 12
"""How often a film shows its last picture."""


def write_results(
    folder: Path, inversion: Inversion, *, done: bool, film: str | Path | None = None
) -> list[dict[str, Any]]:
    """Writes everything into the folder; returns a row of JSON values for each photograph.

    done: False keeps the state as well, so that the same request goes on from here. film: file of the way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not done:
        store(folder, inversion)
    found = inversion.result()
    names = [_plain(photo.name) for photo in found.photos]
    stems = [*image_names(_different(names)).values()]
    found.latents.save(folder / LATENTS)
    if found.tuned is not None:
        found.tuned.save(folder / TUNED)
    rows = [_row(folder, found, number, stem) for number, stem in enumerate(stems)]
    for row, pixels in zip(rows, found.images, strict=True):
        save_png(to_pil_image(pixels), row["file"], {"inversion": row})
    save_png(_sheet(found), folder / SHEET)
    if found.history.phases:
        save_png(loss_curve(found.history), folder / CURVE)
    if film is not None and found.history.frames:
        save_animation(_film(found), film)
    save_report(folder, inversion.key, rows, done=done)
    if done:
        drop_state(folder)
    return rows


def store(folder: Path, inversion: Inversion) -> None:
    """Writes the state alone."""
    folder.mkdir(parents=True, exist_ok=True)
    save_state(folder, *inversion.state())


def _row(folder: Path, found: Inverted, number: int, stem: str) -> dict[str, Any]:
    photo = found.photos[number]
    return {
        "photo": photo.name,
        "file": str(folder / f"{stem}.png"),
        "psnr": round(found.psnr[number], 2),
        **{f"psnr_{name}": round(values[number], 2) for name, values in found.stage_psnr.items()},
        "latents": f"{folder / LATENTS}:{number}",
        "tuned": None if found.tuned is None else str(folder / TUNED),
        "condition": found.latents.conditions[number],
        "start": found.starts[number],
        "features": found.features,
        "steps": len(found.history.phases),
        "notes": list(photo.notes),
    }


def _sheet(found: Inverted) -> Image.Image:
    """A row for each photograph: itself, the start, what each phase made of it."""
    images: list[Image.Image | None] = []
    titles = []
    for number, photo in enumerate(found.photos):
        images += [to_pil_image(photo.pixels)]
        images += [to_pil_image(pixels[number]) for pixels in found.stages.values()]
        stages = [f"{HEADINGS[name]} {values[number]:.1f} dB" for name, values in found.stage_psnr.items()]
        titles.append(["photograph", *stages])
    rows = [photo.name for photo in found.photos]
    return labelled_grid(images, rows, titles[0], titles, smallest_cell=128)


def _film(found: Inverted) -> list[Image.Image]:
    """Photographs above their images on the way, and the last of these for a while."""
    side = found.history.frames[0].shape[-1]
    scale = max(1, -(-SMALLEST // side))
    photos = [to_pil_image(photo.pixels).resize((side, side)) for photo in found.photos[:IN_FILM]]
    last = [to_pil_image(pixels).resize((side, side)) for pixels in found.images[:IN_FILM]]
    frames = [[to_pil_image(pixels) for pixels in frame[:IN_FILM]] for frame in found.history.frames]
    shown = ([*photos, *frame] for frame in [*frames, *[last] * HELD])
    return [tiled([one.convert("RGB") for one in images], len(photos), scale) for images in shown]


def _plain(name: str) -> str:
    return Path(name).stem or name


def _different(names: Sequence[str]) -> list[str]:
    """Names with a number behind those that came before."""
    different: list[str] = []
    for name in names:
        number, candidate = 2, name
        while candidate in different:
            number, candidate = number + 1, f"{name} {number}"
        different.append(candidate)
    return different
