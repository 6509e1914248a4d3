"""Text conditions and model folders with published encoders; captions kept on disk."""

import copy

import pytest
import torch
from PIL import Image
from tiny_text_towers import t5_folder

from sgxl_t.conditioning import TextCondition, build_condition
from sgxl_t.datasets.open import open_source
from sgxl_t.model_io.model_folder import load_model, save_model
from sgxl_t.networks.frozen import load_text_encoder
from sgxl_t.networks.generators.registry import build_generator

CAPTIONS = ["a red fox", "a small blue car", "a red fox"]


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return f"transformers:{t5_folder(tmp_path_factory.mktemp('t5') / 't5')}"


def pictures(folder):
    for number, caption in enumerate(CAPTIONS):
        Image.new("RGB", (16, 16), (40 * number, 0, 0)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption)
    return open_source(folder, resolution=16)


def test_a_condition_is_built_from_a_reference(t5, tmp_path):
    condition = build_condition("text", pictures(tmp_path), clip=t5)
    assert condition.spec.dim == 16
    assert condition.original is load_text_encoder(t5)
    assert torch.equal(condition.encode(CAPTIONS).c, condition.encode_frozen(CAPTIONS).target)


@pytest.mark.parametrize("trainable", [False, True])
def test_copies_of_a_condition_share_the_frozen_encoder(t5, trainable):
    condition = TextCondition(load_text_encoder(t5), trainable=trainable)
    twin = copy.deepcopy(condition)
    assert twin.original is condition.original
    assert bool(condition.state_dict()) == trainable
    assert len(list(condition.parameters())) == len(condition.trainable_parameters())
    if trainable:
        assert twin.own is not condition.own
        with torch.no_grad():
            twin.own.text_parameters()[0].add_(1)
        assert not torch.equal(twin.encode(CAPTIONS).c, condition.encode(CAPTIONS).c)
        assert torch.equal(twin.encode_frozen(CAPTIONS).target, condition.encode_frozen(CAPTIONS).target)


@pytest.mark.parametrize("trainable", [False, True])
def test_a_copy_trained_before_goes_on_conditioning_the_generator(t5, trainable):
    original = load_text_encoder(t5)
    trained = original.text_copy()
    with torch.no_grad():
        trained.text_parameters()[0].mul_(1.5)
    condition = TextCondition(original, trainable=trainable, own=trained)
    torch.testing.assert_close(condition.encode(CAPTIONS).c, trained.encode_text(CAPTIONS))
    assert not torch.allclose(condition.encode(CAPTIONS).c, condition.encode_frozen(CAPTIONS).target)
    assert bool(condition.trainable_parameters()) == trainable
    assert condition.encode(CAPTIONS).c.requires_grad == trainable
    assert condition.spec.dim == trained.dim


def test_a_condition_moves_its_frozen_encoder(t5):
    condition = TextCondition(load_text_encoder(t5))
    moved = []
    condition._apply(lambda tensor: moved.append(tensor.shape) or tensor)
    assert len(moved) > len(condition.original.text_parameters())


@pytest.mark.parametrize("trainable", [False, True])
def test_a_model_with_a_published_encoder_makes_the_same_pictures_again(t5, trainable, tmp_path):
    condition = TextCondition(load_text_encoder(t5), trainable=trainable)
    if trainable:
        with torch.no_grad():
            condition.own.text_parameters()[3].mul_(1.5)
    generator = build_generator("sgt-tiny-16", condition.spec, seed=1).eval()
    save_model(tmp_path / "m", generator, condition, {})
    loaded, restored, _ = load_model(tmp_path / "m")
    assert restored.own is None
    z = torch.randn(3, generator.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = generator(z, condition.encode(CAPTIONS).c, noise_mode="const")
        again = loaded(z, restored.encode(CAPTIONS), noise_mode="const")
    assert torch.equal(first, again)
    assert (tmp_path / "m" / "text_encoder" / "tower").is_dir() == trainable


def test_fixed_captions_are_encoded_once_for_all_processes(t5, tmp_path, monkeypatch):
    condition = TextCondition(load_text_encoder(t5))
    expected = condition.encode_frozen(CAPTIONS).target
    condition.cache(CAPTIONS, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    later = TextCondition(load_text_encoder(t5))
    monkeypatch.setattr(type(later.original), "encode_text", None)
    later.cache(list(reversed(CAPTIONS)), tmp_path)
    torch.testing.assert_close(later.encode(CAPTIONS).c, expected)
    later.cache(CAPTIONS[:1], tmp_path)
    assert len(list(tmp_path.iterdir())) == 1, "what is held is not stored again"


def test_stored_captions_belong_to_one_encoder_and_one_set(t5, tmp_path):
    condition = TextCondition(load_text_encoder(t5))
    condition.cache(CAPTIONS, tmp_path / "a")
    condition.cache([*CAPTIONS, "snow"], tmp_path / "a")
    other = load_text_encoder(t5).text_copy().requires_grad_(False)
    with torch.no_grad():
        other.text_parameters()[0].add_(1)
    TextCondition(other).cache(CAPTIONS, tmp_path / "a")
    assert len(list((tmp_path / "a").iterdir())) == 3


def test_damaged_stored_captions_are_made_again(t5, tmp_path, caplog):
    condition = TextCondition(load_text_encoder(t5))
    condition.cache(CAPTIONS, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    fresh = TextCondition(load_text_encoder(t5))
    fresh.cache(CAPTIONS, tmp_path)
    assert "damaged" in caplog.text
    assert path.read_bytes() == whole
    assert torch.equal(fresh.encode(CAPTIONS).c, condition.encode(CAPTIONS).c)


def test_a_folder_that_cannot_be_written_costs_no_run(t5, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    condition = TextCondition(load_text_encoder(t5))
    condition.cache(CAPTIONS, tmp_path / "file")
    assert "could not be stored" in caplog.text
    assert condition.encode(CAPTIONS).c.shape == (3, 16)
