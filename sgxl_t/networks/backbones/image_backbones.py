"""Networks of timm, open_clip and local ones behind one interface: maps, tokens at taps, pooled, logits.

They take normalised images and never resize them; `feature_networks.py` wraps them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sgxl_t.networks.backbones.fused_attention import fuse_attention
from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallViT

LEVELS = 4
"""Feature maps taken from every network, shallow to deep."""


class ImageBackbone(nn.Module, ABC):
    """What every image backbone offers; subclasses fill in what their network has."""

    kind: Literal["cnn", "vit"]
    channels: tuple[int, ...]
    """Channels of the four maps, shallow to deep."""
    embed_dim: int
    """Width of the pooled features."""
    has_logits: bool = False
    """Whether the network ends in a classifier."""
    fixed_size: bool = False
    """Whether images of the network's own input size are the only ones it takes."""
    patch_size: int = 1
    """Side of a transformer's patch in pixels; images must divide into patches."""

    @property
    def depth(self) -> int:
        """Blocks of a transformer, which taps count from 0; 0 for a CNN."""
        return 0

    @property
    def default_taps(self) -> tuple[int, ...]:
        """Ends of a transformer's four quarters: blocks 2, 5, 8 and 11 of 12 (StyleGAN-XL, StyleGAN-T)."""
        return tuple(max((level + 1) * self.depth // LEVELS - 1, 0) for level in range(LEVELS))

    @abstractmethod
    def maps(self, x: Tensor) -> list[Tensor]:
        """x [N, 3, H, W] -> four maps [N, C_l, H_l, W_l]; of a transformer, its taps on the patch grid."""

    def tokens(self, x: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """x [N, 3, H, W] -> [N, 1 + L, C] after each tapped block, then the embedded patches; class first."""
        raise AssertionError("FeatureNetwork asks only networks with tokens for them")

    @abstractmethod
    def pooled(self, x: Tensor) -> Tensor:
        """x [N, 3, H, W] -> [N, embed_dim]."""

    def check_taps(self, taps: Sequence[int]) -> None:
        """ValueError unless every tap is a block of this transformer, and there is one."""
        if not taps or min(taps) < 0 or max(taps) >= self.depth:
            raise ValueError(
                f"taps {tuple(taps)} do not fit a transformer of {self.depth} blocks: "
                f"use 0 to {self.depth - 1}"
            )

    def logits(self, x: Tensor) -> Tensor:
        """x [N, 3, H, W] -> [N, classes]."""
        raise AssertionError("FeatureNetwork asks only networks with has_logits for them")


class TimmCNN(ImageBackbone):
    """Any timm network with four feature levels and `forward_intermediates`; the last four are taken.

    For tf_efficientnet_lite0 these are the ends of blocks 1, 2, 4 and 6 (24, 40, 112 and 320 channels at
    strides 4, 8, 16 and 32), StyleGAN-XL's choice. Pooled features are the mean of the deepest map, of which
    its class embeddings are made.
    """

    kind = "cnn"

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        info = getattr(model, "feature_info", [])
        if len(info) < LEVELS or not hasattr(model, "forward_intermediates"):
            raise ValueError(
                f"network {type(model).__name__} offers fewer than {LEVELS} feature levels: "
                "choose a CNN with a feature pyramid or a plain vision transformer"
            )
        self.levels = list(range(len(info) - LEVELS, len(info)))
        self.channels = tuple(int(info[level]["num_chs"]) for level in self.levels)
        self.embed_dim = self.channels[-1]
        self.has_logits = getattr(model, "num_classes", 0) > 0

    def maps(self, x: Tensor) -> list[Tensor]:
        """Runs the network to the end of its last level only."""
        return self.model.forward_intermediates(
            x, indices=self.levels, stop_early=True, intermediates_only=True
        )

    def pooled(self, x: Tensor) -> Tensor:
        """Mean of the deepest map, [N, embed_dim]."""
        return self.maps(x)[-1].mean((2, 3))

    def logits(self, x: Tensor) -> Tensor:
        """The network's own classifier: logits [N, classes]."""
        return self.model(x)


class TransformerBackbone(ImageBackbone):
    """Shared readout of vision transformers; subclasses embed patches and list their blocks."""

    kind = "vit"
    prefix_tokens: int
    """Tokens before the patches (class, distillation, registers)."""
    class_token: bool = True
    """Whether the first of them is a class token."""
    blocks: Sequence[nn.Module]

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """x [N, 3, H, W] -> tokens [N, prefix + L, C], the input of block 0."""

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def run(self, x: Tensor, taps: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """Embedded tokens [N, prefix + L, C] and the outputs of the tapped blocks, each of this shape, in the
        order of taps; stops at the last tap."""
        self.check_taps(taps)
        embedded = self.embed(x)
        outputs = dict(enumerate(self._states(embedded, self.grid(x), max(taps))))
        return embedded, [outputs[tap] for tap in taps]

    def _states(self, tokens: Tensor, grid: tuple[int, int], last: int) -> Iterator[Tensor]:
        """Outputs of blocks 0 to `last`, each from the one before. grid: rows and columns of patches."""
        for block in self.blocks[: last + 1]:
            tokens = block(tokens)
            yield tokens

    def maps(self, x: Tensor) -> list[Tensor]:
        """The patch tokens of the default taps on their grid, [N, C, rows, columns]; views, no copies."""
        rows, columns = self.grid(x)
        _, outputs = self.run(x, self.default_taps)
        return [
            tokens[:, self.prefix_tokens :].transpose(1, 2).unflatten(2, (rows, columns))
            for tokens in outputs
        ]

    def tokens(self, x: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """Class token and patch tokens; without a class token, the patches' mean takes its place."""
        embedded, outputs = self.run(x, taps)
        return [self._class_first(tokens) for tokens in (*outputs, embedded)]

    def _class_first(self, tokens: Tensor) -> Tensor:
        if self.class_token and self.prefix_tokens == 1:
            return tokens
        patches = tokens[:, self.prefix_tokens :]
        first = tokens[:, :1] if self.class_token else patches.mean(1, keepdim=True)
        return torch.cat([first, patches], dim=1)

    def grid(self, x: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of x [N, 3, H, W]; ValueError where it does not divide into patches."""
        height, width = x.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"images of {height} x {width} pixels do not divide into patches of {self.patch_size}: "
                "resize them to a multiple, for instance with input_size"
            )
        return height // self.patch_size, width // self.patch_size


class TimmViT(TransformerBackbone):
    """timm's VisionTransformer and its kin with the same parts (DeiT, also distilled, DINO, DINOv2).

    Any image size that divides into patches: position embeddings are resized bilinearly, those of prefix
    tokens stay.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.patch_size = int(model.patch_embed.patch_size[0])
        self.prefix_tokens, self.class_token = model.num_prefix_tokens, model.cls_token is not None
        self.blocks = model.blocks
        self.embed_dim = model.embed_dim
        self.channels = (self.embed_dim,) * LEVELS
        self.has_logits = getattr(model, "num_classes", 0) > 0
        model.patch_embed.strict_img_size = False  # the grid is checked and the positions resized here

    def embed(self, x: Tensor) -> Tensor:
        """Patches, prefix tokens and positions, then the norm before block 0 where there is one."""
        model, grid = self.model, self.grid(x)
        patches = model.patch_embed(x)
        if patches.ndim == 4:  # [N, rows, columns, C] of models that take any size
            patches = patches.flatten(1, 2)
        names = ("cls_token", "dist_token", "reg_token")
        prefix = [
            token.expand(len(x), -1, -1)
            for name in names
            if (token := getattr(model, name, None)) is not None
        ]
        covered = 0 if getattr(model, "no_embed_class", False) else self.prefix_tokens
        if model.pos_embed is None:
            return model.norm_pre(torch.cat([*prefix, patches], dim=1))
        positions = resize_positions(model.pos_embed, covered, model.patch_embed.grid_size, grid)
        if covered or not prefix:
            return model.norm_pre(torch.cat([*prefix, patches], dim=1) + positions)
        return model.norm_pre(torch.cat([*prefix, patches + positions], dim=1))

    def _final(self, x: Tensor) -> Tensor:
        """Normalised output tokens, prefix included."""
        *_, tokens = self._states(self.embed(x), self.grid(x), len(self.blocks) - 1)
        return self.model.norm(tokens)

    def pooled(self, x: Tensor) -> Tensor:
        """What the network's classifier sees: [N, features]."""
        return self.model.forward_head(self._final(x), pre_logits=True)

    def logits(self, x: Tensor) -> Tensor:
        """The network's own classifier; a distilled one averages its two. [N, classes]."""
        return self.model.forward_head(self._final(x))


class TimmRotaryViT(TimmViT):
    """timm's Eva and its kin, whose blocks turn queries and keys by position (DINOv3, EVA-02).

    Networks that keep the angles of one grid (EVA-02) take images of their own size alone, the others any
    size that divides into patches.
    """

    def __init__(self, model: Eva) -> None:
        super().__init__(model)
        self.fixed_size = model.rope is not None and not model.dynamic_img_size

    def _states(self, tokens: Tensor, grid: tuple[int, int], last: int) -> Iterator[Tensor]:
        for block, angles in zip(self.blocks[: last + 1], self._angles(grid), strict=False):
            tokens = block(tokens, rope=angles)
            yield tokens

    def _angles(self, grid: tuple[int, int]) -> Sequence[Tensor | None]:
        """Sines and cosines of every block; those of most networks are one tensor for all blocks."""
        if self.model.rope is None:
            return [None] * len(self.blocks)
        angles = self.model.rope.get_embed(shape=grid)
        return list(angles) if self.model.rope_mixed else [angles] * len(self.blocks)


class OpenClipViT(TransformerBackbone):
    """The plain vision transformer of open_clip; pooled features are its projected image features."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        fuse_attention(visual)
        self.patch_size = int(visual.conv1.kernel_size[0])
        self.prefix_tokens = 1
        self.blocks = visual.transformer.resblocks
        self.channels = (visual.conv1.out_channels,) * LEVELS
        self.embed_dim = visual.output_dim

    def embed(self, x: Tensor) -> Tensor:
        """Class token, patches and positions, then the norm before block 0."""
        visual, grid = self.visual, self.grid(x)
        patches = visual.conv1(x).flatten(2).transpose(1, 2)
        first = visual.class_embedding.to(patches).expand(len(x), 1, -1)
        positions = visual.positional_embedding.unsqueeze(0)
        positions = resize_positions(positions, 1, tuple(visual.grid_size), grid)
        return visual.ln_pre(torch.cat([first, patches], dim=1) + positions)

    def pooled(self, x: Tensor) -> Tensor:
        """Projected image features [N, embed_dim], not normalised."""
        return self.visual(x)


class TimmClipBackbone(ImageBackbone):
    """A timm trunk in an open_clip model: maps and tokens of the trunk, pooled features of the whole."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        self.trunk = backbone_of(visual.trunk)
        self.kind, self.channels = self.trunk.kind, self.trunk.channels
        self.patch_size, self.fixed_size = self.trunk.patch_size, self.trunk.fixed_size
        with torch.no_grad():
            size = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0]
            parameter = next(visual.parameters())
            self.embed_dim = visual(parameter.new_zeros(2, 3, size, size)).shape[1]

    @property
    def depth(self) -> int:
        """Of the trunk."""
        return self.trunk.depth

    def maps(self, x: Tensor) -> list[Tensor]:
        """Of the trunk."""
        return self.trunk.maps(x)

    def tokens(self, x: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """Of the trunk."""
        return self.trunk.tokens(x, taps)

    def pooled(self, x: Tensor) -> Tensor:
        """Projected image features [N, embed_dim], not normalised."""
        return self.visual(x)


class LocalBackbone(ImageBackbone):
    """A small network that a user trained."""

    def __init__(self, model: SmallCNN | SmallViT) -> None:
        super().__init__()
        self.model = model
        self.kind = "vit" if isinstance(model, SmallViT) else "cnn"
        self.fixed_size = isinstance(model, SmallViT)
        self.channels = (model.embed_dim,) * LEVELS if isinstance(model, SmallViT) else model.channels
        self.embed_dim = model.embed_dim
        self.has_logits = model.classifier is not None

    @property
    def depth(self) -> int:
        """Blocks of a transformer."""
        return self.model.depth if self.kind == "vit" else 0

    def maps(self, x: Tensor) -> list[Tensor]:
        """Of the four stages, or of the four quarters of the transformer."""
        return self.model.forward_maps(x)

    def tokens(self, x: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """Of the tapped blocks."""
        return self.model.forward_tokens(x, taps)

    def pooled(self, x: Tensor) -> Tensor:
        """What the network's classifier sees, [N, embed_dim]."""
        return self.model.forward_pooled(x)

    def logits(self, x: Tensor) -> Tensor:
        """The network's own classifier: logits [N, classes]."""
        return self.model.forward_logits(x)


def resize_positions(positions: Tensor, prefix: int, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Position embeddings [1, prefix + old grid, C] for another grid: bilinear, the prefix rows untouched."""
    if old == new:
        return positions
    grid = positions[:, prefix:].unflatten(1, old).permute(0, 3, 1, 2)
    grid = F.interpolate(grid.float(), size=new, mode="bilinear", align_corners=False).to(positions.dtype)
    return torch.cat([positions[:, :prefix], grid.flatten(2).transpose(1, 2)], dim=1)


def backbone_of(model: Any) -> ImageBackbone:
    """The backbone around `model`: a timm network, an open_clip image tower or an ImageBackbone itself."""
    if isinstance(model, ImageBackbone):
        return model
    if isinstance(model, (SmallCNN, SmallViT)):
        return LocalBackbone(model)
    if isinstance(model, VisionTransformer):
        return TimmViT(model)
    if isinstance(model, Eva):
        return TimmRotaryViT(model)
    if hasattr(model, "trunk"):
        return TimmClipBackbone(model)
    if hasattr(model, "conv1") and hasattr(model, "transformer"):
        return OpenClipViT(model)
    return TimmCNN(model)
