"""Text features of fixed sets of captions, cached in a folder under a hash of encoder and captions."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from sgxl_t.files.tensors import write_tensors
from sgxl_t.files.whole import whole_file
from sgxl_t.networks.text.text_encoder import JoinedEncoders, TextEncoder

log = logging.getLogger(__name__)

BATCH = 256
KEY = "features"


@torch.no_grad()
def encode_all(encoder: TextEncoder, captions: Sequence[str]) -> Tensor:
    """float32 [N, dim] on the CPU, encoded in batches."""
    batches = [captions[start : start + BATCH] for start in range(0, len(captions), BATCH)]
    shown = tqdm(batches, desc="encoding captions", unit="batch", delay=2, leave=False)
    return torch.cat([encoder.encode_text(list(batch)).float().cpu() for batch in shown])


def cached_features(encoder: TextEncoder, captions: Sequence[str], folder: Path) -> Tensor:
    """float32 [N, dim] of a frozen encoder: read from the folder, or made now and written there.

    The file's name is a hash of the encoder's reference, its weights and the captions in their order; a
    damaged file is named in the log and made again. A full disk costs the next start its time, and no more.
    """
    path = folder / f"{_hash(encoder, captions)}.safetensors"
    found = _read(path, (len(captions), encoder.dim))
    if found is None:
        found = encode_all(encoder, captions)
        _write(path, found)
    return found


def _hash(encoder: TextEncoder, captions: Sequence[str]) -> str:
    # Equal weights do not make equal vectors: encoders of two references may differ in an activation alone.
    parts = encoder.encoders if isinstance(encoder, JoinedEncoders) else [encoder]
    made_by = [part.reference for part in parts], encoder.weights_hash(), encoder.dim, len(captions)
    digest = hashlib.sha256(f"2 {made_by}".encode("utf-8", "surrogatepass"))
    for caption in captions:
        data = caption.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:32]


def _read(path: Path, shape: tuple[int, int]) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            found: Tensor = file.get_tensor(KEY)
        if tuple(found.shape) != shape or found.dtype != torch.float32 or not bool(found.isfinite().all()):
            raise ValueError("its numbers are none of ours")
    except (SafetensorError, OSError, ValueError) as error:
        log.warning("the stored captions %s are damaged (%s) and are encoded again", path, error)
        return None
    return found


def _write(path: Path, features: Tensor) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as aside:
            write_tensors(aside, {KEY: features})
    except (OSError, SafetensorError) as error:
        log.warning("captions could not be stored in %s: %s", path.parent, error)
