"""What tells one model from another: a hash of its files."""

from __future__ import annotations

from pathlib import Path

from sgxl_t.files.content import file_hashes, short_hash

MODEL_FILES = ("config.json", "generator.safetensors", "labels.json", "text_encoder")


def model_hash(folder: str | Path) -> str:
    """Sixteen hex digits over all files of a model folder that change its images."""
    parts = [Path(folder) / name for name in MODEL_FILES]
    files = [path for part in parts for path in (sorted(part.rglob("*")) if part.is_dir() else [part])]
    files = [path for path in files if path.is_file()]
    names = [path.relative_to(folder).as_posix() for path in files]
    return short_hash(*names, *file_hashes([str(path) for path in files], name=str(folder)))
