"""Frozen networks by reference, SCHEME:NAME: one table says who loads them, for images and for text.

A text encoder is held once per process, however many ask for it. `auto:KIND`, a network that a run trains
itself, becomes `local:FOLDER` before it comes here (see `backbones/references.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch

from sgxl_t.files.content import file_state
from sgxl_t.files.memory import MemoryShortError
from sgxl_t.files.untrusted import Value
from sgxl_t.networks.backbones.references import split_references
from sgxl_t.networks.text import transformers_files, word_tower
from sgxl_t.networks.text.clip import ClipModel, load_local_clip
from sgxl_t.networks.text.text_encoder import JoinedEncoders, TextEncoder
from sgxl_t.networks.text.transformers_text import TOWER, load_transformers_text
from sgxl_t.networks.weights.hub import HubFiles, Weights
from sgxl_t.networks.weights.packaged import package_folder
from sgxl_t.networks.weights.stored import CONFIG, RESTORE, read_config

if TYPE_CHECKING:
    from sgxl_t.networks.backbones.feature_networks import FeatureNetwork

MAX_PARTS, MAX_DEPTH = 16, 4
"""Encoders that are joined in one folder, and how often what is joined may join others."""
MAX_DIM = 1 << 20
MAX_FILES = 10_000
CACHED = "in the hub's cache"
"""Files of a folder that are looked at for changes."""


@dataclass(frozen=True)
class Scheme:
    """Loaders of the networks that SCHEME:NAME can name; None where it names no such networks.

    image, text, clip: take the reference, its NAME, for text and clip whether the image tower comes along,
    and the kind of weights. placed: a text encoder with its files from a folder. files: what to place there.
    hub: takes NAME; where the hub has its weights, None where it has none. package: takes NAME; the
    installed package that has them, None where none has.
    """

    image: Callable[[str, str, Weights], FeatureNetwork] | None = None
    text: Callable[[str, str, bool, Weights], TextEncoder] | None = None
    clip: Callable[[str, str, bool, Weights], ClipModel] | None = None
    placed: Callable[[str, Path, bool], TextEncoder] | None = None
    files: str = ""
    hub: Callable[[str], HubFiles | None] | None = None
    package: Callable[[str], str | None] | None = None


def load_feature_network(reference: str, weights: Weights = "pretrained") -> FeatureNetwork:
    """The frozen network that `reference` names, on the CPU in float32.

    timm:NAME[.TAG] pretrained by timm; open_clip:MODEL/TAG the image tower of a CLIP; local:FOLDER trained by
    `sgxl-t features train`; random:NAME untrained weights that depend on the name alone, NAME being timm's or
    small_cnn or small_vit. ValueError, in one sentence, for unknown names and for weights that cannot be had.
    """
    scheme, name = _scheme(reference)
    if scheme.image is None:
        raise ValueError(
            f"feature network {reference!r} is not understood: use timm:NAME, open_clip:MODEL/TAG, "
            "local:FOLDER or random:NAME"
        )
    return scheme.image(reference, name, weights)


def load_clip(reference: str, *, text_only: bool = False) -> ClipModel:
    """A CLIP by reference, frozen and in eval mode: `open_clip:MODEL/TAG` or `local:FOLDER`.

    text_only: without the image tower. ValueError in one sentence when it is unknown, cannot be fetched, or
    its folder is broken or holds a text tower alone where both are asked for.
    """
    scheme, name = _scheme(reference)
    if scheme.clip is None:
        raise ValueError(f"{reference!r} names no CLIP: write open_clip:MODEL/TAG or local:FOLDER")
    return scheme.clip(reference, name, not text_only, "pretrained").eval().requires_grad_(False)


def load_text_encoder(
    references: str, *, images: bool = False, weights: Weights = "pretrained"
) -> TextEncoder:
    """A frozen text encoder, or several joined by `+`: the same object for all who ask for the same one.

    references: `open_clip:MODEL/TAG`, `transformers:NAME_OR_FOLDER` (T5, SigLIP, sentence encoders),
    `package:NAME` (the same from an installed package), `local:FOLDER`.
    images: with the image tower of the first that has one, for guidance; without it only text is held.
    ValueError in one sentence when one is unknown, cannot be fetched, or its folder is broken.
    """

    def load(reference: str, images: bool) -> TextEncoder:
        return _shared(reference, images) if weights == "pretrained" else _load(reference, images, weights)

    return join_encoders(split_references(references), images, load)


def on_this_machine(reference: str) -> str | None:
    """Where this machine has the weights of `timm:NAME` or `open_clip:MODEL/TAG`, as the end of a sentence:
    in the hub's cache, or in an installed package; None where it has not."""
    scheme, name = _scheme(reference)
    files = scheme.hub(name) if scheme.hub is not None else None
    if files is not None and files.cached():
        return CACHED
    package = scheme.package(name) if scheme.package is not None else None
    return None if package is None else f"in the package {package}"


def join_encoders(
    names: Sequence[str], images: bool, load: Callable[[str, bool], TextEncoder]
) -> TextEncoder:
    """What `load` gives for each name, as one encoder; images: with the first image tower there is."""
    encoders: list[TextEncoder] = []
    for name in names:
        guided = any(encoder.guide is not None for encoder in encoders)
        encoders.append(load(name, images and not guided))
    return encoders[0] if len(encoders) == 1 else JoinedEncoders(encoders)


def load_stored_text(folder: Path, *, images: bool = False, weights: Weights = "pretrained") -> TextEncoder:
    """The encoder that `TextEncoder.save_text` stored in a folder, or a local CLIP; frozen.

    images: with the image tower where there is one. ValueError in one sentence for a broken folder, and for
    pretrained weights that are absent or not those that were stored.
    """
    with torch.random.fork_rng(devices=[]):  # first weights, soon replaced, must not show in later numbers
        return _stored(folder, images, weights)


def _scheme(reference: str) -> tuple[Scheme, str]:
    """The scheme of a reference and the NAME behind it; a scheme without loaders where there is none."""
    scheme, _, name = reference.partition(":")
    return (SCHEMES.get(scheme, Scheme()) if name else Scheme()), name


_alive: WeakValueDictionary[tuple[Any, ...], TextEncoder] = WeakValueDictionary()


def _shared(reference: str, images: bool) -> TextEncoder:
    files = _signature(reference)
    # Whoever wants text alone may share an encoder that brings an image tower along.
    for kind in (True,) if images else (True, False):
        found = _alive.get((reference, kind, files))
        if found is not None:
            return found
    with torch.random.fork_rng(devices=[]):  # whether it was alive must not show in later random numbers
        encoder = _load(reference, images, "pretrained")
    _alive[reference, images, files] = encoder
    return encoder


def _load(reference: str, images: bool, weights: Weights) -> TextEncoder:
    scheme, name = _scheme(reference)
    if scheme.text is None:
        raise ValueError(
            f"{reference!r} names no text encoder: write open_clip:MODEL/TAG, transformers:NAME_OR_FOLDER, "
            "package:NAME or local:FOLDER, several joined with +"
        )
    return _frozen(scheme.text(reference, name, images, weights))


def _signature(reference: str) -> tuple[Any, ...]:
    """States of the files behind a folder, so that a folder written anew is read anew."""
    folder = Path(reference.partition(":")[2])
    if not (folder / CONFIG).is_file():
        return ()
    files = sorted(path for path in islice(folder.rglob("*"), MAX_FILES) if path.is_file())
    return tuple(map(file_state, files))


# Folders that hold a text encoder, or refer to one --------------------------------------------------------


def _stored(folder: Path, images: bool, weights: Weights, depth: int = 0) -> TextEncoder:
    stored = read_config(folder)
    kind = stored["kind"].raw
    if kind == "reference":
        return _referred(folder, stored, images, weights)
    if kind == "joined":
        return _joined(folder, stored, images, weights, depth)
    encoder: TextEncoder
    if kind == "transformers":
        if not (folder / TOWER).is_dir():
            raise ValueError(f"{folder / TOWER} is missing: {RESTORE}")
        cleaning = {key: stored[key].boolean() for key in ("lower", "bare")}
        encoder = load_transformers_text(str(folder / TOWER), cleaning, weights)
        encoder.reference = None
    elif kind == "open_clip":
        encoder = _late(OPEN_CLIP, "load_open_clip_text")(folder, stored, weights)
    elif kind == word_tower.KIND:
        encoder = word_tower.load_word_tower(folder, stored, weights)
    else:
        encoder = load_local_clip(folder, text_only=kind == "text" or not images, weights=weights)
    return _frozen(encoder)


def _referred(folder: Path, stored: Value, images: bool, weights: Weights) -> TextEncoder:
    """A pretrained encoder that a folder names: from the folder's own `tower`, else by its reference."""
    reference = stored["reference"].text()
    scheme, _ = _scheme(reference)
    if scheme.placed is None or len(split_references(reference)) > 1:
        raise stored["reference"].error("refers to no pretrained text encoder")
    if weights == "none":
        return _load(reference, images, weights)
    dim, digest = stored["dim"].integer(1, MAX_DIM), stored["weights"].text(64)
    if (folder / TOWER).is_dir():
        encoder = _frozen(scheme.placed(reference, folder / TOWER, images))
        encoder.reference = None  # whoever saves it again must keep these weights
    else:
        try:
            encoder = _shared(reference, images)
        except MemoryShortError:
            raise
        except ValueError as error:
            raise ValueError(
                f"{folder} needs the frozen {reference}, which is not there: connect to the hub once, or "
                f"place its {scheme.files} in {folder / TOWER} ({error})"
            ) from error
    if (encoder.dim, encoder.weights_hash()) != (dim, digest):
        raise ValueError(
            f"{reference} has other weights here ({encoder.weights_hash()}, {encoder.dim} numbers) than the "
            f"model was trained with ({digest}, {dim} numbers): place the files "
            f"it was trained with in {folder / TOWER}"
        )
    return encoder


def _joined(folder: Path, stored: Value, images: bool, weights: Weights, depth: int) -> TextEncoder:
    names = [name.text() for name in stored["parts"].rows(MAX_PARTS)]
    if len(names) < 2 or names != [f"part_{number}" for number in range(len(names))]:
        raise stored["parts"].error("does not name its parts in order")
    if depth == MAX_DEPTH:
        raise ValueError(f"{folder} joins encoders that join others more than {MAX_DEPTH} times: {RESTORE}")
    return join_encoders(
        names, images, lambda name, images: _stored(folder / name, images, weights, depth + 1)
    )


def _frozen(encoder: TextEncoder) -> TextEncoder:
    return encoder.eval().requires_grad_(False)


# The table -------------------------------------------------------------------------------------------------


IMAGES = "sgxl_t.networks.backbones.feature_networks"
OPEN_CLIP = "sgxl_t.networks.text.open_clip_model"


def _late(module: str, name: str) -> Callable[..., Any]:
    """A function of a module that is imported when the function is called.

    timm and open_clip take seconds to import, and a picture from a small model needs neither.
    """

    def call(*args: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*args, **options)

    return call


def _open_clip(reference: str, name: str, images: bool, weights: Weights) -> ClipModel:
    return _late(OPEN_CLIP, "load_open_clip")(reference, text_only=not images, weights=weights)


def _placed_open_clip(reference: str, folder: Path, images: bool) -> ClipModel:
    return _late(OPEN_CLIP, "load_open_clip")(reference, text_only=not images, folder=folder)


def _packaged(reference: str, folder: Path, weights: Weights) -> TextEncoder:
    """A tower of the transformers library under the name of the package that carries it."""
    encoder = load_transformers_text(str(folder), weights=weights)
    encoder.reference = reference
    return encoder


def _local_clip(reference: str, name: str, images: bool, weights: Weights) -> ClipModel:
    return load_local_clip(Path(name), text_only=not images, weights=weights)


SCHEMES: dict[str, Scheme] = {
    "timm": Scheme(
        image=_late(IMAGES, "load_timm"),
        hub=_late(IMAGES, "timm_files"),
        package=_late(IMAGES, "timm_package"),
    ),
    "random": Scheme(image=_late(IMAGES, "load_random")),
    "local": Scheme(
        image=_late(IMAGES, "load_local_images"),
        text=lambda _, name, images, weights: load_stored_text(Path(name), images=images, weights=weights),
        clip=_local_clip,
    ),
    "open_clip": Scheme(
        image=_late(IMAGES, "load_open_clip_images"),
        text=_open_clip,
        clip=_open_clip,
        placed=_placed_open_clip,
        files="open_clip_model.safetensors (and the tokenizer's files, where the hub has one)",
        hub=_late(OPEN_CLIP, "open_clip_files"),
    ),
    "transformers": Scheme(
        text=lambda _, name, images, weights: load_transformers_text(name, weights=weights),
        placed=lambda _, folder, images: load_transformers_text(str(folder)),
        files=transformers_files.FILES,
    ),
    "package": Scheme(
        text=lambda reference, name, _, weights: _packaged(reference, package_folder(name), weights),
        placed=lambda _, folder, images: load_transformers_text(str(folder)),
        files=transformers_files.FILES,
    ),
}
