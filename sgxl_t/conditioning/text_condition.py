"""Text: unit-length features of a text encoder, frozen or trained with the generator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sgxl_t.conditioning.caption_cache import cached_features, encode_all
from sgxl_t.conditioning.condition import Condition, Phase
from sgxl_t.files.terminal import visible
from sgxl_t.networks.conditioning import Conditioning, rows
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.text.tokens import TextTokens

if TYPE_CHECKING:
    from sgxl_t.networks.text.text_encoder import TextEncoder

MAX_PROMPT = 10_000
CACHE_ENTRIES = 100_000
MOST_NOTES = 3
"""Prompts that are cut and told of one by one."""
MOST_WORDS = 8
"""Words that a note names."""


class TextCondition(Condition):
    """Captions through a text encoder such as CLIP's (StyleGAN-T, section 3.1 and 3.3).

    original: always frozen; the discriminator projects on its features and guidance aims at them. It is
        shared: copies of the condition refer to it, and checkpoints do not hold it.
    own: the generator's own encoder, where it is not the original any more. trainable: the own encoder, at
        first a copy of the original, learns. The generator is conditioned through it in training and in
        sampling alike; feeding it the original's features in one of the two would ask the generator for
        something it never saw.
    """

    guidance = "clip"

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        trainable: bool = False,
        own: TextEncoder | None = None,
        tokens: bool = False,
        picture_dim: int = 0,
    ) -> None:
        """own: an encoder trained before, which the generator's copy starts from (and stays where it does not
        learn any more); None starts from the original. Its width may be another than the original's.
        tokens: the generator attends to tokens as well; ValueError for an encoder without any.
        picture_dim: width of the features of pictures that the generator remembers, 0 for none.
        """
        read = encoder if own is None else own
        width = read.token_dim if tokens else 0
        spec = ConditionSpec(kind="text", dim=read.dim, token_dim=width, picture_dim=picture_dim)
        super().__init__(spec)
        if tokens and not width:
            raise ValueError(
                f"the text encoder {read.reference or 'of this model'} shows no tokens to attend to: name "
                "another one, such as open_clip:ViT-B-32/openai, or leave attention_resolutions empty"
            )
        # In a tuple it is no submodule, so neither parameters nor state count it.
        self._shared = (encoder.eval().requires_grad_(False),)
        self.own: TextEncoder | None = None
        self.phases: tuple[Phase, ...] = ("generator",)
        if trainable or own is not None:
            self.own = read.text_copy()
            for parameter in self.own.text_parameters():
                parameter.requires_grad_(trainable)
        if trainable:
            self.phases = ("generator", "text_encoder")
        self._recent: dict[str, Tensor] = {}
        self._fixed: dict[str, Tensor] = {}

    @property
    def original(self) -> TextEncoder:
        """The frozen encoder."""
        return self._shared[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TextCondition:
        self.original._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TextCondition:
        for part in (self._shared, self._recent, self._fixed):
            memo[id(part)] = part
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    @property
    def encoder(self) -> TextEncoder:
        """The encoder that conditions the generator; this one belongs into a model folder."""
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

    def reading_notes(self, conditions: Sequence[Any]) -> list[str]:
        """Words that no training caption has, as far as that is known, and ends of prompts beyond the context
        of the generator's encoder."""
        prompts, notes = list(dict.fromkeys(map(str, conditions))), []
        if unknown := self.encoder.unknown_words(prompts):
            alike: dict[str, list[str]] = {}
            for word, fate in islice(unknown.items(), MOST_WORDS):
                alike.setdefault(fate, []).append(word)
            words = [", ".join(same) + (f" ({fate})" if fate else "") for fate, same in alike.items()]
            shown = "; ".join(words) + (" ..." if len(unknown) > MOST_WORDS else "")
            notes.append(f"no caption that the model learnt from says: {visible(shown)}")
        ends = [
            (prompt, end) for prompt, end in zip(prompts, self.encoder.unread(prompts), strict=True) if end
        ]
        for prompt, end in ends[:MOST_NOTES]:
            read = len(prompt[: prompt.rindex(end)].split())
            notes.append(
                f"only the first {read} words of {_shortened(prompt)} were read, which is the context of "
                f"{self.encoder.context_length} tokens; not read: {_shortened(end)}"
            )
        if len(ends) > MOST_NOTES:
            notes.append(f"{len(ends) - MOST_NOTES} more prompts are longer than that context and were cut")
        return notes

    def from_batch(self, batch: Any) -> list[str]:
        """Captions of the batch."""
        if batch.captions is None:
            raise ValueError("the data has no captions: put a .txt beside each picture, or use --cond class")
        return batch.captions

    def encode_frozen(self, conditions: Any) -> Conditioning:
        """float32 [N, dim] of unit length from the frozen original, which encodes each caption once."""
        captions = list(conditions)
        missing = self._missing(captions)
        if len(self._recent) + len(missing) > CACHE_ENTRIES:
            self._recent.clear()
            missing = self._missing(captions)
        if missing:
            features = encode_all(self.original, missing)
            self._recent.update(zip(missing, features.unbind(), strict=True))
        found = [self._fixed[text] if text in self._fixed else self._recent[text] for text in captions]
        target = torch.stack(found).to(self.device)
        return Conditioning(c=target, target=target, guide=target[:, self.original.guide_columns])

    def encode(self, conditions: Any, frozen: Conditioning | None = None) -> Conditioning:
        """See Condition. The generator's own encoder, if any, makes vectors and tokens in one pass."""
        if self.own is None:
            cond = super().encode(conditions, frozen)
            return cond._replace(tokens=self._tokens(conditions)) if self.spec.token_dim else cond
        captions, tokens = list(conditions), None
        if self.spec.token_dim:
            vectors, tokens = self.own.encode_with_tokens(captions)
        else:
            vectors = self.own.encode_text(captions)
        return (frozen or Conditioning())._replace(c=vectors.float(), tokens=tokens)

    @torch.no_grad()
    def _tokens(self, conditions: Any) -> TextTokens:
        """From the original. Each different caption is read once; tokens are too large to be cached."""
        captions = list(conditions)
        different = list(dict.fromkeys(captions))
        _, tokens = self.original.encode_with_tokens(different)
        if len(different) == len(captions):
            return tokens
        numbers = {text: number for number, text in enumerate(different)}
        order = [numbers[text] for text in captions]
        return rows(tokens, torch.tensor(order, device=tokens.values.device))

    def cache(self, captions: Sequence[str], folder: Path) -> None:
        """Holds the original's features of a fixed set of captions, read from a folder or written there.

        Worth it for slow encoders. Features of the generator's own encoder may change and are not cached.
        """
        different = sorted(set(captions))
        if not self._fixed.keys() >= set(different):
            features = cached_features(self.original, different, folder)
            self._fixed.update(zip(different, features.unbind(), strict=True))

    def _missing(self, captions: Sequence[str]) -> list[str]:
        different = dict.fromkeys(captions)
        return [text for text in different if text not in self._fixed and text not in self._recent]


def _shortened(text: str, most: int = 60) -> str:
    """Quoted for a line of a log, in the middle of a sentence."""
    return f'"{visible(text if len(text) <= most else text[: most - 4] + " ...")}"'
