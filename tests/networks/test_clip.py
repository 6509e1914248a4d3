"""CLIP: local towers, stored folders, the vocabulary, and references to open_clip."""

import json

import open_clip
import pytest
import torch

from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallCNNConfig
from sgxl_t.networks.frozen import load_clip
from sgxl_t.networks.text.clip import local_clip
from sgxl_t.networks.text.open_clip_model import open_clip_text_config
from sgxl_t.networks.text.text_tower import TextTowerConfig
from sgxl_t.networks.text.vocab import UNKNOWN, WordTokenizer
from sgxl_t.networks.weights import hub

CAPTIONS = ["a red fox in snow", "a blue bus", "the fox's den, at night!"]


@pytest.fixture
def clip():
    torch.manual_seed(0)
    tokenizer = WordTokenizer.build(CAPTIONS)
    text = TextTowerConfig(
        embed_dim=8,
        width=16,
        heads=2,
        vocab_size=tokenizer.vocab_size,
        context_length=tokenizer.context_length,
    )
    image = SmallCNN(SmallCNNConfig(image_size=16, channels=(4, 4, 4, 4), projection=8))
    return local_clip(text, tokenizer, image).eval().requires_grad_(False)


def pictures(side=16):
    return torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_features_have_unit_length(clip):
    for features in (
        clip.encode_text(CAPTIONS),
        clip.encode_image(pictures()),
        clip.encode_image(pictures(20)),
    ):
        assert features.shape == (3, 8)
        torch.testing.assert_close(features.norm(dim=1), torch.ones(3))


def test_stored_clip_equals_the_saved_one(clip, tmp_path):
    clip.save(tmp_path / "clip", {"seed": 1})
    loaded = load_clip(f"local:{tmp_path / 'clip'}")
    assert torch.equal(loaded.encode_text(CAPTIONS), clip.encode_text(CAPTIONS))
    assert torch.equal(loaded.encode_image(pictures()), clip.encode_image(pictures()))
    assert (loaded.dim, loaded.image_size) == (8, 16)


def test_text_tower_alone(clip, tmp_path):
    clip.save(tmp_path / "clip")
    clip.save_text(tmp_path / "text")
    expected = clip.encode_text(CAPTIONS)
    alone = [
        load_clip(f"local:{tmp_path / 'text'}", text_only=True),
        load_clip(f"local:{tmp_path / 'clip'}", text_only=True),
        clip.text_copy(),
    ]
    for tower in alone:
        assert torch.equal(tower.encode_text(CAPTIONS), expected)
        assert len(tower.text_parameters()) == len(clip.text_parameters()) == len(list(tower.parameters()))
        with pytest.raises(ValueError, match="without its image tower"):
            tower.encode_image(pictures())
    with pytest.raises(ValueError, match="text tower alone"):
        load_clip(f"local:{tmp_path / 'text'}")


def test_a_text_copy_is_independent(clip):
    before = clip.encode_text(CAPTIONS)
    copied = clip.text_copy()
    with torch.no_grad():
        copied.text_parameters()[0].add_(1)
    assert clip.has_image_tower
    assert torch.equal(clip.encode_text(CAPTIONS), before)
    assert not torch.equal(copied.encode_text(CAPTIONS), before)


def test_gradient_reaches_the_text_tower_only_when_told(clip):
    assert not clip.encode_text(CAPTIONS).requires_grad
    for parameter in clip.text_parameters():
        parameter.requires_grad_(True)
    clip.encode_text(CAPTIONS)[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in clip.text_parameters())
    assert not clip.encode_image(pictures()).requires_grad


def test_a_frozen_image_tower_passes_gradient_to_the_pictures(clip):
    x = pictures().requires_grad_(True)
    clip.encode_image(x)[:, 0].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_later_words_do_not_change_an_earlier_end(clip):
    """Padding stands behind the end token, where the causal mask hides it."""
    long, short = clip.tokenizer(["a red fox in snow"]), clip.tokenizer(["a red fox"])
    assert int(short.argmax()) < int(long.argmax())
    noisy = short.clone()
    noisy[0, int(short.argmax()) + 1 :] = UNKNOWN
    assert torch.equal(clip.encode_tokens(noisy), clip.encode_tokens(short))


def test_words_are_split_and_counted():
    tokenizer = WordTokenizer.build(CAPTIONS)
    assert tokenizer.words[0] == "a"
    assert "fox's" in tokenizer.words
    assert "night" in tokenizer.words
    assert tokenizer.context_length == 7
    assert torch.equal(tokenizer(["A RED   fox!"]), tokenizer(["a red fox"]))


def test_unknown_words_share_one_token(clip):
    tokens = clip.tokenizer(["a zebra", "a xylophone"])
    assert torch.equal(tokens[0], tokens[1])
    assert tokens[0, 2] == UNKNOWN
    assert clip.unknown_words(["a zebra in snow", "Zebra"]) == {"zebra": ""}


@pytest.mark.parametrize("text", ["", "!!!", "fox " * 10_000, "x" * 100_000, "\u4e2d\u6587"])
def test_every_text_has_a_feature_and_ends_in_the_end_token(clip, text):
    tokens = clip.tokenizer([text])
    assert tokens.shape == (1, clip.tokenizer.context_length)
    assert (tokens == clip.tokenizer.vocab_size - 1).sum() == 1
    assert clip.encode_text([text]).isfinite().all()


def test_vocabulary_keeps_the_most_frequent_words():
    tokenizer = WordTokenizer.build(["b b c", "a a c", "d"], max_words=3)
    assert tokenizer.words == ("a", "b", "c")
    with pytest.raises(ValueError, match="no words"):
        WordTokenizer.build(["!!", ""])


def test_vocabulary_that_does_not_fit_the_tower(clip, tmp_path):
    clip.save(tmp_path / "clip")
    path = tmp_path / "clip" / "vocabulary.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"words": stored["words"][1:]}))
    with pytest.raises(ValueError, match="the vocabulary has"):
        load_clip(f"local:{tmp_path / 'clip'}")
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        load_clip(f"local:{tmp_path / 'clip'}")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("clip", "names no CLIP"),
        ("local:", "names no CLIP"),
        ("local:nowhere", "no folder"),
        ("open_clip:ViT-L14/openai", "near are .*ViT-L-14"),
        ("open_clip:ViT-L-14/best", "use one of openai"),
    ],
)
def test_wrong_references_give_one_sentence(reference, words):
    with pytest.raises(ValueError, match=words) as caught:
        load_clip(reference)
    assert "\n" not in str(caught.value)


def test_unreachable_hub_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="sgxl-t features train"):
        load_clip("open_clip:ViT-L-14/openai")


def test_openai_weights_take_quick_gelu_whatever_the_model_name_says():
    """The configuration called ViT-L-14 has plain GELU; the weights' tag knows better."""
    assert open_clip.get_model_config("ViT-L-14").get("quick_gelu") is None
    assert open_clip_text_config("ViT-L-14", "openai").quick_gelu
    assert not open_clip_text_config("ViT-L-14", "laion2b_s32b_b82k").quick_gelu
    assert open_clip_text_config("ViT-B-16-SigLIP", "webli") is None, "no plain CLIP"
    text = TextTowerConfig(width=16, heads=2, layers=1, vocab_size=9, context_length=5, quick_gelu=True)
    tower = local_clip(text, WordTokenizer(["a", "b", "c", "d", "e"], 5), None)
    assert type(tower.model.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"


def test_open_clip_weights_load_through_the_tag(monkeypatch, tmp_path):
    """A stand-in for the download: the real loader with small towers of open_clip's own class."""
    asked = {}

    def create_model(name, *, pretrained, force_quick_gelu):
        asked.update(name=name, tag=pretrained, quick=force_quick_gelu)
        text = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
        vision = {"image_size": 32, "patch_size": 16, "width": 8, "head_width": 4, "layers": 1}
        model = open_clip.CLIP(768, vision, text, quick_gelu=force_quick_gelu)
        model.visual.image_mean, model.visual.image_std = (0.4, 0.5, 0.6), (0.2, 0.2, 0.2)
        return model

    monkeypatch.setattr(open_clip, "create_model", create_model)
    clip = load_clip("open_clip:ViT-L-14/openai")
    assert asked == {"name": "ViT-L-14", "tag": "openai", "quick": True}
    assert (clip.dim, clip.image_size) == (768, 32)
    assert clip.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert clip.encode_image(pictures(40)).shape == (3, 768)
    assert clip.encode_text(["a fox", "fox " * 500]).shape == (2, 768)
    assert clip.unknown_words(["zebra"]) == {}
    alone = load_clip("open_clip:ViT-L-14/openai", text_only=True)
    assert not alone.has_image_tower
