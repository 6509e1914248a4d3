"""The word tower: every word has a vector, and one that means nothing is told with the nearest that does."""

import json

import pytest
import torch
from torch.nn import functional as F

from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.networks.frozen import load_stored_text, load_text_encoder
from sgxl_t.networks.text.spelled import SpelledWords, word_rows
from sgxl_t.networks.text.word_tower import Names, WordTower, WordTowerConfig

SIZES = WordTowerConfig(dim=12, rows=500, word_width=8, width=16, heads=2, layers=1, max_words=6)
CAPTIONS = ["a red fox in snow", "fox", "", "two zyzzyvas, on a beach"]


def tower(names=Names()):  # noqa: B008
    torch.manual_seed(1)
    return WordTower(SIZES, names).eval().requires_grad_(False)


def test_vectors_have_unit_length_and_depend_on_their_own_caption_alone():
    one = tower()
    together = one.encode_text(CAPTIONS)
    assert together.shape == (4, 12)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(torch.cat([one.encode_text([text]) for text in CAPTIONS]), together)
    assert torch.equal(one.encode_text(["A RED fox -- in snow!"]), one.encode_text(CAPTIONS[:1]))
    vectors, tokens = one.encode_with_tokens(CAPTIONS)
    torch.testing.assert_close(vectors, together)
    assert tokens.values.shape == (4, 5, 16)
    assert tokens.mask.sum(1).tolist() == [5, 1, 1, 5]


def test_order_counts():
    assert not torch.allclose(*tower().encode_text(["a red fox and a blue cat", "a blue fox and a red cat"]))


def test_words_that_share_letters_are_near_each_other_before_anything_is_learnt():
    torch.manual_seed(2)
    vectors = SpelledWords(4000, 32)(["strawberry strawberries cat"], 9)[0][0]
    alike, other = F.cosine_similarity(vectors[:1], vectors[1:])
    assert alike > 0.3 > 0.2 > abs(other)
    assert word_rows("cat", 4000) == word_rows("cat", 4000)
    assert len(set(word_rows("cat", 1 << 40))) == 3 + 5, (
        "the whole word thrice; <ca cat at> <cat cat> and no more"
    )


def test_what_is_stored_is_what_was_there_and_half_as_large_where_nothing_is_lost(tmp_path):
    names = Names(("fox", "house cat"), ("with",), 0.25)
    one = tower(names)
    one.meta = {"steps": 3}
    one.save_text(tmp_path / "whole")
    for value in one.network.parameters():
        value.data = value.data.half().float()
    one.save_text(tmp_path / "half")
    whole, half = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half"))
    assert half < 0.6 * whole
    again = load_text_encoder(f"local:{tmp_path / 'half'}")
    assert isinstance(again, WordTower)
    assert (again.vocabulary, again.meta, again.config) == (names, {"steps": 3}, SIZES)
    assert torch.equal(again.encode_text(CAPTIONS), one.encode_text(CAPTIONS))
    copy = again.text_copy()
    copy.save_text(tmp_path / "copy")
    assert torch.equal(load_stored_text(tmp_path / "copy").encode_text(CAPTIONS), one.encode_text(CAPTIONS))


def test_words_beyond_the_context_are_told():
    text = "a red fox in deep snow at night"
    assert tower().unread([text, "a fox"]) == ["at night", ""]


def test_a_word_that_captions_lack_is_told_with_what_becomes_of_it():
    far = tower(Names(("fox", "beach"), ("a", "on"), 0.9999))
    assert far.unknown_words(["a zyzzyva on a beach", "foxes"]).keys() == {"zyzzyva", "foxes"}
    assert set(far.unknown_words(["zyzzyva"]).values()) <= {"nearest: fox", "nearest: beach"}
    near = tower(Names(("fox", "beach"), ("a", "on"), -1.0)).unknown_words(["zyzzyva"])
    assert set(near.values()) <= {"read like fox", "read like beach"}
    assert tower().unknown_words(["a zyzzyva"]) == {}
    (note,) = TextCondition(far).reading_notes(["zyzzyva"])
    assert note.startswith("no caption that the model learnt from says: zyzzyva (nearest: ")


def test_a_word_that_changes_nothing_is_told_as_such(monkeypatch):
    one = tower(Names(("fox", "beach"), ("a", "on"), 0.9999))
    words = ("fox", "beach", "zyzzyva", "a", "on")

    def counted(texts):
        counts = [[text.split().count(word) for word in words] for text in texts]
        return F.normalize(torch.tensor(counts, dtype=torch.float32), dim=1)

    monkeypatch.setattr(one, "encode_text", counted)
    assert one.unknown_words(["a fox sits on a beach", "a zyzzyva sits"]) == {
        "sits": "no effect",
        "zyzzyva": "nearest: fox",
    }
    assert one.unknown_words(["sits"])["sits"] != "no effect", "a prompt of one word is read by it"
    (note,) = TextCondition(one).reading_notes(["a fox sits on a beach", "a sits sits fox"])
    assert note.endswith("says: sits (no effect)")


def test_a_tower_learns_from_the_captions_of_a_run_what_they_say():
    means = {"vixen": "fox", "hound": "dog"}
    one = tower(Names(("fox", "dog"), ("a", "in"), 0.9999, means))
    here = one.for_captions(["a fox in Snow", "a red fox"], other_words=True)
    assert here.vocabulary == Names(("fox", "snow", "red"), ("a", "in"), 0.9999, {"vixen": "fox"})
    assert here.unknown_words(["a vixen and a hound"]).keys() == {"vixen", "and", "hound"}
    assert one.for_captions(["a fox"], other_words=False).vocabulary.means == {}
    many = one.for_captions(None, other_words=True)
    assert many.vocabulary.means == means
    assert many.unknown_words(["a zyzzyva"]) == {}
    rare = one.for_captions([f"fox w{number}" for number in range(2000)], other_words=False)
    assert rare.vocabulary.names[0] == "fox"
    assert len(rare.vocabulary.names) == 1000
    assert rare.unknown_words(["w1999 zyzzyva"]).keys() == {"zyzzyva"}, "rare words are known as well"
    assert one.vocabulary.names == ("fox", "dog"), "the tower itself is as it was"


@pytest.mark.parametrize("width", [0, 10**5])
def test_a_broken_folder_is_one_sentence(width, tmp_path):
    tower().save_text(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "words": {**config["words"], "width": width}})
    )
    with pytest.raises(ValueError, match=f"width={width} of a word tower must be a whole number"):
        load_stored_text(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "words": {**config["words"], "rows": 400}}))
    with pytest.raises(ValueError, match=r"does not fit the config.json beside it"):
        load_stored_text(tmp_path)
    (tmp_path / "names.json").unlink()
    with pytest.raises(ValueError, match=r"names.json is missing"):
        load_stored_text(tmp_path)


def test_other_words_are_read_as_the_names_they_stand_for(tmp_path):
    means = {"vixen": "fox", "vixens": "foxes", "hot dog bun": "bread", "hot dog": "sausage"}
    one = tower(Names(("fox", "foxes", "snow"), ("a", "in", "the", "two"), 0.9, means))
    assert one.vocabulary.in_names("The Vixen, in SNOW!") == "the fox in snow"
    assert one.vocabulary.in_names("a hot dog bun and a hot dog") == "a bread and a sausage"
    assert one.vocabulary.in_names("A Cat -- in snow") == "A Cat -- in snow", "nothing to change"
    said = ["a vixen in snow", "two vixens"]
    plain = one.encode_text(["a fox in snow", "two foxes"])
    assert torch.equal(one.encode_text(said), plain)
    assert torch.equal(one.encode_with_tokens(said)[0], plain)
    assert torch.equal(one.tokenize(said), one.tokenize(["a fox in snow", "two foxes"]))
    assert one.unknown_words(said) == {"vixen": "read like fox", "vixens": "read like foxes"}
    one.save_text(tmp_path / "tower")
    again = load_stored_text(tmp_path / "tower")
    assert again.vocabulary == one.vocabulary
    own = again.for_captions(None, other_words=False)
    assert not torch.equal(own.encode_text(said), plain)
    assert torch.equal(own.encode_text(["a fox in snow", "two foxes"]), plain)
    assert torch.equal(again.encode_text(said), plain), "the tower itself is as it was"


def test_folders_without_other_words_are_read(tmp_path):
    tower(Names(("fox",), ("a",), 0.5)).save_text(tmp_path)
    names = json.loads((tmp_path / "names.json").read_text())
    del names["means"]
    (tmp_path / "names.json").write_text(json.dumps(names))
    assert load_stored_text(tmp_path).vocabulary == Names(("fox",), ("a",), 0.5)
