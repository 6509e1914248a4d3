"""A cache of the hub in its real layout, filled with weights that were made here."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def place(cache: Path, repository: str, name: str, content: bytes) -> Path:
    """One file of a repository as the hub's library leaves it: a blob, a snapshot's link to it, a ref.

    cache: what HF_HUB_CACHE names, HF_HOME/hub. Returns the link.
    """
    root = cache / f"models--{repository.replace('/', '--')}"
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (root / part).mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(content).hexdigest()
    (root / "blobs" / digest).write_bytes(content)
    (root / "refs" / "main").write_text(COMMIT)
    link = root / "snapshots" / COMMIT / name
    link.symlink_to(Path("../../blobs") / digest)
    return link


def place_weights(cache: Path, repository: str, name: str, tensors: dict[str, Tensor]) -> Path:
    """The same with tensors as safetensors."""
    whole = {key: value.contiguous().clone() for key, value in tensors.items()}
    return place(cache, repository, name, save(whole))
