"""LPIPS on VGG16: how different two images look (Zhang et al. 2018, section 3, the "lin" variant)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models import vgg

from sgxl_t.files.cache import cache_folder
from sgxl_t.metrics.features.base import IMAGENET_MEAN, IMAGENET_STD, state_hash
from sgxl_t.metrics.features.weights import fill, read_safetensors, read_state_dict
from sgxl_t.networks.weights.missing import MissingWeightsError

TAPPED = (3, 8, 15, 22, 29)
"""Layers of VGG16 whose output is compared: the last ReLU of each of the five resolutions."""
WIDTHS = (64, 128, 256, 512, 512)
"""Their channels."""

FEATURES_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
HEADS_URL = "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/vgg.pth"
SOURCES = (
    f"put vgg16-397923af.pth ({FEATURES_URL}) and vgg.pth ({HEADS_URL}) into one folder and name it, "
    "--weights lpips=FOLDER, or measure ppl_random or ppl_local:FOLDER, which need none"
)


class Lpips(nn.Module):
    """Perceptual distance; weights random until `load_lpips` fills them. Tensors are named as in the public
    files: `features.0.weight` and on of torchvision's VGG16, `lin0.model.1.weight` and on of LPIPS 0.1.
    """

    mean: Tensor
    std: Tensor
    weight_hash = ""
    """Sixteen hex digits of the loaded weights."""

    def __init__(self) -> None:
        super().__init__()
        self.features = vgg.make_layers(vgg.cfgs["D"])[: TAPPED[-1] + 1]
        for index, width in enumerate(WIDTHS):
            head = nn.Sequential(nn.Identity(), nn.Conv2d(width, 1, 1, bias=False))
            self.add_module(f"lin{index}", nn.ModuleDict({"model": head}))
        for name, values in zip(("mean", "std"), _normalisation(), strict=True):
            self.register_buffer(name, values, persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances [N] of images x and y [N, 3, H, W] in [0, 255], at least 16 px each way.

        Per tapped layer: features of unit length, squared difference weighted by channel, mean over places.
        """
        total = x.new_zeros(len(x))
        for index, (a, b) in enumerate(zip(self._tapped(x), self._tapped(y), strict=True)):
            weight = cast(Tensor, self.get_submodule(f"lin{index}.model.1").weight)
            difference = (_unit(a) - _unit(b)).square()
            total = total + torch.einsum("nchw,c->n", difference, weight.flatten()) / a[0, 0].numel()
        return total

    def embed(self, images: Tensor) -> Tensor:
        """Vectors [N, D] of images [N, 3, H, W] in [0, 255]; squared distances of two are `forward`'s.

        What is compared many times, such as a photograph, is then looked at once. The learnt weights of the
        channels are not negative, so that they have roots.
        """
        parts = []
        for index, tapped in enumerate(self._tapped(images)):
            weight = cast(Tensor, self.get_submodule(f"lin{index}.model.1").weight)
            scale = (weight.clamp(min=0).view(1, -1, 1, 1) / tapped[0, 0].numel()).sqrt()
            parts.append((_unit(tapped) * scale).flatten(1))
        return torch.cat(parts, dim=1)

    def _tapped(self, images: Tensor) -> list[Tensor]:
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < 16:
            raise ValueError(
                f"pictures of shape {tuple(images.shape)} do not fit LPIPS: give [N, 3, H, W] from 16 px up"
            )
        x = (images / 255 - self.mean) / self.std
        tapped = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in TAPPED:
                tapped.append(x)
        return tapped


def _unit(x: Tensor) -> Tensor:
    """Features [N, C, H, W] of unit length over C; 1e-10 keeps dead places at zero."""
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def load_lpips(path: str | Path | None = None) -> Lpips:
    """LPIPS with weights from a local file or folder, frozen, float32, on the CPU.

    path: a .safetensors, .pth or .pt file with all tensors, or a folder of such files, as the two public ones
    are; none means `weights/lpips` in the cache. Tensors must fit by name and shape; only VGG16's unused
    classifier may stand beside them.
    MissingWeightsError without a file; ValueError for a broken one or for other tensors.
    """
    path = cache_folder() / "weights" / "lpips" if path is None else Path(path).expanduser()
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".pth", ".pt"))
    if not files or not all(file.is_file() for file in files):
        raise MissingWeightsError(f"{path} holds no weights of LPIPS: {SOURCES}")
    tensors: dict[str, Tensor] = {}
    for file in files:
        read = read_safetensors if file.suffix == ".safetensors" else read_state_dict
        tensors |= {name: value for name, value in read(file).items() if not name.startswith("classifier.")}
    with torch.device("meta"):
        network = Lpips()
    network.mean, network.std = _normalisation()  # made without memory, and no file holds them
    fill(network, tensors, path)
    network.weight_hash = state_hash(network.state_dict())
    return network.eval().requires_grad_(False)


def _normalisation() -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [3, 1, 1] that VGG16 was trained with, of images in [0, 1]."""
    return torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
