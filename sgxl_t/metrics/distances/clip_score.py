"""CLIP score: does the image show its prompt? (Hessel et al. 2021; Sauer et al. 2023)"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.metrics.features.weights import find_weights, load_weights
from sgxl_t.metrics.generated import GeneratedImages
from sgxl_t.metrics.sampling_rng import exact, per_sample
from sgxl_t.networks.frozen import load_clip
from sgxl_t.networks.text.clip import ClipModel
from sgxl_t.networks.text.open_clip_model import OpenClipModel, check_open_clip

DEFAULT_CLIP = "open_clip:ViT-g-14/laion2b_s12b_b42k"
"""What StyleGAN-T reports: 1024 numbers, images of 224 px, captions of 77 tokens."""

CACHE_ENTRIES = 100_000


class ClipScore:
    """Cosines of images and prompts in the space of one CLIP.

    Images are divided by 255, resized (bicubic, straight to CLIP's square) and normalised as its weights
    ask for. The papers' numbers are made without antialiasing, which changes them.
    """

    def __init__(
        self,
        clip: ClipModel | str = DEFAULT_CLIP,
        *,
        antialias: bool = False,
        weights: str | Path | None = None,
        sha256: str | None = None,
    ) -> None:
        """clip: a loaded CLIP with both towers, or its reference (`open_clip:MODEL/TAG`, `local:FOLDER`).

        weights, sha256: for an open_clip reference, a file or URL that the weights come from (see
        `clip_of_file`).
        """
        self.reference = clip if isinstance(clip, str) else "given"
        if isinstance(clip, str):
            clip = load_clip(clip) if weights is None else clip_of_file(clip, weights, sha256)
        self.clip = clip
        self.antialias = antialias
        self._texts: dict[str, Tensor] = {}

    @property
    def preprocessing(self) -> str:
        """Id of the way images enter CLIP, for results."""
        return f"bicubic{'-antialias' if self.antialias else ''}-{self.clip.image_size}"

    def cosines(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Cosines [N], float64, of images uint8 [N, 3, R, R] and their prompts; not x100, not clipped."""
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} pictures came with {len(prompts)} prompts: give one prompt each")
        device = self.clip.mean.device
        with exact(device):
            x = images.to(device).float() / 255
            size = (self.clip.image_size, self.clip.image_size)
            if self.antialias and x.shape[-2:] != size:
                x = F.interpolate(x, size=size, mode="bicubic", align_corners=False, antialias=True)
            return matched_cosines(self.clip.encode_image(x), self._encode(prompts))

    def _encode(self, prompts: Sequence[str]) -> Tensor:
        """Text features [N, dim]; each prompt is encoded once."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._texts]
        if len(self._texts) + len(missing) > CACHE_ENTRIES:
            self._texts.clear()
            missing = list(dict.fromkeys(prompts))
        if missing:
            self._texts.update(zip(missing, self.clip.encode_text(missing), strict=True))
        return torch.stack([self._texts[prompt] for prompt in prompts])


def clip_of_file(reference: str, weights: str | Path, sha256: str | None = None) -> ClipModel:
    """The CLIP `open_clip:MODEL/TAG` with both towers from one file, where the hub cannot be reached.

    weights: safetensors or a PyTorch state dict with open_clip's names, as `open_clip_model.safetensors` of
    the repository that open_clip fetches, or a URL. sha256: what it must have. ValueError in one sentence for
    other references, files that are absent, broken, hold code or do not fit.
    """
    scheme, _, rest = reference.partition(":")
    name, _, tag = rest.rpartition("/")
    if scheme != "open_clip":
        raise ValueError(
            f"{reference} has weights of its own: only those of open_clip:MODEL/TAG come by file"
        )
    remote = str(weights).startswith(("http://", "https://"))
    if not remote and not Path(weights).expanduser().is_file():
        raise ValueError(f"{weights} is no file: give the weights of {reference}, as open_clip stores them")
    config, quick_gelu = check_open_clip(name, tag)
    if config["text_cfg"].get("hf_tokenizer_name"):
        raise ValueError(f"{reference} needs more than one file: leave its weights to the hub or its cache")
    source = find_weights("clip", str(weights), sha256)
    assert source is not None
    model: Any = open_clip.create_model(
        name, load_weights=False, pretrained_text=False, force_quick_gelu=quick_gelu
    )
    load_weights(model, source)
    size, known = model.visual.image_size, open_clip.get_pretrained_cfg(name, tag)
    clip = OpenClipModel(
        model,
        open_clip.get_tokenizer(name),
        name,
        quick_gelu=quick_gelu,
        image_size=size if isinstance(size, int) else size[0],
        mean=known["mean"],
        std=known["std"],
    )
    return clip.eval().requires_grad_(False)


def clip_score(
    generated: GeneratedImages,
    prompts: Sequence[str],
    scorer: ClipScore,
    *,
    count: int | None = None,
    batch_size: int = 32,
) -> float:
    """Mean cosine of the images 0 to count - 1 and their prompts, one number and the same on every process.

    prompts[i] is what image i was made from; count: all prompts when None. ValueError for fewer prompts
    than images.
    """
    count = len(prompts) if count is None else count
    check_prompts(prompts, count)
    generated.check_count(count)

    def cosines(indices: list[int]) -> Tensor:
        return scorer.cosines(generated.images(indices), [prompts[index] for index in indices])

    return float(per_sample(cosines, count=count, batch_size=batch_size, name="clip_score").mean())


def check_prompts(prompts: Sized, count: int) -> None:
    """ValueError where there are fewer prompts than images asked for."""
    if len(prompts) < count:
        raise ValueError(
            f"the list has {len(prompts)} prompts and {count} pictures are asked for: make a longer list or "
            f"evaluate at most {len(prompts)}"
        )


def matched_cosines(images: Tensor, texts: Tensor) -> Tensor:
    """Cosines [N], float64, of the rows of two feature matrices [N, D] of any length."""
    images, texts = (F.normalize(features.cpu().double(), dim=1) for features in (images, texts))
    return (images * texts).sum(dim=1)
