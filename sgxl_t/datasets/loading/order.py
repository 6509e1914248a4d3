"""The order of the images in an epoch: shuffled, and of one class together where that is asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from sgxl_t.datasets.base import ImageSource, StreamSource


def labels_in_order(source: ImageSource, alike: int) -> Tensor | None:
    """Class by index, int64, of images that are to stand together by class; None where alike is 1.

    ValueError where classes cannot be told without reading the images.
    """
    if alike == 1:
        return None
    if isinstance(source, StreamSource):
        raise ValueError(
            f"data.alike={alike} puts images of one class together, and shards come in their own order: "
            "leave it out, or use a folder or an archive"
        )
    known = source.known_labels()
    labels = [label for label in known or () if label is not None]
    if known is None or len(labels) < len(known):
        raise ValueError(
            f"data.alike={alike} puts images of one class together, and these have none: leave it out, or "
            "sort the images into a folder for each class"
        )
    return torch.tensor(labels * (2 if source.mirror else 1))


def shuffled(count: int, labels: Tensor | None, alike: int, rng: torch.Generator) -> Tensor:
    """Indices of `count` images, int64, as drawn from rng.

    With labels [count] every stretch of alike * classes images is sorted by class, the classes in another
    order each time: about `alike` of one class stand together where all are equally frequent.
    """
    order = torch.randperm(count, generator=rng)
    if labels is None:
        return order
    classes = int(labels.max()) + 1
    stretches = []
    for stretch in order.split(alike * classes):
        place = torch.randperm(classes, generator=rng)
        stretches.append(stretch[place[labels[stretch]].argsort(stable=True)])
    return torch.cat(stretches)
