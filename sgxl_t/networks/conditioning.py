"""What the networks are told about the images of a batch, as one value."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from sgxl_t.networks.text.tokens import Text

Nested = TypeVar("Nested")


class Conditioning(NamedTuple):
    """The conditions of N images: a `Condition` encodes them once per micro-batch, every network takes the
    whole value and reads its own part.

    A named tuple, so that DDP, FSDP, DeepSpeed and torch.compile see the tensors inside.
    """

    c: Tensor | None = None
    """For the generator: int64 labels [N], float32 text features [N, dim] of unit length, or None (see
    ConditionSpec). Carries a graph where a text encoder learns."""
    tokens: Text | None = None
    """For a generator that attends to the words of captions."""
    target: Tensor | None = None
    """For the discriminator's heads, which project on it; as `c`, but always from the frozen encoder, and
    followed by features of the real images, or zeros, where the generator remembers pictures."""
    guide: Tensor | None = None
    """For CLIP guidance: float32 text features [N, D] of the guiding CLIP, frozen."""
    pictures: Tensor | None = None
    """For a generator that remembers pictures: deviations of real images, [N, picture_dim], which it takes in
    place of what z draws."""
    own: Tensor | None = None
    """Beside `pictures`: bool [N], True where the deviation is of the real image in that place."""
    labels: Tensor | None = None
    """For classifier guidance: int64 [N]."""

    def rows(self, part: slice | Tensor) -> Conditioning:
        """The conditions of some of the N images, as `tensor[part]` chooses rows."""
        return rows(self, part)

    def to(self, device: torch.device) -> Conditioning:
        """On another device."""
        return tree_map_only(Tensor, lambda x: x.to(device), self)

    @property
    def frozen(self) -> Conditioning:
        """Without what only the generator takes. Heads are given this: a tensor with a graph that enters a
        network and is not used there keeps sharded back ends waiting for its gradient."""
        return self._replace(c=self.target, tokens=None, pictures=None, own=None)

    def with_neighbours(self) -> Conditioning:
        """`target` of the N images, then N more: each image beside the target of the image before it."""
        assert self.target is not None
        return self._replace(target=torch.cat([self.target, self.target.roll(1, dims=0)]))


def as_conditioning(cond: Conditioning | Tensor | None) -> Conditioning:
    """Networks may be called with bare labels [N], text features [N, dim] or None in place of a Conditioning:
    generator and heads then see the same."""
    return cond if isinstance(cond, Conditioning) else Conditioning(c=cond, target=cond)


def rows(nested: Nested, part: slice | Tensor) -> Nested:
    """The rows `part` of every tensor [N, ...] in nested tuples and lists."""
    return tree_map_only(Tensor, lambda x: x[part], nested)
