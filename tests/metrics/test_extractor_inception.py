"""The Inception of FID: equal to stored numbers and to an independent one, whatever is around it."""

import json
import sys

import numpy as np
import pytest
import torch
from golden_cases import FOLDER
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from sgxl_t.metrics.features import load_extractor
from sgxl_t.metrics.features.inception import hash_uniform

CASES = json.loads((FOLDER / "metrics.json").read_text())
ARRAYS = np.load(FOLDER / "metrics.npz", allow_pickle=False)
FEATURES = {"pool3": "inc_pool3", "spatial": "inc_spatial7", "logits": "inc_logits_unbiased"}


def relative(ours, expected):
    return float((ours - expected).norm() / expected.norm())


def random_pictures(count, side=40):
    pictures = torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(0))
    return pictures.to(torch.uint8)


@pytest.fixture(scope="module")
def inception():
    return load_extractor("inception_hash")


@pytest.fixture(scope="module")
def state_file(inception, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(inception.network.state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SGXL_T_CACHE", str(tmp_path / "cache"))


@pytest.mark.golden
def test_golden_hash_uniform_check():
    case = CASES["hash_uniform_check"]
    np.testing.assert_allclose(
        hash_uniform(0, 4) + 0.5, case["expected"], atol=case["tolerance"]["abs"], rtol=0
    )


@pytest.mark.golden
def test_golden_fid_inception_forward(inception):
    limit = CASES["fid_inception_forward"]["tolerance"]["rel_fro"]
    middle = []
    hook = inception.network.Mixed_6e.register_forward_hook(lambda *args: middle.append(args[2].mean((2, 3))))
    outputs = inception(torch.from_numpy(ARRAYS["inc_images"]))
    hook.remove()
    assert {name: value.shape[1] for name, value in outputs.items()} == inception.outputs
    for name, stored in FEATURES.items():
        assert relative(outputs[name], torch.from_numpy(ARRAYS[stored])) < limit, name
    assert relative(middle[0], torch.from_numpy(ARRAYS["inc_f768"])) < limit


def check_against_oracle(inception, state_file, count):
    """torch-fidelity's blocks are shared; its resizing, its order and its outputs are not."""
    network = FeatureExtractorInceptionV3(
        "oracle", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(state_file)
    )
    pictures = random_pictures(count)
    ours = inception(pictures)
    with torch.no_grad():
        pool3, logits = network(pictures)
    assert relative(ours["pool3"], pool3) < 1e-5
    assert relative(ours["logits"], logits) < 1e-5
    per_picture = (ours["pool3"] - pool3).norm(dim=1) / pool3.norm(dim=1)
    assert per_picture.max() < 1e-5


def test_without_resizing_torch_fidelity_gives_the_same_bits(inception, state_file):
    network = FeatureExtractorInceptionV3(
        "oracle", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(state_file)
    ).to(memory_format=torch.channels_last)
    pictures = random_pictures(2, 299)
    with torch.no_grad():
        pool3, logits = network(pictures)
    ours = inception(pictures)
    assert torch.equal(ours["pool3"], pool3)
    assert torch.equal(ours["logits"], logits)


def test_forward_equals_torch_fidelity(inception, state_file):
    check_against_oracle(inception, state_file, 4)


@pytest.mark.slow
def test_forward_equals_torch_fidelity_on_64_pictures(inception, state_file):
    check_against_oracle(inception, state_file, 64)


def test_weights_from_a_file_give_the_same_network(inception, state_file):
    loaded = load_extractor("inception", weights=state_file)
    assert loaded.weight_hash == inception.weight_hash
    assert loaded.name == "inception"
    assert not loaded.network.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    clean = load_extractor("inception_clean", weights=str(state_file))
    assert clean.weight_hash == inception.weight_hash
    assert clean.preprocessing != loaded.preprocessing
    picture = random_pictures(1, 360)
    planes = [
        Image.fromarray(p).resize((299, 299), Image.Resampling.BICUBIC) for p in picture[0].float().numpy()
    ]
    resized = torch.from_numpy(np.stack([np.asarray(plane).clip(0, 255) for plane in planes]))
    with torch.no_grad():
        expected = inception.network((resized[None] - 128) / 128)
    ours = clean(picture)
    for name in FEATURES:
        assert relative(ours[name], expected[name]) < 1e-5
    assert relative(ours["pool3"], loaded(picture)["pool3"]) > 1e-3


def test_random_inception_needs_no_classifier(inception, tmp_path):
    tensors = {k: v for k, v in inception.network.state_dict().items() if not k.startswith("fc.")}
    torch.save(tensors, tmp_path / "random.pth")
    bare = load_extractor("rinception", weights=tmp_path / "random.pth")
    torch.save(tensors | {"fc.weight": torch.zeros(10, 2048)}, tmp_path / "with.pth")
    other = load_extractor("rinception", weights=tmp_path / "with.pth")
    assert bare.weight_hash == other.weight_hash
    picture = random_pictures(1)
    outputs = bare(picture)
    assert list(outputs) == ["pool3"]
    torch.testing.assert_close(outputs["pool3"], inception(picture)["pool3"])
    with pytest.raises(ValueError, match=r"random\.pth lacks the tensor fc\.weight"):
        load_extractor("inception", weights=tmp_path / "random.pth")


def test_features_do_not_depend_on_batch_autocast_or_mode(inception):
    pictures = random_pictures(3)
    together = inception(pictures)["pool3"]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = inception.train()(pictures)["pool3"]
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, together)
    one_by_one = torch.cat([inception(picture[None])["pool3"] for picture in pictures])
    torch.testing.assert_close(one_by_one, together, rtol=1e-5, atol=1e-6)


def test_grey_pictures_count_as_colour_pictures(inception):
    grey = random_pictures(1)[:, :1]
    assert torch.equal(inception(grey)["pool3"], inception(grey.repeat(1, 3, 1, 1))["pool3"])


@pytest.mark.parametrize(
    "images",
    [torch.rand(2, 3, 8, 8), torch.zeros(2, 4, 8, 8).byte(), torch.zeros(3, 8, 8).byte()],
    ids=["floats", "four channels", "no batch"],
)
def test_other_pictures_are_refused_in_a_sentence(inception, images):
    with pytest.raises(ValueError, match=r"give uint8 \[N, 3, H, W\]"):
        inception(images)


@pytest.mark.parametrize("block", ["Mixed_5b", "Mixed_6b", "Mixed_7b", "Mixed_7c"])
def test_poolings_are_those_of_the_graph(inception, block):
    """The average blocks leave the padding out, and the last block takes the maximum."""
    network = inception.network.get_submodule(block)
    pooled = []
    hook = network.branch_pool.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    x = torch.rand(1, network.branch1x1.conv.in_channels, 3, 3)
    with torch.no_grad():
        network(x)
    hook.remove()
    corner = x[..., :2, :2]
    expected = corner.amax((2, 3)) if block == "Mixed_7c" else corner.mean((2, 3))
    torch.testing.assert_close(pooled[0][:, :, 0, 0], expected)


def test_without_torch_fidelity_a_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ValueError, match=r"pip install 'sgxl-t\[metrics\]'"):
        load_extractor("inception_hash")
