"""Start values of the class table: what a pretrained network sees in each class's own pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sgxl_t.ops.images import as_rgb

if TYPE_CHECKING:
    from sgxl_t.datasets.base import ImageSource
    from sgxl_t.networks.backbones.feature_networks import FeatureNetwork

log = logging.getLogger(__name__)


@torch.no_grad()
def class_table(
    source: ImageSource, network: FeatureNetwork, *, images_per_class: int | None = 500, batch_size: int = 64
) -> Tensor:
    """Mean pooled feature of each class, standardised over classes: float32 [num_classes, dim], on the CPU.

    StyleGAN-XL, section 3.2: an embedding that already separates the classes keeps conditional GANs from
    collapsing. Rows are brought to zero mean and unit variance per feature because the tables are trained
    like weights of unit scale, while networks differ in the scale of their features.

    images_per_class: the first so many pictures of a class count, all when None; 500 move a mean by less than
    a twentieth of the spread inside the class. A class without a picture starts at the mean of the others.
    Raises ValueError when the data has no labels.
    """
    source.require(labels=True)
    device = next(
        (tensor.device for tensor in (*network.parameters(), *network.buffers())), torch.device("cpu")
    )
    sums: Tensor | None = None
    counts = torch.zeros(source.num_classes, dtype=torch.float64)
    for images, labels in _labelled_batches(source, images_per_class, batch_size):
        pooled = network.pooled(images.to(device).float() / 255).double().cpu()
        if sums is None:
            sums = torch.zeros(source.num_classes, pooled.shape[1], dtype=torch.float64)
        sums.index_add_(0, labels, pooled)
        counts.index_add_(0, labels, torch.ones(len(labels), dtype=torch.float64))
    if sums is None:
        raise ValueError("no picture of the data has a label: check the labels that came with it")
    seen = counts > 0
    if not bool(seen.all()):
        log.warning(
            "%d of %d classes have no picture; their vectors start at the mean", int((~seen).sum()), len(seen)
        )
    means = sums / counts.clamp(min=1)[:, None]
    return _standardised(means, seen)


def _standardised(means: Tensor, seen: Tensor) -> Tensor:
    rows = means[seen]
    centred = rows - rows.mean(dim=0)
    spread = centred.square().mean(dim=0).sqrt()
    table = torch.zeros_like(means)
    # A feature that is the same for all classes carries nothing and must not be blown up.
    table[seen] = torch.where(spread > 1e-6 * rows.abs().amax(dim=0), centred / spread.clamp(min=1e-30), 0.0)
    return table.float()


def _labelled_batches(
    source: ImageSource, images_per_class: int | None, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    counts = torch.zeros(source.num_classes, dtype=torch.int64)
    images: list[Tensor] = []
    labels: list[int] = []
    for index in range(len(source)):
        if images_per_class is not None and bool((counts >= images_per_class).all()):
            break
        sample = source[index]
        if sample.label is None or (
            images_per_class is not None and counts[sample.label] >= images_per_class
        ):
            continue
        counts[sample.label] += 1
        images.append(torch.as_tensor(sample.image))
        labels.append(sample.label)
        if len(images) == batch_size:
            yield as_rgb(torch.stack(images)), torch.tensor(labels)
            images, labels = [], []
    if images:
        yield as_rgb(torch.stack(images)), torch.tensor(labels)


def rows_by_name(rows: Tensor, theirs: Sequence[str], ours: Sequence[str]) -> Tensor:
    """Rows [len(theirs), D] in the order of our names [len(ours), D]; a name that is new gets their mean."""
    rows_of = {name: row for row, name in enumerate(theirs)}
    mean = rows.mean(dim=0)
    return torch.stack([rows[rows_of[name]] if name in rows_of else mean for name in ours])
