"""Band products along both axes of image batches, with an optional pointwise step between two pairs of them.

The work happens in chunks of planes laid out as [rows, columns, planes]: a product along the first axis is
then one matrix product with a long contiguous right side, and swapping the first two axes moves whole runs
of planes. On a CPU a chunk stays in the second-level cache from the first product to the last; elsewhere
chunks keep the enlarged tensors small and below the limit of 32-bit indices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sgxl_t.ops.device_kind import is_cpu
from sgxl_t.ops.resample.band import Band

_CPU_BYTES_PER_THREAD = 1 << 21
_MIN_CPU_PLANES = 16
_DEVICE_ELEMENTS = 1 << 28


class Chunk(NamedTuple):
    """Samples and channels that are worked on together."""

    samples: slice
    channels: slice


class BandPair(NamedTuple):
    """Maps along columns of pixels (vertical) and along rows of pixels (horizontal)."""

    vertical: Band
    horizontal: Band

    def transposed(self) -> BandPair:
        """The adjoint of both."""
        return BandPair(self.vertical.transposed(), self.horizontal.transposed())

    @property
    def identity(self) -> bool:
        """Whether both maps return their input."""
        return self.vertical.identity and self.horizontal.identity

    @property
    def largest_plane(self) -> int:
        """Pixels of the larger of input and output plane."""
        v, h = self.vertical.axis, self.horizontal.axis
        return max(v.size, v.out_size) * max(h.size, h.out_size)


def working_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which planes of x are filtered.

    On a CPU float32 for half precision, too: rounded taps and planes would add more error than the maps'
    own rounding, and the products are few enough for it (0.9 times the speed of bfloat16).
    """
    if x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16):
        return torch.float32
    return x.dtype


def split(x: Tensor, largest_plane: int) -> list[Chunk]:
    """Chunks of x [N, C, H, W] whose tensors of `largest_plane` pixels per plane stay small."""
    samples, channels = x.shape[:2]
    if is_cpu(x.device):
        plane_bytes = largest_plane * working_dtype(x).itemsize
        planes = max(_CPU_BYTES_PER_THREAD * torch.get_num_threads() // plane_bytes, _MIN_CPU_PLANES)
    else:
        planes = max(_DEVICE_ELEMENTS // largest_plane, 1)
    rows = max(planes // max(channels, 1), 1)
    parts = 1 if rows > 1 else -(-channels // planes)
    width = -(-channels // max(parts, 1))
    return [
        Chunk(slice(n, min(n + rows, samples)), slice(c, min(c + width, channels)))
        for n in range(0, samples, rows)
        for c in range(0, channels, max(width, 1))
    ]


class _Buffers:
    """Two stretches of memory that the steps of all chunks fill in turn.

    Fresh memory for each step would have to be mapped and cleared by the system again and again, which took
    a tenth of the whole operator.
    """

    def __init__(self, elements: int, dtype: torch.dtype, device: torch.device) -> None:
        self._both = [torch.empty(elements, dtype=dtype, device=device) for _ in range(2)]

    def take(self, *shape: int) -> Tensor:
        """Memory of this shape, not that of the step before."""
        self._both.reverse()
        return self._both[0][: math.prod(shape)].view(shape)

    def spare(self, z: Tensor) -> Tensor:
        """Scratch memory of the shape of z, which must be what `take` returned last."""
        return self._both[1][: z.numel()].view(z.shape)

    def product(self, band: Band, z: Tensor) -> Tensor:
        """z [A, B, planes] to [A', B, planes]."""
        if band.identity:
            return z
        y = self.take(band.axis.out_size, *z.shape[1:])
        band.product(z.flatten(1), y.flatten(1))
        return y

    def products(self, first: Band, second: Band, z: Tensor) -> Tensor:
        """z [A, B, planes] to [B', A', planes]: `first` maps axis A, `second` axis B."""
        z = self.product(first, z).transpose(0, 1)
        return self.product(second, self.take(*z.shape).copy_(z))


def band_planes(
    x: Tensor,
    chunks: list[Chunk],
    first: BandPair,
    middle: Callable[[Tensor, Tensor, int], None] | None = None,
    second: BandPair | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """`second`(`middle`(`first`(x + bias))) chunk by chunk; x [N, C, H, W], bias [C], no gradients recorded.

    middle: works in place on its first argument, planes [W', H', planes]; the others are scratch memory of
    that shape and the number of the chunk.
    """
    dtype = working_dtype(x)
    last = first if second is None else second
    shape = (*x.shape[:2], last.vertical.axis.out_size, last.horizontal.axis.out_size)
    nhwc = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    layout = torch.channels_last if nhwc else torch.contiguous_format
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
    most = max((x[chunk][..., 0, 0].numel() for chunk in chunks), default=0)
    buffers = _Buffers(most * max(first.largest_plane, last.largest_plane), dtype, x.device)
    for number, chunk in enumerate(chunks):
        source = x[chunk].permute(2, 3, 0, 1)
        z = buffers.take(*source.shape)
        if bias is None:
            z.copy_(source)
        else:
            torch.add(source, bias[chunk.channels].to(dtype), out=z)
        z = buffers.products(first.vertical, first.horizontal, z.flatten(2))
        if middle is not None:
            middle(z, buffers.spare(z), number)
        target = y[chunk].permute(2, 3, 0, 1)
        z = z.transpose(0, 1) if second is None else buffers.products(second.horizontal, second.vertical, z)
        target.copy_(z.unflatten(2, target.shape[2:]))
    return y


class _Resample(torch.autograd.Function):
    """One pair of maps; the gradient is the adjoint pair, so any order of derivative exists."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pair: BandPair) -> Tensor:
        ctx.pair = pair
        return band_planes(x, split(x, pair.largest_plane), pair)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Resample.apply(grads[0], ctx.pair.transposed()), None


def resample_planes(x: Tensor, pair: BandPair) -> Tensor:
    """Both maps applied to x [N, C, H, W]; differentiable any number of times."""
    return x if pair.identity else _Resample.apply(x, pair)
