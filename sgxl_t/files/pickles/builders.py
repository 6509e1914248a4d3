"""The names behind which plain values, tensors and networks lie; every other name builds nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from sgxl_t.files.pickles.arrays import dill_array, dtype, new_array, scalar
from sgxl_t.files.pickles.storages import parameter, storage, tensor, tensor_from_type
from sgxl_t.files.pickles.stream import BoundedReader
from sgxl_t.files.pickles.unpickler import DataUnpickler
from sgxl_t.files.pickles.values import Named, PickledObject, RefusedError, budget_for, plain_key

MAX_SIZE = 64
"""Longest torch.Size; tensors have eight dimensions at most, and a list can be named again and again."""


def lookup(module: str, name: str) -> Named:
    """What a name in the file stands for."""
    full = f"{module}.{name}"
    return _BUILDERS.get(full) or Named(full)


def read_pickle(reader: BoundedReader) -> Any:
    """The value of a whole file; CutError or RefusedError where it has none."""
    return DataUnpickler(reader, lookup, budget_for(reader.size)).value()


# Plain values ---------------------------------------------------------------------------------------------


def _ordered(pairs: Any = (), *_: Any) -> dict[Any, Any]:
    if not isinstance(pairs, tuple | list):
        raise RefusedError("describes a dictionary in an unknown way")
    return OrderedDict((key, value) for key, value in pairs if plain_key(key))


def _set(items: Any = (), *_: Any) -> set[Any]:
    if not isinstance(items, tuple | list | set | frozenset):
        raise RefusedError("describes a set in an unknown way")
    return set(filter(plain_key, items))


def _size(items: Any = (), *_: Any) -> tuple[Any, ...]:
    if not isinstance(items, tuple | list) or len(items) > MAX_SIZE:
        raise RefusedError("describes a shape in an unknown way")
    return tuple(items)


def _encode(text: Any, codec: Any = "latin1", *_: Any) -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise RefusedError("encodes text in an unknown way")
    return text.encode("latin1")


# Objects --------------------------------------------------------------------------------------------------


def _persistent(meta: Any) -> PickledObject:
    """A network's object: its class name and attributes. The source code beside them is left unread."""
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
        raise RefusedError("describes a network in an unknown way")
    if meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
        raise RefusedError("describes a network in an unknown way")
    return PickledObject(meta["class_name"], meta["state"])


def _object(kind: Any, *_: Any) -> PickledObject:
    """An object of a class, as protocols below 2 make it."""
    return PickledObject(kind.name if isinstance(kind, Named) else "object")


# dill -----------------------------------------------------------------------------------------------------


def _load_type(name: Any = "", *_: Any) -> Any:
    """dill's own way to name a type; only sets come with values that matter."""
    return _BUILDERS["builtins.set"] if name == "set" else PickledObject("dill._dill._load_type")


def _import_module(name: Any, *_: Any) -> Any:
    """dill's way to name a module, or something in one: the name alone, nothing is imported."""
    if not isinstance(name, str):
        return PickledObject("dill._dill._import_module")
    module, _dot, last = name.rpartition(".")
    return lookup(module, last) if module else Named(name)


def _get_attr(owner: Any, name: Any, *_: Any) -> Any:
    """dill's way to name something in a module, such as numpy's builder of arrays."""
    if isinstance(owner, Named) and isinstance(name, str):
        return lookup(owner.name, name)
    return PickledObject("dill._dill._get_attr")


_DILL = ("dill._dill", "dill.dill")
"""Home of dill's helpers now, and up to 0.2.7."""
_NUMPY = [
    f"numpy.{core}.{module}"
    for core in ("core", "_core")
    for module in ("multiarray", "_multiarray_umath", "_internal")
]
_REBUILT: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": tensor,
    "_rebuild_tensor_v2": tensor,
    "_rebuild_parameter": parameter,
    "_rebuild_parameter_with_state": parameter,
}
_BUILT: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "dnnlib.util.EasyDict": _ordered,
    "_codecs.encode": _encode,
    **{f"{module}.set": _set for module in ("builtins", "__builtin__")},
    **{f"{module}._reconstructor": _object for module in ("copyreg", "copy_reg")},
    **{f"{module}.__newobj__": _object for module in ("copyreg", "copy_reg")},
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
    "torch.Size": _size,
    "torch.storage._load_from_bytes": storage,
    **{f"torch._utils.{name}": build for name, build in _REBUILT.items()},
    "torch._tensor._rebuild_from_type_v2": tensor_from_type,
    **{f"{module}._reconstruct": new_array for module in _NUMPY},
    **{f"{module}.scalar": scalar for module in _NUMPY},
    "numpy.dtype": dtype,
    **{f"{module}._create_array": dill_array for module in _DILL},
    **{f"{module}._load_type": _load_type for module in _DILL},
    **{f"{module}._import_module": _import_module for module in _DILL},
    **{f"{module}._get_attr": _get_attr for module in _DILL},
}
_BUILDERS = {name: Named(name, build) for name, build in _BUILT.items()}
