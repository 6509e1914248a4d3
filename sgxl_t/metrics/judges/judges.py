"""Judges of the embedded data: small networks that read what generated pictures show.

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
"""Training pictures on the real side of distances, at most."""
CAPTIONS = 256
"""Captions to choose from in retrieval, at most."""
SMALL_COUNT = 1000
"""Pictures on each side of the headline distance, at most; all there are take part in `frechet_all`."""
_BATCH = 256


class Judge:
    """Reads attributes of pictures and compares them with real ones. Images are uint8 [N, 3, R, R].

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
        """The judge's own features [N, dim]."""
        return torch.cat([self.net(part)[0].cpu() for part in self._parts(images)])

    def read(self, images: Tensor) -> Tensor:
        """What the pictures show: int64 [N, len(attributes)]."""
        answers = [
            torch.stack([logits.argmax(1).cpu() for logits in self.net(part)[1].values()], dim=1)
            for part in self._parts(images)
        ]
        return torch.cat(answers)

    def accuracy(
        self, images: Tensor, requested: Tensor, attributes: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Share of pictures read as requested, by attribute and for `all` of these attributes together."""
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
        """Share of pictures whose own caption is the nearest of at most 256 with distinct attributes."""
        first: dict[tuple[int, ...], int] = {}
        for index, row in enumerate(requested.reshape(len(images), -1).tolist()):
            first.setdefault(tuple(row), index)
        chosen = list(first.values())[:CAPTIONS]
        pictures, texts = self._embed(images[chosen], [captions[index] for index in chosen])
        nearest = (pictures @ texts.T).argmax(1)
        return float((nearest == torch.arange(len(chosen))).double().mean())

    def clip_score(self, images: Tensor, captions: Sequence[str]) -> float:
        """Mean cosine of pictures and their captions in the judge's own CLIP."""
        pictures, texts = self._embed(images, captions)
        return float((pictures * texts).sum(1).double().mean())

    def _embed(self, images: Tensor, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Unit vectors [N, dim] of pictures and captions."""
        if self.clip is None:
            raise ValueError(f"the judge of {self.reference} knows no captions: leave them out")
        pictures = torch.cat([self.clip.encode_image(part).cpu() for part in self._parts(images)])
        return pictures, self.clip.encode_text(list(captions)).cpu()

    def report(
        self,
        images: Tensor,
        requested: Tensor,
        captions: Sequence[str] | None = None,
        *,
        attributes: Sequence[str] | None = None,
        at: int | None = None,
    ) -> dict[str, Any]:
        """All figures of generated pictures, each beside its value on real ones.

        The requests should follow the `test` split (its labels or captions), since the pictures are compared
        with real ones as a whole. Real pictures have the side of the generated ones, at most the judge's, and
        go the same way into the judge. at: another side for both, at most the judge's; generated pictures are
        brought to it first, bicubically where they are smaller. Pictures of 32 px at 64 thus meet real ones
        of 64 px, and the sharpness that they lack counts against them.

        Keys: judge, its data set and hash; resolution, the side of the real pictures; images; accuracy and
        accuracy_real (see `accuracy`); frechet, between the first frechet_images pictures and as many
        training pictures, and frechet_floor, the same for test pictures; frechet_all and frechet_all_floor,
        with frechet_all_images pictures against up to 4,000 training pictures; precision, recall and
        recall_real on as many as that on both sides; with captions retrieval_at_1 and retrieval_at_1_real.
        """
        if at is not None:
            if at < 1 or self.resolution % at:
                raise ValueError(
                    f"at={at} is no side for a judge of {self.resolution} px: use that or a part of it, "
                    "or load the judge of another resolution"
                )
            images = resized(images, at)
        side = min(images.shape[-1], self.resolution)
        real, shown, real_captions = self._test_pictures(side)
        shown = shown[:, self._columns(self.attributes if attributes is None else attributes)]
        training = self._training_features(side)
        count = min(len(images), len(real))
        features, floor = self.features(images)[:count], self.features(real)[:count]
        precision, recall = precision_recall(training[:count], features)
        few = min(count, SMALL_COUNT)
        result = {
            "judge": f"{self.reference} {self.hash}",
            "resolution": side,
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

    def _training_features(self, side: int) -> Tensor:
        """Features of training pictures, shuffled so that any leading part is a fair sample."""
        if side not in self._training:
            features = self.features(read_source(self.reference, side, "train", TRAINING_COUNT)[0])
            order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
            self._training[side] = features[order]
        return self._training[side]

    def _test_pictures(self, side: int) -> tuple[Tensor, Tensor, list[str]]:
        if side not in self._test:
            self._test[side] = read_source(self.reference, side, "test")
        return self._test[side]

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


def resized(images: Tensor, side: int) -> Tensor:
    """Pictures uint8 [N, 3, R, R] at another side: averaged from a multiple of it, bicubic from a part of it.

    ValueError for other pictures and sides.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images of {images.dtype} and shape {tuple(images.shape)} were given: "
            "judges read uint8 pictures [N, 3, R, R]"
        )
    own = images.shape[-1]
    if images.shape[-2] != own or (own % side and side % own):
        raise ValueError(
            f"pictures of {images.shape[-2]} x {own} px cannot be judged at {side} px: "
            "use that size, a multiple or a part of it"
        )
    if own == side:
        return images
    if own > side:
        return F.avg_pool2d(images.float(), own // side).round().to(torch.uint8)
    # Bicubic, since the judge of 32 px misreads three in a hundred real scenes of 16 px enlarged bilinearly.
    large = F.interpolate(images.float(), (side, side), mode="bicubic", align_corners=False)
    return large.round().clamp(0, 255).to(torch.uint8)


def load_judge(reference: str, resolution: int | None = None) -> Judge:
    """The packaged judge of a data set: its default one, or the one for pictures of `resolution` px.

    That is the smallest whose side is at least the resolution, or the largest where none is. ValueError for a
    data set that has none.
    """
    if reference not in JUDGE_FILES:
        raise ValueError(f"there is no judge for {reference!r}: judges exist for {', '.join(JUDGE_FILES)}")
    sides = JUDGE_FILES[reference]
    if resolution is None:
        side = next(iter(sides))
    else:
        side = min((known for known in sides if known >= resolution), default=max(sides))
    return Judge(Path(str(files("sgxl_t.metrics.judges") / "assets" / sides[side])))


def read_source(
    reference: str, resolution: int, split: str, limit: int | None = None, *, seed: int | None = None
) -> tuple[Tensor, Tensor, list[str]]:
    """Pictures uint8 [N, 3, R, R], attributes int64 [N, A] and captions of an embedded data set.

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
    pictures = torch.stack([sample.image for sample in samples])
    return pictures, torch.tensor(attributes), [sample.caption or "" for sample in samples]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
