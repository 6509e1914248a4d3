"""CLIP: captions and pictures as unit vectors in one space, from open_clip or trained locally."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgxl_t.files.config_json import config_from_value
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import Value
from sgxl_t.networks.backbones.fused_attention import fuse_attention
from sgxl_t.networks.backbones.local_networks import LOCAL_KINDS, MEAN, STD, SmallCNN, SmallViT, local_config
from sgxl_t.networks.backbones.precision import Precision, reading
from sgxl_t.networks.text.text_encoder import TextEncoder
from sgxl_t.networks.text.text_tower import ClipNetwork, TextTowerConfig
from sgxl_t.networks.text.tokens import TextTokens, leading
from sgxl_t.networks.text.vocab import WordTokenizer
from sgxl_t.networks.weights.hub import Weights
from sgxl_t.networks.weights.modest import is_modest
from sgxl_t.networks.weights.stored import RESTORE, load_fitting, read_config, write_stored

NOT_TEXT = ("visual", "logit_scale", "logit_bias", "text_decoder")
"""What a CLIP (or CoCa) holds beside its text tower."""


class Tokenizer(Protocol):
    """Captions to token numbers, as all tokenizers of open_clip give them and that of words."""

    @property
    def context_length(self) -> Any:
        """Tokens per caption."""

    def __call__(self, texts: list[str], context_length: int | None = None, /) -> Tensor:
        """int64 [N, context_length]; none takes its own."""


class ClipModel(TextEncoder):
    """Two towers, or the text tower alone, behind captions and pictures in [0, 1].

    dim: width of the shared space. image_size: side of the pictures the image tower takes, in pixels.
    model: an open_clip model whose `visual` is the image tower, or None. tokenizer: captions to int64 [N, L].
    text_config: sizes of a plain CLIP text tower, None for another make.
    precision: of the image tower's products (see `precision.py` of the backbones); texts follow the launch.
    Frozen and in eval mode as loaded; the text tower learns once its parameters take gradients again.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        text_config: TextTowerConfig | None,
        *,
        dim: int,
        image_size: int = 0,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        super().__init__()
        self.model = model
        if isinstance(getattr(model, "visual", None), nn.Module):
            fuse_attention(model.visual)  # type: ignore[arg-type]
        self.tokenizer = tokenizer
        self.text_config = text_config
        self.dim = dim
        self.image_size = image_size
        self.precision: Precision = "auto"
        # open_clip's wrappers of other libraries' towers have no such table and show no tokens.
        table = getattr(getattr(model, "text", model), "token_embedding", None)
        self.token_dim = table.embedding_dim if isinstance(table, nn.Embedding) else 0
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def has_image_tower(self) -> bool:
        """Whether images can be encoded."""
        return getattr(self.model, "visual", None) is not None

    @property
    def guide(self) -> ClipModel | None:
        """This model itself where it has an image tower, else None."""
        return self if self.has_image_tower else None

    def tokenize(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """See `TextEncoder.tokenize`."""
        return self.tokenizer(list(texts), context_length)

    @property
    def context_length(self) -> int:
        """See `TextEncoder.context_length`."""
        return self.tokenizer.context_length

    def _end(self, text: str) -> str:
        # To a vocabulary of words all words that it lacks are the same one, so tokens do not tell them apart.
        return self.tokenizer.end(text) if isinstance(self.tokenizer, WordTokenizer) else super()._end(text)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder.encode_text`."""
        return self.encode_tokens(self.tokenize(texts).to(self.mean.device, non_blocking=True))

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [N, context_length] to unit vectors [N, dim], float32."""
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1)  # type: ignore[operator]

    def encode_with_tokens(self, texts: Sequence[str]) -> tuple[Tensor, TextTokens]:
        """See `TextEncoder.encode_with_tokens`."""
        ids = self.tokenize(texts).to(self.mean.device, non_blocking=True)
        states = self.model.forward_intermediates(  # type: ignore[operator]
            text=ids, text_indices=1, normalize_intermediates=True
        )
        tokens = TextTokens(states["text_intermediates"][-1].float(), leading(ids, self._lengths(ids)))
        return F.normalize(states["text_features"].float(), dim=-1), tokens

    def _lengths(self, ids: Tensor) -> Tensor:
        """Tokens [N] of captions without their padding."""
        hub = getattr(self.tokenizer, "tokenizer", None)
        padding = getattr(hub, "pad_token_id", None)
        if padding is None:  # CLIP's own tokenizers, whose end token has the largest number
            return ids.argmax(dim=1) + 1
        # The first place of padding counts: some towers end captions with the token that pads.
        return (ids != padding).sum(dim=1) + 1

    def encode_image(self, images01: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [0, 1], resized (bicubic) and normalised, to unit vectors [N, dim]."""
        if not self.has_image_tower:
            raise ValueError("this CLIP was stored without its image tower: load the reference it came from")
        if images01.shape[-2:] != (self.image_size, self.image_size):
            images01 = F.interpolate(
                images01, size=(self.image_size, self.image_size), mode="bicubic", align_corners=False
            )
        with reading(self.precision, images01.device):
            features = self.model.encode_image((images01 - self.mean) / self.std)  # type: ignore[operator]
        return F.normalize(features.float(), dim=-1)

    def unknown_words(self, texts: Sequence[str]) -> dict[str, str]:
        """See `TextEncoder.unknown_words`; near are words that are spelled alike. None where the tokenizer
        has no vocabulary of whole words."""
        if not isinstance(self.tokenizer, WordTokenizer):
            return {}
        known = self.tokenizer.words
        near = {word: get_close_matches(word, known, 1, 0.8) for word in self.tokenizer.unknown_words(texts)}
        return {word: f"nearest: {found[0]}" if found else "" for word, found in near.items()}

    def text_parameters(self) -> list[nn.Parameter]:
        """See `TextEncoder.text_parameters`."""
        return [value for name, value in self.model.named_parameters() if _of_text(name)]

    def text_tensors(self) -> dict[str, Tensor]:
        """The stored tensors of the text tower by name."""
        return {name: value for name, value in self.model.state_dict().items() if _of_text(name)}

    def text_copy(self) -> ClipModel:
        """See `TextEncoder.text_copy`."""
        beside = (getattr(self.model, name, None) for name in NOT_TEXT)
        # deepcopy takes what it finds in its memo: None for all parts but text, and the tokenizer itself.
        memo: dict[int, Any] = {id(part): None for part in beside if part is not None}
        tower = copy.deepcopy(self, memo | {id(self.tokenizer): self.tokenizer})
        tower.image_size, tower.reference, tower._hash = 0, None, None
        return tower

    def write_text(self, folder: Path) -> None:
        """Writes config.json, model.safetensors and, when local, vocabulary.json."""
        self._write(folder, {"kind": "text"}, self.text_tensors())

    def save(self, folder: Path | str, meta: dict[str, Any] | None = None) -> None:
        """Writes a local CLIP whole. meta: how it was trained."""
        image = self.model.visual
        assert isinstance(image, SmallCNN | SmallViT), "only local towers are stored whole"
        described = {"kind": image.kind, "config": asdict(image.config)}
        self._write(
            Path(folder), {"kind": "clip", "image": described, "meta": meta or {}}, self.model.state_dict()
        )

    def _write(self, folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        assert self.text_config is not None
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


def without_image(model: Any) -> Any:
    """The same open_clip model, left with its text tower alone."""
    for name in NOT_TEXT:
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
    return model


def _of_text(name: str) -> bool:
    return name.partition(".")[0] not in NOT_TEXT


def local_clip(text: TextTowerConfig, tokenizer: Tokenizer, image: SmallCNN | SmallViT | None) -> ClipModel:
    """A new CLIP with a small image tower, or none; trainable.

    image: its projection must have the width of the shared space.
    """
    side = image.input_size if image is not None else 0
    return ClipModel(ClipNetwork(text, image), tokenizer, text, dim=text.embed_dim, image_size=side)


def load_local_clip(folder: Path, *, text_only: bool = False, weights: Weights = "pretrained") -> ClipModel:
    """A CLIP that `ClipModel.save` or `write_text` stored; ValueError in one sentence for anything else.

    text_only: without the image tower; needed where the folder holds none.
    """
    stored = read_config(folder)
    kind = stored["kind"].text()
    if kind not in ("clip", "text"):
        raise ValueError(
            f"{folder} holds a local {visible(kind)}, not a CLIP: name a folder such as {folder.parent}/clip"
        )
    if kind == "text" and not text_only:
        raise ValueError(f"{folder} holds a text tower alone: name the folder of the whole CLIP")
    text = config_from_value(TextTowerConfig, stored["text"])
    tokenizer = _stored_tokenizer(stored["tokenizer"], text, folder)
    image = None if text_only else stored["image"]

    def build() -> ClipModel:
        return local_clip(text, tokenizer, None if image is None else _image_tower(image, text.embed_dim))

    wanted, modest = (_of_text, is_modest(asdict(text))) if text_only else (None, False)
    return load_fitting(build, folder, part="model", wanted=wanted, weights=weights, modest=modest)


def _stored_tokenizer(name: Value, text: TextTowerConfig, folder: Path) -> Any:
    """The tokenizer that a folder names, which must give what the tower takes."""
    if name.raw not in ("words", "bpe"):
        raise name.error("names no known tokenizer (words, bpe)")
    tokenizer = _pairs_tokenizer(text) if name.raw == "bpe" else WordTokenizer.load(folder)
    if (tokenizer.vocab_size, tokenizer.context_length) != (text.vocab_size, text.context_length):
        raise ValueError(
            f"{folder}: the vocabulary has {tokenizer.vocab_size} tokens in captions of "
            f"{tokenizer.context_length}, the tower {text.vocab_size} in {text.context_length}: {RESTORE}"
        )
    return tokenizer


def _pairs_tokenizer(text: TextTowerConfig) -> Any:
    """CLIP's own tokenizer, of byte pairs."""
    import open_clip  # takes seconds, and towers with a vocabulary of words do without

    return open_clip.SimpleTokenizer(context_length=text.context_length)


def _image_tower(stored: Value, dim: int) -> SmallCNN | SmallViT:
    kind = stored["kind"].text()
    if kind not in LOCAL_KINDS:
        raise stored["kind"].error(f"describes no image tower of kind {', '.join(LOCAL_KINDS)}")
    config, network_class = local_config(kind, stored["config"])
    if config.projection != dim:
        raise stored.error(f"projects to {config.projection} numbers, the text tower to {dim}")
    return network_class(config)
