"""sgxl_t: fast one-pass image GANs, StyleGAN-XL and StyleGAN-T in one framework."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgxl_t.networks.generators.registry import build_generator, list_models
    from sgxl_t.sampling.pipeline import Pipeline

__version__ = "0.1.0"
__all__ = ["Pipeline", "build_generator", "list_models"]

_HOMES = {
    "Pipeline": "sgxl_t.sampling.pipeline",
    "build_generator": "sgxl_t.networks.generators.registry",
    "list_models": "sgxl_t.networks.generators.registry",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when first asked for, so that `import sgxl_t` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sgxl_t' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
