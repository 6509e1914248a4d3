"""Networks without numbers: operations run on shapes alone, and the bytes they would need are counted."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from sgxl_t.ops.device_kind import as_on_gpu

SMALL = 1 << 14
"""Tensors of at most so many numbers stay real while networks are built: filters, whose values decide how
they are applied."""

_aten = torch.ops.aten
_WITHOUT_VALUES = (_aten.empty.memory_format, _aten.empty_strided.default)


class Shapes(TorchDispatchMode):
    """Inside, an operation in which a fake tensor takes part knows shapes, types and strides alone.

    Random draws, indices and filters stay real, so that code that reads them works; weights and maps cost
    nothing. Fake tensors are tensors of the CPU, so operations and autocast are chosen as there. Where a
    program reads one fake number, it gets 1.0, 0 or True.

    gpu: filters work in the large pieces and on the longer ways that they take on a GPU.
    live, peak: bytes of the tensors made inside that are not gone yet, and the most that these have been.
    Whatever else holds on to a tensor counts (a graph, a gradient), as on a device; memory that an operation
    takes and gives back within itself does not.
    """

    def __init__(self, *, gpu: bool = False) -> None:
        super().__init__()
        self._gpu = gpu
        self.live = self.peak = 0
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._building = False
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if self._building:
            return self._build(func, args, kwargs, given)
        fake = any(isinstance(tensor, FakeTensor) for tensor in given)
        if fake and func is _aten._local_scalar_dense.default:
            return self._some_number(given[0].dtype)
        empty = not given and func in _WITHOUT_VALUES
        if fake or empty:
            kwargs.pop("generator", None)  # nothing is drawn
        with self._fake if empty else nullcontext():
            result = func(*args, **kwargs)
        for made in tree_leaves(result):
            if isinstance(made, Tensor):
                self._count(made)
        return result

    def _some_number(self, dtype: torch.dtype) -> float | int | bool:
        if dtype == torch.bool:
            return True
        # Filters ask how large their maps are, to leave out the clamp; a GPU is not asked.
        return (math.inf if self._gpu else 1.0) if dtype.is_floating_point else 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, operations run on shapes and are counted; the peak begins anew."""
        with self, as_on_gpu(self._gpu):
            self.peak = self.live
            yield

    def _build(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Tensor]) -> Any:
        """An operation while networks are built: what comes of a tensor on `meta` is there as well."""
        sizes = args[0] if args and isinstance(args[0], list | tuple) else []
        large = not given and math.prod(int(size) for size in sizes) > SMALL
        if not large and not any(tensor.is_meta for tensor in given):
            return func(*args, **kwargs)
        if func is _aten._local_scalar_dense.default:
            return self._some_number(given[0].dtype)
        kwargs.pop("generator", None)
        if large or "device" in kwargs:
            kwargs["device"] = torch.device("meta")
        args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
        return func(*args, **kwargs)

    def _count(self, tensor: Tensor, *, free: bool = False) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = 0 if free else storage.nbytes()
        self._known[key] = weakref.ref(storage, partial(self._gone, key, size))
        self.live += size
        self.peak = max(self.peak, self.live)

    def _gone(self, key: int, size: int, _: Any) -> None:
        del self._known[key]
        self.live -= size

    def overlook(self, tensors: Iterable[Tensor]) -> None:
        """These tensors, and views of them, do not count: they were there before."""
        for tensor in tensors:
            self._count(tensor, free=True)

    @contextmanager
    def building(self) -> Iterator[None]:
        """Inside, large new tensors are on `meta` whatever makes them: first weights, until `hollow` makes
        them fake. Modules cannot convert fake ones."""
        self._building = True
        try:
            with self:
                yield
        finally:
            self._building = False

    def hollow(self, network: nn.Module) -> None:
        """Replaces all parameters and the large buffers of a network by fake ones."""
        modules = list(network.modules())
        whole = {id(p): p for module in modules for p in module._parameters.values() if p is not None}
        fakes = {key: self._parameter(p) for key, p in whole.items()}
        for module in modules:
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = fakes[id(parameter)]
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.numel() > SMALL:
                    module._buffers[name] = self.like(buffer)

    def _parameter(self, parameter: nn.Parameter) -> nn.Parameter:
        return nn.Parameter(self.like(parameter.detach()), requires_grad=parameter.requires_grad)

    def like(self, tensor: Tensor, *, anew: bool = False) -> Tensor:
        """A fake tensor of this one's shape, type and strides; a fake one itself, unless made anew."""
        if isinstance(tensor, FakeTensor) and not anew:
            return tensor
        return self.tensor(tensor.shape, tensor.dtype, tensor.stride())

    def tensor(
        self, shape: Iterable[int], dtype: torch.dtype = torch.float32, stride: Iterable[int] | None = None
    ) -> Tensor:
        """A fake tensor."""
        with self._fake:
            if stride is None:
                return torch.empty(tuple(shape), dtype=dtype)
            return torch.empty_strided(tuple(shape), tuple(stride), dtype=dtype)


def tensors_of(network: nn.Module) -> list[Tensor]:
    """All parameters and buffers, of any shape."""
    return [*network.parameters(), *network.buffers()]


def bytes_of(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of the memory behind tensors of any shape; memory that several share counts once."""
    storages = [tensor.untyped_storage() for tensor in tensors if tensor is not None]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())
