"""open_clip's pretrained models by name and tag, with the text tower, tokenizer and activation of each."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from sgxl_t.files.memory import is_out_of_memory
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import Value
from sgxl_t.networks.backbones.local_networks import MEAN, STD
from sgxl_t.networks.text.clip import ClipModel, Tokenizer, without_image
from sgxl_t.networks.text.full_captions import FullCaptions
from sgxl_t.networks.text.text_tower import TextTowerConfig
from sgxl_t.networks.text.transformers_files import check_files
from sgxl_t.networks.weights.hub import HubFiles, Weights, fetch, sizes_from_cache
from sgxl_t.networks.weights.stored import load_fitting, write_stored
from sgxl_t.networks.weights.stored_tensors import check_room

TOKENIZER = "tokenizer"
WEIGHTS = "open_clip_model.safetensors"
STAND_IN = {"layers": 1, "width": 8, "head_width": 8, "image_size": 4, "patch_size": 4}
"""open_clip always builds an image tower; this one is as small as it gets, where none belongs."""


class OpenClipModel(ClipModel):
    """A model that open_clip builds, whatever its text tower is: its own transformers or those of a hub.

    name: open_clip's name of the model. quick_gelu: whether its weights were trained with QuickGELU.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        name: str,
        *,
        quick_gelu: bool,
        image_size: int = 0,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        config = open_clip.get_model_config(name)
        super().__init__(
            model,
            tokenizer,
            plain_text_config(config, quick_gelu),
            dim=config["embed_dim"],
            image_size=image_size,
            mean=mean,
            std=std,
        )
        self.name, self.quick_gelu = name, quick_gelu

    def write_text(self, folder: Path) -> None:
        """A plain CLIP as every other; else open_clip's name of it, the weights and a hub's tokenizer."""
        if self.text_config is not None:
            super().write_text(folder)
            return
        about = {"model": self.name, "quick_gelu": self.quick_gelu}
        write_stored(folder, {"format": 1, "kind": "open_clip", **about}, self.text_tensors())
        if isinstance(self.tokenizer, open_clip.tokenizer.HFTokenizer):
            self.tokenizer.save_pretrained(str(folder / TOKENIZER))


def load_open_clip(
    reference: str, *, text_only: bool = False, folder: Path | None = None, weights: Weights = "pretrained"
) -> OpenClipModel:
    """`open_clip:MODEL/TAG` from the hub or its cache.

    folder: takes WEIGHTS from there instead, and the tokenizer where it holds tokenizer.json.
    ValueError in one sentence for names open_clip lacks and for files that cannot be had.
    """
    name, _, tag = reference.partition(":")[2].rpartition("/")
    config, quick_gelu = check_open_clip(name, tag)
    tokenizer = _tokenizer(reference, name, config, folder, weights)
    model: Any
    if weights == "none":
        with sizes_from_cache(reference):
            model = open_clip.create_model(
                name, load_weights=False, pretrained_text=False, force_quick_gelu=quick_gelu
            )
    elif folder is None:
        # The tag knows which activation its weights were trained with; the model name alone does not.
        model = fetch(
            reference, lambda: open_clip.create_model(name, pretrained=tag, force_quick_gelu=quick_gelu)
        )
    else:
        model = _placed(reference, quick_gelu, folder / WEIGHTS)
    visual = model.visual
    size = visual.image_size[0] if isinstance(visual.image_size, tuple | list) else visual.image_size
    clip = OpenClipModel(
        without_image(model) if text_only else model,
        tokenizer,
        name,
        quick_gelu=quick_gelu,
        image_size=0 if text_only else size,
        mean=visual.image_mean,
        std=visual.image_std,
    )
    clip.reference = reference if folder is None else None
    return clip


def load_open_clip_text(folder: Path, stored: Value, weights: Weights = "pretrained") -> OpenClipModel:
    """The text tower that `OpenClipModel.write_text` stored."""
    name, quick_gelu = stored["model"].text(), stored["quick_gelu"].boolean()
    if name not in open_clip.list_models():
        raise stored["model"].error(f"names no model of open_clip ({visible(name)[:60]})")
    config = open_clip.get_model_config(name)
    place = folder / TOKENIZER
    tokenizer = _tokenizer(f"open_clip:{name}", name, config, place if place.is_dir() else None, weights)
    files = "the description of the text tower"

    def build() -> nn.Module:
        model = fetch(f"open_clip:{name}", lambda: _untrained(name, quick_gelu), files=files)
        return without_image(model)

    return OpenClipModel(load_fitting(build, folder, weights=weights), tokenizer, name, quick_gelu=quick_gelu)


def _untrained(name: str, quick_gelu: bool) -> Any:
    """The model with fresh weights and the smallest of image towers."""
    return open_clip.create_model(
        name,
        load_weights=False,
        pretrained_text=False,
        force_quick_gelu=quick_gelu,
        vision_cfg=dict(STAND_IN),
        device=torch.get_default_device(),
    )


def _placed(reference: str, quick_gelu: bool, weights: Path) -> Any:
    """The model with weights from a file, after a look at whether they can be all of it."""
    name, _, tag = reference.partition(":")[2].rpartition("/")
    way_out = f"place the {WEIGHTS} of {reference} there"

    def planned() -> Any:
        return open_clip.create_model(name, load_weights=False, pretrained_text=False, device="meta")

    with torch.device("meta"):
        plan = fetch(reference, planned, files="the description of the text tower")
    check_room(sum(value.numel() for value in plan.parameters()), [weights], reference, way_out)
    cfg = open_clip.get_pretrained_cfg(name, tag)
    preprocess = {key: cfg[key] for key in ("mean", "std") if key in cfg}
    try:
        return open_clip.create_model(
            name, pretrained=str(weights), force_quick_gelu=quick_gelu, force_preprocess_cfg=preprocess
        )
    except Exception as error:  # the library's own kinds, for tensors that are missing or misshapen
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{weights} is not what {reference} needs: {way_out}") from error


def check_open_clip(name: str, tag: str) -> tuple[dict[str, Any], bool]:
    """open_clip's description of MODEL, and whether the weights TAG want QuickGELU; ValueError for others."""
    known = open_clip.list_models()
    if name not in known:
        near = difflib.get_close_matches(name or tag, known, 3) or ["ViT-L-14", "ViT-B-32"]
        raise ValueError(
            f"open_clip has no model {name!r}: write open_clip:MODEL/TAG, near are {', '.join(near)}"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise ValueError(
            f"open_clip has no weights {tag!r} of {name}: use one of {', '.join(tags) or 'none'}"
        )
    config = open_clip.get_model_config(name)
    quick = bool(config.get("quick_gelu") or open_clip.get_pretrained_cfg(name, tag).get("quick_gelu"))
    return config, quick


def open_clip_files(name: str) -> HubFiles | None:
    """Where the hub has the weights of open_clip:MODEL/TAG; None for other names, and for weights from
    elsewhere."""
    model, _, tag = name.rpartition("/")
    repository, _, file = open_clip.get_pretrained_cfg(model, tag).get("hf_hub", "").rpartition("/")
    return HubFiles(repository, (WEIGHTS, file or "open_clip_pytorch_model.bin")) if repository else None


def plain_text_config(config: dict[str, Any], quick_gelu: bool) -> TextTowerConfig | None:
    """Sizes of the text tower of a plain CLIP, from open_clip's description; None for every other make."""
    if config.get("custom_text") or "multimodal_cfg" in config:
        return None
    try:
        return TextTowerConfig(embed_dim=config["embed_dim"], quick_gelu=quick_gelu, **config["text_cfg"])
    except TypeError:  # it has settings that a plain tower lacks
        return None


def open_clip_text_config(name: str, tag: str) -> TextTowerConfig | None:
    """Sizes and activation of the text tower of MODEL with the weights TAG; None for other makes."""
    return plain_text_config(*check_open_clip(name, tag))


def _tokenizer(
    reference: str, name: str, config: dict[str, Any], folder: Path | None, weights: Weights
) -> Any:
    """The tokenizer that the model was trained with. folder: holds the files of one that a hub offers, which
    a model without weights does not need."""
    text = config["text_cfg"]
    source = text.get("hf_tokenizer_name")
    context_length = text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
    if not source:
        return open_clip.SimpleTokenizer(context_length=context_length, **text.get("tokenizer_kwargs", {}))
    if weights == "none":
        return FullCaptions(context_length)
    placed = folder is not None and (folder / "tokenizer.json").is_file()
    if placed and folder is not None:
        check_files(folder, f"place the tokenizer's files of {source} there")
    way_out = f"place the folder of {source} with its tokenizer.json in the hub's cache"

    def load() -> Any:
        return open_clip.tokenizer.HFTokenizer(
            str(folder) if placed else source,
            context_length=context_length,
            tokenizer_mode=text.get("tokenizer_mode"),
            trust_remote_code=False,
            **text.get("tokenizer_kwargs", {}),
        )

    return fetch(reference, load, files="tokenizer files", way_out=way_out)
