"""Tuned generators as small files: what pivotal tuning changed, to be added to the model it started from."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sgxl_t.files.content import short_hash
from sgxl_t.files.tensors import write_tensors
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import parse_json
from sgxl_t.files.whole import whole_file
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.weights.stored_tensors import opened

FORMAT = 1
ABOUT = "tuned"
WAY_OUT = "restore it, or make it again with `sgxl-t invert --pti`"


@dataclass(frozen=True)
class Tuned:
    """What changes a generator into a tuned one.

    changes: differences by the names of the generator's tensors. model: hash of the files of the model they
    are added to; None for a model that lies nowhere. photos: what it was tuned to.
    """

    changes: Mapping[str, Tensor]
    model: str | None
    photos: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Sixteen hex digits over all changes."""
        parts = [(name, self.changes[name].half().cpu().numpy().tobytes()) for name in sorted(self.changes)]
        return short_hash(*(part for pair in parts for part in pair))

    def applied(self, generator: Generator, model: str | None) -> Generator:
        """A copy of the generator with the changes added. model: hash of its files.

        ValueError of one sentence where they belong to another model.
        """
        if None not in (self.model, model) and self.model != model:
            raise ValueError(
                f"the tuned generator starts from another model (its files hash to {visible(self.model)}, "
                f"those here to {model}): name that model with --model"
            )
        tuned = copy.deepcopy(generator)
        there = dict(tuned.named_parameters()) | dict(tuned.named_buffers())
        for name, change in self.changes.items():
            if name not in there or there[name].shape != change.shape:
                raise ValueError(
                    f"the tuned generator changes {visible(name)[:80]} of shape {list(change.shape)}, "
                    "which the model does not have: name the model that it was made with"
                )
            with torch.no_grad():
                there[name].add_(change.to(there[name]))
        return tuned

    def rounded(self) -> Tuned:
        """As the file holds it, in half precision: errors are a thousandth of what is small already."""
        return Tuned(
            {name: one.half().float() for name, one in self.changes.items()}, self.model, self.photos
        )

    def save(self, file: str | Path) -> Path:
        """Writes the file, whole or not at all; returns its path."""
        path = Path(file)
        about = {"format": FORMAT, "model": self.model, "photos": list(self.photos)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as aside:
            tensors = {name: change.half() for name, change in self.changes.items()}
            write_tensors(aside, tensors, {ABOUT: json.dumps(about)})
        return path

    @classmethod
    def open(cls, file: str | Path) -> Tuned:
        """The changes in a file; no code in it runs. ValueError of one sentence for anything else."""
        path = Path(file)
        with opened(path, WAY_OUT) as stored:
            text = (stored.metadata() or {}).get(ABOUT)
            if text is None:
                raise ValueError(f"{visible(path)} is no file of a tuned generator: {WAY_OUT}")
            changes = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118
        about = parse_json(text, str(path), way_out=WAY_OUT)
        if (stated := about["format"].integer(0, 10**6)) != FORMAT:
            raise about["format"].error(f"is {stated} and this version reads format {FORMAT}")
        if not all(bool(torch.isfinite(change).all()) for change in changes.values()):
            raise ValueError(f"{visible(path)} holds numbers that are not finite: {WAY_OUT}")
        model = about.get("model")
        photos = tuple(one.text() for one in about["photos"].rows(10_000))
        return cls(changes, None if model is None or model.raw is None else model.text(64), photos)
