"""A generator with its condition, ready to be asked for pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from sgxl_t.conditioning.condition import Condition
from sgxl_t.conditioning.model_folder import DTYPES, ModelInfo, load_model, save_model
from sgxl_t.networks.generator import Generator
from sgxl_t.ops.images import to_uint8
from sgxl_t.sampling.centroids import Centroids, load_centroids, save_centroids
from sgxl_t.sampling.requests import check_psi, check_seeds
from sgxl_t.sampling.truncation import Truncation, check_truncation, truncated_styles

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Picture:
    """One picture: the image (RGB), the prompt or class it shows, and its seed."""

    image: Image.Image
    condition: str
    seed: int


@dataclass(frozen=True)
class Pictures:
    """The answer to one call: for every condition, one picture per seed, in the order asked for."""

    images: list[Image.Image]
    conditions: list[str]
    seeds: list[int]


class Pipeline:
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
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is unknown: use {', '.join(PRECISIONS)}")
        self.device = choose_device(device)
        self.generator = generator.eval().requires_grad_(False).to(self.device)
        self.condition = condition.eval().to(self.device)
        self.info = info
        self.precision = precision
        self._centroids = centroids

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
        import tempfile

        from huggingface_hub import HfApi

        with tempfile.TemporaryDirectory() as scratch:
            folder = self.save_pretrained(Path(scratch) / (repository.rsplit("/", 1)[-1] or "model"))
            try:
                api = HfApi(token=token)
                address = api.create_repo(repository, private=private, exist_ok=True)
                api.upload_folder(repo_id=repository, folder_path=folder)
            except Exception as error:
                raise ValueError(f"{repository} could not be uploaded to the Hub: {_brief(error)}") from error
        return str(address)

    def __call__(
        self,
        conditions: Any = None,
        *,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        psi: float = 1.0,
        cutoff: int | None = None,
        truncation: Truncation = "class",
        batch_size: int = 16,
    ) -> Pictures:
        """Pictures for every condition and every seed, condition by condition.

        conditions: a prompt or a list of prompts; a class name, number, range "0-9" or a list of these;
            nothing for an unconditional model. seed: one seed; seeds: several, instead of it.
        psi: 1 keeps full variety, towards 0 pictures become typical; cutoff: only the first so many styles.
        truncation: what typical means: "class" for the class or prompt, "centroid" for the nearest of many
            centres (see `sgxl-t centroids`), which keeps more variety, "global" for all classes.
        """
        wanted = seed if seeds is None else seeds
        pictures = list(
            self.iterate(
                conditions,
                seeds=wanted,
                psi=psi,
                cutoff=cutoff,
                truncation=truncation,
                batch_size=batch_size,
            )
        )
        return Pictures(
            [picture.image for picture in pictures],
            [picture.condition for picture in pictures],
            [picture.seed for picture in pictures],
        )

    def iterate(
        self,
        conditions: Any = None,
        *,
        seeds: int | Sequence[int] = 0,
        psi: float = 1.0,
        cutoff: int | None = None,
        truncation: Truncation = "class",
        batch_size: int = 16,
    ) -> Iterator[Picture]:
        """The pictures of a call one after the other, so that many need no more memory than one batch."""
        resolved, listed = self.condition.resolve(conditions), check_seeds(seeds)
        pull = self._pull(psi, cutoff, truncation)
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} makes no picture: use at least 1")
        return self._produce([(one, number) for one in resolved for number in listed], pull, batch_size)

    def pairs(
        self,
        conditions: Sequence[Any],
        seeds: Sequence[int],
        *,
        psi: float = 1.0,
        cutoff: int | None = None,
        truncation: Truncation = "class",
        batch_size: int = 16,
    ) -> Iterator[Picture]:
        """One picture for each condition with the seed at the same place; as many seeds as conditions."""
        resolved, listed = self.condition.resolve(conditions), check_seeds(seeds)
        pull = self._pull(psi, cutoff, truncation)
        if len(resolved) != len(listed):
            raise ValueError(
                f"{len(resolved)} conditions cannot be paired with {len(listed)} seeds: give one seed each"
            )
        return self._produce(list(zip(resolved, listed, strict=True)), pull, batch_size)

    def _pull(self, psi: float, cutoff: int | None, truncation: Truncation) -> dict[str, Any]:
        """What `truncated_styles` takes, checked."""
        check_psi(psi)
        if cutoff is not None and not 0 <= cutoff <= self.generator.num_ws:
            raise ValueError(
                f"cutoff={cutoff} is no number of styles: the model has 0 to {self.generator.num_ws}"
            )
        centroids = self.centroids if truncation == "centroid" else None
        check_truncation(self.generator, truncation, centroids)
        return {"psi": psi, "cutoff": cutoff, "truncation": truncation, "centroids": centroids}

    def _produce(
        self, jobs: list[tuple[Any, int]], pull: dict[str, Any], batch_size: int
    ) -> Iterator[Picture]:
        for start in range(0, len(jobs), batch_size):
            part = jobs[start : start + batch_size]
            images = self._images([one for one, _ in part], [number for _, number in part], pull)
            for (one, number), image in zip(part, images, strict=True):
                yield Picture(
                    Image.fromarray(image.permute(1, 2, 0).numpy()), self.condition.label(one), number
                )

    @torch.no_grad()
    def _images(self, conditions: list[Any], seeds: list[int], pull: dict[str, Any]) -> Tensor:
        """uint8 [N, 3, R, R] on the CPU."""
        z = latents(seeds, self.generator.z_dim).to(self.device)
        c = self.condition.encode(conditions)
        with self._autocast():
            ws = truncated_styles(self.generator, z, c, **pull)
            images = self.generator.synthesis(ws, noise_mode="const")
        return to_uint8(images).cpu()

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = PRECISIONS[self.precision]
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype=dtype)


def latents(seeds: Sequence[int], z_dim: int) -> Tensor:
    """float32 [N, z_dim], N(0, 1); each row is a function of its own seed alone."""
    return torch.stack([torch.randn(z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


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


def hub_folder(model: str) -> Path:
    """Local copy of a Hub repository that holds a model folder; ValueError when there is none."""
    if not re.fullmatch(r"[\w-][\w.-]{0,95}/[\w.-]{1,96}", model):
        raise ValueError(
            f"{model} is no folder: name a model folder, such as RUN/best, or a Hub id, such as owner/name"
        )
    from huggingface_hub import snapshot_download

    from sgxl_t.networks.hub import hub_reachable

    patterns = ["*.json", "*.safetensors", "README.md", "text_encoder/*"]
    try:
        # Without an answer from the hub only its cache is asked, which fails at once instead of retrying.
        return Path(snapshot_download(model, allow_patterns=patterns, local_files_only=not hub_reachable()))
    except Exception as error:
        raise ValueError(
            f"{model} is no folder here and could not be had from the Hub ({type(error).__name__}): "
            "check the path or the id"
        ) from None


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
