"""Generated images by index: what metrics ask of them, and those of a generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from sgxl_t.conditioning.condition import Condition
from sgxl_t.conditioning.generate import images_of
from sgxl_t.datasets.base import ImageSource
from sgxl_t.datasets.decode import Size
from sgxl_t.datasets.images.listed import ListedSource
from sgxl_t.metrics.processes import NotFiniteError
from sgxl_t.metrics.sampling_rng import exact, sample_latents
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.ops.images import to_uint8
from sgxl_t.ops.random import sample_rng

ClassSampling = Literal["uniform", "dataset", "balanced"]
CLASS_SAMPLING: tuple[ClassSampling, ...] = ("uniform", "dataset", "balanced")


class GeneratedImages(Protocol):
    """Images to be measured. Image i depends on i alone, never on the batch it is asked for in."""

    size: Size
    """Height and width in pixels."""

    def check_count(self, count: int) -> None:
        """Raises ValueError where there are fewer images than that."""

    def images(self, indices: Sequence[int]) -> Tensor:
        """uint8 [n, 3, H, W] on any device."""

    def describe(self) -> dict[str, Any]:
        """What made these images, as JSON values, for results."""


class GeneratorImages:
    """Images of a generator with constant noise; image i is drawn from the seed + i.

    Latents are those `sgxl-t sample --seeds` draws; classes and captions are drawn independently of them. At
    another batch size sums are taken in another order, which moves a few values in 100,000 by one.
    class_sampling: "uniform" draws classes evenly (StyleGAN-XL), "dataset" draws the labels of images of
    `source` with replacement (StyleGAN2, 3), "balanced" takes the classes in turn. Text models draw captions
    of `source` with replacement (StyleGAN-T), unless `captions` gives one for each image.
    """

    def __init__(
        self,
        generator: Generator,
        condition: Condition,
        *,
        seed: int = 0,
        psi: float = 1.0,
        class_sampling: ClassSampling = "uniform",
        source: ImageSource | None = None,
        captions: Sequence[str] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """facts: what else results state, such as the model's path and hash."""
        if class_sampling not in CLASS_SAMPLING:
            raise ValueError(f"class_sampling={class_sampling!r} is unknown: use {', '.join(CLASS_SAMPLING)}")
        self.generator, self.condition = generator, condition
        self.seed, self.psi, self.class_sampling = seed, psi, class_sampling
        self.captions, self.facts = captions, facts or {}
        self.size = (generator.img_resolution, generator.img_resolution)
        self.annotations = None if source is None else Annotations(source)
        self._drawn: dict[int, Any] = {}
        _check_annotations(self)

    @property
    def sampling(self) -> str:
        """How conditions are drawn: the class rule, captions, or none."""
        if self.condition.kind == "class":
            return self.class_sampling
        if self.condition.kind == "none":
            return "none"
        return "captions of the data" if self.captions is None else "list of captions"

    def check_count(self, count: int) -> None:
        """Raises ValueError when a list of captions is shorter than that."""
        if self.condition.kind == "text" and self.captions is not None and len(self.captions) < count:
            raise ValueError(
                f"the list of captions has {len(self.captions)} lines and {count} pictures are asked for: "
                "give one line each, or measure fewer pictures"
            )

    def conditions(self, indices: Sequence[int]) -> list[Any]:
        """Class, caption or None of each image."""
        return [self._condition(index) for index in indices]

    def encoded(self, indices: Sequence[int]) -> Conditioning:
        """The same as a Conditioning [n] on the generator's device."""
        return self.condition.encode(self.conditions(indices)).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the generator is."""
        return next(self.generator.parameters()).device

    def images(self, indices: Sequence[int]) -> Tensor:
        """uint8 [n, 3, R, R] on the generator's device; NotFiniteError for images with NaN."""
        z = sample_latents(self.seed, indices, self.generator.z_dim).to(self.device)
        with exact(self.device):
            images = images_of(self.generator, self.encoded(indices), z, psi=self.psi)
        broken = len(images) - int(torch.isfinite(images).flatten(1).all(1).sum())
        if broken:
            raise NotFiniteError(
                f"{broken} of {len(images)} generated pictures hold NaN or infinite values: "
                "use another snapshot of the model"
            )
        return to_uint8(images)

    def describe(self) -> dict[str, Any]:
        """Model, truncation, seed and sampling rule."""
        return {**self.facts, "psi": self.psi, "sampler_seed": self.seed, "sampling": self.sampling}

    def _condition(self, index: int) -> Any:
        kind = self.condition.kind
        if kind == "none":
            return None
        if kind == "text" and self.captions is not None:
            return self.captions[index]
        if kind == "class" and self.class_sampling != "dataset":
            classes = self.condition.spec.num_classes
            if self.class_sampling == "balanced":
                return index % classes
            return int(torch.randint(classes, (), generator=sample_rng(self.seed, index, "class")))
        if index not in self._drawn:
            assert self.annotations is not None
            rng = sample_rng(self.seed, index, "note")
            chosen = int(torch.randint(len(self.annotations.source), (), generator=rng))
            read = self.annotations.label if kind == "class" else self.annotations.caption
            self._drawn[index] = read(chosen)
        return self._drawn[index]


class Annotations:
    """Labels and captions of a data set by index; images are decoded only where nothing lists them."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def label(self, index: int) -> int:
        """Class of an image."""
        label = self._entry(index).label
        assert label is not None
        return label

    def caption(self, index: int) -> str:
        """Caption of an image."""
        return self._entry(index).caption or ""

    def _entry(self, index: int) -> Any:
        if isinstance(self.source, ListedSource):
            return self.source.entries[index % len(self.source.entries)]
        return self.source[index]


def _check_annotations(generated: GeneratorImages) -> None:
    """Raises ValueError where the conditions cannot be drawn as asked."""
    kind = generated.condition.kind
    draws_labels = kind == "class" and generated.class_sampling == "dataset"
    draws_captions = kind == "text" and generated.captions is None
    if not draws_labels and not draws_captions:
        return
    if generated.annotations is None:
        wanted = "labels" if draws_labels else "captions"
        raise ValueError(f"the model's {wanted} are drawn from data and none is given: name it with --data")
    generated.annotations.source.require(labels=draws_labels, captions=draws_captions)
    classes, known = generated.condition.spec.num_classes, generated.annotations.source.num_classes
    if draws_labels and classes != known:
        raise ValueError(
            f"the model has {classes} classes and the data {known}, so labels of the data do not fit: "
            "name the data of the model, or use --class-sampling uniform"
        )


def shown_size(size: Size) -> str:
    """A height and width as people write them: "96 px", or "48 x 32 px", the width first."""
    height, width = size
    return f"{width} px" if width == height else f"{width} x {height} px"
