"""Dataclasses from JSON that may come from anywhere: every key, type and size is checked."""

from __future__ import annotations

import types
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

MAX_INT = 1 << 20
MAX_ITEMS = 64
LIMITS = {
    "mapping_layers": 64,
    "num_layers": 256,
    "num_critical": 256,
    "head_layers": 256,
    "up_factor": 16,
    "num_res_blocks": 64,
    "filter_size": 64,
    "lrelu_upsampling": 16,
    "margin_size": 256,
    "conv_kernel": 15,
    "img_resolution": 4096,
    "img_channels": 64,
}
"""Largest values of fields that decide how much work building a network is, before any tensor is read."""

REQUIRED = {"family", "img_resolution", "z_dim", "kind", "dim", "num_classes"}
"""Keys that every file holds. Others came later; a file without one meant its default."""


ADDED = {"attention_resolutions", "token_dim"}
"""Keys that a file leaves out at their defaults, 0 or empty: what does not use them stays what it was before
they came, to the byte, and older versions can read it."""


def config_to_dict(config: Any) -> dict[str, Any]:
    """Plain values of a dataclass, as its JSON file holds them; the inverse of `config_from_dict`."""
    return _without_defaults(asdict(config))


def _without_defaults(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_defaults(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value or key not in ADDED
    }


def config_from_dict(cls: type[T], data: Any, *, where: str) -> T:
    """Builds dataclass `cls` from plain JSON values; the inverse of `config_to_dict`.

    where: what the sentence of an error begins with, such as "config.json: generator".
    Raises ValueError with the path of a key that is missing, unknown, of a wrong type or out of bounds.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where} is {_name(data)} where a group of settings belongs: restore the file")
    hints = get_type_hints(cls)
    names = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    for key in data:
        if key not in names:
            raise ValueError(
                f"{where}.{str(key)[:60]} is no known setting: "
                "use a newer version of sgxl-t or restore the file"
            )
    for key in names:
        if key not in data and key in REQUIRED:
            raise ValueError(f"{where}.{key} is missing: restore the file")
    values = {
        key: _value(hints[key], data[key], f"{where}.{key}", LIMITS.get(key, MAX_INT))
        for key in names
        if key in data
    }
    return cls(**values)


def _value(hint: Any, value: Any, where: str, limit: int) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(next(kind for kind in arguments if kind is not type(None)), value, where, limit)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise ValueError(f"{where}={value!r:.60} is not one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise ValueError(f"{where} is {_name(value)} where a list of at most {MAX_ITEMS} entries belongs")
        return tuple(_value(arguments[0], item, f"{where}[{i}]", limit) for i, item in enumerate(value))
    if is_dataclass(hint) and isinstance(hint, type):
        return config_from_dict(hint, value, where=where)
    return _scalar(hint, value, where, limit)


def _scalar(hint: Any, value: Any, where: str, limit: int) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint:
        raise ValueError(f"{where} is {_name(value)} where {hint.__name__} belongs")
    if hint in (int, float) and not abs(value) <= limit:
        raise ValueError(f"{where}={value} is out of bounds: at most {limit} is read")
    return value


def _name(value: Any) -> str:
    if value is None:
        return "null"
    names = {"dict": "a group", "list": "a list", "str": "text"}
    return names.get(type(value).__name__, type(value).__name__)
