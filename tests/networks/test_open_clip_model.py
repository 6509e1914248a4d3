"""open_clip's models from its own descriptions, shrunken: towers, tokenizers, activations of every make."""

import copy

import open_clip
import pytest
import torch
from tiny_text_towers import register, roberta_folder, shrunken
from torch.nn import functional as F

from sgxl_t.networks.frozen import load_clip, load_stored_text, load_text_encoder
from sgxl_t.networks.weights import hub

CAPTIONS = ["a red fox", "A small, blue car!"]
MAKES = {
    "plain": "ViT-B-32",
    "custom": "PE-Core-T-16-384",
    "siglip": "ViT-B-16-SigLIP",
    "eos": "ViT-L-14-worldwide",
    "coca": "coca_ViT-B-32",
    "hub": "roberta-ViT-B-32",
}


@pytest.fixture
def tokenizer(tmp_path):
    roberta_folder(tmp_path / "vocabulary")
    return tmp_path / "vocabulary"


@pytest.mark.parametrize("make", MAKES)
def test_every_make_reads_captions_as_open_clip_does(make, monkeypatch, tmp_path, tokenizer):
    model = register(monkeypatch, tmp_path / "weights", make, shrunken(MAKES[make], tokenizer))
    clip = load_text_encoder(f"open_clip:tiny-{make}/tag", images=True)
    tokens = open_clip.get_tokenizer(f"tiny-{make}")(CAPTIONS)
    with torch.no_grad():
        expected = F.normalize(model.encode_text(tokens), dim=-1)
    found = clip.encode_text(CAPTIONS)
    torch.testing.assert_close(found, expected)
    assert clip.dim == found.shape[1] == 12
    assert not torch.allclose(found[0], found[1])
    assert clip.guide is clip
    assert clip.guide.encode_image(torch.rand(2, 3, 40, 40)).shape == (2, 12)
    assert clip.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    long = " ".join(["red"] * 200)
    (end,) = clip.unread([long])
    assert 0 < len(end.split()) < 200
    assert torch.equal(*clip.tokenize([long, long[: -len(end)]]))
    assert not torch.equal(*clip.tokenize([long, long[: -len(end) - 4]]))


@pytest.mark.parametrize("make", MAKES)
def test_a_trained_text_tower_of_every_make_is_stored_by_its_weights(make, monkeypatch, tmp_path, tokenizer):
    register(monkeypatch, tmp_path / "weights", make, shrunken(MAKES[make], tokenizer))
    clip = load_text_encoder(f"open_clip:tiny-{make}/tag", images=True)
    before = clip.encode_text(CAPTIONS)
    learning = clip.text_copy()
    assert clip.guide is clip
    assert learning.guide is None
    assert len(list(learning.parameters())) == len(learning.text_parameters()) == len(clip.text_parameters())
    with torch.no_grad():
        for parameter in learning.text_parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    learning.save_text(tmp_path / "text")
    stored = load_stored_text(tmp_path / "text")
    torch.testing.assert_close(stored.encode_text(CAPTIONS), learning.encode_text(CAPTIONS))
    assert not torch.allclose(stored.encode_text(CAPTIONS), before)
    assert torch.equal(clip.encode_text(CAPTIONS), before)


@pytest.mark.parametrize("make", ["plain", "custom"])
def test_the_tag_decides_on_quick_gelu(make, monkeypatch, tmp_path):
    register(monkeypatch, tmp_path, make, shrunken(MAKES[make]), quick_gelu=True)
    clip = load_text_encoder(f"open_clip:tiny-{make}/tag")
    blocks = (clip.model.text if make == "custom" else clip.model).transformer.resblocks
    assert type(blocks[0].mlp.gelu).__name__ == "QuickGELU"
    clip.text_copy().save_text(tmp_path / "text")
    stored = load_stored_text(tmp_path / "text")
    torch.testing.assert_close(stored.encode_text(CAPTIONS), clip.encode_text(CAPTIONS))


def test_text_alone_gives_the_same_vectors_without_the_image_tower(monkeypatch, tmp_path):
    register(monkeypatch, tmp_path, "custom", shrunken(MAKES["custom"]))
    whole, alone = (
        load_clip("open_clip:tiny-custom/tag", text_only=text_only) for text_only in (False, True)
    )
    assert torch.equal(whole.encode_text(CAPTIONS), alone.encode_text(CAPTIONS))
    assert whole.weights_hash() == alone.weights_hash()
    assert not alone.has_image_tower


def test_absent_tokenizer_files_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    config = shrunken("ViT-B-16-SigLIP", tmp_path)
    config["text_cfg"]["hf_tokenizer_name"] = "timm/no-such-tokenizer"
    register(monkeypatch, tmp_path, "siglip", config)
    with pytest.raises(hub.MissingWeightsError, match=r"tokenizer files .*timm/no-such-tokenizer") as caught:
        load_text_encoder("open_clip:tiny-siglip/tag")
    assert "\n" not in str(caught.value)


def test_a_model_loads_from_the_description_open_clip_ships(monkeypatch, tmp_path):
    """The smallest of them, as it is, with CLIP's real tokenizer."""
    config = open_clip.get_model_config("ViT-S-32-alt")
    model = register(monkeypatch, tmp_path, "small", copy.deepcopy(config))
    clip = load_text_encoder("open_clip:tiny-small/tag")
    assert type(clip.tokenizer) is open_clip.SimpleTokenizer
    tokens = open_clip.tokenize(CAPTIONS)
    assert tokens[0, :6].tolist() == [49406, 320, 736, 3240, 49407, 0]
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_text(CAPTIONS), F.normalize(model.encode_text(tokens), dim=-1))
    assert (clip.dim, clip.text_config.layers) == (256, 10)
