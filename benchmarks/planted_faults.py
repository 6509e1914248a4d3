"""Do metrics see what people see? Plants grain, blur and collapse in pictures and counts right orders.

    python benchmarks/planted_faults.py --data photos.zip --resolution 32
    python benchmarks/planted_faults.py --data photos.zip --model runs/a/best --metrics random,contrast

Each trial draws held-out real pictures and as many others, real ones or a model's, and asks each metric
whether these are better as they are than with a fault. Prints a table: right orders of all trials, and in
brackets the mean ratio of both numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from sgxl_t.datasets.open import open_source
from sgxl_t.metrics.distances.frechet import frechet_distance
from sgxl_t.metrics.features import load_extractor
from sgxl_t.metrics.generated import GeneratorImages
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.ops.images import as_rgb

Fault = Callable[[Tensor, torch.Generator], Tensor]
CLUSTERS = 10
SHORT = {"random": "random:small_cnn"}


def grain(levels: float, *, cell: int = 1, colours: int = 1) -> Fault:
    """Normal noise of so many grey levels, alike in all colours as noise inputs make it, or of three."""

    def plant(images: Tensor, rng: torch.Generator) -> Tensor:
        shape = (len(images), colours, images.shape[2] // cell, images.shape[3] // cell)
        noise = levels * torch.randn(shape, generator=rng)
        noise = noise.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
        return (images.float() + noise).round().clamp(0, 255).to(torch.uint8)

    return plant


def blur(sigma: float) -> Fault:
    """Gaussian blur of so many pixels."""
    size = 2 * int(np.ceil(3 * sigma)) + 1
    return lambda images, rng: (
        gaussian_blur(images.float(), [size, size], [sigma, sigma]).round().to(torch.uint8)
    )


PICTURE_FAULTS: dict[str, Fault] = {
    "grain 6": grain(6),
    "grain 12": grain(12),
    "grain 24": grain(24),
    "colour grain 12": grain(12, colours=3),
    "2 px grain 12": grain(12, cell=2),
    "blur .6": blur(0.6),
    "blur 1": blur(1.0),
    "blur 1.5": blur(1.5),
}
"""Strengths in grey levels and pixels; at 32 px people see grain of 12 and blur of 1 at once."""


def repeated(count: int) -> Callable[[Tensor, Tensor, torch.Generator], Tensor]:
    """Indices that repeat the first `count` of those given."""
    return lambda indices, clusters, rng: indices[torch.arange(len(indices)) % count]


def half_the_modes(indices: Tensor, clusters: Tensor, rng: torch.Generator) -> Tensor:
    """Indices of pictures from half of the clusters only, each as often as needed."""
    kept = torch.randperm(CLUSTERS, generator=rng)[: CLUSTERS // 2]
    found = indices[torch.isin(clusters[indices], kept)]
    return (
        found[torch.arange(len(indices)) % max(1, len(found))]
        if len(found)
        else indices[:1].expand(len(indices))
    )


SET_FAULTS = {"8 pictures": repeated(8), "32 pictures": repeated(32), "100 pictures": repeated(100)}
SET_FAULTS["half the modes"] = half_the_modes


def clusters_of(images: Tensor) -> Tensor:
    """K-means on 8 x 8 thumbnails -> int64 [N]."""
    points = F.adaptive_avg_pool2d(images.float() / 255, 8).flatten(1)
    centres = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:CLUSTERS]]
    for _ in range(10):
        nearest = torch.cdist(points, centres).argmin(1)
        centres = torch.stack(
            [
                points[nearest == one].mean(0) if (nearest == one).any() else centres[one]
                for one in range(CLUSTERS)
            ]
        )
    return torch.cdist(points, centres).argmin(1)


def features(name: str, images: Tensor) -> Tensor:
    """Features [N, D] of images uint8 [N, 3, R, R] by an extractor."""
    extractor = load_extractor(SHORT.get(name, name))
    output = next(iter(extractor.outputs))
    with torch.no_grad():
        return torch.cat([extractor(part)[output] for part in images.split(100)])


def real_pictures(data: str, resolution: int, most: int) -> Tensor:
    """uint8 [N, 3, R, R], in random order."""
    source = open_source(data, resolution=resolution)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))[:most].tolist()
    return as_rgb(torch.stack([source[index].image for index in order]))


def model_pictures(folder: str, data: str, count: int) -> Tensor:
    """uint8 [N, 3, R, R] of a model folder, under conditions of the data."""
    generator, condition, _ = load_model(folder)
    source = open_source(data, resolution=generator.img_resolution)
    made = GeneratorImages(generator, condition, class_sampling="dataset", source=source)
    parts = torch.arange(count).split(50)
    return torch.cat([made.images(part.tolist()).cpu() for part in parts])


def count_right(
    real: Tensor, clean: Tensor, planted: dict[str, Tensor], clusters: Tensor, *, trials: int, same: bool
) -> dict[str, tuple[int, float]]:
    """Right orders and mean ratio by fault, of features [N, D]. same: clean are the features of real."""
    found: dict[str, list[float]] = {}
    for trial in range(trials):
        rng = torch.Generator().manual_seed(trial)
        order = torch.randperm(len(real), generator=rng)
        held_out, rest = order[: len(order) // 2], order[len(order) // 2 :]
        others = rest if same else torch.randperm(len(clean), generator=rng)[: len(rest)]
        reference = real[held_out]
        before = frechet_distance(reference, clean[others])
        for name, rows in planted.items():
            found.setdefault(name, []).append(frechet_distance(reference, rows[others]) / before)
        for name, choose in SET_FAULTS.items():
            chosen = choose(others, clusters, rng)
            found.setdefault(name, []).append(frechet_distance(reference, clean[chosen]) / before)
    return {name: (sum(one > 1 for one in ratios), float(np.mean(ratios))) for name, ratios in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--model", help="model folder; without it the other half of the real pictures")
    parser.add_argument("--metrics", default="random,contrast", help="extractors, comma-separated")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=1500, help="real pictures, at most")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    images = real_pictures(options.data, options.resolution, options.pictures)
    others = images
    if options.model:
        others = model_pictures(options.model, options.data, len(images) // 2)
    clusters = clusters_of(others)
    names = options.metrics.split(",")
    columns = {}
    for name in names:
        real = features(name, images)
        clean = features(name, others) if options.model else real
        rng = torch.Generator().manual_seed(0)
        planted = {fault: features(name, plant(others, rng)) for fault, plant in PICTURE_FAULTS.items()}
        columns[name] = count_right(
            real, clean, planted, clusters, trials=options.trials, same=not options.model
        )
    what = options.model or "real pictures"
    print(f"{options.data}, {options.resolution} px, {len(images) // 2} of {what}, {options.trials} trials\n")
    print("| fault | " + " | ".join(names) + " |\n|---|" + "--:|" * len(names))
    for fault in columns[names[0]]:
        cells = [f"{columns[name][fault][0]} ({columns[name][fault][1]:.2f})" for name in names]
        print(f"| {fault} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
