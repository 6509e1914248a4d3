"""Spectral normalisation: the classic stored form, its buffers and its gradients."""

import pytest
import torch
from torch import nn

from sgxl_t.networks.discriminators.spectral import SpectralConv1d, SpectralConv2d

LAYERS = {
    1: (SpectralConv1d, nn.Conv1d, (2, 3, 11)),
    2: (SpectralConv2d, nn.Conv2d, (2, 3, 9, 9)),
}


def pair(dim: int, **options):
    """Our layer and torch's own classic spectral norm with the same state."""
    ours_class, torch_class, shape = LAYERS[dim]
    torch.manual_seed(dim)
    ours = ours_class(3, 5, 3, **options)
    theirs = torch.nn.utils.spectral_norm(torch_class(3, 5, 3, **options))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, torch.randn(shape)


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"bias": False}])
@pytest.mark.filterwarnings("ignore")
def test_equals_the_classic_form_and_its_buffers(dim, options):
    ours, theirs, x = pair(dim, **options)
    for mode in (True, True, False):
        ours.train(mode), theirs.train(mode)
        torch.testing.assert_close(ours(x), theirs(x))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


@pytest.mark.filterwarnings("ignore")
def test_circular_padding_wraps_around():
    ours, theirs, x = pair(1, padding=1, padding_mode="circular")
    torch.testing.assert_close(ours(x), theirs(x))


def test_two_forwards_before_one_backward():
    layer, _, x = pair(2)
    (layer(x).square().mean() + layer(2 * x).square().mean()).backward()
    assert layer.weight_orig.grad.abs().sum() > 0


@pytest.mark.parametrize("train", [True, False])
def test_double_differentiable(train):
    layer = SpectralConv2d(2, 3, 3).double().train(train)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    u, v = layer.weight_u.clone(), layer.weight_v.clone()

    def run(x, weight):
        with torch.no_grad():
            layer.weight_u.copy_(u), layer.weight_v.copy_(v)
        return torch.func.functional_call(layer, {"weight_orig": weight}, (x,))

    if not train:  # power iteration is a constant of the graph, so only the eval form has a finite difference
        assert torch.autograd.gradgradcheck(run, (x, layer.weight_orig.detach().requires_grad_()))
    (grad,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    grad.square().sum().backward()
    assert layer.weight_orig.grad.isfinite().all()


def test_largest_singular_value_becomes_one():
    layer = SpectralConv2d(4, 6, 3)
    for _ in range(200):
        layer(torch.zeros(1, 4, 3, 3))
    weight = layer.eval().normalised_weight().flatten(1)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=1e-3)
