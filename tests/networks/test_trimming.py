"""What a discriminator's frozen network holds and runs: no more than its maps or tokens need."""

import copy
from functools import partial

import open_clip
import pytest
import timm
import torch
from open_clip.timm_model import TimmModel
from torch.testing import assert_close

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallCNNConfig, SmallViT, SmallViTConfig
from sgxl_t.networks.configs import ConditionSpec, DinoConfig, DiscriminatorConfig, ProjectedConfig
from sgxl_t.networks.discriminators.discriminator import build_discriminator
from sgxl_t.networks.frozen import load_feature_network

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CNNS = ["tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet10t", "convnext_atto"]


def plain_clip():
    vision = {"image_size": 32, "layers": 4, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 32, "width": 32, "heads": 2, "layers": 1}
    return open_clip.CLIP(24, vision, text).visual


def timm_clip():
    return TimmModel("test_vit", 24, image_size=32, pool="", proj="linear", pretrained=False)


def timm_vit(name, **sizes):
    return timm.create_model(name, img_size=32, **sizes)


TRANSFORMERS = {
    "deit, distilled": partial(timm_vit, "deit_tiny_distilled_patch16_224", depth=5),
    "pooled by attention": partial(timm_vit, "vit_tiny_patch16_224", depth=5, global_pool="map"),
    "rotary": partial(timm_vit, "eva02_tiny_patch14_224", depth=5, patch_size=16),
    "open_clip": plain_clip,
    "timm in open_clip": timm_clip,
    "local": lambda: SmallViT(SmallViTConfig(num_classes=3, projection=8)),
}


def network_of(make):
    torch.manual_seed(0)
    return FeatureNetwork("x", make().eval(), input_size=32)


def unused(network, outputs):
    """Parameters that the outputs do not depend on. Undoes the freezing to see."""
    for parameter in network.backbone.parameters():
        parameter.requires_grad_(True)
    torch.stack([x.square().mean() for x in outputs()]).sum().backward()
    return [name for name, parameter in network.backbone.named_parameters() if parameter.grad is None]


def modules_run(network, outputs):
    """Names of the modules inside the tower that a call goes through, and how often."""
    ran = {}
    for name, module in network.backbone.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.__setitem__(name, ran.get(name, 0) + 1))
    outputs()
    return ran


@pytest.mark.parametrize("name", CNNS)
def test_a_cnn_keeps_and_runs_nothing_behind_its_last_stage(name):
    network = load_feature_network(f"random:{name}")
    before, weights = network.maps(IMAGES), sum(p.numel() for p in network.parameters())
    whole = copy.deepcopy(network)
    ran = modules_run(whole, lambda: whole.maps(IMAGES))
    assert not [name for name in ran if "head" in name or "classifier" in name or name.endswith(".fc")]
    network.trim()
    for x, y in zip(network.maps(IMAGES), before, strict=True):
        assert_close(x, y, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in network.parameters()) < weights
    assert unused(network, lambda: network.maps(IMAGES)) == []


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_transformer_keeps_and_runs_nothing_behind_its_last_tap(kind):
    network = network_of(TRANSFORMERS[kind])
    before = network.tokens(IMAGES, (0, 2))
    blocks = network.backbone.depth
    weights = sum(p.numel() for p in network.parameters())
    network.trim((0, 2))
    for x, y in zip(network.tokens(IMAGES, (0, 2)), before, strict=True):
        assert torch.equal(x, y)
    assert network.backbone.depth == 3 < blocks
    assert sum(p.numel() for p in network.parameters()) < weights
    assert unused(network, lambda: network.tokens(IMAGES, (0, 2))) == []


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_maps_of_a_transformer_need_no_final_norm_and_no_classifier(kind):
    network = network_of(TRANSFORMERS[kind])
    before = network.maps(IMAGES)
    network.trim()
    for x, y in zip(network.maps(IMAGES), before, strict=True):
        assert torch.equal(x, y)
    assert unused(network, lambda: network.maps(IMAGES)) == []


def test_a_whole_transformer_stops_at_the_last_tap():
    network = load_feature_network("random:test_vit")
    ran = modules_run(network, lambda: network.tokens(torch.rand(1, 3, 160, 160), (0, 2)))
    assert {name for name in ran if name.startswith("model.blocks.") and name.count(".") == 2} == {
        f"model.blocks.{index}" for index in range(3)
    }
    assert not {"model", "model.norm", "model.head", "model.fc_norm"} & set(ran)
    assert set(ran.values()) == {1}


def test_a_trimmed_network_says_that_it_has_no_classifier_left():
    cnn = FeatureNetwork("local:cnn", SmallCNN(SmallCNNConfig(num_classes=3)).eval())
    cnn.trim()
    for ask in (cnn.pooled, cnn.logits):
        with pytest.raises(ValueError, match=r"local:cnn were left with .* load them anew"):
            ask(IMAGES)
    assert not cnn.has_logits


@pytest.mark.parametrize("family", ["projected", "dino"])
def test_a_discriminator_holds_what_it_runs(family):
    config = DiscriminatorConfig(
        family=family,
        features=("random:small_vit",),
        diff_augment="",
        projected=ProjectedConfig(cout=4, head_width=4, input_size=None),
        dino=DinoConfig(taps=(1,)),
    )
    features = build_discriminator(config, ConditionSpec(), 32).features
    (network,) = [module for module in features.modules() if isinstance(module, FeatureNetwork)]
    assert network.backbone.depth == (2 if family == "dino" else 4)
    assert unused(network, lambda: features(IMAGES)[0]) == []
    torch.testing.assert_close(
        load_feature_network("random:small_vit").tokens(IMAGES, (1,))[0], network.tokens(IMAGES, (1,))[0]
    )
