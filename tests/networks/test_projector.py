"""Random mixing of feature maps, the transformer adapter, and what the frozen features do with images."""

import pytest
import timm
import torch
from golden_cases import assert_golden, descriptions, state_of, tensors
from timm.models.deit import VisionTransformerDistilled
from torch import nn

from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.configs import DiscriminatorConfig, ProjectedConfig
from sgxl_t.networks.discriminators.projector import ProjectedFeatures, RandomProjector
from sgxl_t.networks.discriminators.vit_adapter import VitAdapter, adapter_channels
from sgxl_t.networks.frozen import load_feature_network


@pytest.mark.golden
@pytest.mark.parametrize(
    "name", ["xl_projector_ccm", "xl_projector_ccm_csm", "xl_projector_ccm_csm_noexpand"]
)
def test_golden_projector(name):
    ctor, case = descriptions()[name]["ctor"], tensors(name)
    config = ProjectedConfig(cout=ctor["cout"], expand=ctor["expand"], proj_type=ctor["proj_type"])
    projector = RandomProjector(ctor["in_channels"], config)
    projector.load_state_dict({key.removeprefix("scratch."): value for key, value in state_of(name).items()})
    assert list(projector.channels) == descriptions()[name]["out_channels"]
    maps = [case[f"feat/{level}"].clone().requires_grad_() for level in range(4)]
    mixed = projector(maps)
    for level, y in enumerate(mixed):
        assert_golden(y, case[f"y/{level}"], name)
    torch.stack([(y * case[f"cot/{level}"]).sum() for level, y in enumerate(mixed)]).sum().backward()
    for level, x in enumerate(maps):
        assert_golden(x.grad, case[f"grad_in/feat{level}"], name, "grad")


@pytest.mark.golden
def test_golden_xl_vit_adapter():
    name = "xl_vit_adapter"
    ctor, case = descriptions()[name]["ctor"], tensors(name)
    sizes = {
        key: ctor[key] for key in ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "num_classes")
    }
    model = VisionTransformerDistilled(mlp_ratio=ctor["mlp_ratio"], **sizes)
    adapter = VitAdapter(ctor["embed_dim"], ctor["features"])
    model_state, adapter_state = {}, {}
    for key, value in state_of(name).items():
        if key.startswith("model."):
            model_state[key.removeprefix("model.")] = value
        else:
            adapter_state[key.replace(".3.", ".0.").replace(".4.", ".1.")] = value
    model.load_state_dict(model_state)
    adapter.load_state_dict(adapter_state)
    network = FeatureNetwork("timm:tiny", model, input_size=64, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert network.backbone.default_taps == tuple(ctor["hooks"])
    x = case["x"].clone().requires_grad_()
    maps = adapter(network.maps(x))
    for level, y in enumerate(maps):
        assert_golden(y, case[f"feat/{level}"], name)
    for level, y in enumerate(adapter(network.maps(case["x2"]))):
        assert_golden(y, case[f"feat2/{level}"], name)
    torch.stack([(y * case[f"cot/{level}"]).sum() for level, y in enumerate(maps)]).sum().backward()
    assert_golden(x.grad, case["grad_in/x"], name, "grad")


def test_adapter_widths_of_base_small_and_tiny_transformers():
    assert adapter_channels(768) == (96, 192, 384, 768)
    assert adapter_channels(384) == (48, 96, 192, 384)
    assert adapter_channels(192) == (24, 48, 96, 192)


def test_without_final_upsampling_the_paper_result_is_the_upsampled_own_one():
    torch.manual_seed(0)
    paper = RandomProjector((3, 5, 7, 9), ProjectedConfig(cout=4))
    own = RandomProjector((3, 5, 7, 9), ProjectedConfig(cout=4, final_upsample=False))
    own.load_state_dict(paper.state_dict())
    maps = [torch.randn(2, c, side, side) for c, side in zip((3, 5, 7, 9), (16, 8, 4, 2), strict=True)]
    up = nn.UpsamplingBilinear2d(scale_factor=2)
    for small, large in zip(own(maps), paper(maps), strict=True):
        torch.testing.assert_close(up(small), large)


def test_raw_features_pass_unmixed():
    projector = RandomProjector((3, 5, 7, 9), ProjectedConfig(proj_type=0))
    maps = [torch.randn(1, c, 4, 4) for c in (3, 5, 7, 9)]
    assert projector(maps) is maps
    assert projector.channels == (3, 5, 7, 9)


def features(networks=("random:small_cnn",), policy="", seed=0, **changes):
    options = {"cout": 8, "final_upsample": False, "input_size": None} | changes
    config = DiscriminatorConfig(diff_augment=policy, projected=ProjectedConfig(**options))
    return ProjectedFeatures([load_feature_network(name) for name in networks], config, seed=seed)


def test_calibration_gives_every_map_unit_scale_on_the_images_it_saw():
    projected = features(normalize_features=True)
    images = torch.rand(40, 3, 32, 32) * 2 - 1
    projected.calibrate(images)
    for x in projected(images)[0]:
        assert x.std().item() == pytest.approx(1, abs=0.01)


def test_calibration_does_nothing_unless_asked_for():
    projected = features()
    before = projected(torch.ones(1, 3, 32, 32))[0]
    projected.calibrate(torch.rand(4, 3, 32, 32))
    for x, y in zip(before, projected(torch.ones(1, 3, 32, 32))[0], strict=True):
        assert torch.equal(x, y)


def test_projection_state_restores_another_seed_without_the_backbones():
    images = torch.rand(4, 3, 32, 32)
    first = features(("random:small_cnn", "random:small_vit"), normalize_features=True)
    second = features(("random:small_cnn", "random:small_vit"), seed=9, normalize_features=True)
    first.calibrate(images)
    state = first.projection_state()
    assert not any("tower" in key for key in state)
    second.load_projection_state(state)
    for x, y in zip(first(images), second(images), strict=True):
        for a, b in zip(x, y, strict=True):
            assert torch.equal(a, b)


def test_every_network_and_image_draws_its_own_augmentation():
    projected = features(("random:small_cnn", "random:small_cnn"), policy="color,translation")
    image = torch.rand(1, 3, 32, 32).expand(2, -1, -1, -1)
    seen = projected(image, torch.Generator().manual_seed(3))
    again = projected(image, torch.Generator().manual_seed(3))
    shallow, other = seen[0][0], seen[1][0]
    assert torch.equal(shallow, again[0][0])
    assert not torch.allclose(shallow[0], shallow[1])
    assert not torch.allclose(shallow, other)


def test_augmentation_without_randomness_is_refused():
    with pytest.raises(ValueError, match="source of randomness"):
        features(policy="color")(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("reference", "input_size", "resolution", "side"),
    [
        ("random:small_cnn", None, 64, 64),
        ("random:resnet10t", 48, 32, 48),
        ("random:small_cnn", 48, 16, 32),
        ("random:small_cnn", 24, 16, 24),
        ("random:small_cnn", 48, 64, 64),
        ("random:small_vit", None, 64, 32),
        ("random:small_vit", 48, 64, 32),
        ("random:test_vit", None, 64, 160),
        ("random:test_vit", 224, 256, 224),
    ],
)
def test_what_side_a_network_sees(reference, input_size, resolution, side):
    projected = features((reference,), input_size=input_size)
    seen = projected.prepare(projected.networks[0], torch.full((1, 3, resolution, resolution), -1.0))
    assert seen.shape[-1] == side
    assert seen.abs().max() == 0


def test_resizing_and_normalising_commute():
    network = FeatureNetwork("x", timm.create_model("resnet10t"), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    projected = ProjectedFeatures([network], DiscriminatorConfig(diff_augment="", features=("x",)))
    images = torch.rand(2, 3, 20, 20) * 2 - 1
    ours = network.normalise(projected.prepare(network, images))
    paper = nn.functional.interpolate(
        network.normalise((images + 1) / 2), size=(224, 224), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(ours, paper, atol=1e-5, rtol=1e-5)


def test_no_network_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        ProjectedFeatures([], DiscriminatorConfig())
