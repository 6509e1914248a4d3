"""Judges of the embedded data: small networks that recognise what generated images show.

They ship in the package as trained by `scripts/train_judges.py`. No network that trains a generator
(features, guidance, class table, text encoder) shares their weights, architecture or random seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.datasets.base import Sample
from sgxl_t.datasets.open import open_source
from sgxl_t.files.content import file_hash
from sgxl_t.files.untrusted import parse_json
from sgxl_t.metrics.distances.frechet import frechet_distance
from sgxl_t.metrics.distances.prdc import precision_recall
from sgxl_t.metrics.features.weights import fill
from sgxl_t.metrics.judges.judge_networks import AttributeNet, JudgeClip

JUDGE_FILES = {
    "digits": {16: "judge_digits.safetensors"},
    "emoji-scenes:24x8": {32: "judge_emoji_scenes.safetensors", 64: "judge_emoji_scenes_64.safetensors"},
}
"""Data set reference and resolution to the file of the judge; the first of a data set is its default."""
TRAINING_COUNT = 4000
"""Training images that distances compare with, at most."""
CAPTIONS = 256
"""Captions to choose from in retrieval, at most."""
SMALL_COUNT = 1000
"""Images of each kind in the headline distance, at most; `frechet_all` takes all there are."""
_BATCH = 256


class Judge:
    """Recognises attributes of images and compares them with real ones. Images are uint8 [N, 3, R, R].

    R is the judge's resolution, a multiple of it, which is reduced by averaging, or a part of it, which is
    enlarged bicubically. attributes: names in order with their number of values; `requested` is int64
    [N, len(attributes)], or [N] where there is only one. Methods that take `attributes` look at the named
    ones alone, in the order given: ("object",) for a class model of emoji-scenes, whose labels are these.
    """

    def __init__(self, path: Path) -> None:
        """path: a safetensors file that `scripts/train_judges.py` wrote."""
        with safe_open(path, framework="pt") as file:
            facts = parse_json((file.metadata() or {}).get("judge", "null"), f"{path}, its facts")
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        self.reference = facts["reference"].text(100)
        self.resolution = facts["resolution"].integer(1, 4096)
        kinds = facts["attributes"]
        self.attributes = {name: kinds[name].integer(1, 10_000) for name in kinds.keys()}  # noqa: SIM118
        self.facts: dict[str, Any] = facts.raw
        self.hash = file_hash(path).hex()[:16]
        dim = facts["dim"].integer(1, 4096)
        widths = [width.integer(8, 4096) for width in facts["widths"].rows(8)]
        stride = facts["stem_stride"].integer(1, 8)
        vocabulary = [word.text(100) for word in facts["vocabulary"].rows(100_000)]
        self.net = AttributeNet(widths, dim, self.attributes, stride)
        fill(self.net, _part(tensors, "net."), path)
        self.net.eval().requires_grad_(False)
        self.clip: JudgeClip | None = None
        if vocabulary:
            self.clip = JudgeClip(widths, dim, vocabulary, stride)
            fill(self.clip, _part(tensors, "clip."), path)
            self.clip.eval().requires_grad_(False)
        self._training: dict[int, Tensor] = {}
        self._test: dict[int, tuple[Tensor, Tensor, list[str]]] = {}

    def to(self, device: torch.device | str) -> Judge:
        """Moves the networks; results stay on the CPU."""
        self.net.to(device)
        if self.clip is not None:
            self.clip.to(device)
        return self

    def features(self, images: Tensor) -> Tensor:
        """The judge's own features, float32 [N, dim], of images uint8 [N, 3, R, R]."""
        return torch.cat([self.net(part)[0].cpu() for part in self._parts(images)])

    def read(self, images: Tensor) -> Tensor:
        """What images uint8 [N, 3, R, R] show: int64 [N, len(attributes)]."""
        answers = [
            torch.stack([logits.argmax(1).cpu() for logits in self.net(part)[1].values()], dim=1)
            for part in self._parts(images)
        ]
        return torch.cat(answers)

    def accuracy(
        self, images: Tensor, requested: Tensor, attributes: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Share of images recognised as requested, by attribute and for `all` of these attributes together.

        images: uint8 [N, 3, R, R]. requested: int64 [N, len(attributes)].
        """
        names = list(self.attributes) if attributes is None else list(attributes)
        columns = self._columns(names)
        requested = requested.reshape(len(images), -1).cpu()
        if requested.shape[1] != len(names):
            raise ValueError(
                f"{requested.shape[1]} attributes were requested but {len(names)} are to be read: "
                f"give {', '.join(names)} in this order, or name fewer attributes"
            )
        right = self.read(images)[:, columns] == requested
        shares = right.double().mean(0).tolist()
        return {"all": float(right.all(1).double().mean()), **dict(zip(names, shares, strict=True))}

    def retrieval_at_1(self, images: Tensor, requested: Tensor, captions: Sequence[str]) -> float:
        """Share of images whose own caption is the nearest of at most 256 with distinct attributes.

        images: uint8 [N, 3, R, R]. requested: int64 [N, len(attributes)]. captions: one per image.
        """
        first: dict[tuple[int, ...], int] = {}
        for index, row in enumerate(requested.reshape(len(images), -1).tolist()):
            first.setdefault(tuple(row), index)
        chosen = list(first.values())[:CAPTIONS]
        pictured, texts = self._embed(images[chosen], [captions[index] for index in chosen])
        nearest = (pictured @ texts.T).argmax(1)
        return float((nearest == torch.arange(len(chosen))).double().mean())

    def clip_score(self, images: Tensor, captions: Sequence[str]) -> float:
        """Mean cosine of images uint8 [N, 3, R, R] and their captions in the judge's own CLIP."""
        pictured, texts = self._embed(images, captions)
        return float((pictured * texts).sum(1).double().mean())

    def _embed(self, images: Tensor, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Unit vectors [N, dim] of images and of captions."""
        if self.clip is None:
            raise ValueError(f"the judge of {self.reference} knows no captions: leave them out")
        pictured = torch.cat([self.clip.encode_image(part).cpu() for part in self._parts(images)])
        return pictured, self.clip.encode_text(list(captions)).cpu()

    def report(
        self,
        images: Tensor,
        requested: Tensor,
        captions: Sequence[str] | None = None,
        *,
        attributes: Sequence[str] | None = None,
        at: int | None = None,
    ) -> dict[str, Any]:
        """All numbers of generated images uint8 [N, 3, R, R], each beside its value on real ones.

        requested: int64 [N, len(attributes)], and captions should follow the `test` split, since the images
        are compared with real ones as a whole. Real images have the resolution of the generated ones, at
        most the judge's, and are resized for the judge in the same way. at: another resolution for both, at
        most the judge's; generated images are resized to it first, bicubically where they are smaller. Images
        of 32 px with at=64 are thus compared with real ones of 64 px, and their lack of sharpness counts.

        Keys: judge, its data set and hash; resolution, of the real images; images; accuracy and
        accuracy_real (see `accuracy`); frechet, between the first frechet_images images and as many
        training images, and frechet_floor, the same for test images; frechet_all and frechet_all_floor,
        with frechet_all_images images against up to 4,000 training images; precision, recall and
        recall_real on as many of each; with captions retrieval_at_1 and retrieval_at_1_real.
        """
        if at is not None:
            if at < 1 or self.resolution % at:
                raise ValueError(
                    f"at={at} does not divide the {self.resolution} px of the judge: use that or a part "
                    "of it, or load the judge of another resolution"
                )
            images = resized(images, at)
        resolution = min(images.shape[-1], self.resolution)
        real, shown, real_captions = self._test_images(resolution)
        shown = shown[:, self._columns(self.attributes if attributes is None else attributes)]
        training = self._training_features(resolution)
        count = min(len(images), len(real))
        features, floor = self.features(images)[:count], self.features(real)[:count]
        precision, recall = precision_recall(training[:count], features)
        few = min(count, SMALL_COUNT)
        result = {
            "judge": f"{self.reference} {self.hash}",
            "resolution": resolution,
            "images": len(images),
            "accuracy": self.accuracy(images, requested, attributes),
            "accuracy_real": self.accuracy(real, shown, attributes),
            "frechet": frechet_distance(features[:few], training[:few]),
            "frechet_floor": frechet_distance(floor[:few], training[:few]),
            "frechet_images": few,
            "frechet_all": frechet_distance(features, training),
            "frechet_all_floor": frechet_distance(floor, training),
            "frechet_all_images": count,
            "precision": precision,
            "recall": recall,
            "recall_real": precision_recall(training[:count], floor)[1],
        }
        if captions is not None:
            result["retrieval_at_1"] = self.retrieval_at_1(images, requested, captions)
            result["retrieval_at_1_real"] = self.retrieval_at_1(real, shown, real_captions)
        return result

    def _training_features(self, resolution: int) -> Tensor:
        """Features of training images, shuffled so that any leading part is a fair sample."""
        if resolution not in self._training:
            features = self.features(read_source(self.reference, resolution, "train", TRAINING_COUNT)[0])
            order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
            self._training[resolution] = features[order]
        return self._training[resolution]

    def _test_images(self, resolution: int) -> tuple[Tensor, Tensor, list[str]]:
        if resolution not in self._test:
            self._test[resolution] = read_source(self.reference, resolution, "test")
        return self._test[resolution]

    def _columns(self, names: Iterable[str]) -> list[int]:
        known = list(self.attributes)
        for name in names:
            if name not in known:
                raise ValueError(
                    f"the judge of {self.reference} reads no {name!r}: name some of {', '.join(known)}"
                )
        return [known.index(name) for name in names]

    def _parts(self, images: Tensor) -> Iterator[Tensor]:
        device = next(self.net.parameters()).device
        return (resized(part.to(device), self.resolution) for part in images.split(_BATCH))


def resized(images: Tensor, resolution: int) -> Tensor:
    """Images uint8 [N, 3, R, R] at another resolution, which divides R (averaged) or is a multiple of it
    (bicubic).

    ValueError for other images and resolutions.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images of {images.dtype} and shape {tuple(images.shape)} were given: "
            "judges read uint8 pictures [N, 3, R, R]"
        )
    own = images.shape[-1]
    if images.shape[-2] != own or (own % resolution and resolution % own):
        raise ValueError(
            f"pictures of {images.shape[-2]} x {own} px cannot be judged at {resolution} px: "
            "use that size, a multiple or a part of it"
        )
    if own == resolution:
        return images
    if own > resolution:
        return F.avg_pool2d(images.float(), own // resolution).round().to(torch.uint8)
    # Bicubic, since the judge of 32 px misreads three in a hundred real scenes of 16 px enlarged bilinearly.
    large = F.interpolate(images.float(), (resolution, resolution), mode="bicubic", align_corners=False)
    return large.round().clamp(0, 255).to(torch.uint8)


def load_judge(reference: str, resolution: int | None = None) -> Judge:
    """The packaged judge of a data set: its default one, or the one for images of `resolution` px.

    That is the smallest whose resolution is at least this one, or the largest where none is. ValueError for a
    data set that has none.
    """
    if reference not in JUDGE_FILES:
        raise ValueError(f"there is no judge for {reference!r}: judges exist for {', '.join(JUDGE_FILES)}")
    known = JUDGE_FILES[reference]
    if resolution is None:
        chosen = next(iter(known))
    else:
        chosen = min((one for one in known if one >= resolution), default=max(known))
    return Judge(Path(str(files("sgxl_t.metrics.judges") / "assets" / known[chosen])))


def read_source(
    reference: str, resolution: int, split: str, limit: int | None = None, *, seed: int | None = None
) -> tuple[Tensor, Tensor, list[str]]:
    """Images uint8 [N, 3, R, R], attributes int64 [N, A] and captions of an embedded data set.

    seed: another seed of the drawings than the data set's own, where it has drawings.
    """
    source: Any = open_source(reference, resolution=resolution, split=split)
    if seed is not None:
        source = type(source)(source.subset, resolution=resolution, split=split, seed=seed)
    count = len(source) if limit is None else min(limit, len(source))
    samples: list[Sample] = [source[index] for index in range(count)]
    if hasattr(source, "attributes"):
        attributes = [source.attributes(index) for index in range(count)]
    else:
        attributes = [(sample.label,) for sample in samples]
    images = torch.stack([sample.image for sample in samples])
    return images, torch.tensor(attributes), [sample.caption or "" for sample in samples]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
