"""CLIP, DINOv2, VGG16 and networks by reference: loading, input arithmetic and outputs, on tiny networks."""

import dataclasses
import json

import numpy as np
import open_clip
import pytest
import timm
import torch
from golden_cases import FOLDER
from torchvision.models import vgg
from torchvision.transforms import v2

from sgxl_t.metrics.features import (
    EXTRACTOR_NAMES,
    KNOWN,
    MissingWeightsError,
    clip,
    dinov2,
    load_extractor,
    registry,
)
from sgxl_t.metrics.features.base import full_precision, state_hash
from sgxl_t.metrics.features.resize import bicubic_antialias, bicubic_uint8
from sgxl_t.metrics.features.vgg16 import VGG16Extractor
from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallCNNConfig, save_local
from sgxl_t.networks.frozen import load_feature_network
from sgxl_t.networks.weights import hub

CASES = json.loads((FOLDER / "metrics.json").read_text())
ARRAYS = np.load(FOLDER / "metrics.npz", allow_pickle=False)
PICTURES = torch.randint(0, 256, (2, 3, 48, 48), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
TINY_CLIP = {
    "embed_dim": 12,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 32, "heads": 2, "layers": 1},
}
CLIPS = ("clip_vit_b32", "clip_vit_l14_datacomp", "clip_vit_l14_336")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SGXL_T_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def unreachable_hub(monkeypatch, tmp_path):
    """No hub and an empty cache."""
    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


@pytest.fixture
def tiny_clip(tmp_path, monkeypatch):
    """A whole CLIP of random weights in half precision on disk, in the place of each real one."""
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY_CLIP).half().float().eval()
    torch.save({k: v.half() for k, v in model.state_dict().items()}, tmp_path / "clip.bin")
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: TINY_CLIP)
    return model, tmp_path / "clip.bin"


def test_every_name_has_its_facts_and_its_loader():
    assert tuple(registry.LOADERS) == EXTRACTOR_NAMES == tuple(KNOWN)


@pytest.mark.parametrize("name", CLIPS)
def test_clip_gives_the_output_of_its_convention(name, tiny_clip):
    model, path = tiny_clip
    extractor = load_extractor(name, weights=path)
    (output,) = extractor.outputs
    resize = bicubic_antialias if output == "unit" else bicubic_uint8
    normalise = v2.Normalize(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    pixels = normalise(resize(PICTURES, 32).float() / 255)
    with torch.no_grad():
        expected = model.encode_image(pixels, normalize=output == "unit")
        if output == "class_token":
            model.visual.proj = None
            expected = model.visual(pixels)
    torch.testing.assert_close(extractor(PICTURES)[output], expected, rtol=1e-4, atol=1e-5)
    assert expected.shape[1] == (32 if output == "class_token" else 12)


@pytest.mark.parametrize("name", CLIPS)
def test_clip_towers_have_the_sizes_that_are_promised(name):
    model_name, _, tag = KNOWN[name].reference.rpartition("/")
    assert tag in open_clip.list_pretrained_tags_by_model(model_name)
    config = open_clip.get_model_config(model_name)
    assert bool(config.get("quick_gelu")) == (tag == "openai")
    with torch.device("meta"):
        extractor = clip.ClipExtractor(name, open_clip.CLIP(**config).visual)
    assert extractor.resolution == (336 if name == "clip_vit_l14_336" else 224)
    width = extractor.tower.transformer.width if extractor.tower.proj is None else extractor.tower.output_dim
    assert KNOWN[name].outputs == {extractor.output: width}


def test_a_clip_file_of_another_network_is_refused(tiny_clip):
    _, path = tiny_clip
    tensors = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in tensors.items() if not k.startswith("visual.")}, path)
    with pytest.raises(ValueError, match=r"clip\.bin lacks the tensor class_embedding"):
        load_extractor("clip_vit_b32", weights=path)


@pytest.mark.golden
def test_golden_dinov2_pos_embed():
    ours = dinov2.resize_positions(torch.from_numpy(ARRAYS["dino_pos_in"]), 16)
    expected = torch.from_numpy(ARRAYS["dino_pos_out"])
    limit = CASES["dinov2_pos_embed"]["tolerance"]["abs"]
    torch.testing.assert_close(ours, expected, atol=limit, rtol=0)


def tiny_dinov2(architecture="vit_large_patch14_dinov2", **sizes):
    sizes = {"img_size": 518, **sizes, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return CREATE_MODEL(architecture, **sizes)


CREATE_MODEL = timm.create_model


def test_dinov2_from_its_authors_file(tmp_path, monkeypatch):
    torch.manual_seed(0)
    trained = tiny_dinov2(num_classes=0).eval()
    torch.nn.init.normal_(trained.pos_embed)
    tensors = trained.state_dict() | {"mask_token": torch.zeros(1, 32)}
    torch.save(tensors, tmp_path / "dino.pth")
    monkeypatch.setattr(timm, "create_model", tiny_dinov2)
    extractor = load_extractor("dinov2", weights=tmp_path / "dino.pth")
    positions = extractor.network.pos_embed
    assert positions.shape == (1, 257, 32)
    assert torch.equal(positions[:, 0], trained.pos_embed[:, 0])
    grid = trained.pos_embed[:, 1:].transpose(1, 2).reshape(1, 32, 37, 37)
    expected = torch.nn.functional.interpolate(grid, scale_factor=16.1 / 37, mode="bicubic")
    torch.testing.assert_close(positions[:, 1:].transpose(1, 2).reshape(1, 32, 16, 16), expected)
    normalise = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pixels = normalise(bicubic_antialias(PICTURES, 224) / 255)
    with torch.no_grad():
        token = extractor.network(pixels)
    torch.testing.assert_close(extractor(PICTURES)["class_token"], token, rtol=1e-4, atol=1e-5)


def test_dinov2_as_timm_fetches_it_equals_the_file(tmp_path, monkeypatch):
    torch.manual_seed(0)
    trained = tiny_dinov2(num_classes=0)
    torch.save(trained.state_dict(), tmp_path / "dino.pth")
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda *a, pretrained=False, **k: trained if pretrained else tiny_dinov2(*a, **k),
    )
    fetched = load_extractor("dinov2")
    assert fetched.weight_hash == load_extractor("dinov2", weights=tmp_path / "dino.pth").weight_hash
    torch.save({k: v for k, v in trained.state_dict().items() if k != "norm.bias"}, tmp_path / "dino.pth")
    with pytest.raises(ValueError, match=r"dino\.pth lacks the tensor norm\.bias"):
        load_extractor("dinov2", weights=tmp_path / "dino.pth")


def test_the_real_dinov2_has_the_sizes_that_are_promised():
    with torch.device("meta"):
        network = timm.create_model("vit_large_patch14_dinov2", img_size=224, num_classes=0)
    assert network.pos_embed.shape == (1, 257, KNOWN["dinov2"].outputs["class_token"])
    assert network.num_prefix_tokens == 1
    assert KNOWN["dinov2"].reference in timm.list_pretrained("vit_large_patch14_dinov2.*")


@pytest.mark.usefixtures("unreachable_hub")
@pytest.mark.parametrize("name", ["clip_vit_b32", "dinov2"])
def test_weights_that_the_hub_cannot_give_say_what_to_do(name, monkeypatch):

    def tiny(*args, pretrained=False, **kwargs):
        return CREATE_MODEL("test_vit", pretrained=pretrained)

    monkeypatch.setattr(timm, "create_model", tiny)
    monkeypatch.setitem(KNOWN, name, dataclasses.replace(KNOWN[name], origin="its authors"))
    with pytest.raises(MissingWeightsError) as caught:
        load_extractor(name)
    for part in ("connect to the hub once", KNOWN[name].file, "its authors", "fd_local:FOLDER"):
        assert part in str(caught.value)


def small_vgg():
    """VGG's classes with few channels, so that no test holds its 138 million weights."""
    torch.manual_seed(0)
    features = vgg.make_layers([4, "M", 8, "M"])
    with torch.device("meta"):
        network = vgg.VGG(features, init_weights=False)
    for layer, width in ((0, 8 * 49), (3, 16), (6, 16)):
        network.classifier[layer] = torch.nn.Linear(width, 16, device="cpu")
    return network.eval()


def test_vgg16_gives_fc2_after_its_relu(tmp_path, monkeypatch):
    network = small_vgg()
    torch.save(network.state_dict(), tmp_path / "vgg.pth")
    monkeypatch.setattr("sgxl_t.metrics.features.vgg16.vgg16", small_vgg)
    extractor = load_extractor("vgg16", weights=tmp_path / "vgg.pth")
    assert extractor.weight_hash == VGG16Extractor(network).weight_hash
    oracle = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    pixels = oracle.interpolate_bilinear_2d_like_tensorflow1x(
        PICTURES.float(), size=(224, 224), align_corners=False
    )
    pixels = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(pixels / 255)
    before = []
    network.classifier[3].register_forward_hook(lambda *args: before.append(args[2].relu()))
    with torch.no_grad():
        network(pixels)
    ours = extractor(PICTURES)["fc2"]
    torch.testing.assert_close(ours, before[0], rtol=1e-4, atol=1e-5)
    assert ours.shape == (2, 16)
    assert (ours >= 0).all()


@pytest.mark.slow
def test_vgg16_equals_an_independent_implementation(tmp_path):
    oracle = pytest.importorskip("torch_fidelity.feature_extractor_vgg16")
    torch.manual_seed(0)
    torch.save(vgg.vgg16(init_weights=False).state_dict(), tmp_path / "vgg.pth")
    extractor = load_extractor("vgg16", weights=tmp_path / "vgg.pth")
    path = str(tmp_path / "vgg.pth")
    network = oracle.FeatureExtractorVGG16("oracle", ["fc2_relu"], feature_extractor_weights_path=path)
    with torch.no_grad():
        (expected,) = network(PICTURES)
    torch.testing.assert_close(extractor(PICTURES)["fc2"], expected, rtol=1e-4, atol=1e-6)


def test_networks_by_reference_give_pooled_features(tmp_path):
    save_local(tmp_path / "cnn", SmallCNN(SmallCNNConfig(image_size=32)))
    extractor = load_extractor(f"local:{tmp_path / 'cnn'}")
    network = load_feature_network(f"local:{tmp_path / 'cnn'}")
    assert extractor.outputs == {"pooled": network.embed_dim}
    assert extractor.preprocessing == "bicubic-antialias-32-own-mean"
    pixels = bicubic_antialias(PICTURES, 32).clamp(0, 255) / 255
    with torch.no_grad():
        expected = network.pooled(pixels)
    torch.testing.assert_close(extractor(PICTURES)["pooled"], expected)
    small = PICTURES[..., :32, :32]
    torch.testing.assert_close(extractor(small)["pooled"], network.pooled(small / 255))
    with pytest.raises(ValueError, match="is no folder"):
        load_extractor(f"local:{tmp_path / 'none'}")


def test_extraction_is_exact_to_float32_and_leaves_the_switches_alone():
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = conv.fp32_precision
    matmul.allow_tf32 = True
    try:
        with full_precision(torch.zeros(1)):
            assert matmul.fp32_precision == conv.fp32_precision == "ieee"
        with torch.autocast("cpu", torch.bfloat16), full_precision(torch.zeros(1)):
            assert not torch.is_autocast_enabled("cpu")
        assert matmul.allow_tf32
        assert conv.fp32_precision == before
    finally:
        matmul.allow_tf32 = False


def test_the_weight_hash_knows_names_values_and_shapes_but_no_counters():
    network = torch.nn.BatchNorm2d(4)
    before = state_hash(network.state_dict())
    assert len(before) == 16
    assert int(before, 16) >= 0
    network.num_batches_tracked += 1
    assert state_hash(network.state_dict()) == before
    network.running_mean[2] += 1e-7
    assert state_hash(network.state_dict()) != before
    vector = torch.zeros(6)
    hashes = {state_hash(s) for s in ({"a": vector}, {"b": vector}, {"a": vector.view(2, 3)}, {})}
    assert len(hashes) == 4
    assert load_extractor("random:small_cnn").weight_hash == load_extractor("random:small_cnn").weight_hash
