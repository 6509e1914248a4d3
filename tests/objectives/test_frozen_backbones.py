"""Frozen networks in the phases of an update: one pass, fused attention, and no gradient of a weight."""

from contextlib import contextmanager
from unittest import mock

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from tiny_clips import tiny_whole_clip
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallCNNConfig
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.configs import ConditionSpec, DinoConfig, DiscriminatorConfig, ProjectedConfig
from sgxl_t.networks.discriminators.discriminator import build_discriminator
from sgxl_t.networks.frozen import load_feature_network
from sgxl_t.objectives import MicroBatch, Networks, Objective, ObjectiveConfig

SIDE, COUNT = 32, 4
TEXT = ConditionSpec(kind="text", dim=16)


class TinyGenerator(nn.Module):
    """One layer to images, with path lengths where they are asked for."""

    img_resolution = SIDE

    def __init__(self):
        super().__init__()
        self.config = type("Config", (), {"img_channels": 3})()
        self.net = nn.Linear(4, 3 * SIDE * SIDE)

    def forward(self, z, cond=None, *, update_averages=False, rng=None, pl_noise=None):
        images = self.net(z).reshape(-1, 3, SIDE, SIDE).tanh()
        if pl_noise is None:
            return images
        gradient = torch.autograd.grad((images * pl_noise).sum(), images, create_graph=True)[0]
        return images, gradient.square().sum((1, 2, 3)).sqrt()


def discriminator(family, precision="auto"):
    config = DiscriminatorConfig(
        family=family,
        features=("random:small_cnn", "random:small_vit") if family == "projected" else ("random:small_vit",),
        diff_augment="",
        precision=precision,
        projected=ProjectedConfig(cout=4, head_width=4, end_size=4, input_size=None, final_upsample=False),
        dino=DinoConfig(taps=(1, 3)),
    )
    return build_discriminator(config, TEXT, SIDE)


@contextmanager
def watched(parts):
    """Counts the images that every feature network reads, call by call."""
    calls = []

    def count(network, method):
        def counted(images, *more):
            calls.append(len(images))
            return method(images, *more)

        return counted

    with pytest.MonkeyPatch.context() as patch:
        for module in parts.features.modules():
            if isinstance(module, FeatureNetwork):
                for name in ("maps", "tokens"):
                    patch.setattr(module, name, count(module, getattr(module, name)))
        yield calls


@pytest.mark.parametrize("precision", ["auto", "bf16"])
@pytest.mark.parametrize("family", ["projected", "dino"])
def test_no_phase_makes_gradients_of_frozen_weights(family, precision):
    """With classifier and CLIP guidance; every network reads once in a phase, real and generated together."""
    parts = discriminator(family, precision)
    clip = tiny_whole_clip()
    classifier = FeatureNetwork("x", SmallCNN(SmallCNNConfig(num_classes=3)))
    classifier.precision = clip.precision = precision
    config = ObjectiveConfig(blur_init_sigma=0.0, cls_weight=1.0, clip_weight=1.0, pl_weight=1.0)
    objective = Objective(config, classifier=classifier, clip=clip)
    generator, labels = TinyGenerator(), torch.arange(COUNT) % 3
    frozen = [*parts.features.parameters(), *classifier.parameters(), *clip.parameters()]
    z, c = torch.randn(COUNT, 4), F.normalize(torch.randn(COUNT, 16), dim=1)
    real = torch.rand(COUNT, 3, SIDE, SIDE) * 2 - 1
    count = 2 if family == "projected" else 1
    networks = Networks(generator, parts.heads, parts.features)
    batch = MicroBatch(real, Conditioning(c=c, target=c, guide=c, labels=labels))
    with watched(parts) as calls:
        parts.heads.requires_grad_(False)
        objective.g_loss(networks, batch, z, 0)[0].backward()
        assert calls == [COUNT] * count
        assert all(parameter.grad.abs().sum() > 0 for parameter in generator.parameters())
        objective.pl_loss(generator, batch, z)[0].backward()
        assert calls == [COUNT] * count
        parts.heads.requires_grad_(True)
        calls.clear()
        objective.d_loss(networks, batch, z, 0)[0].backward()
        assert calls == [2 * COUNT] * count
    assert not any(parameter.requires_grad for parameter in frozen)
    assert all(parameter.grad is None for parameter in frozen)


def flops(network, images):
    """Of a forward and of the backward pass to the images, but for attention, which is done again there."""
    with FlopCounterMode(display=False) as forward:
        maps = network.maps(images)
    with FlopCounterMode(display=False) as backward:
        torch.stack([x.square().mean() for x in maps]).sum().backward()
    counts = [counter.get_flop_counts()["Global"].items() for counter in (forward, backward)]
    return [sum(count for kind, count in pairs if "attention" not in str(kind)) for pairs in counts]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "name", ["small_cnn", "small_vit", "tf_efficientnet_lite0", "resnet10t", "vit_tiny_patch16_224"]
)
def test_the_backward_pass_costs_what_the_forward_pass_does(name, precision):
    """Gradients of weights would double it."""
    network = load_feature_network(f"random:{name}")
    network.trim()
    network.precision = precision
    side = network.input_size if network.kind == "vit" else 64
    images = torch.rand(1, 3, side, side, requires_grad=True)
    forward, backward = flops(network, images)
    assert backward == pytest.approx(forward, rel=0.02)
    for parameter in network.backbone.parameters():  # what the bound is to tell apart
        parameter.requires_grad_(True)
    assert flops(network, images)[1] > 1.9 * forward


def plain_clip():
    vision = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 32, "width": 32, "heads": 2, "layers": 1}
    return FeatureNetwork("x", open_clip.CLIP(24, vision, text).visual.eval(), input_size=32)


def timm_vit(name, **sizes):
    return FeatureNetwork("x", timm.create_model(name, img_size=32, depth=3, **sizes), input_size=32)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: timm_vit("deit_tiny_distilled_patch16_224"), id="deit"),
        pytest.param(lambda: timm_vit("vit_small_patch16_224"), id="dino"),
        pytest.param(lambda: timm_vit("eva02_tiny_patch14_224", patch_size=16), id="rotary"),
        pytest.param(plain_clip, id="open_clip"),
        pytest.param(lambda: load_feature_network("random:small_vit"), id="local"),
    ],
)
def test_every_block_attends_through_the_fused_operation(make):
    network = make()
    attend = F.scaled_dot_product_attention
    for gradients in (True, False):
        patched = mock.patch.object(F, "scaled_dot_product_attention", side_effect=attend)
        with torch.set_grad_enabled(gradients), patched as fused:
            network.maps(torch.rand(2, 3, 32, 32))
        assert fused.call_count == network.backbone.depth
