"""Latents as values: what images are drawn from, in memory and in files that every command takes.

    latents = pipe("a red fox in snow", seeds=range(4), psi=0.7, output_type="latents")
    latents.save("foxes.safetensors")
    pipe(ws=Latents.open("foxes.safetensors")[1:3]).images

A file is safetensors: `ws` [N, num_ws, w_dim] and, where every row was drawn from one, `z` [N, z_dim], both
float32, and one entry `latents` of the header, JSON: format, model (hash of its files), num_ws and w_dim of
its generator, and for each row its name, its condition, the psi that its ws carry, and what it was made of.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgxl_t.files.tensors import write_tensors
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import Value, parse_json
from sgxl_t.files.whole import whole_file
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.weights.stored_tensors import opened
from sgxl_t.sampling.asked_numbers import check_psi, parse_numbers
from sgxl_t.sampling.sample_spec import LatentSpec

FORMAT = 1
SUFFIX = ".safetensors"
ABOUT = "latents"
"""The entry of the header."""
MAX_ROWS = 100_000
MAX_NUMBERS = 2**28
"""Numbers in the ws of a file at most, 1 GiB."""
WAY_OUT = "restore it, or make it again with `sgxl-t sample ... --save-latents FILE`"

Condition = str | int | None
"""A condition as resolved: a prompt, the number of a class, or None where there is none or it is unknown."""


@dataclass(frozen=True, eq=False)
class Latents:
    """What N images are drawn from, on the CPU. ValueError where the parts do not fit each other.

    `len(latents)` rows; `latents[2]`, `latents[1:3]` and `latents[[0, 4]]` are Latents again; `join` puts
    several after each other; `mixed` takes some layers from others.
    """

    ws: Tensor
    """float32 [N, num_ws, w_dim]: one style per layer. Truncation, as `psi` says, is applied already."""
    names: Sequence[str]
    """What each row is called beside images and in lists, such as "a red fox in snow, seed 3"."""
    conditions: Sequence[Condition] = ()
    """Prompt or class of each row; None where there is none or nobody knows. Empty: None for every row."""
    psi: Sequence[float] = ()
    """Truncation that the ws of each row carry: 1 for none. Empty: 1 for every row."""
    z: Tensor | None = None
    """float32 [N, z_dim] where every row was drawn from one; None as soon as one row was not."""
    made: Sequence[Mapping[str, Any]] = ()
    """JSON values for each row that say what it was made of, such as {"seed": 3} or {"photo": "cat.jpg"}."""
    model: str | None = None
    """Hash of the model's files, None for a model that lies nowhere."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON values about all rows together, kept in the file."""

    def __post_init__(self) -> None:
        if self.ws.ndim != 3 or not self.ws.is_floating_point():
            raise ValueError(
                f"styles of shape {list(self.ws.shape)} were given: ws are floats [N, num_ws, w_dim]"
            )
        count = len(self.ws)
        filled: dict[str, Any] = {"ws": self.ws.detach().float().cpu(), "names": tuple(self.names)}
        filled["conditions"] = tuple(self.conditions) or (None,) * count
        filled["psi"] = tuple(map(float, self.psi)) or (1.0,) * count
        filled["made"] = tuple(self.made) or ({},) * count
        if self.z is not None:
            filled["z"] = self.z.detach().float().cpu()
        for name, value in filled.items():
            if len(value) != count:
                raise ValueError(f"{len(value)} {name} came with {count} rows of ws: give one for each row")
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.ws)

    def __getitem__(self, rows: int | slice | Sequence[int]) -> Latents:
        """These rows, in this order; IndexError for one that is not there."""
        numbers = [rows] if isinstance(rows, int) else rows
        wanted = range(len(self))[numbers] if isinstance(numbers, slice) else numbers
        listed = [range(len(self))[number] for number in wanted]
        return Latents(
            self.ws[listed],
            [self.names[row] for row in listed],
            [self.conditions[row] for row in listed],
            [self.psi[row] for row in listed],
            None if self.z is None else self.z[listed],
            [self.made[row] for row in listed],
            self.model,
            self.facts,
        )

    @classmethod
    def join(cls, parts: Sequence[Latents]) -> Latents:
        """The rows of all parts, which belong to one model; facts are those of the first."""
        models = {part.model for part in parts if part.model is not None}
        if len(models) > 1 or len({part.ws.shape[1:] for part in parts}) > 1:
            raise ValueError("latents of different models were put together: take those of one model")
        z = [part.z for part in parts if part.z is not None]
        return cls(
            torch.cat([part.ws for part in parts]),
            [name for part in parts for name in part.names],
            [one for part in parts for one in part.conditions],
            [psi for part in parts for psi in part.psi],
            torch.cat(z) if len(z) == len(parts) else None,
            [made for part in parts for made in part.made],
            models.pop() if models else None,
            parts[0].facts,
        )

    def mixed(self, other: Latents, layers: Sequence[int]) -> Latents:
        """These rows with the styles of `other` in some layers, counted from 0: row n takes row n's, or every
        row those of the only one there is. z is left out, since no z gives such styles."""
        if len(other) not in (1, len(self)):
            raise ValueError(
                f"{len(other)} rows cannot be mixed into {len(self)}: give one for all, or one each"
            )
        if not layers or min(layers) < 0 or max(layers) >= self.ws.shape[1]:
            raise ValueError(f"layers {list(layers)} do not fit: there are 0 to {self.ws.shape[1] - 1}")
        ws = self.ws.clone()
        ws[:, list(layers)] = other.ws[:, list(layers)].expand(len(self), -1, -1)
        numbers = range(len(self)) if len(other) == len(self) else [0] * len(self)
        made = [
            {**mine, "mixed": {"layers": list(layers), "name": other.names[row], **other.made[row]}}
            for mine, row in zip(self.made, numbers, strict=True)
        ]
        return Latents(ws, self.names, self.conditions, self.psi, None, made, self.model, self.facts)

    def check_fits(self, generator: Generator, model: str | None, what: str = "the latents") -> None:
        """ValueError unless they belong to this generator. model: hash of its files; None is not compared.

        what: names them in the sentence, such as the file.
        """
        num_ws, w_dim = self.ws.shape[1:]
        if (num_ws, w_dim) != (generator.num_ws, generator.w_dim):
            raise ValueError(
                f"{what} holds {num_ws} styles of {w_dim} numbers a row and the model takes "
                f"{generator.num_ws} of {generator.w_dim}: take latents of this model"
            )
        if self.z is not None and self.z.shape[1:] != (generator.z_dim,):
            raise ValueError(
                f"{what} holds z of shape {list(self.z.shape)} and the model takes [N, {generator.z_dim}]: "
                "take latents of this model"
            )
        if None not in (self.model, model) and self.model != model:
            raise ValueError(
                f"{what} was made with another model (its files hash to {visible(self.model)}, those here to "
                f"{model}): name that model with --model, or make latents of this one"
            )
        for one in self.conditions:
            _check_condition(one, generator, what)

    def save(self, file: str | Path) -> Path:
        """Writes the file, whole or not at all; returns its path. Equal latents give equal bytes."""
        path = check_latents_file(file)
        if len(self) == 0:
            raise ValueError(f"there is no row to write into {path}: make at least one image's latents")
        tensors = {"ws": self.ws} | ({} if self.z is None else {"z": self.z})
        rows = zip(self.names, self.conditions, self.psi, self.made, strict=True)
        about = {
            "format": FORMAT,
            "model": self.model,
            "num_ws": self.ws.shape[1],
            "w_dim": self.ws.shape[2],
            "facts": dict(self.facts),
            "rows": [
                {"name": name, "condition": condition, "psi": psi, "made": dict(made)}
                for name, condition, psi, made in rows
            ],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as aside:
            # One entry, because safetensors writes several in any order.
            write_tensors(aside, tensors, {ABOUT: json.dumps(about, allow_nan=False)})
        return path

    @classmethod
    def open(cls, file: str | Path) -> Latents:
        """The latents in a file; no code in it runs. ValueError of one sentence for anything else.

        Whether they fit a model is asked by `check_fits`, as every command and `Pipeline` call does.
        """
        path = Path(file)
        with opened(path, WAY_OUT) as stored:
            shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
            text = (stored.metadata() or {}).get(ABOUT)
            if text is None or "ws" not in shapes or set(shapes) - {"ws", "z"}:
                raise ValueError(f"{visible(path)} is a safetensors file without latents: {WAY_OUT}")
            if any(math.prod(shape) > MAX_NUMBERS for shape in shapes.values()):
                raise ValueError(
                    f"{visible(path)} holds more than {MAX_NUMBERS:,} numbers: make smaller files"
                )
            tensors = {name: stored.get_tensor(name) for name in shapes}
        about = parse_json(text, str(path), way_out=WAY_OUT)
        return _from_stored(path, about, tensors)


def latent_specs(
    latents: Latents, psi: Sequence[float] = (1.0,), numbers: Sequence[int] | None = None
) -> list[LatentSpec]:
    """A spec for each row and each truncation on top of what the rows carry, row by row.

    numbers: of the rows in their file, where these are some of them.
    """
    counted = range(len(latents)) if numbers is None else numbers
    rows = zip(counted, latents.ws, latents.names, latents.conditions, latents.psi, strict=True)
    return [
        LatentSpec(ws, name, number, condition, carried, check_psi(further))
        for number, ws, name, condition, carried in rows
        for further in psi
    ]


def check_latents_file(file: str | Path) -> Path:
    """The path; ValueError where latents cannot be written there or it is called otherwise."""
    path = Path(file)
    if path.suffix.lower() != SUFFIX or path.is_dir():
        raise ValueError(f"{path} is no name for latents: name a file such as {path.stem or 'some'}{SUFFIX}")
    return path


def split_rows(reference: str) -> tuple[Path, list[int] | None]:
    """FILE or FILE:ROWS, such as photos.safetensors:0,2-4, as file and numbers from 0; None for all rows."""
    file, colon, rows = reference.rpartition(":")
    if not colon or not file.lower().endswith(SUFFIX):
        return Path(reference), None
    return Path(file), parse_numbers(rows, "row", "0 or 0,2-4")


def open_rows(reference: str) -> tuple[Latents, list[int]]:
    """The latents of FILE or FILE:ROWS, and the numbers of their rows in the file."""
    file, rows = split_rows(reference)
    latents = Latents.open(file)
    if rows is None:
        return latents, list(range(len(latents)))
    if max(rows) >= len(latents):
        there = "row 0" if len(latents) == 1 else f"rows 0 to {len(latents) - 1}"
        raise ValueError(f"{visible(file)} has no row {max(rows)}: take {there}")
    return latents[rows], rows


def _from_stored(path: Path, about: Value, tensors: Mapping[str, Tensor]) -> Latents:
    """Latents of what a file holds, checked."""
    if (stated := about["format"].integer(0, 10**6)) != FORMAT:
        raise about["format"].error(f"is {stated} and this version reads format {FORMAT}")
    for name, tensor in tensors.items():
        fits = tensor.dtype == torch.float32 and tensor.ndim == {"ws": 3, "z": 2}[name]
        if not fits or not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{visible(path)} holds {name} that are not finite float32 rows: {WAY_OUT}")
    sizes = about["num_ws"].integer(1, 10**6), about["w_dim"].integer(1, 10**6)
    rows = list(about["rows"].rows(MAX_ROWS))
    if tensors["ws"].shape != (len(rows), *sizes) or not rows:
        raise ValueError(
            f"{visible(path)} describes {len(rows)} rows of {sizes[0]} x {sizes[1]} numbers and holds ws of "
            f"shape {list(tensors['ws'].shape)}: {WAY_OUT}"
        )
    if "z" in tensors and len(tensors["z"]) != len(rows):
        raise ValueError(f"{visible(path)} holds z for {len(tensors['z'])} of {len(rows)} rows: {WAY_OUT}")
    model, facts = about.get("model"), about.get("facts")
    return Latents(
        tensors["ws"],
        [row["name"].text() for row in rows],
        [_condition(row.get("condition")) for row in rows],
        [row["psi"].number(-4, 4) for row in rows],
        tensors.get("z"),
        [row["made"].group() for row in rows],
        None if model is None else model.text(),
        {} if facts is None else facts.group(),
    )


def _condition(value: Value | None) -> Condition:
    if value is None or isinstance(value.raw, str):
        return None if value is None else value.text()
    return value.integer(0, 10**9)


def _check_condition(condition: Condition, generator: Generator, what: str) -> None:
    """ValueError for a condition of another kind than the generator's, or a class that it does not have."""
    spec = generator.condition
    known = {"text": isinstance(condition, str), "class": type(condition) is int, "none": False}[spec.kind]
    if isinstance(condition, int) and spec.kind == "class":
        known = known and condition < spec.num_classes
    if condition is not None and not known:
        raise ValueError(
            f"{what} names {visible(repr(condition))[:60]} as a condition, which this model of kind "
            f"{spec.kind} does not have: take latents of this model"
        )
