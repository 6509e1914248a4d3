"""Weights files: found, fetched, checked, read without running code; every mistake is one sentence."""

import functools
import hashlib
import http.server
import socket
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sgxl_t.files.cache import cache_folder
from sgxl_t.metrics.features import MissingWeightsError, load_extractor, weights
from sgxl_t.metrics.features.known import KNOWN
from sgxl_t.metrics.features.weights import WeightsFile, find_weights, load_weights

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, -1.0])}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, also for what others fetched."""
    monkeypatch.setenv("SGXL_T_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "cache"


@pytest.fixture
def state_file(tmp_path):
    torch.save(TENSORS, tmp_path / "net.pth")
    return tmp_path / "net.pth"


@pytest.fixture
def server(tmp_path):
    """Address of a folder on this machine, served over HTTP."""
    folder = tmp_path / "served"
    folder.mkdir()
    torch.save(TENSORS, folder / "net.pth")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/net.pth"
        running.shutdown()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def linear():
    with torch.device("meta"):
        return nn.Linear(3, 2)


def test_cache_folder_follows_the_environment(monkeypatch):
    assert cache_folder().name == "cache"
    monkeypatch.delenv("SGXL_T_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/sgxl_t")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "sgxl_t"


def test_a_state_dict_is_converted_once(state_file, cache, monkeypatch):
    source = find_weights("inception", str(state_file), None)
    network = linear()
    load_weights(network, source)
    assert torch.equal(network.weight, TENSORS["weight"])
    assert files_in(cache) == [f"converted/{sha256(state_file)}.safetensors"]
    monkeypatch.setattr(weights, "read_state_dict", None)
    again = linear()
    load_weights(again, source)
    assert torch.equal(again.bias, TENSORS["bias"])


def test_a_cache_that_cannot_be_written_does_no_harm(state_file, cache):
    cache.write_text("a file where the folder should be")
    network = linear()
    load_weights(network, WeightsFile(state_file, sha256(state_file)))
    assert torch.equal(network.weight, TENSORS["weight"])


def test_safetensors_and_half_precision_become_float32(tmp_path, cache):
    save_file({name: value.half() for name, value in TENSORS.items()}, tmp_path / "net.safetensors")
    network = linear()
    load_weights(network, find_weights("inception", str(tmp_path / "net.safetensors"), None))
    assert network.weight.dtype == torch.float32
    assert torch.equal(network.weight, TENSORS["weight"])
    assert not cache.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bias": None}, "lacks the tensor bias: it holds the weights of another network"),
        ({"extra": torch.zeros(1)}, "holds the unknown tensor extra"),
        ({"weight": torch.zeros(3, 2)}, r"holds weight with shape \[3, 2\] instead of \[2, 3\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_not_kept(tmp_path, cache, change, sentence):
    tensors = {name: value for name, value in (TENSORS | change).items() if value is not None}
    torch.save(tensors, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=sentence):
        load_weights(linear(), find_weights("inception", str(tmp_path / "net.pth"), None))
    assert not cache.exists()


class Program:
    """Writes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_broken_files_and_programs_are_refused_unrun(tmp_path, cache):
    def load(path):
        load_weights(linear(), find_weights("inception", str(path), None))

    torch.save({"weight": Program(tmp_path / "ran")}, tmp_path / "program.pth")
    torch.save(TENSORS, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:300])
    torch.jit.script(nn.Linear(3, 2)).save(tmp_path / "script.pt")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("not found")
    for name in ("program.pth", "cut.pth", "script.pt", "list.pth", "text.pth"):
        with pytest.raises(ValueError, match=f"{name} is truncated or no plain PyTorch state dict"):
            load(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    save_file(TENSORS, tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:100])
    with pytest.raises(ValueError, match="is truncated or no safetensors file"):
        load(tmp_path / "cut.safetensors")
    assert not cache.exists()


def test_hashes_are_checked(state_file):
    right = sha256(state_file)
    assert find_weights("inception", str(state_file), right.upper()).sha256 == right
    with pytest.raises(ValueError, match=f"has the SHA-256 {right} instead of {'0' * 64}"):
        find_weights("inception", str(state_file), "0" * 64)
    with pytest.raises(ValueError, match="is no SHA-256: give its 64 hex digits"):
        find_weights("inception", str(state_file), "6726825d")
    with pytest.raises(ValueError, match=r"gone\.pth is no file: give the weights of inception"):
        find_weights("inception", "gone.pth", None)


def test_a_file_in_its_place_must_be_the_published_one(state_file, cache, tmp_path):
    assert find_weights("inception", None, None) is None
    known = KNOWN["inception"]
    for folder in (cache / "weights", tmp_path / "torch" / "hub" / "checkpoints"):
        folder.mkdir(parents=True)
        (folder / known.file).write_bytes(state_file.read_bytes())
        with pytest.raises(ValueError, match=f"instead of {known.sha256}"):
            find_weights("inception", None, None)
        assert find_weights("inception", None, sha256(state_file)).path == folder / known.file
        (folder / known.file).unlink()
    (cache / "weights" / "rinception.safetensors").write_bytes(b"any")
    assert find_weights("rinception", None, None).path.name == "rinception.safetensors"


def test_a_url_is_fetched_once_and_only_with_its_hash(server, state_file, cache, tmp_path):
    with pytest.raises(ValueError, match="add #sha256= and its 64 hex digits"):
        find_weights("inception", server, None)
    right = sha256(tmp_path / "served" / "net.pth")
    with pytest.raises(ValueError, match=f"has the SHA-256 {right} instead of {'0' * 64}"):
        find_weights("inception", server, "0" * 64)
    with pytest.raises(ValueError, match=r"other\.pth could not be fetched \(HTTP Error 404"):
        find_weights("inception", server.replace("net", "other"), right)
    assert files_in(cache) == []
    source = find_weights("inception", f"{server}#sha256={right}", None)
    assert files_in(cache) == [f"downloads/{right[:16]}-net.pth"]
    (tmp_path / "served" / "net.pth").unlink()
    assert find_weights("inception", server, right) == source
    network = linear()
    load_weights(network, source)
    assert torch.equal(network.weight, TENSORS["weight"])
    assert load_file(cache / "converted" / f"{right}.safetensors").keys() == TENSORS.keys()


def test_a_server_that_stops_answering_is_a_sentence(monkeypatch):
    monkeypatch.setattr(weights, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/net.pth"
        with pytest.raises(ValueError, match=r"could not be fetched \(.*timed out\)"):
            find_weights("inception", url, "0" * 64)
    assert socket.getdefaulttimeout() is None


def test_an_unreachable_server_is_a_sentence():
    with pytest.raises(ValueError, match=r"could not be fetched .* fetch it another way and give the file"):
        find_weights("inception", "http://127.0.0.1:9/net.pth", "0" * 64)


@pytest.mark.parametrize("name", ["inception", "inception_clean", "rinception", "vgg16"])
def test_missing_weights_say_which_where_from_and_where_to(name, cache):
    with pytest.raises(MissingWeightsError) as caught:
        load_extractor(name)
    sentence = str(caught.value)
    for part in (KNOWN[name].file, KNOWN[name].origin, str(cache / "weights"), f"--weights {name}=FILE"):
        assert part in sentence
    assert "fd_local:FOLDER" in sentence


def test_names_and_arguments_that_make_no_sense():
    with pytest.raises(ValueError, match="no extractor 'incepton': did you mean inception"):
        load_extractor("incepton")
    with pytest.raises(ValueError, match=r"use contrast, inception, .* or timm:NAME"):
        load_extractor("x")
    for name in ("inception_hash", "random:small_cnn"):
        with pytest.raises(ValueError, match=f"{name} takes no weights file"):
            load_extractor(name, weights="a.pth")
