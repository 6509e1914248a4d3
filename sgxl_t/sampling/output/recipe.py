"""What an image is made from, stored in its file and name, so that no other is overwritten unnoticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from sgxl_t.files.regular import open_regular
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import parse_json
from sgxl_t.sampling.output.image_files import KEY
from sgxl_t.sampling.output.video import ENDING, comment_of
from sgxl_t.sampling.sample_spec import (
    AnySpec,
    Drawable,
    InterpolationFrame,
    LatentSpec,
    MovedFrame,
    TruncationMode,
    Way,
)

if TYPE_CHECKING:
    from sgxl_t.sampling.pipeline import Pipeline

Recipe = dict[str, Any]
"""What an image is made from, as JSON values: model, what it shows, seed, truncation."""


@dataclass(frozen=True)
class Recipes:
    """What all images of a request have in common.

    model: hash of the model's files, and of what tuned it.
    centroids: hash of the centres, where truncation pulls to them. precision: of products.
    """

    model: str | None
    kind: str
    truncation: TruncationMode = "class"
    cutoff: int | None = None
    centroids: str | None = None
    precision: str = "fp32"

    @classmethod
    def for_pipeline(cls, pipe: Pipeline, truncation: TruncationMode, cutoff: int | None) -> Recipes:
        """Images of this pipeline with this truncation."""
        centres = pipe.centroids if truncation == "centroid" else None
        hashed = (
            None if centres is None else hashlib.sha256(centres.vectors.numpy().tobytes()).hexdigest()[:16]
        )
        return cls(pipe.drawn_by, pipe.condition.kind, truncation, cutoff, hashed, pipe.precision)

    def name_ending(self, spec: Drawable) -> str:
        """What file names say besides the prompt or class: -seed0003-psi0.7-centroid."""
        psi = spec.further if isinstance(spec, LatentSpec) else spec.psi
        parts = [f"row{spec.number:04d}" if isinstance(spec, LatentSpec) else f"seed{spec.seed:04d}"]
        if psi != 1:
            parts.append(f"psi{psi:.15g}" if float(f"{psi:.15g}") == psi else f"psi{psi!r}")
            parts += [] if self.truncation == "class" else [self.truncation]
            parts += [] if self.cutoff is None else [f"first{self.cutoff}"]
        parts += [] if self.precision == "fp32" else [self.precision]
        return "-".join(["", *parts])

    def of(self, spec: AnySpec) -> Recipe:
        """Of one image. What does not change it, such as the kind of truncation at psi 1, is left out."""
        if isinstance(spec, InterpolationFrame):
            ends = {"first": self.of(spec.first), "last": self.of(spec.last)}
            return {"model": self.model, **ends, "share": spec.share, **self._way(spec)}
        if isinstance(spec, MovedFrame):
            moved = {"right": spec.right, "down": spec.down, "degrees": spec.degrees}
            return self.of(spec.spec) | {"moved": moved}
        made: Recipe = {"model": self.model}
        if isinstance(spec, LatentSpec):
            psi = spec.further
            made |= {"latent": spec.fingerprint, "psi": psi}
        else:
            psi = spec.psi
            made |= {"seed": spec.seed, "psi": psi}
        if self.kind != "none":
            made[self._noun] = spec.condition
        if spec.mix is not None:
            made |= {f"mixed {self._noun}": spec.mix.condition, "layers": list(spec.mix.layers)}
        if psi != 1:
            made |= {"truncation": self.truncation, "cutoff": self.cutoff, "centroids": self.centroids}
        return made | ({} if self.precision == "fp32" else {"precision": self.precision})

    def _way(self, frame: InterpolationFrame) -> Recipe:
        """The way of a frame, where it is not the one that the kind of model has by itself."""
        usual = Way("z", "sphere") if self.kind == "text" else Way("w", "straight")
        if frame.way in (None, usual):
            return {}
        way = {"space": frame.way.space, "curve": frame.way.curve}
        if frame.weights is None:
            return way
        return way | {"keys": digest([[self.of(key), weight] for key, weight in frame.weights])}

    def of_many(self, specs: Iterable[AnySpec], **layout: Any) -> Recipe:
        """Of one file that shows many images. layout: how, such as the labels beside them."""
        return {"model": self.model, "pictures": digest([[self.of(spec) for spec in specs], layout])}

    @property
    def _noun(self) -> str:
        return "prompt" if self.kind == "text" else self.kind


def digest(value: Any) -> str:
    """Sixteen hex digits of JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def written_in(path: Path) -> Recipe | None:
    """The recipe that an image file holds; None for an image that has none, and for any other file.

    It lies in the text of a PNG, in the comment of a GIF or an MP4 and in the XMP of a WebP.
    """
    if path.suffix.lower() == ENDING:
        return _parsed(comment_of(path), path)
    try:
        with open_regular(path) as file, Image.open(file) as image:
            text = image.info.get(KEY) or image.info.get("comment") or image.info.get("xmp")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return _parsed(text, path)


def _parsed(text: object, path: Path) -> Recipe | None:
    try:
        recipe = parse_json(text, str(path)).raw if isinstance(text, str | bytes) else None
    except ValueError:
        return None
    return recipe if isinstance(recipe, dict) else None


def refuse_overwriting(wanted: Iterable[tuple[Path, Sequence[Recipe]]]) -> None:
    """Raises ValueError where a file would be replaced by an image that is made from something else.

    wanted: files that are going to be written, each with the recipes that it may get.
    """
    found, count = None, 0
    for path, recipes in wanted:
        held = written_in(path) if path.exists() else None
        if path.exists() and held not in recipes:
            count += 1
            found = found or (path, _difference(held, recipes[0]))
    if found is not None:
        more = "" if count == 1 else f", as {count - 1} more are"
        raise ValueError(
            f"{visible(found[0])} is there already, {found[1]}{more}: name another place, or add --overwrite "
            "to replace it"
        )


def _difference(held: Recipe | None, wanted: Recipe) -> str:
    """What the image in a file is, beside the one that would take its place."""
    if held is None:
        return "with nothing in it that says what it was made from"
    if held.get("model") != wanted["model"]:
        return "drawn by another model"
    differing = [name for name in {**wanted, **held} if held.get(name) != wanted.get(name)]
    named = [
        f"{name} {visible(held[name])[:60]}" for name in differing if name in held and name != "pictures"
    ]
    return f"drawn from something else ({', '.join(named)})" if named else "drawn from something else"
