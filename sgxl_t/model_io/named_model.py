"""Models by name: folders, the models that ship in the package, and the Hugging Face Hub."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from huggingface_hub import constants

from sgxl_t.networks.weights.hub import announce, hub_reachable

HUB_ID = r"[\w-][\w.-]{0,95}/[\w.-]{1,96}"
DEMO_MODEL, DEMO_CLASS_MODEL = "demo_text", "demo_class"
"""The packaged models that commands take where none is named: the second where classes are asked for."""


def named_folder(model: str | Path) -> Path:
    """The folder that a name stands for: one that is there, a packaged model, or a local copy of a Hub
    repository; ValueError where there is none."""
    if Path(model).exists():
        return Path(model)
    return packaged_model(str(model)) or hub_folder(str(model))


def packaged_model(name: str) -> Path | None:
    """The model of the package by its name, demo_text or demo/text; None for all others."""
    folder = Path(str(resources.files("sgxl_t") / "assets")) / name.replace("/", "_")
    plain = re.fullmatch(r"\w+(/\w+)?", name) is not None
    return folder if plain and (folder / "config.json").is_file() else None


def hub_folder(model: str) -> Path:
    """Local copy of a Hub repository that holds a model folder; ValueError when there is none."""
    if not re.fullmatch(HUB_ID, model):
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
