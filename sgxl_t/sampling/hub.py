"""Model folders to the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def upload(repository: str, write: Callable[[Path], Path], *, private: bool, token: str | None) -> str:
    """Uploads the model folder that `write` makes; returns its address. ValueError when the Hub refuses."""
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as scratch:
        folder = write(Path(scratch) / (repository.rsplit("/", 1)[-1] or "model"))
        try:
            api = HfApi(token=token)
            address: Any = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=folder)
        except Exception as error:
            raise ValueError(f"{repository} could not be uploaded to the Hub: {_brief(error)}") from error
    return str(address)


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
