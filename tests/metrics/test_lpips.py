"""LPIPS equals the reference network with equal weights, and takes no other weights."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import vgg

from sgxl_t.metrics.distances.lpips import Lpips, load_lpips


@pytest.fixture(scope="module")
def tensors():
    """Weights like the public files' in names, shapes and scale."""
    rng = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        wanted = Lpips().state_dict()
    found = {}
    for name, value in wanted.items():
        fan_in = value.shape[1:].numel() if value.ndim == 4 else 100
        found[name] = torch.randn(value.shape, generator=rng) * (2 / fan_in) ** 0.5
        if name.startswith("lin"):
            found[name] = found[name].abs()
    return found


@pytest.fixture(scope="module")
def folder(tensors, tmp_path_factory):
    """Two files as they are published, with the classifier that LPIPS does not need."""
    path = tmp_path_factory.mktemp("lpips")
    features = {name: value for name, value in tensors.items() if name.startswith("features.")}
    heads = {name: value for name, value in tensors.items() if name.startswith("lin")}
    torch.save(features | {"classifier.6.bias": torch.zeros(1000)}, path / "vgg16-397923af.pth")
    torch.save(heads, path / "vgg.pth")
    return path


@pytest.fixture(scope="module")
def network(folder):
    return load_lpips(folder)


def pictures(count=3, side=40):
    return torch.rand(2, count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 255


def test_equals_the_reference_network(network, tensors, monkeypatch):
    lpips = pytest.importorskip("torchmetrics.functional.image.lpips")
    # Its convolutions alone: drawing the classifier's weights takes seconds.
    layers = vgg.make_layers(vgg.cfgs["D"])
    monkeypatch.setattr("torchvision.models.vgg16", lambda **_: SimpleNamespace(features=layers))
    reference = lpips._LPIPS(pretrained=False, net="vgg", pnet_rand=True, eval_mode=True, use_dropout=False)
    slices = reference.net
    for name, value in tensors.items():
        kind, index, rest = name.split(".", 2)
        if kind == "features":
            group = next(part for part in slices.children() if index in dict(part.named_children()))
            getattr(group.get_submodule(index), rest).data.copy_(value)
        else:
            getattr(reference, kind).model[-1].weight.data.copy_(value)
    x, y = pictures()
    with torch.no_grad():
        expected = reference(x / 127.5 - 1, y / 127.5 - 1).flatten()
        ours = network(x, y)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=0)


def test_distances_are_zero_for_equals_and_symmetric(network):
    x, y = pictures(2)
    assert network(x, x).tolist() == [0, 0]
    torch.testing.assert_close(network(x, y), network(y, x))
    torch.testing.assert_close(network(x, y)[1:], network(x[1:], y[1:]))


def test_embedded_pictures_have_the_same_distances(network):
    x, y = pictures()
    with torch.no_grad():
        embedded = (network.embed(x) - network.embed(y)).square().sum(dim=1)
        torch.testing.assert_close(embedded, network(x, y), rtol=1e-4, atol=1e-6)


def test_one_file_and_two_are_the_same_network(network, tensors, tmp_path):
    save_file(tensors, tmp_path / "lpips.safetensors")
    other = load_lpips(tmp_path / "lpips.safetensors")
    assert len(other.weight_hash) == 16
    assert other.weight_hash == network.weight_hash


def test_missing_weights_say_which_files_and_from_where(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere.pth"):
        with pytest.raises(ValueError, match=r"vgg16-397923af.pth \(https.*vgg.pth \(https.*one folder"):
            load_lpips(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda heads: heads.pop("lin2.model.1.weight"), "lacks the tensor lin2.model.1.weight"),
        (lambda heads: heads.update(lin5=torch.zeros(1)), "unknown tensor lin5"),
        (lambda heads: heads.update({"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)}), "shape"),
    ],
)
def test_other_weights_are_refused(folder, tmp_path, change, message):
    (tmp_path / "vgg16.pth").symlink_to(Path(folder) / "vgg16-397923af.pth")
    heads = torch.load(folder / "vgg.pth")
    change(heads)
    torch.save(heads, tmp_path / "vgg.pth")
    with pytest.raises(ValueError, match=message):
        load_lpips(tmp_path)


def test_truncated_weights_are_refused(folder, tmp_path):
    shutil.copy(folder / "vgg.pth", tmp_path / "vgg.pth")
    (tmp_path / "vgg.pth").write_bytes((tmp_path / "vgg.pth").read_bytes()[:3000])
    with pytest.raises(ValueError, match="truncated"):
        load_lpips(tmp_path)


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (3, 32, 32), (1, 3, 8, 32)])
def test_other_shapes_are_refused(network, shape):
    with pytest.raises(ValueError, match="16 px"):
        network(torch.zeros(shape), torch.zeros(shape))
