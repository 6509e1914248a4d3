"""Zero-shot COCO, `fid30k_coco64` and `fid30k_coco256`: real images, frozen prompts, generated images.

Protocol (Sauer et al. 2023): all images of val2014, centre square, Lanczos to 256 px and from
those to 64 px; 30,000 prompts drawn with replacement from one caption per image; psi 1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgxl_t.datasets.base import ImageSource, Sample
from sgxl_t.datasets.captions import clean_caption
from sgxl_t.datasets.decode import Bounds, open_image
from sgxl_t.datasets.images.annotations import MAX_TABLE_BYTES
from sgxl_t.datasets.images.zip import ZipSource
from sgxl_t.datasets.open import open_source
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.files.content import short_hash
from sgxl_t.files.lock import in_turn
from sgxl_t.files.regular import read_regular
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import Value, parse_json
from sgxl_t.metrics.distances.clip_score import check_prompts
from sgxl_t.metrics.features.resize import lanczos_uint8
from sgxl_t.metrics.generated import GeneratedImages, shown_size
from sgxl_t.metrics.results import write_text
from sgxl_t.ops.random import sample_rng

COCO_METRICS = {"fid30k_coco64": 64, "fid30k_coco256": 256}
"""Name of the metric to its evaluation resolution; the two are never compared."""

STORED = 256
"""Side of the prepared images; smaller ones are made from these."""

MAX_ID = 2**53
"""Largest number of an image or caption."""

COUNT = 30_000
"""Prompts, and therefore generated images."""

FORMAT = "sgxl-t prompts 1"
REDO = "name another file, which `sgxl-t evaluate --coco CAPTIONS --prompts FILE` then writes anew"


@dataclass(frozen=True)
class Prompt:
    """One caption with its numbers in COCO's file."""

    image_id: int
    caption_id: int
    text: str


@dataclass(frozen=True)
class PromptList:
    """What the images 0, 1, 2, ... are asked to show, and the file it was drawn from."""

    prompts: tuple[Prompt, ...]
    seed: int
    captions_name: str
    captions_sha256: str

    @property
    def texts(self) -> list[str]:
        """The prompts as the generator and CLIP take them."""
        return [prompt.text for prompt in self.prompts]

    @property
    def hash(self) -> str:
        """Sixteen hex digits of the choice and its order, part of every result made with it."""
        return short_hash(*((one.image_id, one.caption_id, one.text) for one in self.prompts))

    def first(self, count: int) -> PromptList:
        """The list cut to its first prompts; ValueError for more than there are."""
        check_prompts(self.prompts, count)
        return PromptList(self.prompts[:count], self.seed, self.captions_name, self.captions_sha256)


def draw_prompts(captions: str | Path, *, count: int = COUNT, seed: int = 0) -> PromptList:
    """Prompts drawn uniformly with replacement from one random caption of every image.

    captions: COCO's `captions_val2014.json`. Prompt i depends on seed + i and the caption of an image on
    seed + its id alone, so a longer list begins like a shorter one. ValueError for a file of another kind.
    """
    path = Path(captions)
    data = _read(path, "name COCO's annotations/captions_val2014.json")
    by_image = _captions_by_image(data, path)
    images = sorted(by_image)
    prompts = []
    for index in range(count):
        image = images[_uniform(len(images), sample_rng(seed, index, "prompt"))]
        choices = by_image[image]
        caption_id, text = choices[_uniform(len(choices), sample_rng(seed, image, "caption"))]
        prompts.append(Prompt(image, caption_id, text))
    return PromptList(tuple(prompts), seed, path.name, hashlib.sha256(data).hexdigest())


def write_prompts(
    captions: str | Path, destination: str | Path, *, count: int = COUNT, seed: int = 0
) -> PromptList:
    """Draws prompts and freezes them in a file: a header line, then one prompt a line, all JSON.

    The file appears whole or not at all.
    """
    drawn, target = draw_prompts(captions, count=count, seed=seed), Path(destination)
    header = {
        "format": FORMAT,
        "count": count,
        "hash": drawn.hash,
        "seed": seed,
        "captions": drawn.captions_name,
        "captions_sha256": drawn.captions_sha256,
    }
    rows = [[one.image_id, one.caption_id, one.text] for one in drawn.prompts]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in (header, *rows)]
    write_text(target, "".join(lines))
    return drawn


def frozen_prompts(
    captions: str | Path,
    frozen: str | Path | None,
    *,
    count: int = COUNT,
    seed: int | None = None,
    write: bool = True,
) -> PromptList:
    """The list of a file that `captions` is the source of; where there is none yet, it is drawn and written.

    frozen: the list's file; None draws it and keeps it nowhere. count, seed: of a list that is drawn; None is
    seed 0. write: whether this process writes. ValueError for a list of other captions or of another seed.
    """
    if frozen is None or not (write or Path(frozen).is_file()):
        return draw_prompts(captions, count=count, seed=seed or 0)
    if not Path(frozen).is_file():
        with in_turn(Path(frozen)):
            if not Path(frozen).is_file():
                return write_prompts(captions, frozen, count=count, seed=seed or 0)
    found = read_prompts(frozen, captions=captions)
    if seed is not None and found.seed != seed:
        raise ValueError(f"{frozen} was drawn with the seed {found.seed} and {seed} is asked for: {REDO}")
    return found


def read_prompts(path: str | Path, *, captions: str | Path | None = None) -> PromptList:
    """The frozen list; ValueError when it is broken or was edited.

    captions: COCO's file that the real side comes with; a list drawn from another one is refused.
    """
    path = Path(path)
    try:
        lines = _read(path, REDO).decode().removesuffix("\n").split("\n")
        header, *rows = (parse_json(line, f"line {number}") for number, line in enumerate(lines, 1))
        if header["format"].text() != FORMAT:
            raise header.error("has another format")
        found = PromptList(
            tuple(map(_prompt, rows)),
            header["seed"].integer(-(2**63), 2**63 - 1),
            header["captions"].text(),
            header["captions_sha256"].text(),
        )
        whole = found.hash == header["hash"].text() and len(rows) == header["count"].integer(0, MAX_ID)
    except ValueError as error:
        reason = visible(error).removesuffix(": repair or remove it")
        raise ValueError(f"{visible(path)} is no list of prompts ({reason}): {REDO}") from None
    if not whole:
        raise ValueError(f"{path} was changed since it was written (its hash differs): {REDO}")
    if captions is not None:
        actual = hashlib.sha256(_read(Path(captions), "name COCO's captions file")).hexdigest()
        if actual != found.captions_sha256:
            raise ValueError(
                f"{path} was drawn from another captions file ({found.captions_name}, SHA-256 "
                f"{found.captions_sha256[:16]}) than {captions} ({actual[:16]}): name that file, or " + REDO
            )
    return found


class CocoReal(ImageSource):
    """The real side at the evaluation resolution, from stored images of 256 px by Lanczos."""

    def __init__(self, stored: ImageSource, resolution: int) -> None:
        """stored: the images at 256 px."""
        if resolution not in COCO_METRICS.values() or stored.resolution != STORED:
            raise ValueError(
                f"COCO at {resolution} px from pictures of {stored.resolution} px is no known protocol: "
                f"evaluate at 64 or 256 px, from pictures of {STORED} px"
            )
        super().__init__(
            resolution=resolution, has_captions=stored.has_captions, mirror=False, rejects=stored.rejects
        )
        self.stored = stored

    def fingerprint(self) -> str:
        """Over the stored images and the evaluation resolution; see `ImageSource.fingerprint`."""
        return short_hash("coco", self.resolution, self.stored.fingerprint())

    def fingerprint_of_numbered(self) -> str:
        """See `ImageSource.fingerprint_of_numbered`."""
        return short_hash("coco", self.resolution, self.stored.fingerprint_of_numbered())

    def describe(self) -> dict[str, Any]:
        """What a result states about its real side."""
        steps = [STORED] if self.resolution == STORED else [STORED, self.resolution]
        return {"real_count": len(self), "crop": "centre square", "resize": f"lanczos {steps}"}

    def _count(self) -> int:
        return self.stored._count()

    def _name(self, index: int) -> str:
        return self.stored._name(index)

    def _read(self, index: int) -> Sample:
        sample = self.stored._read(index)
        image = lanczos_uint8(sample.image[None], self.resolution)[0]
        return Sample(image, sample.label, sample.caption)


def open_coco(reference: str | Path, resolution: int) -> CocoReal:
    """The real side from the folder val2014, or from the zip that `sgxl-t prepare --resolution 256` made.

    Whole it has 40,504 images.
    ValueError for a zip of other sizes: images resized before would make another metric.
    """
    stored = open_source(reference, resolution=STORED)
    if isinstance(stored, ZipSource):
        with stored._open(stored.entries[0].name) as file:
            size = open_image(file, Bounds()).size
        if size != (STORED, STORED):
            raise ValueError(
                f"{reference} holds pictures of {size[0]} x {size[1]} px: prepare COCO again with "
                f"--resolution {STORED}"
            )
    return CocoReal(stored, resolution)


class CocoImages:
    """Generated images at the evaluation resolution; larger ones are Lanczos-resized and stay uint8."""

    def __init__(self, generated: GeneratedImages, resolution: int, *, upscale: bool = False) -> None:
        """generated: images by sample index. upscale: allow smaller ones, which makes a number of its own.

        ValueError for images smaller than the resolution, unless `upscale`.
        """
        if min(generated.size) < resolution and not upscale:
            raise ValueError(
                f"pictures of {shown_size(generated.size)} are smaller than the {resolution} px of the "
                "evaluation: evaluate at 64 px, or force up-scaling"
            )
        self.generated, self.size = generated, (resolution, resolution)

    def check_count(self, count: int) -> None:
        """Raises ValueError where there are fewer images than that."""
        self.generated.check_count(count)

    def images(self, indices: Sequence[int]) -> Tensor:
        """uint8 [n, 3, resolution, resolution] of these samples."""
        return lanczos_uint8(self.generated.images(indices), self.size)

    def describe(self) -> dict[str, Any]:
        """What the images say about themselves, and how they were resized."""
        return {
            **self.generated.describe(),
            "fake_resize": describe_resize(self.generated.size[0], self.size[0]),
        }


def describe_resize(before: int, after: int) -> str:
    """How generated images come to the evaluation resolution, for records."""
    return "none" if before == after else f"lanczos {before} to {after}"


def _captions_by_image(data: bytes, path: Path) -> dict[int, list[tuple[int, str]]]:
    """(caption id, text) by image id, in the order of caption ids; empty captions are left out."""
    rejects = Rejects()
    found: dict[int, list[tuple[int, str]]] = {}
    try:
        table = parse_json(data, str(path), maximum=MAX_TABLE_BYTES)
        known = {image["id"].integer(0, MAX_ID) for image in table["images"].rows()}
        notes = [(note["id"].integer(0, MAX_ID), note) for note in table["annotations"].rows()]
        for number, note in sorted(notes, key=lambda one: one[0]):
            try:
                text = clean_caption(note["caption"].raw, rejects)
            except RejectedItemError:
                continue
            image = note["image_id"].integer(0, MAX_ID)
            if image in known:
                found.setdefault(image, []).append((number, text))
    except ValueError as error:
        raise ValueError(
            f"{visible(path)} is no COCO captions file ({visible(error)}): name "
            "annotations/captions_val2014.json, which has images and annotations"
        ) from None
    if not found:
        raise ValueError(f"{path} holds no caption of any of its pictures: name captions_val2014.json")
    return found


def _uniform(count: int, rng: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=rng))


def _read(path: Path, way_out: str) -> bytes:
    if not path.is_file():
        raise ValueError(f"{path} is missing: {way_out}")
    try:
        return read_regular(path, MAX_TABLE_BYTES)
    except ValueError as error:
        raise ValueError(f"{error}; {way_out}") from None


def _prompt(row: Value) -> Prompt:
    """One line of a list: two numbers and a text."""
    image, caption, text = row.rows(3) if isinstance(row.raw, list) and len(row.raw) == 3 else (row,) * 3
    return Prompt(image.integer(0, MAX_ID), caption.integer(0, MAX_ID), text.text())
