"""A share of a set put aside: the same pictures every time, of every class, and never trained on."""

import json
import random

import pytest
import torch
from PIL import Image
from test_prepare import command

from sgxl_t.datasets import open_source
from sgxl_t.datasets.base import Sample
from sgxl_t.datasets.holdout import content_key, held_out
from sgxl_t.datasets.open import open_to_measure
from sgxl_t.datasets.prepare import Choice, write_dataset

COUNTS = {"ant": 40, "bee": 20, "cow": 10}


@pytest.fixture
def photos(tmp_path):
    """Seventy pictures of three classes, each of a colour and with a caption of its own."""
    return drawn(tmp_path / "photos", list(range(sum(COUNTS.values()))))


def drawn(place, names):
    """names: of the files, by the number of the picture."""
    number = 0
    for kind, count in COUNTS.items():
        (place / kind).mkdir(parents=True)
        for _ in range(count):
            file = place / kind / f"{names[number]:03}.png"
            Image.new("RGB", (16, 16), (3 * number, 255 - number, 7 * number % 256)).save(file)
            file.with_suffix(".txt").write_text(f"a picture of {kind} number {number}")
            number += 1
    return place


def contents(reference, split):
    samples = open_source(reference, resolution=16, split=split).samples()
    return [(one.image.numpy().tobytes(), one.label, one.caption) for one in samples]


@pytest.fixture(params=["d.zip", "shards"])
def prepared(request, photos, tmp_path):
    kind = "zip" if request.param == "d.zip" else "shards"
    source = open_source(photos, resolution=16)
    target = tmp_path / request.param
    report = write_dataset(source, target, format=kind, choice=Choice(holdout=0.1), progress=False)
    assert (report.images, report.held_out) == (70, 7)
    return target


def test_both_splits_together_are_the_set_and_nothing_is_in_both(photos, prepared):
    train, test = contents(prepared, "train"), contents(prepared, "test")
    assert (len(train), len(test)) == (63, 7)
    assert not set(train) & set(test)
    assert set(train) | set(test) == set(contents(photos, "train"))


def test_every_class_gives_its_share_and_keeps_its_name_and_number(prepared):
    for split, counts in (("train", [36, 18, 9]), ("test", [4, 2, 1])):
        source = open_source(prepared, resolution=16, split=split)
        labels = [sample.label for sample in source.samples()]
        assert source.class_names == ("ant", "bee", "cow")
        assert [labels.count(label) for label in range(3)] == counts


def test_training_reads_the_rest_and_evaluation_what_was_put_aside(prepared):
    assert len(open_source(prepared, resolution=16)) == 63
    assert len(open_to_measure(prepared, (16, 16), split="test")) == 7


def test_opening_says_what_is_put_aside(photos, tmp_path):
    target = tmp_path / "d.zip"
    write_dataset(open_source(photos, resolution=16), target, choice=Choice(holdout=0.1), progress=False)
    lines = open_source(target, resolution=16).rejects.summary()
    assert [line.split(" (")[0] for line in lines] == ["not used: 7 x picture of the split test"]


def test_the_choice_is_by_content_and_seed_whatever_the_files_are_called(photos, prepared, tmp_path):
    names = list(range(70))
    random.Random(0).shuffle(names)
    renamed = open_source(drawn(tmp_path / "renamed", names), resolution=16)
    for seed, same in ((0, True), (1, False)):
        target = tmp_path / f"again{seed}.zip"
        write_dataset(renamed, target, choice=Choice(holdout=0.1, seed=seed), progress=False)
        assert (set(contents(target, "test")) == set(contents(prepared, "test"))) is same


def test_adding_pictures_moves_few_and_equal_ones_stay_together():
    keys = [random.Random(number).randbytes(8) for number in range(1000)]
    before = held_out(keys[:900], [None] * 900, 0.1)
    after = held_out(keys, [None] * 1000, 0.1)
    assert (sum(before), sum(after)) == (90, 100)
    assert sum(one != other for one, other in zip(before, after[:900], strict=True)) < 25
    twice = held_out(keys[:100] * 2, [0] * 100 + [1] * 100, 0.1)
    assert twice[:100] == twice[100:]
    assert held_out([b"a", b"b"], [0, 1], 0.5).count(True) == 1, "the sum is right where classes are small"


def test_the_key_is_of_the_pixels():
    image = torch.arange(48, dtype=torch.uint8).view(3, 4, 4)
    key = content_key(Sample(image, 1, "a fox"), 0)
    assert content_key(Sample(image.clone(), 2), 0) == key
    assert content_key(Sample(image.flip(0)), 0) != key
    assert content_key(Sample(image), 1) != key


@pytest.mark.parametrize("name", ["d.zip", "shards"])
def test_the_command_says_so_and_leaves_nothing_else(name, photos, tmp_path, capsys):
    target = tmp_path / name
    arguments = [photos, target, "--resolution", 16, "--holdout", 0.1]
    code, out, _ = command(capsys, *arguments)
    assert code == 0
    assert "7 of them are put aside as the split test: training never sees them" in out
    assert f"sgxl-t evaluate MODEL --data {target} --split test" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "photos"])
    code, out, _ = command(capsys, *arguments, "--overwrite", "--json")
    assert (code, json.loads(out)["held_out"]) == (0, 7)
    if name == "shards":
        described = json.loads((target / "prepared.json").read_text())
        assert (described["holdout"], described["held_out"], described["seed"]) == (0.1, 7, 0)
        assert command(capsys, photos, target, "--resolution", 16, "--overwrite")[0] == 0
        assert not (target / "train").exists()
        assert len(contents(target, "train")) == 70


def test_a_share_of_a_seeded_choice(photos, tmp_path):
    source = open_source(photos, resolution=16)
    report = write_dataset(
        source, tmp_path / "d.zip", choice=Choice(max_images=30, holdout=0.2), progress=False
    )
    assert (report.images, report.held_out) == (30, 6)
