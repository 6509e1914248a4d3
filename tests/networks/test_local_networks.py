"""Small local networks: shapes, folded norms, stored folders and their errors."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from sgxl_t.networks.backbones.local_networks import (
    SmallCNN,
    SmallCNNConfig,
    SmallViT,
    SmallViTConfig,
    load_local,
    save_local,
)


def cnn(**sizes):
    torch.manual_seed(0)
    network = SmallCNN(
        SmallCNNConfig(**{"image_size": 16, "channels": (4, 6, 8, 10), "num_classes": 3} | sizes)
    )
    network.train()
    for _ in range(3):  # moves the running averages away from 0 and 1
        network(torch.randn(8, 3, 16, 16) * 2 + 1)
    return network.eval().requires_grad_(False)


def vit(**sizes):
    torch.manual_seed(0)
    network = SmallViT(SmallViTConfig(**{"image_size": 16, "width": 16, "heads": 2, "projection": 5} | sizes))
    return network.eval().requires_grad_(False)


def images(count=2, side=16):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_cnn_maps_start_at_full_resolution():
    maps = cnn().forward_maps(images())
    assert [tuple(m.shape) for m in maps] == [(2, 4, 16, 16), (2, 6, 8, 8), (2, 8, 4, 4), (2, 10, 2, 2)]


def test_folded_norm_equals_convolution_then_norm():
    network = cnn()
    x = images()
    folded = network.forward_maps(x)
    for stage, expected in zip(network.stages, folded, strict=True):
        for layer in stage:
            x = torch.relu(layer.norm(layer.conv(x)))
        torch.testing.assert_close(expected, x, rtol=1e-5, atol=1e-5)


def test_vit_tokens_are_taps_then_embedded_patches():
    network = vit()
    first, third, patches = network.forward_tokens(images(), (0, 2))
    assert first.shape == third.shape == patches.shape == (2, 17, 16)
    torch.testing.assert_close(network.blocks[0](patches), first)
    assert torch.equal(patches, network.embed(images()))


def test_vit_stops_after_the_last_tap():
    network = vit()
    network.blocks[3] = None
    assert len(network.forward_tokens(images(), (0, 2))) == 3


def test_vit_maps_hold_the_patch_tokens():
    network = vit(depth=2)
    maps = network.forward_maps(images())
    assert [tuple(m.shape) for m in maps] == [(2, 16, 4, 4)] * 4
    tokens = network.forward_tokens(images(), (1,))[0]
    torch.testing.assert_close(maps[-1][:, :, 1, 2], tokens[:, 1 + 1 * 4 + 2])


def test_gradients_reach_the_images():
    for network in (cnn(), vit()):
        x = images().requires_grad_(True)
        network(x).sum().backward()
        assert x.grad is not None
        assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("make", [cnn, vit])
def test_loaded_network_equals_the_saved_one(make, tmp_path):
    network = make(num_classes=3, projection=5)
    save_local(tmp_path / "net", network, {"seed": 4})
    loaded, meta = load_local(tmp_path / "net")
    assert meta == {"seed": 4}
    assert loaded.config == network.config
    assert torch.equal(loaded(images()), network(images()))
    assert torch.equal(loaded.forward_logits(images()), network.forward_logits(images()))
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not loaded.training


def damage_missing(folder):
    (folder / "model.safetensors").unlink()


def damage_truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def damage_shape(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"classifier.bias": torch.zeros(7)}, folder / "model.safetensors")


def damage_name(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"surplus": torch.zeros(7)}, folder / "model.safetensors")


def damage_lacks(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.bias"]
    save_file(tensors, folder / "model.safetensors")


def damage_json(folder):
    (folder / "config.json").write_text("{")


def damage_key(folder):
    config = json.loads((folder / "config.json").read_text())
    config["config"]["chanels"] = [1]
    (folder / "config.json").write_text(json.dumps(config))


def damage_size(folder):
    config = json.loads((folder / "config.json").read_text())
    config["config"]["channels"] = [10**9] * 4
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_missing, "is missing"),
        (damage_truncated, "truncated"),
        (damage_shape, r"differently shaped: classifier.bias \(7,\) instead of"),
        (damage_name, "unexpected: surplus"),
        (damage_lacks, "missing: classifier.bias"),
        (damage_json, "is not valid JSON"),
        (damage_key, "chanels"),
        (damage_size, "whole number from 0 to"),
    ],
)
def test_damaged_folders_give_one_sentence(damage, words, tmp_path):
    save_local(tmp_path / "net", cnn())
    damage(tmp_path / "net")
    with pytest.raises(ValueError, match=words) as caught:
        load_local(tmp_path / "net")
    assert "\n" not in str(caught.value)


def test_folder_that_is_none():
    with pytest.raises(ValueError, match="no folder"):
        load_local("nowhere/at/all")


def test_no_classifier_without_labels():
    with pytest.raises(ValueError, match="trained without labels"):
        cnn(num_classes=0).forward_logits(images())


def test_vit_takes_one_size():
    with pytest.raises(ValueError, match="takes 16 x 16"):
        vit()(images(side=32))


@pytest.mark.parametrize("sizes", [{"patch": 3}, {"heads": 5}, {"image_size": 18}, {"mlp_ratio": 0.0}])
def test_impossible_vit_sizes(sizes):
    with pytest.raises(ValueError, match="must"):
        SmallViTConfig(**sizes)
