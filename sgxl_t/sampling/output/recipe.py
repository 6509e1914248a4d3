"""What a picture is made from, said by its file and its name, so that none takes another's place unseen."""

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
from sgxl_t.metrics.generated import model_hash
from sgxl_t.sampling.output.image_files import KEY
from sgxl_t.sampling.sample_spec import Shot, Step
from sgxl_t.sampling.truncation import Truncation

if TYPE_CHECKING:
    from sgxl_t.sampling.pipeline import Pipeline

Recipe = dict[str, Any]
"""What a picture is made from, as JSON values: model, what it shows, seed, truncation."""


@dataclass(frozen=True)
class Drawing:
    """What all pictures of a request have in common.

    model: hash of the model's files. centroids: hash of the centres, where truncation pulls to them.
    precision: of products.
    """

    model: str | None
    kind: str
    truncation: Truncation = "class"
    cutoff: int | None = None
    centroids: str | None = None
    precision: str = "fp32"

    @classmethod
    def of(cls, pipe: Pipeline, truncation: Truncation, cutoff: int | None) -> Drawing:
        """Pictures of this pipeline with this truncation."""
        model = None if pipe.info is None else model_hash(pipe.info.folder)
        centres = pipe.centroids if truncation == "centroid" else None
        hashed = (
            None if centres is None else hashlib.sha256(centres.vectors.numpy().tobytes()).hexdigest()[:16]
        )
        return cls(model, pipe.condition.kind, truncation, cutoff, hashed, pipe.precision)

    def ending(self, seed: int, psi: float) -> str:
        """What file names say besides the prompt or class: -seed0003-psi0.7-centroid."""
        parts = [f"seed{seed:04d}"]
        if psi != 1:
            parts.append(f"psi{psi:.15g}" if float(f"{psi:.15g}") == psi else f"psi{psi!r}")
            parts += [] if self.truncation == "class" else [self.truncation]
            parts += [] if self.cutoff is None else [f"first{self.cutoff}"]
        parts += [] if self.precision == "fp32" else [self.precision]
        return "-".join(["", *parts])

    def recipe(self, shot: Shot | Step) -> Recipe:
        """Of one picture. What does not change it, such as the kind of truncation at psi 1, is left out."""
        if isinstance(shot, Step):
            ends = {"first": self.recipe(shot.first), "last": self.recipe(shot.last)}
            return {"model": self.model, **ends, "share": shot.share}
        made: Recipe = {"model": self.model, "seed": shot.seed, "psi": shot.psi}
        if self.kind != "none":
            made[self._word] = shot.condition
        if shot.mix is not None:
            made |= {f"mixed {self._word}": shot.mix.condition, "layers": list(shot.mix.layers)}
        if shot.psi != 1:
            made |= {"truncation": self.truncation, "cutoff": self.cutoff, "centroids": self.centroids}
        return made | ({} if self.precision == "fp32" else {"precision": self.precision})

    def together(self, shots: Iterable[Shot | Step], **layout: Any) -> Recipe:
        """Of one file that shows many pictures. layout: how, such as the labels beside them."""
        return {"model": self.model, "pictures": digest([[self.recipe(shot) for shot in shots], layout])}

    @property
    def _word(self) -> str:
        return "prompt" if self.kind == "text" else self.kind


def digest(value: Any) -> str:
    """Sixteen hex digits of JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def written_in(path: Path) -> Recipe | None:
    """The recipe that a picture file holds; None for a picture that has none, and for any other file.

    It lies in the text of a PNG, in the comment of a GIF and in the XMP of a WebP.
    """
    try:
        with open_regular(path) as file, Image.open(file) as image:
            text = image.info.get(KEY) or image.info.get("comment") or image.info.get("xmp")
        recipe = parse_json(text, str(path)).raw if isinstance(text, str | bytes) else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return recipe if isinstance(recipe, dict) else None


def refuse_others(wanted: Iterable[tuple[Path, Sequence[Recipe]]]) -> None:
    """Raises ValueError where a file would be replaced by a picture that is made from something else.

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
    """What the picture in a file is, beside the one that would take its place."""
    if held is None:
        return "with nothing in it that says what it was made from"
    if held.get("model") != wanted["model"]:
        return "drawn by another model"
    differing = [name for name in {**wanted, **held} if held.get(name) != wanted.get(name)]
    named = [
        f"{name} {visible(held[name])[:60]}" for name in differing if name in held and name != "pictures"
    ]
    return f"drawn from something else ({', '.join(named)})" if named else "drawn from something else"
