"""Words that WordNet's tree and a sentence encoder together take for a thing."""

import pytest
import torch
from torch.nn import functional as F

from sgxl_t.training.words.kin import ALIKE, STEP, Kin, read_as, read_kin

LICENCE = "  1 This software and database is being provided to you\n"
SENSES = {
    "00": ("05 leporid", "", "gnawing mammal"),
    "01": ("05 rabbit", "00", 'any of various burrowing animals; "a rabbit ran"'),
    "02": ("05 hare", "00", "larger than rabbits"),
    "03": ("18 hare", "", "a runner"),
    "04": ("05 angora", "01", "a rabbit with long hair"),
    "05": ("09 pool", "", "money"),
    "06": ("09 pool", "", "a fund"),
    "07": ("05 pool", "00", "an animal of this test"),
    "08": ("06 stone", "", "rock"),
    "09": ("28 rabbit", "", "a time of this test"),
}
RABBIT = [("rabbit", "bunny")]
BURROWS = "any of various burrowing animals"


@pytest.fixture
def folder(tmp_path):
    nouns, keys = [], {}
    for key, (file_and_name, above, meaning) in SENSES.items():
        file, name = file_and_name.split()
        pointers = f"001 @ {above} n 0000" if above else "000"
        nouns.append(f"{key} {file} n 01 {name} 0 {pointers} | {meaning}\n")
        keys.setdefault(name, []).append(key)
    keys["rabbit"].reverse()
    (tmp_path / "data.noun").write_text(LICENCE + "".join(nouns))
    lines = (f"{name} n {len(at)} 0 1 0 {' '.join(at)}\n" for name, at in keys.items())
    (tmp_path / "index.noun").write_text(LICENCE + "".join(lines))
    return tmp_path


def tagged(folder, **counts):
    lines = [f"{text}%{part}:05:00:: 0 1 {count}" for text, (part, count) in counts.items()]
    (folder / "index.sense").write_text("\n".join(["x%1:05:00:: 0 1 1", *lines]) + "\n")


def test_words_near_a_thing_are_found_with_the_steps_between_them(folder):
    tagged(folder)
    kin = read_kin(folder, RABBIT, {"rabbit"})
    assert kin == [
        Kin("angora", "a rabbit with long hair", 0, BURROWS, 1),
        Kin("hare", "larger than rabbits", 0, BURROWS, 2),
        Kin("leporid", "gnawing mammal", 0, BURROWS, 1),
        Kin("pool", "an animal of this test", 0, BURROWS, 2),
    ]


def test_rare_meanings_and_words_that_are_seldom_nouns_do_not_count(folder):
    tagged(folder, pool=(1, 3), angora=(3, 2))
    assert {one.word for one in read_kin(folder, RABBIT, {"rabbit"})} == {"hare", "leporid"}
    tagged(folder, hare=(1, 3))
    assert {"hare", "pool"} <= {one.word for one in read_kin(folder, RABBIT, {"rabbit"})}
    (folder / "index.noun").unlink()
    with pytest.raises(ValueError, match=r"lacks index.noun: name the folder of WordNet's"):
        read_kin(folder, RABBIT, ())


@pytest.mark.parametrize(("cosine", "found"), [(0.01, {"hare": 0}), (-0.01, {})])
def test_a_word_is_read_as_a_thing_that_it_is_like(cosine, found):
    """By the word itself, and by its explanation in the mean of names and explanation of the thing."""
    kin = [Kin("hare", "larger than rabbits", 0, BURROWS, 2), Kin("hare", "a runner", 0, BURROWS, 3)]
    likeness = ALIKE + 2 * STEP + cosine

    def encode(near):
        def vectors(texts):
            rows = [
                [1.0, 0.0] if {"rabbit", "bunny"} & set(text.replace(":", "").split()[:2]) else [0.0, 1.0]
                for text in texts
            ]
            told = [
                [likeness, (1 - likeness**2) ** 0.5] if text == near else row
                for text, row in zip(texts, rows, strict=True)
            ]
            return F.normalize(torch.tensor(told), dim=1)

        return vectors

    assert read_as(kin, RABBIT, encode("a hare")) == found
    assert read_as(kin, RABBIT, encode("hare: larger than rabbits")) == found
    assert read_as(kin, RABBIT, encode("hare: a runner")) == {}, "a step further away"


def test_of_two_things_the_one_it_is_more_like_counts():
    things = [("rabbit",), ("stone",)]
    kin = [
        Kin("hare", "larger than rabbits", 0, BURROWS, 2),
        Kin("hare", "larger than rabbits", 1, "rock", 2),
    ]

    def encode(texts):
        told = {"a rabbit": [0.8, 0.6], "a stone": [0.9, 0.4359], "a hare": [1.0, 0.0]}
        return torch.tensor([told.get(text, [0.0, 1.0]) for text in texts])

    assert read_as(kin, things, encode) == {"hare": 1}
