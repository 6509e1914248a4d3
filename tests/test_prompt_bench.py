"""The prompts of data/prompts and how their pictures are read."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from prompt_bench import Reader, Wanted, known, read_bench, summary  # noqa: E402

PROMPTS = ROOT / "data/prompts/demo.txt"


class FixedJudge:
    """Sees the same in every picture: a large yellow fox, alone, in snow, by the first artist."""

    reference, resolution = "emoji-worlds", 64
    attributes = dict.fromkeys(("object", "scene", "size", "colour", "count", "second", "design"), 1)

    def __init__(self, **seen):
        self.seen = seen

    def read(self, images):
        row = [self.seen.get(name, 0) for name in self.attributes]
        return torch.tensor([row] * len(images))


def rights(shows, **seen):
    reader = Reader(FixedJudge(**seen))
    return reader.right(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), [Wanted("", shows, "")])[0]


def number(attribute, value):
    return Reader(FixedJudge()).values[attribute].index(value)


def test_a_judge_of_the_first_things_reads_by_their_own_names():
    judge = FixedJudge(object=23, second=3)
    judge.reference = "emoji-worlds:24x8"
    reader = Reader(judge)
    assert len(reader.values["object"]) == 24
    wanted = Wanted("", {"object": reader.values["object"][23], "second": reader.values["second"][3]}, "")
    assert all(reader.right(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), [wanted])[0].values())


def test_every_prompt_names_what_the_data_has():
    found = read_bench(PROMPTS)
    assert len(found) == len({one.prompt for one in found}) == 200
    values = Reader(FixedJudge()).values
    for one in found:
        assert all(one.shows[name] in values[name] for name in one.shows if name != "style"), one
    assert sum(one.kind == "synonym" for one in found) >= 20
    fewer = known(found, "emoji-worlds:24x8")
    assert 0 < len(fewer) < 200
    assert {one.shows["object"] for one in fewer} <= set(values["object"][:24])


def test_no_prompt_is_a_caption_of_the_training_pictures():
    from sgxl_t.datasets.open import open_source

    source = open_source("emoji-worlds", resolution=16)
    captions = {str(source[index].caption).lower() for index in range(400)}
    assert not captions & {one.prompt.lower() for one in read_bench(PROMPTS)}


def test_attributes_are_read_as_they_are_named():
    assert rights({"object": "fox", "scene": "snow"}) == {"object": True, "scene": True}
    assert rights({"object": "cat", "scene": "beach"}) == {"object": False, "scene": False}
    assert rights({"object": "fox", "scene": "snow", "count": "two"}, count=1)["count"]
    blue = {"object": "fox", "scene": "snow", "colour": "blue"}
    assert rights(blue, colour=number("colour", "blue"))["colour"]
    assert not rights(blue)["colour"], "its own colour is another"
    assert rights({"object": "tree", "scene": "snow", "colour": "green"}, object=number("object", "tree"))[
        "colour"
    ]
    assert rights({"object": "fox", "scene": "snow", "style": "3D"}, design=4)["style"]
    assert not rights({"object": "fox", "scene": "snow", "style": "3D"})["style"]


def test_of_two_things_either_may_come_first():
    both = {"object": "cat", "scene": "snow", "second": "fox"}
    assert all(rights(both, second=number("second", "cat")).values())
    assert not rights(both)["second"]


def test_shares_count_the_pictures_of_their_kind():
    wanted = [
        Wanted("a", {"object": "fox", "scene": "snow"}, ""),
        Wanted("b", {"object": "fox", "scene": "snow"}, "synonym"),
    ]
    right = [{"object": True, "scene": True}, {"object": True, "scene": False}]
    found = summary(wanted, right, [False, True])
    assert found["object and scene"] == {"share": 0.5, "pictures": 2}
    assert found["words never shown"] == {"share": 0.0, "pictures": 1}
    assert found["combinations never shown"] == {"share": 0.0, "pictures": 1}
    assert found["count"] == {"share": None, "pictures": 0}


def test_a_prompt_without_its_line_is_refused(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a fox\n")
    with pytest.raises(ValueError, match="lacks object and scene"):
        read_bench(file)
