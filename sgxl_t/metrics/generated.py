"""The generated side of a metric: pictures by index, from a generator or from files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sgxl_t.conditioning.condition import Condition
from sgxl_t.conditioning.generate import images_of
from sgxl_t.datasets.base import ImageSource
from sgxl_t.datasets.decode import Bounds, Size, is_image, open_image, to_rgb
from sgxl_t.datasets.images.folder import list_folder
from sgxl_t.datasets.images.listed import ListedSource
from sgxl_t.datasets.images.zip import check_archive
from sgxl_t.datasets.rejects import RejectedItemError, Rejects
from sgxl_t.files.content import file_hash, file_hashes, short_hash
from sgxl_t.files.regular import open_regular
from sgxl_t.files.terminal import visible
from sgxl_t.metrics.processes import NotFiniteError
from sgxl_t.metrics.sampling_rng import exact, sample_latents
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.ops.images import to_uint8
from sgxl_t.ops.random import sample_rng

ClassSampling = Literal["uniform", "dataset", "balanced"]
CLASS_SAMPLING: tuple[ClassSampling, ...] = ("uniform", "dataset", "balanced")
MODEL_FILES = ("config.json", "generator.safetensors", "labels.json", "text_encoder")


class Fakes(Protocol):
    """Pictures to be measured; picture i depends on i alone, never on the batch it is asked for in."""

    size: Size
    """Height and width in pixels."""

    def check_count(self, count: int) -> None:
        """Raises ValueError where there are fewer pictures than that."""

    def pictures(self, indices: Sequence[int]) -> Tensor:
        """uint8 [n, 3, H, W] on any device."""

    def describe(self) -> dict[str, Any]:
        """What makes these pictures, as JSON values, for the record."""


class GeneratorFakes:
    """Pictures of a generator with constant noise. Picture i is made from the random stream of seed + i.

    Latents are those `sgxl-t sample --seeds` draws; classes and captions have streams of their own. Another
    batch size sums in another order, which moves a channel value by one in some hundred thousand.
    class_sampling: "uniform" draws classes evenly (StyleGAN-XL), "dataset" draws the labels of pictures of
    `source` with replacement (StyleGAN2, 3), "balanced" takes the classes in turn. Text models draw captions
    of `source` with replacement (StyleGAN-T), unless `captions` gives one for each picture.
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
        about: dict[str, Any] | None = None,
    ) -> None:
        """about: further facts for the record, such as the model's path and hash."""
        if class_sampling not in CLASS_SAMPLING:
            raise ValueError(f"class_sampling={class_sampling!r} is unknown: use {', '.join(CLASS_SAMPLING)}")
        self.generator, self.condition = generator, condition
        self.seed, self.psi, self.class_sampling = seed, psi, class_sampling
        self.captions, self.about = captions, about or {}
        self.size = (generator.img_resolution, generator.img_resolution)
        self.notes = None if source is None else Notes(source)
        self._drawn: dict[int, Any] = {}
        _check_notes(self)

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
        """Class, caption or None of each picture."""
        return [self._condition(index) for index in indices]

    def encoded(self, indices: Sequence[int]) -> Conditioning:
        """The same as the generator takes them."""
        return self.condition.encode(self.conditions(indices)).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the generator is."""
        return next(self.generator.parameters()).device

    def pictures(self, indices: Sequence[int]) -> Tensor:
        """uint8 [n, 3, R, R] on the generator's device; NotFiniteError for pictures with NaN."""
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
        return {**self.about, "psi": self.psi, "sampler_seed": self.seed, "sampling": self.sampling}

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
            assert self.notes is not None
            rng = sample_rng(self.seed, index, "note")
            chosen = int(torch.randint(len(self.notes.source), (), generator=rng))
            note = self.notes.label if kind == "class" else self.notes.caption
            self._drawn[index] = note(chosen)
        return self._drawn[index]


class Notes:
    """Labels and captions of a data set by index, without decoding pictures where they are listed."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def label(self, index: int) -> int:
        """Class of a picture."""
        label = self._entry(index).label
        assert label is not None
        return label

    def caption(self, index: int) -> str:
        """Caption of a picture."""
        return self._entry(index).caption or ""

    def _entry(self, index: int) -> Any:
        if isinstance(self.source, ListedSource):
            return self.source.entries[index % len(self.source.entries)]
        return self.source[index]


def _check_notes(fakes: GeneratorFakes) -> None:
    """Raises ValueError where the conditions cannot be drawn as asked."""
    kind = fakes.condition.kind
    draws_labels = kind == "class" and fakes.class_sampling == "dataset"
    draws_captions = kind == "text" and fakes.captions is None
    if not draws_labels and not draws_captions:
        return
    if fakes.notes is None:
        wanted = "labels" if draws_labels else "captions"
        raise ValueError(f"the model's {wanted} are drawn from data and none is given: name it with --data")
    fakes.notes.source.require(labels=draws_labels, captions=draws_captions)
    classes, known = fakes.condition.spec.num_classes, fakes.notes.source.num_classes
    if draws_labels and classes != known:
        raise ValueError(
            f"the model has {classes} classes and the data {known}, so labels of the data do not fit: "
            "name the data of the model, or use --class-sampling uniform"
        )


class PictureFakes:
    """Pictures of a folder (searched whole) or a zip, all of one size, whichever, in a fixed shuffled order.

    Generated pictures often lie class by class; the shuffle keeps splits and leading parts fair.
    """

    def __init__(self, path: str | Path, *, seed: int = 0) -> None:
        """Raises ValueError when there are no pictures or their sizes differ."""
        self.path, self.seed = Path(path), seed
        self.files = _PictureFiles(self.path)
        sizes = self.files.sizes()
        if len(sizes) > 1:
            (first, one), (second, other) = list(sizes.items())[:2]
            raise ValueError(
                f"{self.path} holds pictures of different sizes, such as {first[0]} x {first[1]} ({one}) and "
                f"{second[0]} x {second[1]} ({other}): a metric needs one size, which "
                "`sgxl-t prepare SRC DEST.zip --resolution R` gives them"
            )
        width, height = next(iter(sizes))
        self.size = (height, width)
        rng = torch.Generator().manual_seed(seed)
        self.order = torch.randperm(len(self.files.names), generator=rng).tolist()

    def check_count(self, count: int) -> None:
        """Raises ValueError where there are fewer pictures than that."""
        if len(self.order) < count:
            raise ValueError(
                f"{self.path} holds {len(self.order)} pictures and {count} are asked for: make more, or name "
                f"a metric of fewer, such as fid{len(self.order)}"
            )

    def pictures(self, indices: Sequence[int]) -> Tensor:
        """uint8 [n, 3, H, W] on the CPU."""
        return torch.stack([self.files.read(self.order[index]) for index in indices])

    def describe(self) -> dict[str, Any]:
        """Where the pictures are and their hash."""
        return {
            "model": visible(self.path),
            "model_hash": self.files.fingerprint,
            "psi": None,
            "sampler_seed": None,
            "sampling": "pictures",
        }


class _PictureFiles:
    """Names, sizes and contents of picture files of a folder or zip; each process opens its own archive."""

    def __init__(self, path: Path) -> None:
        self.path, self.archive, self.rejects = path, None, Rejects()
        if path.is_dir():
            names = list(list_folder(path, self.rejects).sizes)
        else:
            try:
                self.archive = zipfile.ZipFile(path)
            except (zipfile.BadZipFile, OSError, EOFError) as error:
                raise ValueError(f"{path} is no whole zip ({error}): make it again") from None
            names = list(check_archive(self.archive, path, Bounds(min_side=1)))
        if self.rejects.items:
            name, reason, _ = self.rejects.items[0]
            raise self._unusable(name, reason)
        self.names = sorted(name for name in names if is_image(name))
        for name in names:
            if not is_image(name):
                self.rejects.pass_over("file that is no picture", name)
        if len(self.names) < 2:
            raise ValueError(f"{path} holds {len(self.names)} pictures: a metric needs at least 2")

    def sizes(self) -> dict[tuple[int, int], str]:
        """Width and height of all pictures, each with the first name that has it."""
        found: dict[tuple[int, int], str] = {}
        for name in self.names:
            with self._stream(name) as file:
                found.setdefault(self._opened(name, file).size, name)
        return found

    def read(self, index: int) -> Tensor:
        """uint8 [3, H, W]."""
        name = self.names[index]
        with self._stream(name) as file:
            picture = self._opened(name, file)
            try:
                pixels = np.array(to_rgb(picture))
            except Exception as error:
                raise self._unusable(name, str(error) or type(error).__name__) from None
        return torch.from_numpy(pixels).permute(2, 0, 1)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits over names and contents."""
        if self.archive is not None:
            return short_hash(*self.names, file_hash(self.path))
        paths = [os.path.join(self.path, name) for name in self.names]
        return short_hash(*self.names, *file_hashes(paths, name=str(self.path)))

    def _stream(self, name: str) -> BinaryIO:
        try:
            if self.archive is None:
                return open_regular(self.path / name)
            return cast("BinaryIO", self.archive.open(name))
        except Exception as error:  # broken archives end in many kinds of errors
            raise self._unusable(name, str(error) or type(error).__name__) from None

    def _opened(self, name: str, file: BinaryIO) -> Image.Image:
        try:
            return open_image(file, Bounds(min_side=1))
        except RejectedItemError as error:
            raise self._unusable(name, str(error)) from None

    def _unusable(self, name: str, reason: str) -> ValueError:
        return ValueError(f"{visible(self.path / name)} is no usable picture ({visible(reason)}): remove it")


def shown_size(size: Size) -> str:
    """A height and width as people write them: "96 px", or "48 x 32 px", the width first."""
    height, width = size
    return f"{width} px" if width == height else f"{width} x {height} px"


def model_hash(folder: str | Path) -> str:
    """Sixteen hex digits over all files of a model folder that change its pictures."""
    places = [Path(folder) / name for name in MODEL_FILES]
    files = [path for place in places for path in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    files = [path for path in files if path.is_file()]
    names = [path.relative_to(folder).as_posix() for path in files]
    return short_hash(*names, *file_hashes([str(path) for path in files], name=str(folder)))
