"""One layer of an alias-free generator, and its convolution and its filtered leaky ReLU by themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sgxl_t.bench.cases.swap import exchanged
from sgxl_t.bench.runner import Backend
from sgxl_t.networks.generators import synthesis_xl
from sgxl_t.networks.generators.schedule_xl import LayerSpec
from sgxl_t.ops.conv.frozen import fixed_weights

PARTS = ("conv", "filter", "whole")
"""What is timed of a layer; the whole has the affine map of the style and the bookkeeping as well."""
OPERATORS: dict[str, tuple[ModuleType | type, str]] = {
    "conv": (synthesis_xl, "modulated_conv_sg3"),
    "filter": (synthesis_xl.SynthesisLayer, "lrelu"),
}
"""Where the layer looks its operators up."""


class LayerParts:
    """A layer with random weights of its true widths, and the calls that it makes.

    The operators get the very arguments that the layer gives them: they are noted during one run of it.
    """

    def __init__(self, spec: LayerSpec, w_dim: int, batch: int, dtype: torch.dtype, device: str) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.layer = synthesis_xl.SynthesisLayer(spec, w_dim).to(device)
            x = torch.randn(batch, spec.in_channels, spec.in_size, spec.in_size)
            w = torch.randn(batch, w_dim)
        self.dtype, self.device = dtype, torch.device(device)
        self.x, self.w = x.to(device), w.to(device)
        self._calls: dict[str, Callable[[], Tensor]] = {}
        with torch.inference_mode(), _noting(self._calls):
            # Inside a network it is fed by a layer like itself.
            self.x = self.x.to(self._whole().dtype)
            self._whole()
        self._calls["whole"] = self._whole

    def run(self, part: str, backend: Backend) -> Tensor:
        """One of PARTS as sampling runs it, without autograd and with cached weights: [N, C, H, W]."""
        with torch.inference_mode(), fixed_weights(), backend():
            return self._calls[part]()

    def _whole(self) -> Tensor:
        mixed = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype) if mixed else nullcontext():
            y: Tensor = self.layer(self.x, self.w)
            return y


def _noting(calls: dict[str, Callable[[], Tensor]]) -> AbstractContextManager[None]:
    """Inside, the operators of a layer leave their arguments in `calls`."""

    def noted(part: str, operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(*arguments: Any, **options: Any) -> Tensor:
            calls[part] = partial(operator, *arguments, **options)
            return calls[part]()

        return run

    return exchanged(
        [(owner, name, noted(part, getattr(owner, name))) for part, (owner, name) in OPERATORS.items()]
    )
