"""CLIP score: does the picture show its prompt? (Hessel et al. 2021; Sauer et al. 2023)"""

from __future__ import annotations

from collections.abc import Sequence, Sized

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.metrics.draws import exact, per_sample
from sgxl_t.metrics.fakes import Fakes
from sgxl_t.networks.clip import ClipModel, load_clip

DEFAULT_CLIP = "open_clip:ViT-g-14/laion2b_s12b_b42k"
"""What StyleGAN-T reports: 1024 numbers, pictures of 224 px, captions of 77 tokens."""

CACHE_ENTRIES = 100_000


class ClipScore:
    """Cosines of pictures and prompts in the space of one CLIP.

    Pictures are divided by 255, resized (bicubic, straight to CLIP's square) and normalised as its weights
    ask for. The papers' numbers are made without antialiasing; with it they are others.
    """

    def __init__(self, clip: ClipModel | str = DEFAULT_CLIP, *, antialias: bool = False) -> None:
        """clip: a loaded CLIP with both towers, or its reference (`open_clip:MODEL/TAG`, `local:FOLDER`)."""
        self.reference = clip if isinstance(clip, str) else "given"
        self.clip = load_clip(clip) if isinstance(clip, str) else clip
        self.antialias = antialias
        self._texts: dict[str, Tensor] = {}

    @property
    def preprocessing(self) -> str:
        """Id of the way pictures enter CLIP, for records."""
        return f"bicubic{'-antialias' if self.antialias else ''}-{self.clip.image_size}"

    def cosines(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Cosines [N], float64, of pictures uint8 [N, 3, R, R] and their prompts; not x100, not clipped."""
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
        """Text features [N, dim]; each prompt passes the tower once."""
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._texts]
        if len(self._texts) + len(missing) > CACHE_ENTRIES:
            self._texts.clear()
            missing = list(dict.fromkeys(prompts))
        if missing:
            self._texts.update(zip(missing, self.clip.encode_text(missing), strict=True))
        return torch.stack([self._texts[prompt] for prompt in prompts])


def clip_score(
    fakes: Fakes, prompts: Sequence[str], scorer: ClipScore, *, count: int | None = None, batch_size: int = 32
) -> float:
    """Mean cosine of the pictures 0 to count - 1 and their prompts, one number and the same on every process.

    prompts[i] is what picture i was made from; count: all prompts when None. ValueError for fewer prompts
    than pictures.
    """
    count = len(prompts) if count is None else count
    check_prompts(prompts, count)
    fakes.check_count(count)

    def cosines(indices: list[int]) -> Tensor:
        return scorer.cosines(fakes.pictures(indices), [prompts[index] for index in indices])

    return float(per_sample(cosines, count=count, batch_size=batch_size, name="clip_score").mean())


def check_prompts(prompts: Sized, count: int) -> None:
    """ValueError where there are fewer prompts than pictures asked for."""
    if len(prompts) < count:
        raise ValueError(
            f"the list has {len(prompts)} prompts and {count} pictures are asked for: make a longer list or "
            f"evaluate at most {len(prompts)}"
        )


def matched_cosines(images: Tensor, texts: Tensor) -> Tensor:
    """Cosines [N], float64, of the rows of two feature matrices [N, D] of any length."""
    images, texts = (F.normalize(features.cpu().double(), dim=1) for features in (images, texts))
    return (images * texts).sum(dim=1)
