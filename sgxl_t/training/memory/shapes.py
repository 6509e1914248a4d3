"""Networks without numbers: operations run on shapes alone, and the bytes they would need are counted."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sgxl_t.networks.backbones import precision as backbone_precision

SMALL = 1 << 14
"""Tensors of at most so many numbers stay real while networks are built: filters, whose values decide how
they are applied."""
GPU_THREADS = 512
"""With so many threads a CPU's filters would work in pieces as large as a GPU's (see ops/planes.py)."""

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
        fake = any(isinstance(tensor, FakeTensor) for tensor in given)
        if fake and func is _aten._local_scalar_dense.default:
            return self._some_number(given[0].dtype)
        large = not given and self._is_large(func, args)
        if fake or large:
            kwargs.pop("generator", None)  # nothing is drawn
        with self._fake if large else nullcontext():
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
        threads = GPU_THREADS if self._gpu else torch.get_num_threads()
        on_cpu = mock.patch.object(backbone_precision, "is_cpu", return_value=not self._gpu)
        with self, on_cpu, mock.patch.object(torch, "get_num_threads", return_value=threads):
            self.peak = self.live
            yield

    def _is_large(self, func: Any, args: tuple[Any, ...]) -> bool:
        """Whether a tensor that is made from no other one shall be fake."""
        if not args or not isinstance(args[0], list | tuple):
            return False
        if not self._building:
            return func in _WITHOUT_VALUES
        return math.prod(int(size) for size in args[0]) > SMALL

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
        """Inside, large new tensors are fake whatever makes them: first weights of networks."""
        self._building = True
        try:
            with self, mock.patch.object(nn.Module, "_apply", _converter()):
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


def _converter() -> Callable[..., nn.Module]:
    """In place of `nn.Module._apply`, behind `to` and its kin, which cannot convert fake parameters.

    Parameters that several modules share stay one.
    """
    converted: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}  # both, so that no id is given twice

    def convert(parameter: nn.Parameter, fn: Callable[[Tensor], Tensor]) -> nn.Parameter:
        with torch.no_grad():
            new = fn(parameter.detach())
        return nn.Parameter(new, requires_grad=parameter.requires_grad)

    def apply(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        for child in module.children() if recurse else ():
            child._apply(fn)
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in converted:
                converted[id(parameter)] = parameter, convert(parameter, fn)
            module._parameters[name] = converted[id(parameter)][1]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fn(buffer)
        return module

    return apply


def tensors_of(network: nn.Module) -> list[Tensor]:
    """All parameters and buffers."""
    return [*network.parameters(), *network.buffers()]


def bytes_of(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of the memory behind tensors, that of several counted once."""
    storages = [tensor.untyped_storage() for tensor in tensors if tensor is not None]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())
