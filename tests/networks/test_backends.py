"""Whole generators on every backend of their operators."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model

from sgxl_t.ops import backend
from sgxl_t.ops.filtered_lrelu import compiled as filtered_lrelu_compiled


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled programs run as they are written."""
    monkeypatch.setattr(torch, "compile", lambda call, **options: call)
    monkeypatch.setattr(filtered_lrelu_compiled, "_programs", {})
    monkeypatch.setattr(filtered_lrelu_compiled, "_works", {})


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", ["sgxl-tiny-16", "sgt-tiny-16"])
@pytest.mark.parametrize(("conv", "filter"), [("winograd", "band"), ("direct", "compiled")])
def test_generators_make_the_same_pictures(
    name: str, conv: backend.ConvBackend, filter: backend.FilterBackend
) -> None:
    generator, _ = tiny_model("none", name)
    synthesis = generator.synthesis
    ws = torch.randn(2, synthesis.num_ws, synthesis.w_dim, generator=torch.Generator().manual_seed(0))
    ws.requires_grad_()
    results = []
    for options in ({}, {"conv": conv, "filter": filter, "always": True}):
        with backend.use(**options):
            picture = synthesis(ws, noise_mode="none")
        # After the block: a backward pass keeps the backend of its forward pass.
        results.append([picture, *torch.autograd.grad(picture.square().sum(), ws)])
    (plain, plain_grad), (picture, grad) = results
    assert (picture - plain).norm() < 1e-5 * plain.norm()
    assert (grad - plain_grad).norm() < 1e-4 * plain_grad.norm()
    # Another backend was really at work: rounding differs, except where a generator has no such operator.
    assert torch.equal(picture, plain) == (name == "sgt-tiny-16" and filter == "compiled")
