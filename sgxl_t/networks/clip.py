"""CLIP: captions and pictures as unit vectors in one space, from open_clip or trained locally."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgxl_t.networks.hub import fetching
from sgxl_t.networks.local_networks import LOCAL_KINDS, MEAN, STD, SmallCNN, SmallViT
from sgxl_t.networks.stored import (
    CONFIG,
    RESTORE,
    dataclass_from,
    load_strict,
    read_config,
    read_tensors,
    write_stored,
)
from sgxl_t.networks.vocabulary import WordTokenizer

Tokenizer = Callable[[Sequence[str]], Tensor]
_NOT_TEXT = ("visual.", "logit_")
_LIMITS = {"embed_dim": 4096, "context_length": 512, "vocab_size": 300_000, "width": 4096, "layers": 64}


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """Sizes of a CLIP text transformer; the fields are open_clip's."""

    embed_dim: int = 64
    """Width of the space shared with pictures."""
    context_length: int = 77
    """Tokens per caption."""
    vocab_size: int = 49408
    """Different tokens."""
    width: int = 64
    """Width of a token."""
    heads: int = 4
    """Attention heads."""
    layers: int = 2
    """Transformer blocks."""
    quick_gelu: bool = False
    """x sigmoid(1.702 x) instead of GELU, as OpenAI's weights were trained."""

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= limit:
                raise ValueError(f"{name}={value} of a text tower must be a whole number from 1 to {limit}")
        if not isinstance(self.heads, int) or self.heads < 1 or self.width % self.heads:
            raise ValueError(f"heads={self.heads} of a text tower must divide its width={self.width}")


class ClipModel(nn.Module):
    """Two towers, or the text tower alone, behind captions and pictures in [0, 1].

    dim: width of the shared space. image_size: side of the pictures the image tower takes, in pixels.
    model: an open_clip.CLIP whose `visual` is the image tower, or None. tokenizer: captions to int64 [N, L].
    Frozen and in eval mode as loaded; the text tower learns once its parameters take gradients again.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        text_config: TextTowerConfig,
        *,
        image_size: int = 0,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.text_config = text_config
        self.dim = text_config.embed_dim
        self.image_size = image_size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def has_image_tower(self) -> bool:
        """Whether pictures can be encoded."""
        return getattr(self.model, "visual", None) is not None

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Captions to unit vectors [N, dim]. Callers that repeat captions keep the result."""
        tokens = self.tokenizer(list(texts)).to(self.mean.device)
        return self.encode_tokens(tokens)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [N, context_length] to unit vectors [N, dim], float32."""
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1)  # type: ignore[operator]

    def encode_image(self, images01: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] in [0, 1], resized (bicubic) and normalised, to unit vectors [N, dim]."""
        if not self.has_image_tower:
            raise ValueError("this CLIP was stored without its image tower: load the reference it came from")
        if images01.shape[-2:] != (self.image_size, self.image_size):
            images01 = F.interpolate(
                images01, size=(self.image_size, self.image_size), mode="bicubic", align_corners=False
            )
        features = self.model.encode_image((images01 - self.mean) / self.std)  # type: ignore[operator]
        return F.normalize(features.float(), dim=-1)

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Words that a local vocabulary lacks; always empty for pretrained towers, which spell words out."""
        return self.tokenizer.unknown_words(texts) if isinstance(self.tokenizer, WordTokenizer) else []

    def text_parameters(self) -> list[nn.Parameter]:
        """Parameters of the text tower, its embeddings and projection."""
        return [value for name, value in self.model.named_parameters() if not name.startswith(_NOT_TEXT)]

    def text_copy(self) -> ClipModel:
        """An independent copy of the text tower alone."""
        model: Any = self.model
        kept = model.visual, model.logit_scale
        model.visual = model.logit_scale = None
        try:
            tower = copy.deepcopy(model)
        finally:
            model.visual, model.logit_scale = kept
        return ClipModel(tower, self.tokenizer, self.text_config).to(self.mean.device)

    def save_text(self, folder: Path | str) -> None:
        """Writes the text tower alone: config.json, model.safetensors and, when local, vocabulary.json."""
        tensors = self.model.state_dict()
        tensors = {name: value for name, value in tensors.items() if not name.startswith(_NOT_TEXT)}
        self._write(Path(folder), {"kind": "text"}, tensors)

    def save(self, folder: Path | str, meta: dict[str, Any] | None = None) -> None:
        """Writes a local CLIP whole. meta: how it was trained."""
        image = self.model.visual
        assert isinstance(image, SmallCNN | SmallViT), "only local towers are stored whole"
        described = {"kind": image.kind, "config": asdict(image.config)}
        self._write(
            Path(folder), {"kind": "clip", "image": described, "meta": meta or {}}, self.model.state_dict()
        )

    def _write(self, folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        words = isinstance(self.tokenizer, WordTokenizer)
        config = {
            "format": 1,
            **config,
            "tokenizer": "words" if words else "bpe",
            "text": asdict(self.text_config),
        }
        write_stored(folder, config, tensors)
        if isinstance(self.tokenizer, WordTokenizer):
            self.tokenizer.save(folder)


def local_clip(text: TextTowerConfig, tokenizer: Tokenizer, image: SmallCNN | SmallViT | None) -> ClipModel:
    """A new CLIP of open_clip's class with a small image tower of ours (or none) in its place; trainable.

    image: its projection must have the width of the shared space.
    """
    fields = asdict(text)
    embed_dim, quick_gelu = fields.pop("embed_dim"), fields.pop("quick_gelu")
    # open_clip always builds an image tower; this one is as small as it gets and replaced at once.
    stand_in = {"layers": 1, "width": 8, "head_width": 8, "image_size": 4, "patch_size": 4}
    model = open_clip.CLIP(embed_dim, stand_in, fields, quick_gelu=quick_gelu)
    model.visual = image
    if image is None:
        model.logit_scale = None
    return ClipModel(model, tokenizer, text, image_size=image.input_size if image is not None else 0)


def load_clip(reference: str, *, text_only: bool = False) -> ClipModel:
    """A CLIP by reference, frozen and in eval mode: `open_clip:MODEL/TAG` or `local:FOLDER`.

    text_only: without the image tower. ValueError in one sentence when it is unknown, cannot be fetched, or
    its folder is broken or holds a text tower alone where both are asked for.
    """
    kind, _, name = reference.partition(":")
    if kind == "local" and name:
        clip = _load_local(Path(name), text_only)
    elif kind == "open_clip" and name:
        clip = _load_open_clip(reference, name, text_only)
    else:
        raise ValueError(f"{reference!r} names no CLIP: write open_clip:MODEL/TAG or local:FOLDER")
    return clip.eval().requires_grad_(False)


def _load_local(folder: Path, text_only: bool) -> ClipModel:
    stored = read_config(folder)
    if stored["kind"] not in ("clip", "text"):
        raise ValueError(
            f"{folder} holds a local {stored['kind']}, not a CLIP: name a folder such as {folder.parent}/clip"
        )
    if stored["kind"] == "text" and not text_only:
        raise ValueError(f"{folder} holds a text tower alone: name the folder of the whole CLIP")
    text = dataclass_from(TextTowerConfig, stored.get("text"), folder / CONFIG)
    if stored.get("tokenizer") not in ("words", "bpe"):
        raise ValueError(f"{folder / CONFIG} names no known tokenizer (words, bpe): {RESTORE}")
    bpe = stored["tokenizer"] == "bpe"
    tokenizer: Any = (
        open_clip.SimpleTokenizer(context_length=text.context_length) if bpe else WordTokenizer.load(folder)
    )
    if (tokenizer.vocab_size, tokenizer.context_length) != (text.vocab_size, text.context_length):
        raise ValueError(
            f"{folder}: the vocabulary has {tokenizer.vocab_size} tokens in captions of "
            f"{tokenizer.context_length}, the tower {text.vocab_size} in {text.context_length}: {RESTORE}"
        )
    tensors = read_tensors(folder)
    if text_only:
        tensors = {name: value for name, value in tensors.items() if not name.startswith(_NOT_TEXT)}
        clip = local_clip(text, tokenizer, None)
    else:
        clip = local_clip(text, tokenizer, _image_tower(stored.get("image"), text.embed_dim, folder))
    load_strict(clip.model, tensors, folder)
    return clip


def _image_tower(stored: Any, dim: int, folder: Path) -> SmallCNN | SmallViT:
    kind = stored.get("kind") if isinstance(stored, dict) else None
    if kind not in LOCAL_KINDS:
        raise ValueError(
            f"{folder / CONFIG} describes no image tower of kind {', '.join(LOCAL_KINDS)}: {RESTORE}"
        )
    config_class, network_class = LOCAL_KINDS[kind]
    config: Any = dataclass_from(config_class, stored.get("config"), folder / CONFIG)
    if config.projection != dim:
        raise ValueError(
            f"{folder / CONFIG}: the image tower projects to {config.projection} numbers, the text tower to "
            f"{dim}: {RESTORE}"
        )
    return network_class(config)


def _load_open_clip(reference: str, name: str, text_only: bool) -> ClipModel:
    model_name, _, tag = name.rpartition("/")
    text = open_clip_text_config(model_name, tag)
    with fetching(reference):
        # The tag knows which activation its weights were trained with; the model name alone does not.
        model = open_clip.create_model(model_name, pretrained=tag, force_quick_gelu=text.quick_gelu)
    visual = model.visual
    size = visual.image_size[0] if isinstance(visual.image_size, tuple | list) else visual.image_size
    mean, std = visual.image_mean, visual.image_std
    tokenizer = open_clip.SimpleTokenizer(context_length=text.context_length)
    if text_only:
        model.visual, model.logit_scale = None, None
    return ClipModel(model, tokenizer, text, image_size=0 if text_only else size, mean=mean, std=std)


def open_clip_text_config(model_name: str, tag: str) -> TextTowerConfig:
    """Sizes and activation of the text tower of open_clip's MODEL with the weights TAG.

    ValueError for names open_clip lacks, and for text towers that are not its own transformer.
    """
    known = open_clip.list_models()
    if model_name not in known:
        near = difflib.get_close_matches(model_name or tag, known, 3) or ["ViT-L-14", "ViT-B-32"]
        raise ValueError(
            f"open_clip has no model {model_name!r}: write open_clip:MODEL/TAG, near are {', '.join(near)}"
        )
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if tag not in tags:
        raise ValueError(
            f"open_clip has no weights {tag!r} of {model_name}: use one of {', '.join(tags) or 'none'}"
        )
    config = open_clip.get_model_config(model_name)
    text = dict(config["text_cfg"])
    try:
        quick = bool(
            config.get("quick_gelu") or open_clip.get_pretrained_cfg(model_name, tag).get("quick_gelu")
        )
        if config.get("custom_text"):
            raise TypeError
        return TextTowerConfig(embed_dim=config["embed_dim"], quick_gelu=quick, **text)
    except TypeError:
        raise ValueError(
            f"open_clip:{model_name}/{tag} has a text tower of another make, which is not supported: "
            "use a plain CLIP such as open_clip:ViT-L-14/openai"
        ) from None
