"""The small tower of words: its phrases, what it learns from a teacher, and the script that does it all."""

import json
from pathlib import Path

import pytest
import torch
from tiny_text_towers import sentence_folder
from torch.nn import functional as F

from sgxl_t.networks.frozen import load_text_encoder
from sgxl_t.networks.text.vocab import split_words
from sgxl_t.networks.text.word_tower import WordTower, WordTowerConfig
from sgxl_t.training.words.distil import (
    Examples,
    fit_paraphrases,
    fit_tower,
    mean_cosine,
    principal_axes,
)
from sgxl_t.training.words.paraphrases import make_pairs, with_ending
from sgxl_t.training.words.phrases import make_phrases
from sgxl_t.training.words.report import invented_words, names_of, synonyms_found
from sgxl_t.training.words.teacher import features_of
from sgxl_t.training.words.vocabulary import embedded_vocabulary, taken_words
from sgxl_t.training.words.wordnet import Lexicon, Word, other_words, read_lexicon, read_wordnet

LICENCE = "  1 This software and database is being provided to you\n"
NOUNS = ["05 n 02 fox 0 Red_fox 0 000 | x", "09 n 01 freedom 0 000 | x", "06 n 01 light_bulb 0 000 | x"]
SIZES = WordTowerConfig(dim=8, rows=2000, word_width=16, width=16, heads=2, layers=1, max_words=16)


@pytest.fixture
def wordnet(tmp_path):
    folder = tmp_path / "dict"
    folder.mkdir()
    (folder / "data.noun").write_text(LICENCE + "".join(f"0000 {line}\n" for line in NOUNS))
    (folder / "data.adj").write_text(LICENCE + "0000 00 s 02 vulpine 0 sly(p) 0 000 | x\n")
    (folder / "data.verb").write_text(LICENCE + "0000 30 v 01 sing 0 000 | x\n")
    (folder / "index.sense").write_text(
        "fox%1:05:00:: 0 1 3\nsly%3:00:00:: 0 1 1\nfreedom%1:09:00:: 0 1 2\nsing%2:36:00:: 0 1 0\n"
    )
    return folder


def test_what_has_a_look_is_read_and_of_the_rest_what_is_common(wordnet):
    assert read_wordnet(wordnet) == [
        Word("fox", True, True),
        Word("freedom", False, True),
        Word("light bulb", True, False),
        Word("sly", False, True),
    ]
    (wordnet / "data.verb").write_text("0000\n")
    with pytest.raises(ValueError, match=r"data.verb is not in WordNet's format"):
        read_wordnet(wordnet)
    (wordnet / "data.verb").unlink()
    with pytest.raises(ValueError, match=r"lacks data.verb: name the folder of WordNet's"):
        read_wordnet(wordnet)


def test_phrases_are_the_same_for_a_seed_and_keep_held_out_words_from_the_fit():
    words = [Word(text, True, True) for text in invented_words(400)]
    vocabulary = embedded_vocabulary()
    phrases = make_phrases(words, vocabulary, 2500, 1)
    assert phrases == make_phrases(words, vocabulary, 2500, 1) != make_phrases(words, vocabulary, 2500, 2)
    captions = [*phrases.captions, *phrases.unseen_captions]
    assert len(set(captions)) == len(captions)
    unseen = set(phrases.unseen_words)
    assert 0 < len(unseen) < 40
    seen = {word for text in (*phrases.words, *phrases.captions) for word in split_words(text)}
    assert not unseen & seen
    assert {"fox", "snow", "blue", "two"} <= seen


def test_the_vocabulary_is_that_of_the_data_sets():
    vocabulary = embedded_vocabulary()
    assert ("fox", "red fox") in vocabulary.things
    assert "kitty" in vocabulary.unseen[[names[0] for names in vocabulary.things].index("cat")]
    assert {"in snow", "on a plain background"} <= set(vocabulary.places)
    assert len(vocabulary.things) == len(vocabulary.unseen) == len(set(vocabulary.things))


def test_axes_keep_what_differs_most():
    torch.manual_seed(0)
    features = torch.randn(500, 6) * torch.tensor([5.0, 0.1, 3.0, 0.1, 0.1, 0.1]) + 7
    axes = principal_axes(features, 2)
    assert axes.share > 0.99
    targets = axes(features)
    torch.testing.assert_close(targets.norm(dim=1), torch.ones(500))
    plain = F.normalize((features - features.mean(0))[:, [0, 2]], dim=1)
    torch.testing.assert_close(targets.abs(), plain.abs(), atol=0.05, rtol=0)


def test_a_tower_learns_what_its_teacher_says_and_new_captions_of_the_same_words():
    torch.manual_seed(0)
    meanings = dict(zip(invented_words(40), torch.randn(40, 8), strict=True))
    words = Examples(list(meanings), F.normalize(torch.stack([*meanings.values()]), dim=1))
    pairs = [f"{one} {other}" for one in meanings for other in meanings if one != other]
    pairs = [pairs[number] for number in torch.randperm(len(pairs)).tolist()]
    sums = F.normalize(torch.stack([sum(meanings[word] for word in text.split()) for text in pairs]), dim=1)
    captions, unseen = Examples(pairs[:1200], sums[:1200]), Examples(pairs[1200:], sums[1200:])
    first = mean_cosine(WordTower(SIZES), unseen)
    tower = fit_tower(SIZES, captions, words, steps=120, seed=0, lr=2e-2)
    assert abs(first) < 0.4
    assert mean_cosine(tower, unseen) > 0.8
    assert mean_cosine(tower, words) > 0.8
    assert not any(value.requires_grad for value in tower.parameters())
    assert all(torch.equal(value, value.half().float()) for value in tower.parameters())


def test_synonyms_are_those_nearest_to_their_own_thing():
    things = torch.eye(3)
    unseen = [things[:1], things[:0], torch.stack([things[2], things[0]])]
    assert synonyms_found(things, unseen) == pytest.approx(2 / 3)


def test_a_longer_list_costs_its_new_part(tmp_path, monkeypatch):
    encoder = load_text_encoder(f"transformers:{sentence_folder(tmp_path / 'teacher')}")
    lists = {"words": ["fox", "red car"], "unseen_words": ["beach"]}
    found = features_of(encoder, lists, tmp_path / "cache")
    assert {name: part.shape[0] for name, part in found.items()} == {"words": 2, "unseen_words": 1}
    torch.testing.assert_close(found["words"], encoder.encode_text(lists["words"]))
    monkeypatch.setattr(encoder, "encode_text", None)
    lists = {"words": ["fox"], "unseen_words": ["red car", "beach"]}
    again = features_of(encoder, lists, tmp_path / "cache")["unseen_words"]
    torch.testing.assert_close(again, torch.stack([found["words"][1], found["unseen_words"][0]]))


def test_unknown_words_are_told_by_a_threshold_between_names_and_nonsense():
    names = names_of(embedded_vocabulary(), WordTower(SIZES))
    assert {"fox", "snow", "blue"} <= set(names.names)
    assert "in" in names.others
    assert -1 <= names.far <= 1


def lexicon_folder(folder):
    """Foxes, their kinds, and a thing that is called a fox in its third meaning alone."""
    (folder / "data.noun").write_text(
        LICENCE
        + "01 05 n 02 fox 0 reynard 0 002 ~ 02 n 0000 ~ 03 n 0000 | x\n"
        + "02 05 n 01 vixen 0 001 ~ 04 n 0000 | x\n"
        + "03 05 n 01 owl 0 000 | x\n"
        + "04 05 n 02 arctic_vixen 0 kit 0 000 | x\n"
        + "05 09 n 01 kit 0 000 | x\n06 09 n 01 kit 0 000 | x\n"
    )
    offsets = {
        "fox": "01",
        "reynard": "01",
        "vixen": "02",
        "owl": "03",
        "arctic_vixen": "04",
        "kit": "05 06 04",
    }
    lines = (f"{text} n {len(at.split())} 0 1 0 {at}" for text, at in offsets.items())
    (folder / "index.noun").write_text(LICENCE + "".join(f"{line}\n" for line in lines))
    (folder / "data.adv").write_text(LICENCE + "0000 02 r 01 slyly 0 000 | x\n")
    (folder / "index.sense").write_text(
        "vixen%1:05:00:: 0 1 3\nsly%3:00:00:: 0 1 1\nsing%2:36:00:: 0 1 4\nslyly%4:02:00:: 0 1 1\n"
    )
    return folder


def test_a_lexicon_has_what_things_are_also_called(wordnet):
    with pytest.raises(ValueError, match=r"lacks data.adv, index.noun: name the folder of WordNet's"):
        read_lexicon(wordnet, ["fox"], [])
    lexicon = read_lexicon(lexicon_folder(wordnet), ["fox", "griffin"], {"fox", "owl"})
    assert (lexicon.verbs, lexicon.adjectives, lexicon.adverbs) == (("sing",), ("sly",), ("slyly",))
    assert lexicon.relatives.keys() == {"fox"}
    assert read_lexicon(wordnet, ["fox"], {"fox", "owl", "sly"}).adjectives == ()
    assert lexicon.relatives["fox"][0] == "vixen", "the commonest first"
    assert set(lexicon.relatives["fox"]) == {"vixen", "reynard", "arctic vixen"}


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        ("run", "running runs runned"),
        ("carry", "carrying carries carried"),
        ("dance", "dancing dances danced"),
        ("see", "seeing sees seed"),
        ("play", "playing plays played"),
        ("watch", "watching watches watched"),
        ("open", "opening opens opened"),
        ("go", "going goes goed"),
    ],
)
def test_verbs_get_regular_endings(verb, forms):
    assert [with_ending(verb, ending) for ending in ("ing", "s", "ed")] == forms.split()


def test_free_phrases_ask_for_what_the_plain_caption_says():
    vocabulary = embedded_vocabulary()
    lexicon = Lexicon(("sing",), ("sly",), ("slowly",), {"fox": ("vixen",)})
    pairs = make_pairs(vocabulary, lexicon, 3000, 0)
    assert pairs == make_pairs(vocabulary, lexicon, 3000, 0) != make_pairs(vocabulary, lexicon, 3000, 1)
    words = {word for pair in pairs for word in split_words(pair.plain)}
    assert not words & {"sing", "singing", "sly", "slowly"}
    free = {word for pair in pairs for word in split_words(pair.free)}
    assert {"sing", "singing", "sings", "singed", "sly", "slowly"} <= free
    said = {word for pair in pairs for word in split_words(pair.free)}
    assert not said & {"kitty", "automobile", "toadstool"}, "names that tests are made of"
    for pair in pairs:
        colours = set(vocabulary.colours) & set(split_words(pair.plain))
        assert colours <= set(split_words(pair.free)), pair
        assert {"two", "three"} & set(split_words(pair.plain)) <= set(split_words(pair.free)), pair


def test_other_words_mean_the_first_name_they_stand_for():
    lexicon = Lexicon((), (), (), {"fox": ("vixen", "kit-fox"), "dog": ("vixen", "pup")})
    one = {"vixen": "fox", "kit fox": "fox", "pup": "dog"}
    several = {"vixens": "foxes", "kit foxes": "foxes", "pups": "dogs"}
    assert other_words(lexicon) == one | several
    taken = taken_words(embedded_vocabulary())
    assert {"fox", "snow", "room", "blue"} <= taken
    assert "vixen" not in taken


def test_free_phrases_come_to_plain_ones_and_captions_stay():
    torch.manual_seed(0)
    tower = WordTower(SIZES).eval().requires_grad_(False)
    plain = ["a fox in snow", "a red car at night", "two owls on grass"]
    free = ["a sly fox singing in deep snow", "my red car parked at night", "two owls hooting on the grass"]
    targets = tower.encode_text(plain)
    before = mean_cosine(tower, Examples(free, targets))
    freed = fit_paraphrases(tower, Examples(free, targets), plain, steps=60, seed=0)
    assert 1 - mean_cosine(freed, Examples(free, targets)) < 0.1 * (1 - before)
    assert 1 - mean_cosine(freed, Examples(plain, targets)) < 0.1 * (1 - before)
    assert torch.equal(tower.encode_text(plain), targets), "the tower itself is as it was"
    assert not any(value.requires_grad for value in freed.network.parameters())


@pytest.mark.slow
def test_the_script_writes_a_text_encoder(wordnet, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    from distil_words import distil

    teacher = f"transformers:{sentence_folder(tmp_path / 'teacher')}"
    options = {"words": wordnet, "out": tmp_path / "tower", "teacher": teacher, "cache": tmp_path / "cache"}
    command = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command += ["--captions", "300", "--steps", "3", "--dim", "12", "--pairs", "50", "--free-steps", "2"]
    lexicon_folder(wordnet)
    capsys.readouterr()
    distil.main(command, standalone_mode=False)
    printed = capsys.readouterr().out
    assert printed.startswith("{"), printed
    figures = json.loads(printed)
    assert {"words", "captions", "unseen_captions"} <= figures["cosine"].keys()
    assert figures["synonyms"].keys() == {"tower", "teacher", "teacher_on_axes"}
    tower = load_text_encoder(f"local:{tmp_path / 'tower'}")
    assert tower.dim == 12
    assert tower.meta == figures
    again = ["--words", str(wordnet), "--start", str(tmp_path / "tower"), "--out", str(tmp_path / "free")]
    distil.main([*again, "--pairs", "50", "--free-steps", "2", "--captions", "300"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["free_phrases"]["pairs"] == 50
    assert load_text_encoder(f"local:{tmp_path / 'free'}").meta["teacher"] == teacher
