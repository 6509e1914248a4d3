"""What does not depend on a latent, once per prompt: its vector, its tokens and the centre of truncation."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sgxl_t.conditioning.condition import Condition
from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.mapping_xl import MappingXL
from sgxl_t.networks.text.tokens import TextBlend, TextTokens

LIMIT = 64 * 2**20
"""Bytes of vectors, tokens and centres that are cached."""

State = tuple[tuple[int, int], ...]


def state_of(tensors: Iterable[Tensor]) -> State:
    """Address and version of tensors, which differ after any change that torch counts."""
    return tuple((x.data_ptr(), 0 if x.is_inference() else x._version) for x in tensors)


@dataclass
class _CachedPrompt:
    """One prompt: vector [D], tokens [L, T] with their mask [L], centre [w_dim] once it was asked for."""

    vector: Tensor
    tokens: Tensor | None
    mask: Tensor | None
    center: Tensor | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        parts = (self.vector, self.tokens, self.mask, self.center)
        return sum(part.numel() * part.element_size() for part in parts if part is not None)


class PromptCache:
    """A condition that encodes each prompt once; the prompts used last are cached, up to `limit` bytes.

    They are encoded again after the weights of the text encoder, or of the mapping network, have changed.
    Classes and no condition are passed on to the condition. Safe in several threads.
    """

    def __init__(self, condition: Condition, generator: Generator, limit: int = LIMIT) -> None:
        self.condition, self.mapping, self.limit = condition, generator.mapping, limit
        self.kind = condition.kind
        self._cached: OrderedDict[str, _CachedPrompt] = OrderedDict()
        self._state: State = ()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """Number of cached prompts."""
        return len(self._cached)

    @torch.no_grad()
    def encode(self, conditions: Sequence[Any]) -> Conditioning:
        """c and tokens of N resolved conditions, as `Condition.encode` gives them."""
        if not isinstance(self.condition, TextCondition):
            return self.condition.encode(conditions)
        cached = self._lookup(conditions)
        tokens = _batched(cached) if self.condition.spec.token_dim else None
        return Conditioning(c=torch.stack([one.vector for one in cached]), tokens=tokens)

    @torch.no_grad()
    def centers(self, conditions: Sequence[Any]) -> Tensor | None:
        """Centres [N, w_dim] of prompts that a StyleGAN-XL mapping averages over many latents; else None."""
        if not isinstance(self.condition, TextCondition) or not isinstance(self.mapping, MappingXL):
            return None
        with self._lock:
            cached = self._lookup(conditions)
            for one in cached:
                if one.center is None:
                    one.center = self.mapping.center(one.vector[None])[0]
            return torch.stack([one.center for one in cached if one.center is not None])

    def _lookup(self, prompts: Sequence[str]) -> list[_CachedPrompt]:
        with self._lock:
            assert isinstance(self.condition, TextCondition)
            modules = (self.condition.encoder, self.mapping)
            state = state_of(x for module in modules for x in module.parameters())
            if state != self._state:
                self._cached.clear()
                self._state = state
            wanted = list(dict.fromkeys(prompts))
            found = {prompt: self._cached[prompt] for prompt in wanted if prompt in self._cached}
            missing = [prompt for prompt in wanted if prompt not in found]
            found |= self._encoded(missing) if missing else {}
            for prompt in wanted:
                self._cached[prompt] = found[prompt]
                self._cached.move_to_end(prompt)
            held = sum(one.size for one in self._cached.values())
            while held > self.limit:
                held -= self._cached.popitem(last=False)[1].size
            return [found[prompt] for prompt in prompts]

    def _encoded(self, prompts: list[str]) -> dict[str, _CachedPrompt]:
        vectors, tokens, *_ = self.condition.encode(prompts)
        assert vectors is not None
        assert not isinstance(tokens, TextBlend)
        cached = {}
        for number, prompt in enumerate(prompts):
            values = mask = None
            if tokens is not None:
                values = tokens.values[number].clone()
                mask = None if tokens.mask is None else tokens.mask[number].clone()
            cached[prompt] = _CachedPrompt(vectors[number].clone(), values, mask)
        return cached


def _batched(cached: Sequence[_CachedPrompt]) -> TextTokens:
    """Tokens of N prompts as one batch."""
    values = [one.tokens for one in cached if one.tokens is not None]
    longest = max(len(tokens) for tokens in values)
    if all(one.mask is None for one in cached) and all(len(tokens) == longest for tokens in values):
        return TextTokens(torch.stack(values))
    # Some encoders pad a batch to its longest caption, so rows of different batches differ in length.
    masks = [
        torch.ones(len(tokens), dtype=torch.bool, device=tokens.device) if one.mask is None else one.mask
        for one, tokens in zip(cached, values, strict=True)
    ]
    return TextTokens(
        torch.stack([F.pad(tokens, (0, 0, 0, longest - len(tokens))) for tokens in values]),
        torch.stack([F.pad(mask, (0, longest - len(mask))) for mask in masks]),
    )
