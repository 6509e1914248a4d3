"""Dataclasses as JSON holds them, read back from files that may come from anywhere."""

from __future__ import annotations

import types
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sgxl_t.files.terminal import visible
from sgxl_t.files.untrusted import Value, kind_of

T = TypeVar("T")

MAX_NUMBER = 1 << 20
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
    "img_channels": 3,
    "convs": 64,
    "depth": 256,
    "layers": 256,
    "instances": 1 << 16,
}
"""Largest values of fields that decide how much work building a network is, before any tensor is read."""

REQUIRED = {"family", "img_resolution", "z_dim", "kind", "dim", "num_classes"}
"""Keys that every file holds. Others came later; a file without one meant its default."""


ADDED = {
    "attention_resolutions",
    "token_dim",
    "picture_dim",
    "instances",
    "exaggeration",
    "mirrored",
    "registered",
}
"""Keys that a file leaves out at their defaults, 0, false or empty: what does not use them stays what it was
before they came, to the byte, and older versions can read it."""


def config_to_dict(config: Any) -> dict[str, Any]:
    """Plain values of a dataclass, as its JSON file holds them; the inverse of `config_from_value`."""
    return _without_defaults(asdict(config))


def _without_defaults(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_defaults(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value or key not in ADDED
    }


def config_from_value(cls: type[T], value: Value) -> T:
    """Builds dataclass `cls` from a group of JSON; the inverse of `config_to_dict`.

    UntrustedValueError with the place of a key that is missing, unknown, of a wrong type or out of bounds,
    and of a group that the class itself refuses.
    """
    hints = get_type_hints(cls)
    names = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    keys = value.keys()
    for key in keys:
        if key not in names:
            raise value.error(f'has "{visible(key)[:60]}", which is not a setting of this version')
    found: dict[str, Any] = {}
    for name in names:
        if name in keys:
            found[name] = _plain(hints[name], value, name)
        elif name in REQUIRED:
            raise value.error(f'has no "{name}"')
    try:
        return cls(**found)
    except ValueError as error:
        raise value.error(f"describes nothing that can be built ({visible(error)})") from None


def _plain(hint: Any, group: Value, name: str) -> Any:
    """The value of a key that is there, null included."""
    if get_origin(hint) in (Union, types.UnionType):
        arguments = get_args(hint)
        if group.get(name) is None and type(None) in arguments:
            return None
        hint = next(kind for kind in arguments if kind is not type(None))
    inner = group.get(name)
    if inner is None:
        raise group.error(f'has null for "{name}"')
    if get_origin(hint) is dict:  # of numbers by name
        return {key: inner[key].number() for key in inner.keys()}  # noqa: SIM118
    if get_origin(hint) is tuple:
        return tuple(_scalar(get_args(hint)[0], item, name) for item in inner.rows(MAX_ITEMS))
    return _scalar(hint, inner, name)


def _scalar(hint: Any, value: Value, name: str) -> Any:
    limit = LIMITS.get(name, MAX_NUMBER)
    if get_origin(hint) is Literal:
        return _choice(get_args(hint), value)
    if is_dataclass(hint) and isinstance(hint, type):
        return config_from_value(hint, value)
    if hint is bool:
        return value.boolean()
    if hint is int:
        return value.integer(0, limit)
    if hint is float:
        return value.number(-limit, limit)
    assert hint is str, f"no rule for a field of type {hint}"
    return value.text()


def _choice(choices: tuple[Any, ...], value: Value) -> Any:
    for choice in choices:
        if value.raw == choice and type(value.raw) is type(choice):
            return choice
    shown = visible(value.raw)[:40] if isinstance(value.raw, str) else kind_of(value.raw)
    raise value.error(f"is {shown} and not one of {', '.join(map(str, choices))}")
