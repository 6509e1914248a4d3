"""Text encoders by reference, one of each per process, and from the folders of models."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from sgxl_t.files.content import file_state
from sgxl_t.files.memory import MemoryShortError
from sgxl_t.files.untrusted import Value
from sgxl_t.networks.backbones.references import split_references
from sgxl_t.networks.text.clip import load_clip
from sgxl_t.networks.text.open_clip_model import WEIGHTS, load_open_clip, load_open_clip_text
from sgxl_t.networks.text.text_encoder import JoinedEncoders, TextEncoder
from sgxl_t.networks.text.transformers_files import FILES
from sgxl_t.networks.text.transformers_text import TOWER, load_transformers_text
from sgxl_t.networks.weights.stored import CONFIG, RESTORE, read_config

MAX_PARTS, MAX_DEPTH = 16, 4
"""Encoders that are joined in one folder, and how often what is joined may join others."""
MAX_DIM = 1 << 20
MAX_FILES = 10_000
"""Files of a folder that are looked at for changes."""

_alive: WeakValueDictionary[tuple[Any, ...], TextEncoder] = WeakValueDictionary()


def load_text_encoder(references: str, *, images: bool = False) -> TextEncoder:
    """A frozen text encoder, or several joined by `+`: the same object for all who ask for the same one.

    references: `open_clip:MODEL/TAG`, `transformers:NAME_OR_FOLDER` (T5, SigLIP), `local:FOLDER`.
    images: with the image tower of the first that has one, for guidance; without it only text is held.
    ValueError in one sentence when one is unknown, cannot be fetched, or its folder is broken.
    """
    encoders: list[TextEncoder] = []
    for reference in split_references(references):
        guided = any(encoder.guide is not None for encoder in encoders)
        encoders.append(_shared(reference, images and not guided))
    return encoders[0] if len(encoders) == 1 else JoinedEncoders(encoders)


def load_stored_text(folder: Path, *, images: bool = False) -> TextEncoder:
    """The encoder that `TextEncoder.save_text` stored in a folder, or a local CLIP; frozen.

    images: with the image tower where there is one. ValueError in one sentence for a broken folder, and for
    pretrained weights that are absent or not those that were stored.
    """
    with torch.random.fork_rng(devices=[]):  # first weights, soon replaced, must not show in later numbers
        return _stored(folder, images)


def _stored(folder: Path, images: bool, depth: int = 0) -> TextEncoder:
    stored = read_config(folder)
    kind = stored["kind"].raw
    if kind == "reference":
        return _referred(folder, stored, images)
    if kind == "joined":
        return _joined(folder, stored, images, depth)
    encoder: TextEncoder
    if kind == "transformers":
        if not (folder / TOWER).is_dir():
            raise ValueError(f"{folder / TOWER} is missing: {RESTORE}")
        cleaning = {key: stored[key].boolean() for key in ("lower", "bare")}
        encoder = load_transformers_text(str(folder / TOWER), cleaning)
        encoder.reference = None
    elif kind == "open_clip":
        encoder = load_open_clip_text(folder, stored)
    else:
        encoder = load_clip(f"local:{folder}", text_only=kind == "text" or not images)
    return _frozen(encoder)


def _shared(reference: str, images: bool) -> TextEncoder:
    files = _signature(reference)
    # Whoever wants text alone may share a tower that brings pictures along.
    for kind in (True,) if images else (True, False):
        found = _alive.get((reference, kind, files))
        if found is not None:
            return found
    with torch.random.fork_rng(devices=[]):  # whether it was alive must not show in later random numbers
        encoder = _load(reference, images)
    _alive[reference, images, files] = encoder
    return encoder


def _load(reference: str, images: bool) -> TextEncoder:
    kind, _, name = reference.partition(":")
    if kind == "local" and name:
        return load_stored_text(Path(name), images=images)
    if kind == "open_clip" and name:
        return load_clip(reference, text_only=not images)
    if kind == "transformers" and name:
        return _frozen(load_transformers_text(name))
    raise ValueError(
        f"{reference!r} names no text encoder: write open_clip:MODEL/TAG, transformers:NAME_OR_FOLDER or "
        "local:FOLDER, several joined with +"
    )


def _signature(reference: str) -> tuple[Any, ...]:
    """States of the files behind a folder, so that a folder written anew is read anew."""
    kind, _, name = reference.partition(":")
    if kind not in ("local", "transformers") or not (Path(name) / CONFIG).is_file():
        return ()
    files = sorted(path for path in islice(Path(name).rglob("*"), MAX_FILES) if path.is_file())
    return tuple(map(file_state, files))


def _referred(folder: Path, stored: Value, images: bool) -> TextEncoder:
    """A pretrained tower that a folder names: from the folder's own `tower`, else by its reference."""
    reference = stored["reference"].text()
    kind = reference.partition(":")[0]
    if kind not in ("open_clip", "transformers") or len(split_references(reference)) > 1:
        raise stored["reference"].error("refers to no pretrained text encoder")
    dim, weights = stored["dim"].integer(1, MAX_DIM), stored["weights"].text(64)
    encoder = _placed(folder / TOWER, reference, images)
    if encoder is None:
        try:
            encoder = _shared(reference, images)
        except MemoryShortError:
            raise
        except ValueError as error:
            raise ValueError(
                f"{folder} needs the frozen {reference}, which is not there: connect to the hub once, or "
                f"place its {_files(reference)} in {folder / TOWER} ({error})"
            ) from error
    if (encoder.dim, encoder.weights_hash()) != (dim, weights):
        raise ValueError(
            f"{reference} has other weights here ({encoder.weights_hash()}, {encoder.dim} numbers) than the "
            f"model was trained with ({weights}, {dim} numbers): place the files "
            f"it was trained with in {folder / TOWER}"
        )
    return encoder


def _placed(tower: Path, reference: str, images: bool) -> TextEncoder | None:
    if not tower.is_dir():
        return None
    if reference.startswith("transformers:"):
        encoder: TextEncoder = load_transformers_text(str(tower))
    else:
        encoder = load_open_clip(reference, text_only=not images, folder=tower)
    encoder.reference = None  # whoever saves it again must keep these weights
    return _frozen(encoder)


def _files(reference: str) -> str:
    if reference.startswith("transformers:"):
        return FILES
    return f"{WEIGHTS} (and the tokenizer's files, where the hub has one)"


def _joined(folder: Path, stored: Value, images: bool, depth: int) -> TextEncoder:
    names = [name.text() for name in stored["parts"].rows(MAX_PARTS)]
    if len(names) < 2 or names != [f"part_{number}" for number in range(len(names))]:
        raise stored["parts"].error("does not name its parts in order")
    if depth == MAX_DEPTH:
        raise ValueError(f"{folder} joins encoders that join others more than {MAX_DEPTH} times: {RESTORE}")
    encoders: list[TextEncoder] = []
    for name in names:
        guided = any(encoder.guide is not None for encoder in encoders)
        encoders.append(_frozen(_stored(folder / name, images and not guided, depth + 1)))
    return JoinedEncoders(encoders)


def _frozen(encoder: TextEncoder) -> TextEncoder:
    return encoder.eval().requires_grad_(False)
