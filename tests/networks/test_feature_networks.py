"""Feature networks by reference: what they give, that they stay frozen, and what is said when missing."""

import time

import pytest
import timm
import torch

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork, resize
from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallCNNConfig, save_local
from sgxl_t.networks.frozen import load_feature_network
from sgxl_t.networks.weights import hub
from sgxl_t.networks.weights.hub import MissingWeightsError

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def unreachable_hub(monkeypatch, tmp_path):
    """No hub and an empty cache."""
    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


def test_efficientnet_lite0_gives_the_four_stages_of_the_paper():
    network = load_feature_network("random:tf_efficientnet_lite0")
    assert (network.kind, network.channels, network.embed_dim) == ("cnn", (24, 40, 112, 320), 320)
    assert network.input_size == 224
    assert network.mean.flatten().tolist() == network.std.flatten().tolist() == [0.5] * 3
    maps = network.maps(IMAGES)
    assert [tuple(x.shape[1:]) for x in maps] == [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    model = network.backbone.model
    x = model.bn1(model.conv_stem(IMAGES * 2 - 1))
    ends = {1: 0, 2: 1, 4: 2, 6: 3}  # last block of each stage
    for index, stage in enumerate(model.blocks):
        x = stage(x)
        if index in ends:
            torch.testing.assert_close(maps[ends[index]], x)
    pooled = network.maps(resize(IMAGES, 224))[-1].mean((2, 3))
    torch.testing.assert_close(network.pooled(IMAGES), pooled)
    assert network.logits(IMAGES).shape == (2, 1000)


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "mobilenetv3_small_050"])
def test_any_timm_cnn_gives_four_maps_shallow_to_deep(name):
    network = load_feature_network(f"random:{name}")
    maps = network.maps(IMAGES)
    assert tuple(x.shape[1] for x in maps) == network.channels
    assert [x.shape[-1] for x in maps] == [16, 8, 4, 2]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("test_vit", {}),
        ("test_vit4", {}),
        ("deit_tiny_distilled_patch16_224", {"depth": 2}),
        ("deit3_small_patch16_224", {"depth": 2}),
        ("vit_small_patch14_reg4_dinov2", {"depth": 2, "img_size": 56, "dynamic_img_size": True}),
        ("vit_small_patch16_dinov3", {"depth": 2, "img_size": 64}),
        ("eva02_tiny_patch14_224", {"depth": 2, "img_size": 56}),
        ("vit_small_patch16_rope_mixed_224", {"depth": 2, "img_size": 64}),
    ],
)
def test_transformer_reads_out_as_timm_computes(name, sizes):
    """Class, distillation and register tokens, and position embeddings with and without a row for them."""
    torch.manual_seed(0)
    model = timm.create_model(name, **sizes)
    for token in (model.cls_token, model.reg_token):
        if token is not None:
            torch.nn.init.normal_(token)
    network = FeatureNetwork(
        name, model, input_size=model.patch_embed.img_size[0], mean=(0,) * 3, std=(1,) * 3
    )
    images = resize(IMAGES, network.input_size)
    depth, prefix = len(model.blocks), model.num_prefix_tokens
    tokens = network.tokens(images, (depth - 1, 0))
    expected = model.forward_intermediates(
        images, indices=[0, depth - 1], output_fmt="NLC", intermediates_only=True, return_prefix_tokens=True
    )
    for ours, (patches, before) in zip(tokens, expected[::-1], strict=False):
        first = patches.mean(1, keepdim=True) if model.cls_token is None else before[:, :1]
        torch.testing.assert_close(ours, torch.cat([first, patches], dim=1))
        assert before.shape[1] == prefix
    embedded = model._pos_embed(model.patch_embed(images))
    embedded = model.norm_pre(embedded[0] if isinstance(embedded, tuple) else embedded)
    torch.testing.assert_close(tokens[-1][:, 1:], embedded[:, prefix:])
    output = network.logits if model.num_classes else network.pooled
    torch.testing.assert_close(output(images), model(images))
    assert network.pooled(images).shape == (2, network.embed_dim)
    rows = model.patch_embed.grid_size[0]
    deepest = network.maps(images)[-1]
    torch.testing.assert_close(deepest.flatten(2).transpose(1, 2), tokens[0][:, 1:])
    assert deepest.shape[-2:] == (rows, rows)


def test_transformer_takes_any_size_that_divides_into_patches():
    network = load_feature_network("random:test_vit")
    assert network.maps(torch.rand(1, 3, 96, 80))[0].shape == (1, 64, 6, 5)
    with pytest.raises(ValueError, match="do not divide into patches of 16"):
        network.maps(torch.rand(1, 3, 90, 80))


def test_positions_of_a_rotary_transformer_follow_the_image():
    """As timm computes for another size; a network that keeps the angles of one grid takes that one alone."""
    model = timm.create_model("vit_small_patch16_dinov3", depth=2, img_size=64)
    network = FeatureNetwork("x", model, input_size=64, mean=(0,) * 3, std=(1,) * 3)
    images = torch.rand(1, 3, 48, 80)
    (patches,) = model.forward_intermediates(images, indices=[1], output_fmt="NLC", intermediates_only=True)
    assert not network.fixed_size
    torch.testing.assert_close(network.tokens(images, (1,))[0][:, 1:], patches)
    assert network.maps(images)[0].shape == (1, 384, 3, 5)
    fixed = timm.create_model("eva02_tiny_patch14_224", depth=1, img_size=56)
    assert FeatureNetwork("x", fixed, input_size=56).fixed_size


@pytest.mark.parametrize("taps", [(), (6,), (-1,)])
def test_taps_outside_the_transformer_are_refused(taps):
    with pytest.raises(ValueError, match="use 0 to 5"):
        load_feature_network("random:test_vit").tokens(torch.rand(1, 3, 160, 160), taps)


def test_network_stops_at_the_last_tap():
    network = load_feature_network("random:test_vit")
    ran = []
    for index, block in enumerate(network.backbone.model.blocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    network.tokens(torch.rand(1, 3, 160, 160), (0, 2))
    assert ran == [0, 1, 2]


def test_open_clip_towers():
    import open_clip

    sizes = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 4, "width": 32, "head_width": 16, "patch_size": 8},
    }
    text = {"context_length": 8, "vocab_size": 32, "width": 32, "heads": 2, "layers": 1}
    visual = open_clip.CLIP(**sizes, text_cfg=text).visual.eval()
    network = FeatureNetwork("open_clip:tiny/x", visual, input_size=32)
    images = resize(IMAGES, 32)
    assert (network.kind, network.channels, network.embed_dim) == ("vit", (32,) * 4, 24)
    tokens = network.tokens(images, (3,))
    torch.testing.assert_close(network.pooled(images), visual(network.normalise(images)))
    final = visual.ln_post(tokens[0][:, 0]) @ visual.proj
    torch.testing.assert_close(final, visual(network.normalise(images)))
    assert network.maps(IMAGES)[0].shape == (2, 32, 8, 8)
    with pytest.raises(ValueError, match="no classifier"):
        network.logits(images)


def test_timm_trunks_inside_open_clip():
    from open_clip.timm_model import TimmModel

    visual = TimmModel(
        "test_vit", embed_dim=24, image_size=160, pool="", proj="linear", pretrained=False
    ).eval()
    network = FeatureNetwork("open_clip:tiny/x", visual, input_size=160)
    images = resize(IMAGES, 160)
    assert (network.kind, network.channels, network.embed_dim) == ("vit", (64,) * 4, 24)
    assert [tuple(x.shape) for x in network.tokens(images, (1,))] == [(2, 101, 64)] * 2
    assert [x.shape[1] for x in network.maps(images)] == [64] * 4
    torch.testing.assert_close(network.pooled(images), visual(network.normalise(images)))


@pytest.mark.parametrize(
    "reference", ["random:small_cnn", "random:small_vit", "random:resnet10t", "random:test_vit"]
)
def test_gradients_reach_images_and_never_weights(reference):
    network = load_feature_network(reference)
    network.train().requires_grad_(True)
    assert not any(module.training for module in network.modules())
    side = network.input_size if network.kind == "vit" else 32
    images = torch.rand(2, 3, side, side, requires_grad=True)
    torch.stack([x.square().mean() for x in network.maps(images)]).sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_random_weights_depend_on_the_name_alone():
    torch.manual_seed(1)
    first = load_feature_network("random:small_cnn").state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = load_feature_network("random:small_cnn").state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(state, torch.get_rng_state())


def test_local_reference(tmp_path):
    stored = SmallCNN(SmallCNNConfig(image_size=16, num_classes=3)).eval()
    save_local(tmp_path / "cnn", stored)
    network = load_feature_network(f"local:{tmp_path / 'cnn'}")
    assert (network.kind, network.input_size, network.channels) == ("cnn", 16, (16, 32, 48, 64))
    images = resize(IMAGES, 16)
    torch.testing.assert_close(network.logits(IMAGES), stored.forward_logits(images * 2 - 1))
    for ours, theirs in zip(network.maps(images), stored.forward_maps(images * 2 - 1), strict=True):
        torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match="has no tokens"):
        network.tokens(images, (0,))


def test_missing_weights_are_told_in_one_sentence_and_at_once(unreachable_hub):
    start = time.monotonic()
    for reference in ("timm:mobilenetv3_small_100.lamb_in1k", "open_clip:ViT-B-32/openai"):
        with pytest.raises(MissingWeightsError) as caught:
            load_feature_network(reference)
        message = str(caught.value)
        assert reference in message
        assert "sgxl-t features train" in message
        assert "\n" not in message
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("efficientnet", "is not understood: use timm:NAME"),
        ("timm:", "is not understood"),
        ("auto:cnn", "is not understood"),
        ("timm:tf_efficientnet_lite9", "did you mean tf_efficientnet_lite"),
        ("timm:resnet18.nope", "one of the tags a1_in1k"),
        ("random:resnet1x", "names no network of timm"),
        ("open_clip:ViT-B-32/opena", "its tags are openai"),
        ("open_clip:ViT-Z", "open_clip.list_pretrained"),
        ("local:/nowhere/at/all", "sgxl-t features train"),
    ],
)
def test_unknown_references_are_told_in_one_sentence(reference, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        load_feature_network(reference)
    assert "\n" not in str(caught.value)


def test_network_without_feature_levels_is_refused():
    with pytest.raises(ValueError, match="fewer than 4 feature levels"):
        FeatureNetwork("x", torch.nn.Linear(3, 3))
