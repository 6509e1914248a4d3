"""What is fetched from a hub is said before, and what the cache has is not asked for."""

import json

import pytest
from huggingface_hub import constants
from tiny_models import tiny_clip, tiny_folder

from sgxl_t.model_io.model_folder import load_model
from sgxl_t.model_io.named_model import hub_folder
from sgxl_t.networks.frozen import load_feature_network
from sgxl_t.networks.weights import hub


@pytest.fixture
def reachable(monkeypatch, tmp_path):
    """A hub that answers, and an empty cache."""
    hub.announce.cache_clear()
    for module in ("networks.weights.hub", "networks.text.transformers_text", "model_io.named_model"):
        monkeypatch.setattr(f"sgxl_t.{module}.hub_reachable", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield
    hub.announce.cache_clear()


@pytest.fixture
def breaks_off(monkeypatch, reachable):
    """The hub has answered once and then no more; the libraries fail at once instead of trying again."""
    library = hub._hub_library
    monkeypatch.setattr(hub, "_hub_library", lambda *, offline: library(offline=True))


def loader(capsys, *, cached):
    """Something to fetch, which notes whether the network was open and what had been said by then."""
    seen = []

    def load():
        seen.append((hub.offline(), capsys.readouterr().err))
        if hub.offline() and not cached:
            raise OSError("not in the cache")
        return "network"

    return load, seen


def test_what_the_cache_has_is_taken_without_a_word(reachable, capsys):
    load, seen = loader(capsys, cached=True)
    assert hub.fetch("timm:x", load) == "network"
    assert seen == [(True, "")]
    assert capsys.readouterr().err == ""


def test_what_is_fetched_is_said_before_with_its_address(reachable, capsys):
    load, seen = loader(capsys, cached=False)
    assert hub.fetch("timm:x", load, files="weights") == "network"
    (first, _), (second, said) = seen
    assert (first, second) == (True, False)
    assert said == f"fetching weights of timm:x from {constants.ENDPOINT}, unless its cache has them\n"
    hub.fetch("timm:x", load)
    assert capsys.readouterr().err == "", "once is enough"
    assert hub.offline() == constants.HF_HUB_OFFLINE


def test_weights_from_elsewhere_are_said_before_as_well(reachable, capsys):
    load, seen = loader(capsys, cached=True)
    hub.fetch("timm:y", load, address="https://example.org/y.pth")
    assert "from https://example.org/y.pth" in seen[0][1]


def test_an_unreachable_hub_is_a_sentence_and_no_promise(monkeypatch, capsys):
    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    load, seen = loader(capsys, cached=False)
    with pytest.raises(hub.MissingWeightsError, match="neither in the local cache nor could they be fetched"):
        hub.fetch("timm:z", load)
    assert len(seen) == 1
    assert capsys.readouterr().err == ""


def test_memory_that_runs_out_is_no_missing_file(reachable):
    def load():
        raise MemoryError

    with pytest.raises(MemoryError):
        hub.fetch("timm:x", load)


@pytest.mark.parametrize("reference", ["open_clip:ViT-B-32/openai", "transformers:owner/t5"])
def test_a_model_folder_that_needs_a_hub_says_so_before(reference, breaks_off, capsys, tmp_path):
    folder = tiny_folder(tmp_path / "m", "text")
    about = {"format": 1, "kind": "reference", "reference": reference, "dim": 16, "weights": "0" * 16}
    (folder / "text_encoder" / "config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=f"needs the frozen {reference}"):
        load_model(folder)
    assert f"of {reference} from {constants.ENDPOINT}" in capsys.readouterr().err


def test_feature_networks_and_models_by_id_say_so_too(breaks_off, capsys, monkeypatch):
    with pytest.raises(hub.MissingWeightsError):
        load_feature_network("timm:resnet18")
    assert "fetching weights of timm:resnet18 from http" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: "somewhere")
    hub_folder("owner/foxes")
    assert "fetching the model folder of owner/foxes from" in capsys.readouterr().err


def test_a_folder_with_its_own_tower_fetches_nothing(reachable, capsys, tmp_path):
    tiny_clip().save_text(tmp_path / "text")
    load_model(tiny_folder(tmp_path / "m", "text"))
    assert "fetching" not in capsys.readouterr().err
