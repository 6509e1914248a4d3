"""Text encoders by reference: shared in a process, joined, and stored by reference."""

import gc
import json
import shutil

import pytest
import torch
from tiny_models import tiny_clip
from tiny_text_towers import register, shrunken, siglip_folder, t5_folder
from torch.nn import functional as F

from sgxl_t.networks import frozen
from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallCNNConfig
from sgxl_t.networks.backbones.references import local_references, split_references, trained_kinds
from sgxl_t.networks.frozen import load_clip, load_stored_text, load_text_encoder
from sgxl_t.networks.text.clip import local_clip
from sgxl_t.networks.text.text_encoder import JoinedEncoders

STORED = {"kind": "reference", "dim": 8, "weights": "0" * 16}
CAPTIONS = ["a red fox", "a small blue car on a beach"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """References to a T5, a SigLIP and a local CLIP with an image tower."""
    root = tmp_path_factory.mktemp("towers")
    text = tiny_clip()
    image = SmallCNN(SmallCNNConfig(image_size=16, channels=(4, 4, 4, 4), projection=16))
    local_clip(text.text_config, text.tokenizer, image).save(root / "clip")
    t5, siglip = t5_folder(root / "t5"), siglip_folder(root / "siglip")
    return {
        "t5": f"transformers:{t5}",
        "siglip": f"transformers:{siglip}",
        "clip": f"local:{root / 'clip'}",
    }


def test_joined_vectors_are_unit_vectors_side_by_side(parts):
    joined = load_text_encoder("+".join(parts.values()))
    alone = [load_text_encoder(reference).encode_text(CAPTIONS) for reference in parts.values()]
    found = joined.encode_text(CAPTIONS)
    assert joined.dim == found.shape[1] == 48
    torch.testing.assert_close(found, torch.cat(alone, dim=1) / 3**0.5)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


def test_the_first_clip_among_the_parts_guides(parts):
    joined = load_text_encoder(f"{parts['t5']}+{parts['clip']}+{parts['siglip']}", images=True)
    assert joined.guide is joined.encoders[1]
    assert joined.guide_columns == slice(16, 32)
    columns = joined.encode_text(CAPTIONS)[:, joined.guide_columns]
    torch.testing.assert_close(F.normalize(columns, dim=1), joined.guide.encode_text(CAPTIONS))
    assert load_text_encoder(f"{parts['t5']}+{parts['siglip']}", images=True).guide is None
    twice = load_text_encoder(f"{parts['clip']}+{parts['clip']}", images=True)
    assert twice.guide_columns == slice(0, 16)


def test_who_asks_for_the_same_encoder_gets_the_same_object(parts):
    whole = load_text_encoder(parts["clip"], images=True)
    assert load_text_encoder(parts["clip"], images=True) is whole
    assert load_text_encoder(parts["clip"]) is whole, "text alone needs no second copy"
    joined = load_text_encoder(f"{parts['clip']}+{parts['t5']}")
    assert joined.encoders[0] is whole
    assert joined.encoders[1] is load_text_encoder(parts["t5"])
    del whole, joined
    gc.collect()
    assert load_text_encoder(parts["clip"]).guide is None, "what nobody uses any more is not held"


def test_loading_moves_no_random_numbers(parts):
    gc.collect()
    torch.manual_seed(1)
    load_text_encoder(parts["clip"])
    first = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), first)


def test_words_are_unknown_only_where_no_part_spells_them(parts):
    assert load_text_encoder(parts["clip"]).unknown_words(["a zebra"]) == {"zebra": ""}
    assert load_text_encoder(f"{parts['clip']}+{parts['t5']}").unknown_words(["a zebra"]) == {}
    assert load_text_encoder(f"{parts['clip']}+{parts['clip']}").unknown_words(["a zebra"]) == {"zebra": ""}


@pytest.mark.parametrize(("kind", "read"), [("clip", 10), ("siglip", 7), ("t5", 255)])
def test_the_words_beyond_a_context_are_told_by_every_tokenizer(parts, kind, read):
    encoder = load_text_encoder(parts[kind])
    full = " ".join(["red", "fox"] * read)[: 4 * read - 1]
    assert len(full.split()) == read
    assert encoder.unread([full, f"{full}  blue, car in", "a fox"]) == ["", "blue, car in", ""]
    ends = encoder.encode_text([full, f"{full} snow", f"{full} blue car"])
    assert torch.equal(ends[1], ends[2]), "what is said to be unread changes nothing"
    assert encoder.unread([]) == []


def test_joined_encoders_read_what_one_of_them_reads(parts):
    both = load_text_encoder(f"{parts['siglip']}+{parts['clip']}")
    assert both.unread([" ".join(["fox"] * 9 + ["in", "snow", "on"])]) == ["snow on"]
    assert both.unread([" ".join(["fox"] * 8)]) == [""]


def test_references_are_split_at_joints_alone():
    assert split_references("open_clip:ViT-B-16-plus-240/a+b+local:c+d/e+transformers:t5-small") == [
        "open_clip:ViT-B-16-plus-240/a+b",
        "local:c+d/e",
        "transformers:t5-small",
    ]
    assert trained_kinds("auto:clip+transformers:t5-small") == ["clip"]


def test_own_networks_stand_in_the_run(tmp_path):
    found = local_references("auto:clip+transformers:t5-small", tmp_path)
    assert found == f"local:{tmp_path / 'clip'}+transformers:t5-small"


@pytest.mark.parametrize("reference", ["clip", "transformers:", "timm:resnet18", "local:"])
def test_what_is_no_reference_gets_one_sentence(reference):
    with pytest.raises(ValueError, match="names no text encoder: write open_clip:MODEL/TAG, transformers:"):
        load_text_encoder(reference)


def test_frozen_pretrained_towers_are_stored_by_reference(parts, tmp_path):
    tower = load_text_encoder(parts["t5"])
    tower.save_text(tmp_path / "text")
    stored = json.loads((tmp_path / "text" / "config.json").read_text())
    assert [path.name for path in (tmp_path / "text").iterdir()] == ["config.json"]
    assert (stored["kind"], stored["reference"], stored["dim"]) == ("reference", parts["t5"], 16)
    assert load_stored_text(tmp_path / "text") is tower


def test_joined_encoders_are_stored_part_by_part(parts, tmp_path):
    joined = load_text_encoder("+".join(parts.values()))
    joined.save_text(tmp_path / "frozen")
    trained = joined.text_copy()
    trained.save_text(tmp_path / "trained")
    for name, large in (("frozen", 1), ("trained", 3)):
        stored = load_stored_text(tmp_path / name)
        assert isinstance(stored, JoinedEncoders)
        torch.testing.assert_close(stored.encode_text(CAPTIONS), joined.encode_text(CAPTIONS))
        assert len(list((tmp_path / name).rglob("model.safetensors"))) == large
    assert load_stored_text(tmp_path / "trained", images=True).guide is None


def test_a_tower_that_is_gone_can_be_placed_in_the_folder(tmp_path):
    source = t5_folder(tmp_path / "t5")
    tower = load_text_encoder(f"transformers:{source}")
    expected = tower.encode_text(CAPTIONS)
    tower.save_text(tmp_path / "text")
    source.rename(tmp_path / "elsewhere")
    wanted = r"place its config.json, model.safetensors and tokenizer.json in .*text/tower"
    with pytest.raises(ValueError, match=r"needs the frozen transformers:.*t5.*" + wanted) as caught:
        load_stored_text(tmp_path / "text")
    assert "\n" not in str(caught.value)
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "text" / "tower")
    placed = load_stored_text(tmp_path / "text")
    assert torch.equal(placed.encode_text(CAPTIONS), expected)
    placed.save_text(tmp_path / "again")
    shutil.rmtree(tmp_path / "text")
    assert torch.equal(load_stored_text(tmp_path / "again").encode_text(CAPTIONS), expected)


def test_an_open_clip_tower_can_be_placed_in_the_folder(monkeypatch, tmp_path):
    register(monkeypatch, tmp_path / "weights", "plain", shrunken("ViT-B-32"), quick_gelu=True)
    tower = load_text_encoder("open_clip:tiny-plain/tag")
    tower.save_text(tmp_path / "text")
    file = tmp_path / "weights" / "open_clip_model.safetensors"
    expected = tower.encode_text(CAPTIONS)
    del tower
    gc.collect()
    file.rename(tmp_path / file.name)
    with pytest.raises(ValueError, match=r"place its open_clip_model.safetensors .* in .*text/tower"):
        load_stored_text(tmp_path / "text")
    (tmp_path / "text" / "tower").mkdir()
    (tmp_path / file.name).rename(tmp_path / "text" / "tower" / file.name)
    placed = load_stored_text(tmp_path / "text", images=True)
    assert torch.equal(placed.encode_text(CAPTIONS), expected)
    assert placed.guide.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_other_weights_than_those_of_the_training_are_refused(parts, tmp_path):
    source = t5_folder(tmp_path / "t5")
    load_text_encoder(f"transformers:{source}").save_text(tmp_path / "text")
    path = tmp_path / "text" / "config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"weights": "0" * 16}))
    with pytest.raises(ValueError, match=r"other weights here .*place the files it was trained with"):
        load_stored_text(tmp_path / "text")


def test_the_hash_tells_weights_and_nothing_else(parts, tmp_path):
    first = load_text_encoder(parts["t5"]).weights_hash()
    assert load_text_encoder(f"transformers:{t5_folder(tmp_path / 'copy')}").weights_hash() == first
    assert load_text_encoder(parts["siglip"]).weights_hash() != first
    ways = [load_text_encoder(f"{parts[a]}+{parts[b]}") for a, b in (("t5", "siglip"), ("siglip", "t5"))]
    assert ways[0].weights_hash() != ways[1].weights_hash()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"kind": "reference", "reference": "local:x"}, "refers to no pretrained text encoder"),
        ({"kind": "reference", "reference": 3}, "reference is 3 where text belongs"),
        ({**STORED, "reference": "open_clip:ViT-L14/openai"}, "near are .*ViT-L-14"),
        ({**STORED, "reference": "transformers:a/b", "dim": "8"}, "dim is text where a whole number"),
        ({"kind": "joined", "parts": ["part_0", "../part_1"]}, "does not name its parts"),
        ({"kind": "joined", "parts": []}, "does not name its parts"),
        ({"kind": "open_clip", "model": "x", "quick_gelu": True}, "names no model of open_clip"),
        ({"kind": "transformers"}, "tower is missing"),
        ({"kind": "cnn"}, "holds a local cnn, not a CLIP"),
    ],
)
def test_broken_folders_get_one_sentence(config, sentence, tmp_path):
    tmp_path.joinpath("config.json").write_text(json.dumps({"format": 1, **config}))
    with pytest.raises(ValueError, match=sentence) as caught:
        load_stored_text(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_local_clip_is_stored_by_its_weights(parts, tmp_path):
    tower = load_text_encoder(parts["clip"])
    tower.save_text(tmp_path / "text")
    assert torch.equal(
        load_clip(f"local:{tmp_path / 'text'}", text_only=True).encode_text(CAPTIONS),
        tower.encode_text(CAPTIONS),
    )
    assert not frozen.load_stored_text(tmp_path / "text").pretrained
