"""Frozen networks that read images: discriminators, class tables and guidance look through them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import open_clip
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sgxl_t.networks.backbones.folding import fold_batch_norms
from sgxl_t.networks.backbones.image_backbones import ImageBackbone, backbone_of
from sgxl_t.networks.backbones.local_networks import (
    SmallCNN,
    SmallCNNConfig,
    SmallViT,
    SmallViTConfig,
    load_local,
)
from sgxl_t.networks.backbones.precision import Precision, as_outside, reading
from sgxl_t.networks.backbones.trimming import trim_backbone
from sgxl_t.networks.weights.hub import HubFiles, Weights, fetch, sizes_from_cache
from sgxl_t.networks.weights.packaged import OF_TIMM, read_in_order, timm_weights

EXAMPLE_SIDE = 64
"""Pixels of the image by which a CNN's layers are followed."""
RANDOM_SEED = 0
"""Seed of `random:` weights, so that every process and every resumed run has the same ones."""


class FeatureNetwork(nn.Module):
    """A frozen network that turns images in [0, 1] into features; gradients flow to the images only.

    It normalises images itself and stays frozen and in eval mode whatever is asked.
    reference: what it was loaded from. kind: "cnn" or "vit". channels: of the four maps, shallow to deep.
    input_size: side it was trained on, or none. fixed_size: whether it takes no other side.
    embed_dim: width of the pooled features. has_logits: whether it has a classifier.
    precision: of its products (see `precision.py`); features leave it as what follows computes.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        reference: str,
        model: nn.Module,
        *,
        input_size: int | None = None,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        """model: a timm network, an open_clip image tower, a local network or an `ImageBackbone`.

        mean, std: per colour channel, of images in [0, 1]. ValueError where the network offers no features.
        """
        super().__init__()
        self.reference = reference
        self.backbone: ImageBackbone = backbone_of(model)
        self.kind: Literal["cnn", "vit"] = self.backbone.kind
        self.channels, self.embed_dim = self.backbone.channels, self.backbone.embed_dim
        self.fixed_size, self.has_logits = self.backbone.fixed_size, self.backbone.has_logits
        self.input_size = input_size
        self.precision: Precision = "auto"
        self.trimmed = False
        self.depthwise = any(isinstance(part, nn.Conv2d) and part.groups > 1 for part in model.modules())
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()
        if self.kind == "cnn":
            self.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> FeatureNetwork:
        """Stays in eval mode: the features must not move."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> FeatureNetwork:
        """Stays frozen."""
        return super().requires_grad_(False)

    def forward(self, images01: Tensor) -> list[Tensor]:
        """Same as `maps`."""
        return self.maps(images01)

    def maps(self, images01: Tensor) -> list[Tensor]:
        """images01 [N, 3, H, W] in [0, 1] -> four maps [N, C_l, H_l, W_l], shallow to deep.

        Nothing is resized; the network runs to its last tapped block only. A transformer gives the patch
        tokens at the ends of its four quarters, all on one grid.
        """
        with self.reading(images01):
            maps = self.backbone.maps(self.normalise(images01))
        return [as_outside(x, images01) for x in maps]

    def tokens(self, images01: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """images01 [N, 3, H, W] in [0, 1] -> [N, 1 + L, C] of every tapped block, then the embedded patches.

        Raw block outputs, class token first (distillation and register tokens are dropped). ValueError for a
        CNN and for taps outside 0 to depth - 1.
        """
        if self.kind != "vit":
            raise ValueError(
                f"features {self.reference} is a CNN and has no tokens: name a vision transformer"
            )
        with self.reading(images01):
            tokens = self.backbone.tokens(self.normalise(images01), taps)
        return [as_outside(x, images01) for x in tokens]

    def pooled(self, images01: Tensor) -> Tensor:
        """images01 [N, 3, H, W] in [0, 1], any size -> [N, embed_dim]."""
        self._check_whole()
        with self.reading(images01):
            pooled = self.backbone.pooled(self.normalise(self.fit(images01)))
        return as_outside(pooled, images01)

    def logits(self, images01: Tensor) -> Tensor:
        """images01 [N, 3, H, W] in [0, 1], any size -> class scores [N, classes].

        ValueError where the network has no classifier.
        """
        self._check_whole()
        if not self.has_logits:
            raise ValueError(
                f"features {self.reference} has no classifier: name a network that was trained with labels"
            )
        with self.reading(images01):
            logits = self.backbone.logits(self.normalise(self.fit(images01)))
        return as_outside(logits, images01)

    def trim(self, taps: Sequence[int] | None = None) -> None:
        """Drops what `tokens` at these taps (none: what `maps`) never runs; `pooled` and `logits` go with it.
        A CNN's batch norms become part of its convolutions.

        For a network of a discriminator's own; others that read the same weights load them anew.
        """
        trim_backbone(self.backbone, taps)
        if self.kind == "cnn" and not self.mean.is_meta:
            rng = torch.Generator().manual_seed(0)
            example = torch.rand(1, 3, EXAMPLE_SIDE, EXAMPLE_SIDE, generator=rng).to(self.mean)
            fold_batch_norms(self.backbone, lambda: self.backbone.maps(self.normalise(example)))
        self.trimmed, self.has_logits = True, False

    def _check_whole(self) -> None:
        if self.trimmed:
            raise ValueError(
                f"features {self.reference} were left with what a discriminator looks through: "
                "load them anew for pooled features or class scores"
            )

    def reading(self, images: Tensor) -> AbstractContextManager[object]:
        """Context of this network's precision."""
        return reading(self.precision, images.device, depthwise=self.depthwise)

    def normalise(self, images01: Tensor) -> Tensor:
        """Subtracts the mean and divides by the standard deviation the network was trained with."""
        x = (images01 - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last) if self.kind == "cnn" else x

    def fit(self, images: Tensor) -> Tensor:
        """images resized to input_size where the network has one."""
        return images if self.input_size is None else resize(images, self.input_size)


def resize(images: Tensor, side: int) -> Tensor:
    """images [N, C, H, W] -> [N, C, side, side], bilinear without antialiasing (StyleGAN-XL's rule)."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def load_timm(reference: str, name: str, weights: Weights) -> FeatureNetwork:
    """timm:NAME[.TAG], pretrained by timm."""
    _check_timm_name(reference, name)
    if weights == "none":
        return _from_timm(reference, timm.create_model(name, pretrained=False))
    base, _, tag = name.partition(".")
    tags = [entry.partition(".")[2] for entry in timm.list_pretrained(f"{base}.*")]
    if not tags or (tag and tag not in tags):
        raise ValueError(
            f"{reference} names no pretrained weights of timm: use one of the tags "
            f"{', '.join(sorted(tags)) or '(none for this network)'}, or random:{base}"
        )
    known = timm.get_pretrained_cfg(name)
    files, file = timm_files(name), timm_weights(_tagged(name))
    if file is not None and not (files is not None and files.cached()):
        model = timm.create_model(name, pretrained=False)
        model.load_state_dict(read_in_order(file, model.state_dict()))
        return _from_timm(reference, model)
    address = None if known is None or known.hf_hub_id else str(known.url)
    model = fetch(reference, lambda: timm.create_model(name, pretrained=True), address=address)
    return _from_timm(reference, model)


def timm_package(name: str) -> str | None:
    """The installed package that holds the weights of timm:NAME[.TAG]; None where there is none."""
    tagged = _tagged(name)
    return None if timm_weights(tagged) is None else OF_TIMM[tagged]


def _tagged(name: str) -> str:
    """timm's NAME with the TAG that it stands for where it has none."""
    base, _, tag = name.partition(".")
    known = timm.get_pretrained_cfg(name) if timm.is_model(base) else None
    return name if tag or known is None else f"{base}.{known.tag}"


def timm_files(name: str) -> HubFiles | None:
    """Where the hub has the weights of timm:NAME; None for other names, and for weights from elsewhere."""
    known = timm.get_pretrained_cfg(name) if timm.is_model(name.partition(".")[0]) else None
    if known is None or not known.hf_hub_id:
        return None
    file = known.hf_hub_filename or "pytorch_model.bin"
    return HubFiles(known.hf_hub_id.partition("@")[0], ("model.safetensors", file))


def load_open_clip_images(reference: str, name: str, weights: Weights) -> FeatureNetwork:
    """open_clip:MODEL/TAG, the image tower of a CLIP."""
    model_name, _, tag = name.rpartition("/")
    if (model_name, tag) not in open_clip.list_pretrained():
        tags = [known for model, known in open_clip.list_pretrained() if model == (model_name or name)]
        hint = f"its tags are {', '.join(tags)}" if tags else "see open_clip.list_pretrained()"
        raise ValueError(f"{reference} names no pretrained model of open_clip as MODEL/TAG: {hint}")
    clip: Any
    if weights == "none":
        with sizes_from_cache(reference):
            clip = open_clip.create_model(model_name, load_weights=False, pretrained_text=False)
    else:
        clip = fetch(reference, lambda: open_clip.create_model(model_name, pretrained=tag))
    config = open_clip.get_model_preprocess_cfg(clip)
    side = clip.visual.image_size
    side = side if isinstance(side, int) else side[0]
    return FeatureNetwork(reference, clip.visual, input_size=side, mean=config["mean"], std=config["std"])


def load_local_images(reference: str, name: str, weights: Weights) -> FeatureNetwork:
    """local:FOLDER, trained by `sgxl-t features train`."""
    network, _ = load_local(name, weights)
    return from_local(reference, network)


def load_random(reference: str, name: str, weights: Weights) -> FeatureNetwork:
    """random:NAME, timm's or small_cnn or small_vit: untrained weights that depend on the name alone."""
    if name not in _SMALL:
        _check_timm_name(reference, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        if name in _SMALL:
            return from_local(reference, _SMALL[name]())
        return _from_timm(reference, timm.create_model(name, pretrained=False))


def from_local(reference: str, network: SmallCNN | SmallViT) -> FeatureNetwork:
    """A local network, which may be untrained, as a frozen feature network."""
    return FeatureNetwork(
        reference, network, input_size=network.input_size, mean=network.mean, std=network.std
    )


def _from_timm(reference: str, model: Any) -> FeatureNetwork:
    config = model.pretrained_cfg
    side = config.get("input_size", (3, 224, 224))[-1]
    return FeatureNetwork(reference, model, input_size=side, mean=config["mean"], std=config["std"])


def _check_timm_name(reference: str, name: str) -> None:
    base = name.partition(".")[0]
    if timm.is_model(base):
        return
    close = difflib.get_close_matches(base, timm.list_models(), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "see timm.list_models()"
    raise ValueError(f"{reference} names no network of timm: {hint}")


_SMALL: dict[str, Callable[[], SmallCNN | SmallViT]] = {
    "small_cnn": lambda: SmallCNN(SmallCNNConfig()),
    "small_vit": lambda: SmallViT(SmallViTConfig()),
}
