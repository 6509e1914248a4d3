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
"""Bytes of vectors and tokens that are kept."""

State = tuple[tuple[int, int], ...]


def state_of(tensors: Iterable[Tensor]) -> State:
    """Address and version of tensors, which differ after any change that torch counts."""
    return tuple((x.data_ptr(), 0 if x.is_inference() else x._version) for x in tensors)


@dataclass
class _Read:
    """One prompt: vector [D], tokens [L, T] with their mask [L], centre [w_dim] once it was wanted."""

    vector: Tensor
    tokens: Tensor | None
    mask: Tensor | None
    center: Tensor | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        parts = (self.vector, self.tokens, self.mask, self.center)
        return sum(part.numel() * part.element_size() for part in parts if part is not None)


class Prompts:
    """A condition that reads each prompt once; the prompts used last are kept, up to `limit` bytes.

    They are read again after the weights of the text encoder, or of the mapping network, have changed.
    Classes and no condition pass as they are. Any number of threads may ask.
    """

    def __init__(self, condition: Condition, generator: Generator, limit: int = LIMIT) -> None:
        self.condition, self.mapping, self.limit = condition, generator.mapping, limit
        self.kind = condition.kind
        self._reads: OrderedDict[str, _Read] = OrderedDict()
        self._state: State = ()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """Prompts kept."""
        return len(self._reads)

    @torch.no_grad()
    def encode(self, conditions: Sequence[Any]) -> Conditioning:
        """c and tokens of N resolved conditions, as `Condition.encode` gives them."""
        if not isinstance(self.condition, TextCondition):
            return self.condition.encode(conditions)
        reads = self._read(conditions)
        tokens = _together(reads) if self.condition.spec.token_dim else None
        return Conditioning(c=torch.stack([one.vector for one in reads]), tokens=tokens)

    @torch.no_grad()
    def centers(self, conditions: Sequence[Any]) -> Tensor | None:
        """Centres [N, w_dim] of prompts that a StyleGAN-XL mapping averages over many latents; else None."""
        if not isinstance(self.condition, TextCondition) or not isinstance(self.mapping, MappingXL):
            return None
        with self._lock:
            reads = self._read(conditions)
            for one in reads:
                if one.center is None:
                    one.center = self.mapping.center(one.vector[None])[0]
            return torch.stack([one.center for one in reads if one.center is not None])

    def _read(self, prompts: Sequence[str]) -> list[_Read]:
        with self._lock:
            assert isinstance(self.condition, TextCondition)
            modules = (self.condition.encoder, self.mapping)
            state = state_of(x for module in modules for x in module.parameters())
            if state != self._state:
                self._reads.clear()
                self._state = state
            wanted = list(dict.fromkeys(prompts))
            found = {prompt: self._reads[prompt] for prompt in wanted if prompt in self._reads}
            missing = [prompt for prompt in wanted if prompt not in found]
            found |= self._encoded(missing) if missing else {}
            for prompt in wanted:
                self._reads[prompt] = found[prompt]
                self._reads.move_to_end(prompt)
            held = sum(one.size for one in self._reads.values())
            while held > self.limit:
                held -= self._reads.popitem(last=False)[1].size
            return [found[prompt] for prompt in prompts]

    def _encoded(self, prompts: list[str]) -> dict[str, _Read]:
        vectors, tokens, *_ = self.condition.encode(prompts)
        assert vectors is not None
        assert not isinstance(tokens, TextBlend)
        reads = {}
        for number, prompt in enumerate(prompts):
            values = mask = None
            if tokens is not None:
                values = tokens.values[number].clone()
                mask = None if tokens.mask is None else tokens.mask[number].clone()
            reads[prompt] = _Read(vectors[number].clone(), values, mask)
        return reads


def _together(reads: Sequence[_Read]) -> TextTokens:
    """Tokens of N prompts as one batch."""
    values = [one.tokens for one in reads if one.tokens is not None]
    masks = [
        torch.ones(len(kept), dtype=torch.bool, device=kept.device) if one.mask is None else one.mask
        for one, kept in zip(reads, values, strict=True)
    ]
    longest = max(len(kept) for kept in values)
    if all(one.mask is None and len(kept) == longest for one, kept in zip(reads, values, strict=True)):
        return TextTokens(torch.stack(values))
    # Some encoders pad a batch to its longest caption, so rows of different batches differ in length.
    padded = [F.pad(kept, (0, 0, 0, longest - len(kept))) for kept in values]
    return TextTokens(
        torch.stack(padded), torch.stack([F.pad(mask, (0, longest - len(mask))) for mask in masks])
    )
