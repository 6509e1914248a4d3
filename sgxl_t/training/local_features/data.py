"""Pictures in memory, and the changed views of them that small feature networks learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from sgxl_t.datasets import BatchOptions, ImageSource, batches
from sgxl_t.ops.images import as_rgb
from sgxl_t.training.local_features.config import FeaturesConfig

READ_BATCH = 64
MIN_IMAGES = 8


@dataclass
class ImageSet:
    """images uint8 [N, R, R, 3] on the training device; labels int64 [N] and captions, where there are any.

    class_names: empty without labels. train, held_out: disjoint int64 indices.
    """

    images: Tensor
    labels: Tensor | None
    captions: list[str] | None
    class_names: tuple[str, ...]
    train: Tensor
    held_out: Tensor

    @property
    def resolution(self) -> int:
        """Side of the images in pixels."""
        return self.images.shape[1]

    def index_batches(self, size: int, rng: torch.Generator) -> Iterator[Tensor]:
        """Endless batches of training indices, shuffled anew on every pass; a pass drops its rest."""
        size = min(size, len(self.train))
        while True:
            order = self.train[torch.randperm(len(self.train), generator=rng)]
            yield from order[: len(order) // size * size].split(size)

    def plain(self, index: Tensor) -> Tensor:
        """Unchanged images, float32 [N, 3, R, R] in [-1, 1]."""
        return _normalised(self.images[index.to(self.images.device)])

    def shifted(self, index: Tensor, rng: torch.Generator, noise: float = 0.0) -> Tensor:
        """Pictures moved by up to a sixteenth of their side, in brightness and contrast changed a little.

        noise: each image also gets normal noise of a standard deviation between 0 and this.
        """
        reach = max(self.resolution // 16, 1)
        grid = torch.arange(self.resolution)
        rows, columns = (
            grid + torch.randint(-reach, reach + 1, (len(index), 1), generator=rng) for _ in range(2)
        )
        x = self._gather(index, rows, columns)
        draws = torch.rand(2, len(index), 1, 1, 1, generator=rng).to(x.device)
        x = x * (0.8 + 0.4 * draws[0]) + (draws[1] - 0.5) * 0.3
        if noise == 0:
            return x
        strength = noise * torch.rand(len(index), 1, 1, 1, generator=rng)
        return x + (strength * torch.randn(x.shape, generator=rng)).to(x.device)

    def view(self, index: Tensor, rng: torch.Generator) -> Tensor:
        """Pictures as a part of 50 to 100 % of their side, half of them mirrored, with other colours.

        Two views of an image must share what it shows and little else, or matching them teaches nothing.
        """
        count, resolution = len(index), self.resolution
        scale = 0.5 + 0.5 * torch.rand(count, 1, generator=rng)
        rows, columns = (
            (
                scale * (torch.arange(resolution) + 0.5)
                + (1 - scale) * resolution * torch.rand(count, 1, generator=rng)
            )
            for _ in range(2)
        )
        mirrored = torch.rand(count, 1, generator=rng) < 0.5
        x = self._gather(index, rows.long(), torch.where(mirrored, columns.flip(1), columns).long())
        draws = torch.rand(3, count, 3, 1, 1, generator=rng).to(x.device)
        grey = torch.rand(count, 1, 1, 1, generator=rng).to(x.device) < 0.2
        x = x * (0.7 + 0.6 * draws[0, :, :1]) + (draws[1, :, :1] - 0.5) * 0.4 + (draws[2] - 0.5) * 0.4
        return torch.where(grey, x.mean(1, keepdim=True), x)

    def _gather(self, index: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Pixels at rows, columns [N, R] of each image; positions outside take the border."""
        rows, columns = (t.clamp(0, self.resolution - 1).to(self.images.device) for t in (rows, columns))
        index = index.to(self.images.device)
        return _normalised(self.images[index[:, None, None], rows[:, :, None], columns[:, None, :]])


def _normalised(images: Tensor) -> Tensor:
    """uint8 [N, R, R, 3] to float32 [N, 3, R, R] in [-1, 1], channels last in memory."""
    return images.float().mul_(2 / 255).sub_(1).permute(0, 3, 1, 2)


def read_images(
    source: ImageSource, config: FeaturesConfig, *, seed: int, progress: bool, device: torch.device
) -> ImageSet:
    """The whole source, or a random part of it, each image once, reduced to at most `max_side` pixels."""
    count = min(len(source), config.max_pictures)
    if count < MIN_IMAGES:
        raise ValueError(
            f"{count} pictures are too few to train feature networks: give at least {MIN_IMAGES}"
        )
    images, labels, captions = [], [], []
    reader = batches(source, BatchOptions(batch_size=min(READ_BATCH, count), seed=seed))
    rounds = -(-count // min(READ_BATCH, count))
    for batch in tqdm(islice(reader, rounds), "reading pictures", rounds, disable=not progress, leave=False):
        images.append(_reduced(as_rgb(batch.images), config.max_side).permute(0, 2, 3, 1))
        labels.append(batch.labels)
        captions.append(batch.captions)
    held_out = min(int(count * config.held_out_share), 1000)
    named = [text for texts in captions if texts is not None for text in texts]
    labelled = [values for values in labels if values is not None]
    # One class teaches nothing, and neither do labels or captions that only some images have.
    has_labels = len(labelled) == rounds and source.num_classes > 1
    return ImageSet(
        images=torch.cat(images)[:count].contiguous().to(device),
        labels=torch.cat(labelled)[:count].to(device) if has_labels else None,
        captions=named[:count] if len(named) >= count else None,
        class_names=tuple(source.class_names or ()) if has_labels else (),
        train=torch.arange(held_out, count),
        held_out=torch.arange(held_out),
    )


def _reduced(images: Tensor, resolution: int) -> Tensor:
    """uint8 [N, 3, R, R] to at most `side` pixels, by area."""
    if images.shape[-1] <= resolution:
        return images
    return F.interpolate(images.float(), (resolution, resolution), mode="area").round().to(torch.uint8)
