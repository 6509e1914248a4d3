"""Small feature networks that a user trains on own pictures in minutes: a CNN and a vision transformer.

They stand in for EfficientNet, DeiT and DINO where no weights can be fetched, in every role: projection,
taps, class embeddings, guidance. Both take normalised images and expose the same methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgxl_t.files.config_json import config_from_value
from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import Value
from sgxl_t.networks.weights.hub import Weights
from sgxl_t.networks.weights.stored import load_fitting, read_config, write_stored

MEAN = STD = (0.5, 0.5, 0.5)
LIMIT = 4096
"""No size in a stored configuration may exceed this."""


@dataclass(frozen=True, kw_only=True)
class SmallCNNConfig:
    """Sizes of a SmallCNN."""

    image_size: int = 32
    """Side of the pictures it was trained on, in pixels; it accepts other sizes."""
    channels: tuple[int, ...] = (16, 32, 48, 64)
    """Width of each stage; the maps of four stages are the features."""
    strides: tuple[int, ...] = (1, 2, 2, 2)
    """Stride of each stage's first convolution; 1 first keeps the full resolution, which sharp edges need."""
    convs: tuple[int, ...] = (1, 2, 2, 2)
    """Convolutions per stage."""
    num_classes: int = 0
    """Outputs of the classifier; 0 for none."""
    projection: int = 0
    """Width of the embedding shared with captions or views; 0 for none."""

    def __post_init__(self) -> None:
        stages = (self.channels, self.strides, self.convs)
        _check("channels, strides, convs", *self.channels, *self.strides, *self.convs)
        _check("image_size", self.image_size)
        _check("num_classes, projection", self.num_classes, self.projection, least=0)
        if any(len(entry) != 4 for entry in stages):
            raise ValueError(
                f"channels, strides, convs = {stages} must have four entries each: one per stage"
            )


@dataclass(frozen=True, kw_only=True)
class SmallViTConfig:
    """Sizes of a SmallViT."""

    image_size: int = 32
    """Side of the pictures it takes, in pixels; a multiple of the patch."""
    patch: int = 4
    """Pixels per token along one side, a power of two."""
    stem_width: int = 24
    """Channels of the convolutional stem before the last convolution."""
    width: int = 64
    """Width of a token."""
    depth: int = 4
    """Transformer blocks."""
    heads: int = 4
    """Attention heads."""
    mlp_ratio: float = 2.0
    """Hidden width of a block's perceptron over the token width."""
    num_classes: int = 0
    """Outputs of the classifier; 0 for none."""
    projection: int = 0
    """Width of the embedding shared with captions or views; 0 for none."""

    def __post_init__(self) -> None:
        _check("image_size, patch, stem_width", self.image_size, self.patch, self.stem_width)
        _check("width, depth, heads", self.width, self.depth, self.heads)
        _check("num_classes, projection", self.num_classes, self.projection, least=0)
        if self.patch < 2 or self.patch & (self.patch - 1) or self.image_size % self.patch:
            raise ValueError(
                f"patch={self.patch} must be a power of two that divides image_size={self.image_size}"
            )
        if self.width % self.heads or not 0 < self.mlp_ratio <= 16:
            raise ValueError(
                f"heads={self.heads} must divide width={self.width}, and "
                f"mlp_ratio={self.mlp_ratio} be in (0, 16]"
            )


def _check(names: str, *values: Any, least: int = 1) -> None:
    if not all(isinstance(value, int) and least <= value <= LIMIT for value in values):
        raise ValueError(f"{names} = {list(values)} must be whole numbers from {least} to {LIMIT}")


class ConvNormAct(nn.Module):
    """3x3 convolution, batch norm, ReLU. Once trained (eval mode) the norm is folded into the kernel.

    Folding at the call keeps the stored tensors as trained and saves two passes over the largest maps, which
    is much of the cost at 16 channels.
    """

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(cout)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """x [N, cin, H, W] -> [N, cout, ceil(H / stride), ceil(W / stride)]."""
        if self.training:
            return F.relu(self.norm(self.conv(x)), inplace=True)
        norm = self.norm
        assert norm.running_var is not None
        assert norm.running_mean is not None
        gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight, bias = self.conv.weight * gain[:, None, None, None], norm.bias - norm.running_mean * gain
        weight = weight.contiguous(memory_format=torch.channels_last)
        return F.relu(F.conv2d(x, weight, bias, self.conv.stride, 1), inplace=True)


class LocalNetwork(nn.Module, ABC):
    """What both small networks share. Images are [N, 3, H, W], normalised by `mean` and `std`."""

    kind: str
    mean, std = MEAN, STD

    def __init__(self, embed_dim: int, num_classes: int, projection: int) -> None:
        super().__init__()
        self.embed_dim, self.num_classes = embed_dim, num_classes
        self.classifier = nn.Linear(embed_dim, num_classes) if num_classes else None
        self.projection = nn.Linear(embed_dim, projection, bias=False) if projection else None

    @abstractmethod
    def forward_pooled(self, x: Tensor) -> Tensor:
        """Images to one vector each [N, embed_dim]."""

    def forward_logits(self, x: Tensor) -> Tensor:
        """Images to class scores [N, num_classes]; ValueError when it was trained without labels."""
        if self.classifier is None:
            raise ValueError(
                "the local network was trained without labels and has no classifier: train one with "
                "`sgxl-t features train` on pictures that have labels"
            )
        return self.classifier(self.forward_pooled(x))

    def forward(self, x: Tensor) -> Tensor:
        """Images to the embedding shared with captions [N, projection]; pooled features where it has none."""
        pooled = self.forward_pooled(x)
        return pooled if self.projection is None else self.projection(pooled)


class SmallCNN(LocalNetwork):
    """Four plain stages of convolutions with batch norm.

    channels: width of the four maps. input_size: side it was trained on; other sizes work.
    """

    kind = "cnn"

    def __init__(self, config: SmallCNNConfig) -> None:
        super().__init__(config.channels[-1], config.num_classes, config.projection)
        self.config = config
        self.channels, self.input_size, self.depth = config.channels, config.image_size, len(config.channels)
        self.stages = nn.ModuleList()
        width = 3
        for cout, stride, convs in zip(config.channels, config.strides, config.convs, strict=True):
            layers = [ConvNormAct(width, cout, stride)] + [ConvNormAct(cout, cout) for _ in range(convs - 1)]
            self.stages.append(nn.Sequential(*layers))
            width = cout

    def forward_maps(self, x: Tensor) -> list[Tensor]:
        """Images to the four stages' maps [N, C_l, H_l, W_l], shallow to deep, not negative."""
        x = x.contiguous(memory_format=torch.channels_last)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward_pooled(self, x: Tensor) -> Tensor:
        """Mean over positions of the deepest map, [N, channels[-1]]."""
        return self.forward_maps(x)[-1].mean((2, 3))

    def forward_tokens(self, x: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """Always ValueError: a CNN has no tokens."""
        raise ValueError("a local CNN has no tokens: use a vision transformer, such as local:FOLDER/vit")


class Block(nn.Module):
    """Pre-norm attention and perceptron on tokens [N, L, width]."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        from timm.layers import Mlp  # timm takes a second, and who samples from a text model needs no tower

        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = Mlp(width, int(width * mlp_ratio), act_layer=nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, L, width] -> [N, L, width]."""
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, width)
        x = x + self.out(mixed)
        return x + self.mlp(self.norm2(x))


class SmallViT(LocalNetwork):
    """Vision transformer with a convolutional stem and a class token.

    channels: token width once per block. input_size: the only side it takes. depth: number of blocks.
    """

    kind = "vit"

    def __init__(self, config: SmallViTConfig) -> None:
        super().__init__(config.width, config.num_classes, config.projection)
        self.config = config
        self.channels = (config.width,) * config.depth
        self.input_size, self.depth = config.image_size, config.depth
        self.stem = self._stem(config)
        length = 1 + (config.image_size // config.patch) ** 2
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.position = nn.Parameter(torch.randn(1, length, config.width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)

    @staticmethod
    def _stem(config: SmallViTConfig) -> nn.Sequential:
        """Convolutions of stride 2 down to one pixel per patch, then a linear map to tokens."""
        layers: list[nn.Module] = []
        side, width = config.patch, 3
        while side > 1:
            layers.append(ConvNormAct(width, config.stem_width * (config.patch // side), stride=2))
            width, side = config.stem_width * (config.patch // side), side // 2
        return nn.Sequential(*layers, nn.Conv2d(width, config.width, 1))

    def embed(self, x: Tensor) -> Tensor:
        """Images to the first block's input [N, 1 + L, width], class token first."""
        if x.shape[-2:] != (self.input_size, self.input_size):
            raise ValueError(
                f"images of {x.shape[-2]} x {x.shape[-1]} pixels: this local transformer takes "
                f"{self.input_size} x {self.input_size}, resize them"
            )
        patches = self.stem(x.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1) + self.position

    def forward_tokens(self, x: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """Outputs of blocks `taps` (counted from 0), then the embedded patches: each [N, 1 + L, width]."""
        if not all(0 <= tap < self.depth for tap in taps):
            raise ValueError(
                f"taps {list(taps)} of a transformer of {self.depth} blocks: use 0 to {self.depth - 1}"
            )
        first = x = self.embed(x)
        outputs = {}
        for index, block in enumerate(self.blocks[: max(taps, default=-1) + 1]):
            x = block(x)
            outputs[index] = x
        return [*(outputs[tap] for tap in taps), first]

    def forward_pooled(self, x: Tensor) -> Tensor:
        """Normalised class token of the last block, [N, width]."""
        return self.norm(self.forward_tokens(x, (self.depth - 1,))[0][:, 0])

    def forward_maps(self, x: Tensor) -> list[Tensor]:
        """Patch tokens of four blocks spread over the depth as maps [N, width, h, w], shallow to deep."""
        taps = [
            (index + 1) * self.depth // 4 - 1 if self.depth >= 4 else min(index, self.depth - 1)
            for index in range(4)
        ]
        side = self.config.image_size // self.config.patch
        tokens = self.forward_tokens(x, sorted(set(taps)))[:-1]
        by_tap = dict(zip(sorted(set(taps)), tokens, strict=True))
        return [by_tap[tap][:, 1:].transpose(1, 2).unflatten(2, (side, side)) for tap in taps]


LOCAL_KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "cnn": (SmallCNNConfig, SmallCNN),
    "vit": (SmallViTConfig, SmallViT),
}


def save_local(folder: Path | str, network: SmallCNN | SmallViT, meta: dict[str, Any] | None = None) -> None:
    """Writes config.json (kind, sizes, `meta`: how it was trained, class names) and model.safetensors."""
    config = {"format": 1, "kind": network.kind, "config": asdict(network.config), "meta": meta or {}}
    write_stored(Path(folder), config, network.state_dict())


def load_local(
    folder: Path | str, weights: Weights = "pretrained"
) -> tuple[SmallCNN | SmallViT, dict[str, Any]]:
    """The stored network, frozen and in eval mode, and its meta data.

    ValueError in one sentence when the folder holds none, or a missing, truncated or misshapen part.
    """
    folder = Path(folder)
    stored = read_config(folder)
    kind = stored["kind"].text()
    if kind not in LOCAL_KINDS:
        raise ValueError(
            f"{folder} holds a local {visible(kind)}, not a feature network: name {folder.parent}/cnn or vit"
        )
    config, network_class = local_config(kind, stored["config"])
    network = load_fitting(lambda: network_class(config), folder, weights=weights)
    meta = stored.get("meta")
    return network.eval().requires_grad_(False), {} if meta is None else meta.group()


def local_config(kind: str, sizes: Value) -> tuple[Any, type[Any]]:
    """The stored sizes of a network of a known kind, and its class."""
    config_class, network_class = LOCAL_KINDS[kind]
    return config_from_value(config_class, sizes), network_class
