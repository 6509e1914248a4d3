"""The small networks inside the judges. They only measure: nothing is ever trained against them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_GROUPS = 8


class ResidualBlock(nn.Module):
    """x + conv(gelu(norm(conv(gelu(norm(x)))))) at constant size, [N, width, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(_GROUPS, width), nn.GroupNorm(_GROUPS, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, width, H, W] -> the same shape."""
        return x + self.conv2(F.gelu(self.norm2(self.conv1(F.gelu(self.norm1(x))))))


class JudgeCnn(nn.Module):
    """Residual convolutions with group norm: images uint8 [N, 3, R, R] to features [N, dim].

    widths: channels per stage; every stage but the first halves the size. stem_stride: stride of the first
    convolution. The features stand behind a linear layer on the pooled map, without activation.
    """

    def __init__(self, widths: Sequence[int], dim: int, stem_stride: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 5, stride=stem_stride, padding=2)
        stages: list[nn.Module] = [ResidualBlock(widths[0])]
        for narrow, wide in itertools.pairwise(widths):
            stages += [nn.Conv2d(narrow, wide, 2, stride=2), ResidualBlock(wide)]
        self.stages = nn.Sequential(*stages)
        self.norm = nn.GroupNorm(_GROUPS, widths[-1])
        self.out = nn.Linear(2 * widths[-1], dim)

    def forward(self, images: Tensor) -> Tensor:
        """images uint8 [N, 3, R, R] -> float32 [N, dim]."""
        x = F.gelu(self.norm(self.stages(self.stem(images.float() / 127.5 - 1.0))))
        # Mean and maximum: where something stands matters less than whether it does.
        return self.out(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))


class AttributeNet(nn.Module):
    """A JudgeCnn with one linear classifier per attribute on the activated features."""

    def __init__(
        self, widths: Sequence[int], dim: int, classes: Mapping[str, int], stem_stride: int = 1
    ) -> None:
        super().__init__()
        self.trunk = JudgeCnn(widths, dim, stem_stride)
        self.heads = nn.ModuleDict({name: nn.Linear(dim, count) for name, count in classes.items()})

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Features [N, dim] and per attribute the logits [N, count] of images uint8 [N, 3, R, R]."""
        features = self.trunk(images)
        return features, {name: head(F.gelu(features)) for name, head in self.heads.items()}


class JudgeClip(nn.Module):
    """Joint space of images and captions; a caption is a bag of words.

    vocab: known words; others are ignored. Both encoders give unit vectors [N, dim].
    """

    def __init__(self, widths: Sequence[int], dim: int, vocab: Sequence[str], stem_stride: int = 1) -> None:
        super().__init__()
        self.image = JudgeCnn(widths, dim, stem_stride)
        self.vocab = {word: index for index, word in enumerate(vocab)}
        self.words = nn.EmbeddingBag(len(vocab), dim, mode="sum")
        self.text = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def encode_image(self, images: Tensor) -> Tensor:
        """Images uint8 [N, 3, R, R] to unit vectors [N, dim]."""
        return F.normalize(self.image(images), dim=-1)

    def encode_text(self, captions: Sequence[str]) -> Tensor:
        """Captions to unit vectors [N, dim]; the order of words does not matter."""
        bags = [
            [self.vocab[word] for word in split_words(caption) if word in self.vocab] for caption in captions
        ]
        starts = torch.tensor([0] + [len(bag) for bag in bags[:-1]]).cumsum(0)
        flat = torch.tensor([index for bag in bags for index in bag], dtype=torch.int64)
        device = self.words.weight.device
        return F.normalize(self.text(self.words(flat.to(device), starts.to(device))), dim=-1)

    def loss(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Symmetric contrastive loss of images uint8 [N, 3, R, R] and their captions, to make the judges."""
        similarity = self.log_scale.exp() * self.encode_image(images) @ self.encode_text(captions).T
        target = torch.arange(len(similarity), device=similarity.device)
        return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2


def split_words(caption: str) -> list[str]:
    """Lower-case words of a caption in order."""
    return re.findall(r"[a-z0-9']+", caption.lower())
