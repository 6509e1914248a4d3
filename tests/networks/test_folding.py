"""Batch norms that become part of convolutions: the same maps and slopes, and none where it would not be."""

import copy

import pytest
import timm
import torch
from torch import nn
from torch.testing import assert_close

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.backbones.folding import fold_batch_norms

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def with_statistics(model):
    """The model as if it had been trained: norms that shift and scale."""
    rng = torch.Generator().manual_seed(1)
    for norm in [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]:
        for tensor in (norm.running_var, norm.weight.data):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=rng))
        for tensor in (norm.running_mean, norm.bias.data):
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=rng))
    return model.eval().double()


def norms(model):
    return sum(isinstance(part, nn.BatchNorm2d) for part in model.modules())


def seen(network):
    """Maps of images, and how their sum changes with the images."""
    images = IMAGES.clone().requires_grad_()
    maps = network.maps(images)
    sum(x.square().mean() for x in maps).backward()
    return [x.detach() for x in maps], images.grad


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet10t"])
def test_maps_and_slopes_stay(name):
    network = FeatureNetwork("x", with_statistics(timm.create_model(name))).double()
    whole = copy.deepcopy(network)
    network.trim()
    assert norms(whole) > 10
    assert norms(network) == 0
    (maps, slope), (expected, expected_slope) = seen(network), seen(whole)
    for x, y in zip(maps, expected, strict=True):
        assert_close(x, y)
    assert_close(slope, expected_slope)
    assert not any(parameter.requires_grad for parameter in network.parameters())


class Forked(nn.Module):
    """What its convolution gives is read by the norm and beside it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return [x + self.norm(x)]


class Repeated(Forked):
    """Its convolution runs twice and is normalised once."""

    def forward(self, x):
        return [self.norm(self.conv(x)), self.conv(x)]


@pytest.mark.parametrize("kind", [Forked, Repeated])
def test_what_would_change_the_maps_is_left_alone(kind):
    model = with_statistics(kind()).requires_grad_(False)
    before = copy.deepcopy(model)
    assert fold_batch_norms(model, lambda: model(IMAGES)) == 0
    assert_close(model(IMAGES), before(IMAGES), rtol=0, atol=0)
    assert model.state_dict().keys() == before.state_dict().keys()
