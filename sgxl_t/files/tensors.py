"""Tensors written to disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file with the permissions that any new file gets; the caller makes it atomic.

    tensors: of any shape by name, on any device and in any layout. metadata: text for the header; of several
    entries the order in the file is not fixed.
    """
    # safetensors makes its files readable by their owner alone, wherever they go.
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(stored, path, metadata=None if metadata is None else dict(metadata))
    os.chmod(path, mode)
