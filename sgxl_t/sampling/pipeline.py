"""A generator with its condition, ready to be asked for pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from sgxl_t.conditioning.condition import Condition
from sgxl_t.model_io.model_folder import DTYPES, ModelInfo, load_model, save_model
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.text.clip import ClipModel
from sgxl_t.sampling.batches import in_batches
from sgxl_t.sampling.best import best_pictures, check_best_of, open_scorer
from sgxl_t.sampling.centroids import Centroids, load_centroids, save_centroids
from sgxl_t.sampling.hub import hub_folder, upload
from sgxl_t.sampling.machine import Machine, Precision, check_precision
from sgxl_t.sampling.requests import check_psi, check_seeds
from sgxl_t.sampling.sample_spec import Mix, Shot, Step, candidates, make_mix, plan_steps, shot_label
from sgxl_t.sampling.truncation import Truncation, check_truncation

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """One picture: the image (RGB, or L of a gray generator), its prompt or class, seed and truncation.

    score: cosine of picture and prompt in CLIP, where it was chosen by that.
    """

    image: Image.Image
    condition: str
    seed: int
    psi: float = 1.0
    score: float | None = None


@dataclass(frozen=True)
class Pictures:
    """The answer to one call, in the order asked for: for every condition, one picture per seed.

    psis: truncation of each. scores: see `Picture`.
    """

    images: list[Image.Image]
    conditions: list[str]
    seeds: list[int]
    psis: list[float]
    scores: list[float | None]

    @classmethod
    def of(cls, pictures: Iterable[Picture]) -> Pictures:
        """All of them, made now."""
        made = list(pictures)
        return cls(
            [picture.image for picture in made],
            [picture.condition for picture in made],
            [picture.seed for picture in made],
            [picture.psi for picture in made],
            [picture.score for picture in made],
        )


class Pipeline(Machine):
    """Pictures from prompts, classes or nothing, by seed.

    A picture is a function of model, condition, seed and truncation: its latent is drawn on the CPU from its
    own seed and its noise is the model's constant one. The same call gives the same bytes again. Another
    batch size, device or precision sums floating point numbers in another order, which may move a channel
    value (0 to 255) by one here and there.
    """

    def __init__(
        self,
        generator: Generator,
        condition: Condition,
        info: ModelInfo | None = None,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "fp32",
        centroids: Centroids | None = None,
    ) -> None:
        """device: torch's name of it; None takes CUDA where there is one. precision: of products.

        centroids: centres for truncation="centroid"; None takes those of the model folder, when it has some.
        """
        check_precision(precision)
        super().__init__(generator, condition, choose_device(device), precision)
        self.info = info
        self._centroids = centroids
        self._warned: set[str] = set()

    @classmethod
    def from_pretrained(
        cls, model: str | Path, *, device: str | torch.device | None = None, precision: Precision = "fp32"
    ) -> Pipeline:
        """Loads a model folder, or a Hub repository by its id "owner/name" (downloaded once, then cached)."""
        folder = Path(model) if Path(model).exists() else hub_folder(str(model))
        generator, condition, info = load_model(folder)
        return cls(generator, condition, info, device=device, precision=precision)

    @property
    def centroids(self) -> Centroids | None:
        """Centres for truncation="centroid", read from the model folder when first needed; None without."""
        if self._centroids is None and self.info is not None:
            self._centroids = load_centroids(self.info.folder, self.generator)
        return self._centroids

    def save_pretrained(
        self, folder: str | Path, *, dtype: Literal["float32", "float16"] = "float32", **provenance: Any
    ) -> Path:
        """Writes a model folder; keywords add to what is known about data, features, seed, licence."""
        known = dict(self.info.provenance) if self.info else {}
        metrics = self.info.metrics if self.info else None
        centroids = self.centroids  # read now: the folder they come from may be the one that is replaced
        path = save_model(folder, self.generator, self.condition, known | provenance, metrics, dtype=dtype)
        if centroids is not None:
            save_centroids(path, centroids, self.generator, DTYPES[dtype])
        return path

    def push_to_hub(self, repository: str, *, private: bool = False, token: str | None = None) -> str:
        """Uploads the model folder to the Hub; returns its address. ValueError when the Hub refuses."""
        return upload(repository, self.save_pretrained, private=private, token=token)

    def __call__(
        self,
        conditions: Any = None,
        *,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        psi: float | Sequence[float] = 1.0,
        cutoff: int | None = None,
        truncation: Truncation = "class",
        mix: Any = None,
        layers: Sequence[int] | str | None = None,
        best_of: int = 1,
        clip: ClipModel | str | None = None,
        batch_size: int | None = None,
    ) -> Pictures:
        """Pictures for every condition and every seed, condition by condition.

        conditions: a prompt or a list of prompts; a class name, number, range "0-9" or a list of these;
            nothing for an unconditional model. seed: one seed; seeds: several, instead of it.
        psi: 1 keeps full variety, towards 0 pictures become typical; one number, or one for each condition.
        cutoff: truncate only the first so many styles.
        truncation: what typical means: "class" for the class or prompt, "centroid" for the nearest of many
            centres (see `sgxl-t centroids`), which keeps more variety, "global" for all classes.
        mix: a second prompt or class whose styles take over these layers: numbers, or text such as "4-9".
        best_of: for seed s, pictures of the seeds s * best_of to s * best_of + best_of - 1 are made and the
            one that fits its prompt best by CLIP is kept, under its own seed. clip: loaded, or by reference
            (`open_clip:MODEL/TAG`, `local:FOLDER`); None takes the model's own, where it has its image tower.
        """
        return Pictures.of(
            self.iterate(
                conditions,
                seeds=seed if seeds is None else seeds,
                psi=psi,
                cutoff=cutoff,
                truncation=truncation,
                mix=mix,
                layers=layers,
                best_of=best_of,
                clip=clip,
                batch_size=batch_size,
            )
        )

    def iterate(
        self,
        conditions: Any = None,
        *,
        seeds: int | Sequence[int] = 0,
        psi: float | Sequence[float] = 1.0,
        cutoff: int | None = None,
        truncation: Truncation = "class",
        mix: Any = None,
        layers: Sequence[int] | str | None = None,
        best_of: int = 1,
        clip: ClipModel | str | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Picture]:
        """The pictures of a call one after the other, so that many need no more memory than one batch."""
        resolved, listed = self.condition.resolve(conditions), check_seeds(seeds)
        psis, mixed = _each(psi, len(resolved)), self.mixed(mix, layers)
        self._warn(resolved if mixed is None else [*resolved, mixed.condition])
        shots = [
            Shot(one, number, own, mixed)
            for one, own in zip(resolved, psis, strict=True)
            for number in listed
        ]
        return self.shoot(
            shots,
            cutoff=cutoff,
            truncation=truncation,
            best_of=best_of,
            clip=clip,
            batch_size=batch_size,
        )

    def pairs(
        self,
        conditions: Sequence[Any],
        seeds: Sequence[int],
        *,
        psi: float | Sequence[float] = 1.0,
        cutoff: int | None = None,
        truncation: Truncation = "class",
        batch_size: int | None = None,
    ) -> Iterator[Picture]:
        """One picture for each condition with the seed at the same place; as many seeds as conditions."""
        resolved, listed = self.condition.resolve(conditions), check_seeds(seeds)
        self._warn(resolved)
        if len(resolved) != len(listed):
            raise ValueError(
                f"{len(resolved)} conditions cannot be paired with {len(listed)} seeds: give one seed each"
            )
        shots = [
            Shot(one, number, own)
            for one, number, own in zip(resolved, listed, _each(psi, len(resolved)), strict=True)
        ]
        return self._produce(shots, self._pull(cutoff, truncation), batch_size)

    def interpolate(
        self,
        conditions: Sequence[Any],
        *,
        frames: int = 7,
        seed: int = 0,
        psi: float | Sequence[float] = 1.0,
        cutoff: int | None = None,
        truncation: Truncation = "class",
        batch_size: int | None = None,
    ) -> Pictures:
        """Pictures on the way from each prompt or class to the next, with `frames` between two of them.

        The first, the last and those in between that show a condition alone are the pictures of a plain call.
        """
        resolved, (number,) = self.condition.resolve(conditions), check_seeds(seed)
        self._warn(resolved)
        keys = [Shot(one, number, own) for one, own in zip(resolved, _each(psi, len(resolved)), strict=True)]
        steps, pull = plan_steps(keys, frames), self._pull(cutoff, truncation)
        return Pictures.of(self._produce(steps, pull, batch_size))

    def shoot(
        self,
        shots: Sequence[Shot] | Sequence[Step],
        *,
        cutoff: int | None = None,
        truncation: Truncation = "class",
        best_of: int = 1,
        clip: ClipModel | str | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Picture]:
        """Pictures of shots, or of the ways between them, that were planned one by one."""
        pull = self._pull(cutoff, truncation)
        if check_best_of(best_of) == 1:
            return self._produce(shots, pull, batch_size)
        plain = [shot for shot in shots if isinstance(shot, Shot) and shot.mix is None]
        if len(plain) < len(shots):
            raise ValueError("best-of compares pictures with one prompt each: leave the mix out")
        scorer = open_scorer(self.condition, clip, self.device)
        check_seeds([shot.seed * best_of + best_of - 1 for shot in plain])
        tried = (one for shot in plain for one in candidates(shot, best_of))
        return best_pictures(self._produce(tried, pull, batch_size), best_of, scorer)

    def mixed(self, other: Any, layers: Sequence[int] | str | None) -> Mix | None:
        """The mix of a prompt or class and layers, checked; None without both."""
        return make_mix(self.condition, other, layers, self.generator.num_ws)

    def _warn(self, conditions: Sequence[Any]) -> None:
        """A warning in the log, once for each pipeline, about words that change no picture."""
        for note in self.condition.reading_notes(conditions):
            if note not in self._warned:
                self._warned.add(note)
                log.warning("%s", note)

    def _pull(self, cutoff: int | None, truncation: Truncation) -> dict[str, Any]:
        """What `truncated_styles` takes besides psi, checked."""
        if cutoff is not None and not 0 <= cutoff <= self.generator.num_ws:
            raise ValueError(
                f"cutoff={cutoff} is no number of styles: the model has 0 to {self.generator.num_ws}"
            )
        centroids = self.centroids if truncation == "centroid" else None
        check_truncation(self.generator, truncation, centroids)
        return {"cutoff": cutoff, "truncation": truncation, "centroids": centroids}

    def _produce(
        self, shots: Iterable[Shot] | Iterable[Step], pull: dict[str, Any], batch_size: int | None
    ) -> Iterator[Picture]:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size={batch_size} makes no picture: use at least 1, or None")
        return self._pictures(shots, pull, batch_size)

    def _pictures(
        self, shots: Iterable[Shot] | Iterable[Step], pull: dict[str, Any], batch_size: int | None
    ) -> Iterator[Picture]:
        size = batch_size or self._painter.batch_size
        listed: Iterator[Any] = iter(shots)
        for shot, image in in_batches(listed, partial(self._images, pull=pull), self._fitting, size):
            first = shot if isinstance(shot, Shot) else shot.first
            yield Picture(to_pil_image(image), shot_label(self.condition, shot), first.seed, shot.psi)


def _each(psi: float | Sequence[float], count: int) -> list[float]:
    """A checked truncation for each of `count` conditions."""
    psis = [psi] * count if isinstance(psi, int | float) else list(psi)
    if len(psis) != count:
        raise ValueError(f"{len(psis)} psi came with {count} conditions: give one for all, or one each")
    return [check_psi(one) for one in psis]


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the best there is; ValueError when it is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(
            f"device {str(device)!r} is not available here: use cpu, or see sgxl-t doctor"
        ) from None
    return chosen
