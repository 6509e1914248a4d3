"""Runs through published networks from a cache: what they write down, how they go on, what they refuse."""

import json
import logging

import pytest
import timm
import torch
import yaml
from hub_stand_in import place_weights
from huggingface_hub import constants
from launches import torchrun
from PIL import Image
from tiny_clips import OPEN_CLIP, tiny_open_clip
from tiny_runs import tiny_run

from sgxl_t.model_io.model_folder import load_model, read_info
from sgxl_t.networks.weights import hub, packaged
from sgxl_t.training.config.auto_networks import Use
from sgxl_t.training.pretrained.published import PUBLISHED, Published
from sgxl_t.training.train import main

MOBILENET = "timm:mobilenetv3_small_100.lamb_in1k"
LITE0 = "timm:tf_efficientnet_lite0.in1k"
AUTO = {
    "features": "auto",
    "discriminator__features": '["auto:cnn"]',
    "conditioning__class_features": "auto:cnn",
    "conditioning__feature_seconds": 1,
    "discriminator__projected__input_size": 64,
    "log__track_images": 0,
}
HALF = {**AUTO, "schedule__kimg": 0.008}


@pytest.fixture(scope="session")
def weights():
    """Of the two networks that a class run on a CPU takes, by repository; made here."""
    torch.manual_seed(3)
    names = ("mobilenetv3_small_100.lamb_in1k", "tf_efficientnet_lite0.in1k")
    return {f"timm/{name}": timm.create_model(name.partition(".")[0]).state_dict() for name in names}


def place_all(cache, weights):
    for repository, tensors in weights.items():
        place_weights(cache, repository, "model.safetensors", tensors)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache without a hub."""
    folder = tmp_path / "home" / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(packaged, "OF_TIMM", {})
    hub.hub_trouble.cache_clear()
    yield folder
    hub.hub_trouble.cache_clear()


@pytest.fixture
def filled(cache, weights):
    place_all(cache, weights)
    return cache


@pytest.fixture
def photos(tmp_path):
    """Ten images of two classes with captions."""
    rng = torch.Generator().manual_seed(0)
    for number in range(10):
        place = tmp_path / "photos" / ("fox", "cat")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (16, 16, 3), generator=rng, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(place / f"{number}.png")
        (place / f"{number}.txt").write_text(f"a {place.name} in snow")
    return tmp_path / "photos"


def stored(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


def newest(folder):
    return max((folder / "checkpoints").glob("kimg_*"))


def refused(capsys, arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_a_run_names_what_it_took_and_goes_on_with_it_whatever_the_hub_is_then(
    filled, photos, tmp_path, tiny_features, caplog, capsys
):
    folder = tmp_path / "run"
    with caplog.at_level(logging.INFO):
        main(tiny_run(folder, tiny_features, data__source=photos, **HALF))
    assert caplog.text.count("feature networks: ") == 1
    assert (
        f"{LITE0} (in the hub's cache) for auto:cnn; {MOBILENET} (in the hub's cache) for auto:cnn"
        in caplog.text
    )
    for config in (stored(folder), json.loads((newest(folder) / "state.json").read_text())["config"]):
        assert config["features"] == "pretrained"
        assert config["discriminator"]["features"] == [LITE0]
        assert config["discriminator"]["projected"]["input_size"] == 64
        assert config["conditioning"]["class_features"] == MOBILENET
        assert config["conditioning"]["classifier"] == f"local:{tiny_features / 'cnn'}"
    assert not (folder / "features").exists()
    assert read_info(folder / "last").provenance["features"] == [LITE0]
    assert load_model(folder / "last")[0].mapping.embed.weight.shape == (2, 576)

    further = tiny_run(folder, tiny_features, data__source=photos, **AUTO)
    filled.rename(filled.with_name("away"))
    error = refused(capsys, further)
    assert f"weights of {MOBILENET} are neither in the local cache nor could they be fetched" in error
    assert newest(folder).name.endswith("0.008"), "nothing is lost"
    filled.with_name("away").rename(filled)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        main(further)
    assert f"feature networks: {LITE0}, {MOBILENET}, as the run began" in caplog.text
    assert newest(folder).name.endswith("0.016")
    assert "features=local, but the run in" in refused(
        capsys, tiny_run(folder, tiny_features, data__source=photos, **{**AUTO, "features": "local"})
    )


def test_a_run_that_began_with_its_own_networks_keeps_them_when_a_cache_comes(
    cache, weights, photos, tmp_path, tiny_features, caplog, capsys
):
    folder = tmp_path / "run"
    with caplog.at_level(logging.INFO):
        main(tiny_run(folder, tiny_features, data__source=photos, **HALF))
    assert "feature networks: auto:cnn trained on the run's own images" in caplog.text
    assert stored(folder)["features"] == "local"
    assert stored(folder)["discriminator"]["features"] == ["auto:cnn"]
    place_all(cache, weights)
    main(tiny_run(folder, tiny_features, data__source=photos, **AUTO))
    assert stored(folder)["discriminator"]["features"] == ["auto:cnn"]
    assert newest(folder).name.endswith("0.016")
    wanted = tiny_run(folder, tiny_features, data__source=photos, **{**AUTO, "features": "pretrained"})
    assert "has trained networks of its own for auto:cnn" in refused(capsys, wanted)


def test_pretrained_without_a_hub_is_refused_and_leaves_no_folder(
    cache, photos, tmp_path, tiny_features, capsys
):
    wanted = {**AUTO, "features": "pretrained", "data__source": photos}
    error = refused(capsys, tiny_run(tmp_path / "run", tiny_features, **wanted))
    assert f"features=pretrained needs published networks, and {LITE0} is not in the hub's cache" in error
    assert not (tmp_path / "run").exists()


def test_a_text_run_conditions_on_a_published_clip_and_its_model_says_which(
    filled, photos, tmp_path, tiny_features, monkeypatch
):
    from open_clip import pretrained

    clip = tiny_open_clip(monkeypatch)
    monkeypatch.setitem(pretrained._PRETRAINED["tiny"]["tag"], "hf_hub", "timm/tiny_clip/")
    place_weights(filled, "timm/tiny_clip", "open_clip_model.safetensors", clip.state_dict())
    monkeypatch.setitem(PUBLISHED["cpu"], Use("text", "clip"), Published(OPEN_CLIP, guides=False))
    settings = {**HALF, "data__source": photos, "conditioning__text_encoder": "auto:clip"}
    main(tiny_run(tmp_path / "run", tiny_features, cond="text", **settings))
    config = stored(tmp_path / "run")
    assert (config["features"], config["conditioning"]["text_encoder"]) == ("pretrained", OPEN_CLIP)
    moved = (tmp_path / "run" / "last").rename(tmp_path / "moved")
    about = json.loads((moved / "text_encoder" / "config.json").read_text())
    assert (about["kind"], about["reference"]) == ("reference", OPEN_CLIP)
    condition = load_model(moved)[1]
    with torch.no_grad():
        expected = torch.nn.functional.normalize(
            clip.encode_text(condition.encoder.tokenize(["a red fox"])), dim=-1
        )
        found = condition.encoder.encode_text(["a red fox"])
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_two_processes_look_through_the_same_published_network(
    filled, photos, tmp_path, tiny_features, monkeypatch
):
    monkeypatch.setenv("HF_HOME", str(filled.parent))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = {**HALF, "data__source": photos, "batch__per_device": 4}
    answer = torchrun(tiny_run(tmp_path / "run", tiny_features, **settings))
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count(f"feature networks: {LITE0}") == 1
    assert stored(tmp_path / "run")["discriminator"]["features"] == [LITE0]
