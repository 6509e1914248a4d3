"""Model folders from and to the Hugging Face Hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from sgxl_t.networks.weights.hub import announce, hub_reachable


def hub_folder(model: str) -> Path:
    """Local copy of a Hub repository that holds a model folder; ValueError when there is none."""
    if not re.fullmatch(r"[\w-][\w.-]{0,95}/[\w.-]{1,96}", model):
        raise ValueError(
            f"{model} is not a folder: name a model folder, such as RUN/best, or a Hub id, such as owner/name"
        )
    from huggingface_hub import snapshot_download

    reachable = hub_reachable()
    if reachable:
        announce("the model folder", model, constants.ENDPOINT)
    patterns = ["*.json", "*.safetensors", "README.md", "text_encoder/*"]
    try:
        # Without an answer from the hub only its cache is asked, which fails at once instead of retrying.
        return Path(snapshot_download(model, allow_patterns=patterns, local_files_only=not reachable))
    except Exception as error:
        raise ValueError(
            f"{model} is not a folder here and could not be fetched from the Hub ({type(error).__name__}): "
            "check the path or the id"
        ) from None


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
