"""Directions as values: what is added to styles so that one thing about an image changes.

    night = pipe.directions.between("a fox in snow", "a fox at night")
    night.save("night.safetensors")
    pipe(ws=Directions.open("night.safetensors").applied(latents, 1.0, pipe.generator)).images

A file is safetensors: `directions` [K, num_ws, w_dim], float32, and one entry `directions` of the header,
JSON: format, model (hash of the files that they were found with), mapping (hash of its mapping network),
names, and how they were found. They fit every generator with this mapping, so also other stages of a chain
and tuned ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgxl_t.files.tensors import write_tensors
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import parse_json
from sgxl_t.files.whole import whole_file
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.weights.stored_tensors import opened
from sgxl_t.sampling.latents import SUFFIX, Latents, split_rows
from sgxl_t.sampling.truncation.centroids import fingerprint

FORMAT = 1
ABOUT = "directions"
"""The entry of the header, and the tensor."""
MAX_DIRECTIONS = 1000
MAX_NUMBERS = 2**26
MAX_STRENGTH = 100.0
WAY_OUT = "restore it, or find it again with `sgxl-t edit ... --save-direction FILE`"


@dataclass(frozen=True, eq=False)
class Directions:
    """K directions of one mapping network, on the CPU. `directions[2]` and `directions[:3]` are Directions.

    Strength 1 of each is: the whole way from one prompt, class or set of examples to the other, or one
    standard deviation of w where nothing but w was looked at.
    """

    vectors: Tensor
    """float32 [K, num_ws, w_dim]."""
    names: Sequence[str]
    mapping: str
    """Hash of the mapping network, see `mapping_hash`."""
    model: str | None = None
    """Hash of the files of the model that they were found with; None where it lies nowhere."""
    found: Mapping[str, Any] = field(default_factory=dict)
    """JSON values that say how."""

    def __post_init__(self) -> None:
        if self.vectors.ndim != 3 or len(self.vectors) != len(self.names) or not self.names:
            raise ValueError(
                f"{len(self.names)} names came with directions of shape {list(self.vectors.shape)}: give "
                "floats [K, num_ws, w_dim] and a name for each"
            )
        object.__setattr__(self, "vectors", self.vectors.detach().float().cpu())
        object.__setattr__(self, "names", tuple(self.names))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: int | slice | Sequence[int]) -> Directions:
        """These directions, in this order; IndexError for one that is not there."""
        numbers = [rows] if isinstance(rows, int) else rows
        wanted = range(len(self))[numbers] if isinstance(numbers, slice) else numbers
        listed = [range(len(self))[number] for number in wanted]
        return replace(self, vectors=self.vectors[listed], names=[self.names[row] for row in listed])

    @classmethod
    def join(cls, parts: Sequence[Directions]) -> Directions:
        """All directions of all parts, which belong to one mapping and move as many layers."""
        if len({(part.mapping, part.vectors.shape[1:]) for part in parts}) > 1:
            raise ValueError("directions of different models were put together: take those of one model")
        found = parts[0].found if len(parts) == 1 else {"parts": [dict(part.found) for part in parts]}
        return cls(
            torch.cat([part.vectors for part in parts]),
            [name for part in parts for name in part.names],
            parts[0].mapping,
            parts[0].model,
            found,
        )

    def check_fits(self, generator: Generator, what: str = "the direction") -> None:
        """ValueError unless the generator has the mapping that they were found with."""
        if self.vectors.shape[2] != generator.w_dim:
            raise ValueError(
                f"{what} moves styles of {self.vectors.shape[2]} numbers, the model has {generator.w_dim}: "
                "take a direction of this model, or find one with `sgxl-t edit`"
            )
        if self.mapping != (here := mapping_hash(generator)):
            raise ValueError(
                f"{what} has another mapping ({visible(self.mapping)[:20]}, not {here}), in "
                "whose w it means something else: take a direction of this model or of a stage of its chain"
            )

    def for_generator(self, generator: Generator, layers: Sequence[int] | None = None) -> Tensor:
        """What strength 1 adds to the styles of a generator, [K, num_ws, w_dim].

        A generator with more layers, as the next stage of a chain has, moves them with the last one where a
        direction moves all layers alike, and else leaves them where they are. layers: those that move,
        counted from 0; None for all. ValueError for another mapping and for layers that do not exist.
        """
        self.check_fits(generator)
        moved, count = self.vectors, generator.num_ws
        if layers is not None and (not layers or min(layers) < 0 or max(layers) >= count):
            raise ValueError(f"layers {list(layers)} do not fit: the model has 0 to {count - 1}")
        if (more := count - moved.shape[1]) > 0:
            alike = (moved == moved[:, :1]).all(dim=2).all(dim=1)[:, None, None]
            moved = torch.cat([moved, (moved[:, -1:] * alike).expand(-1, more, -1)], dim=1)
        moved = moved[:, :count]
        if layers is None:
            return moved
        kept = torch.zeros_like(moved)
        kept[:, list(layers)] = moved[:, list(layers)]
        return kept

    def applied(
        self,
        latents: Latents,
        strengths: float | Sequence[float],
        generator: Generator,
        layers: Sequence[int] | None = None,
    ) -> Latents:
        """Every row of latents moved along every direction by every strength, in this order of nesting.

        Each direction starts from the row itself. z is left out, since no z gives such styles.
        """
        latents.check_fits(generator, None)
        steps = check_strengths([strengths] if isinstance(strengths, int | float) else strengths)
        moved = self.for_generator(generator, layers)
        by = torch.tensor(steps)[:, None, None]
        ws = torch.cat([row + by * one for row in latents.ws for one in moved])
        chosen = latents[[row for row in range(len(latents)) for _ in range(len(self) * len(steps))]]
        each = [(name, step) for name in self.names for step in steps] * len(latents)
        names = [
            f"{old}, {name} {step:+g}" if step else old
            for old, (name, step) in zip(chosen.names, each, strict=True)
        ]
        where = {} if layers is None else {"layers": list(layers)}
        made = [
            {**old, "edits": [*old.get("edits", []), {"direction": name, "strength": step, **where}]}
            for old, (name, step) in zip(chosen.made, each, strict=True)
        ]
        return replace(chosen, ws=ws, names=names, z=None, made=made)

    def save(self, file: str | Path) -> Path:
        """Writes the file, whole or not at all; returns its path. Equal directions give equal bytes."""
        path = check_direction_file(file)
        about = {
            "format": FORMAT,
            "model": self.model,
            "mapping": self.mapping,
            "num_ws": self.vectors.shape[1],
            "w_dim": self.vectors.shape[2],
            "names": list(self.names),
            "found": dict(self.found),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as aside:
            write_tensors(aside, {ABOUT: self.vectors}, {ABOUT: json.dumps(about, allow_nan=False)})
        return path

    @classmethod
    def open(cls, file: str | Path) -> Directions:
        """The directions in a file; no code in it runs. ValueError of one sentence for anything else."""
        path = Path(file)
        with opened(path, WAY_OUT) as stored:
            shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
            text = (stored.metadata() or {}).get(ABOUT)
            if text is None or set(shapes) != {ABOUT}:
                raise ValueError(f"{visible(path)} is a safetensors file without directions: {WAY_OUT}")
            if math.prod(shapes[ABOUT]) > MAX_NUMBERS:
                raise ValueError(
                    f"{visible(path)} holds more than {MAX_NUMBERS:,} numbers: make smaller files"
                )
            vectors = stored.get_tensor(ABOUT)
        about = parse_json(text, str(path), way_out=WAY_OUT)
        if (stated := about["format"].integer(0, 10**6)) != FORMAT:
            raise about["format"].error(f"is {stated} and this version reads format {FORMAT}")
        names = [name.text() for name in about["names"].rows(MAX_DIRECTIONS)]
        expected = (len(names), about["num_ws"].integer(1, 10**6), about["w_dim"].integer(1, 10**6))
        finite = vectors.dtype == torch.float32 and bool(torch.isfinite(vectors).all())
        if tuple(vectors.shape) != expected or not names or not finite:
            raise ValueError(
                f"{visible(path)} describes {expected[0]} directions of {expected[1]} x {expected[2]} "
                f"numbers and does not hold them as finite float32: {WAY_OUT}"
            )
        model, found = about.get("model"), about.get("found")
        return cls(
            vectors,
            names,
            about["mapping"].text(),
            None if model is None else model.text(),
            {} if found is None else found.group(),
        )


def mapping_hash(generator: Generator) -> str:
    """Hash of the mapping network, the same for a model that was stored in half precision."""
    return fingerprint(generator, torch.float16)


def open_directions(reference: str) -> Directions:
    """The directions of FILE or FILE:NUMBERS, such as pca.safetensors:0,2-4."""
    file, rows = split_rows(reference)
    directions = Directions.open(file)
    if rows is None:
        return directions
    if max(rows) >= len(directions):
        there = "number 0" if len(directions) == 1 else f"numbers 0 to {len(directions) - 1}"
        raise ValueError(f"{visible(file)} has no direction {max(rows)}: take {there}")
    return directions[rows]


def check_direction_file(file: str | Path) -> Path:
    """The path; ValueError where a direction cannot be written there or it is called otherwise."""
    path = Path(file)
    if path.suffix.lower() != SUFFIX or path.is_dir():
        raise ValueError(
            f"{path} is no name for a direction: name a file such as {path.stem or 'some'}{SUFFIX}"
        )
    return path


def check_strengths(strengths: Sequence[float]) -> list[float]:
    """The strengths; ValueError for none, and unless each is finite and from -100 to 100."""
    for one in strengths:
        if not math.isfinite(one) or abs(one) > MAX_STRENGTH:
            raise ValueError(
                f"strength {one} is out of range: use -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}, such as 1"
            )
    if not strengths:
        raise ValueError("no strength was given: name some, such as -1,0,1")
    return [float(one) for one in strengths]


def parse_strengths(text: str) -> list[float]:
    """Strengths from "-2,-1,0,1,2", repeats dropped; ValueError for anything else."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"strengths {text[:40]!r} are no list of numbers: write one such as -2,-1,0,1,2"
        ) from None
    return check_strengths(list(dict.fromkeys(numbers)))
