"""Text: unit-length features of a CLIP text tower, frozen or trained with the generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sgxl_t.conditioning.condition import Condition, Phase
from sgxl_t.networks.configs import ConditionSpec

if TYPE_CHECKING:
    from sgxl_t.networks.clip import ClipModel

MAX_PROMPT = 10_000
CACHE_ENTRIES = 100_000


class TextCondition(Condition):
    """Captions through CLIP (StyleGAN-T, section 3.1 and 3.3).

    clip: the original, always frozen; the discriminator projects on its features and guidance aims at them.
    trainable: the generator gets its own copy of the text tower, which learns. It is then conditioned
        through that copy in training and in sampling alike; feeding it the original's features in one of the
        two would ask the generator for something it never saw.
    """

    guidance = "clip"

    def __init__(self, clip: ClipModel, *, trainable: bool = False) -> None:
        super().__init__(ConditionSpec(kind="text", dim=clip.dim))
        self.original = clip.eval().requires_grad_(False)
        self.own: ClipModel | None = None
        self.phases: tuple[Phase, ...] = ("generator",)
        if trainable:
            self.own = clip.text_copy()
            for parameter in self.own.text_parameters():
                parameter.requires_grad_(True)
            self.phases = ("generator", "text_encoder")
        self._cache: dict[str, Tensor] = {}

    @property
    def encoder(self) -> ClipModel:
        """The text tower that conditions the generator; this one belongs into a model folder."""
        return self.original if self.own is None else self.own

    def resolve(self, request: Any) -> list[str]:
        """Prompts as a list; ValueError for an empty or overlong one."""
        prompts = [request] if isinstance(request, str) else list(request or [])
        if not prompts:
            raise ValueError(
                'there is no prompt and the model makes pictures from text: say what to draw, such as "a fox"'
            )
        for prompt in prompts:
            if not isinstance(prompt, str):
                raise ValueError(
                    f"{prompt!r} is no prompt: the model makes pictures from text, say what to draw in words"
                )
            if not prompt.strip():
                raise ValueError("a prompt is empty: say what to draw in words")
            if len(prompt) > MAX_PROMPT:
                raise ValueError(
                    f"a prompt of {len(prompt)} characters is too long: use at most {MAX_PROMPT}"
                )
        return prompts

    def label(self, condition: Any) -> str:
        """The prompt itself."""
        return " ".join(str(condition).split())

    def take(self, batch: Any) -> list[str]:
        """Captions of the batch."""
        if batch.captions is None:
            raise ValueError("the data has no captions: put a .txt beside each picture, or use --cond class")
        return batch.captions

    def encode(self, conditions: Any) -> Tensor:
        """float32 [N, dim] of unit length, through the generator's own tower (with gradient if it trains)."""
        if self.own is None:
            return self.encode_target(conditions)
        return self.own.encode_text(list(conditions)).float()

    def encode_target(self, conditions: Any) -> Tensor:
        """float32 [N, dim] of unit length from the frozen original; each caption is encoded once and kept."""
        captions = list(conditions)
        missing = [caption for caption in dict.fromkeys(captions) if caption not in self._cache]
        if len(self._cache) + len(missing) > CACHE_ENTRIES:
            self._cache.clear()
            missing = list(dict.fromkeys(captions))
        if missing:
            self._remember(missing)
        return torch.stack([self._cache[caption] for caption in captions]).to(self.device)

    @torch.no_grad()
    def _remember(self, captions: Sequence[str]) -> None:
        features = self.original.encode_text(list(captions)).float().cpu()
        self._cache.update(zip(captions, features.unbind(), strict=True))
