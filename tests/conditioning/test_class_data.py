"""Class tables from files, read as data, and labelled data that no run should start on."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sgxl_t.conditioning import build_condition
from sgxl_t.conditioning.class_check import check_classes
from sgxl_t.conditioning.table_file import imagenet_rows, load_class_table
from sgxl_t.datasets import open_source

PETS = ("fox", "dog", "car")


def imagenet_names():
    from timm.data import ImageNetInfo

    return ImageNetInfo("imagenet-1k").label_descriptions()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The layout of the published file: a dictionary with an embedding layer of 1000 rows, protocol 3."""
    layer = torch.nn.Embedding(1000, 320)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(1000, 320, generator=torch.Generator().manual_seed(0)))
    path = tmp_path_factory.mktemp("in_embeddings") / "tf_efficientnet_lite0.pkl"
    path.write_bytes(pickle.dumps({"embed": layer}, protocol=3))
    return path, layer.weight.detach()


def test_the_published_layout_gives_every_class_its_row(published):
    path, weight = published
    assert 1_280_000 < path.stat().st_size < 1_290_000
    assert torch.equal(load_class_table(path, imagenet_names()), weight)
    assert torch.equal(load_class_table(path, [str(number) for number in range(1000)]), weight)


def test_a_part_of_imagenet_finds_its_rows_by_name_or_number(published):
    path, weight = published
    for names in (["golden retriever", "tench, Tinca tinca"], ["n02099601", "n01440764"]):
        assert torch.equal(load_class_table(path, names), weight[[207, 0]])
    shuffled = torch.randperm(1000, generator=torch.Generator().manual_seed(1)).tolist()
    from timm.data import ImageNetInfo

    numbers = ImageNetInfo("imagenet-1k").label_names()
    assert imagenet_rows([numbers[label] for label in shuffled]) == shuffled
    assert imagenet_rows(["crane", "golden retriever"]) is None, "two classes are called crane"
    assert imagenet_rows(["my cat", "golden retriever"]) is None


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_arrays_have_one_row_per_class(tmp_path, kind):
    table = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    path = tmp_path / f"table.{kind}"
    if kind == "npy":
        np.save(path, table.double().numpy())
    else:
        save_file({"embed": table}, path)
    assert torch.equal(load_class_table(path, PETS), table)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch owned",)


def write_pickle(value):
    return lambda path: path.write_bytes(pickle.dumps(value, protocol=3))


def embedding(**options):
    return torch.nn.Embedding(3, 4, **options)


BAD_TABLES = {
    "missing.pkl": (lambda path: None, "is no file"),
    "kind.txt": (lambda path: path.write_text("1 2 3"), "of an unknown kind"),
    "hostile.pkl": (write_pickle({"embed": Hostile()}), "system as embed"),
    "hostile.npy": (
        lambda path: np.save(path.open("wb"), np.array([Hostile()], dtype=object), allow_pickle=True),
        "no array of numbers",
    ),
    "truncated.pkl": (
        lambda path: path.write_bytes(pickle.dumps({"embed": embedding()}, protocol=3)[:-200]),
        "get the file again",
    ),
    "nothing.pkl": (write_pickle({"table": 3}), "holds no table under the name embed"),
    "other.pkl": (write_pickle({"embed": torch.nn.Linear(3, 4)}), "something else than an embedding"),
    "number.pkl": (write_pickle({"embed": 3}), "holds 3 as embed"),
    "rows.pkl": (write_pickle({"embed": torch.nn.Embedding(5, 4)}), "has 5 rows and the data has 3 classes"),
    "flat.npy": (lambda path: np.save(path, np.zeros(3, np.float32)), "shape [3]"),
    "whole.npy": (lambda path: np.save(path, np.zeros((3, 4), np.int64)), "no floating point numbers"),
    "infinite.npy": (lambda path: np.save(path, np.full((3, 4), np.inf)), "not finite"),
    "junk.safetensors": (lambda path: path.write_bytes(b"junk"), "no safetensors file"),
    "two.safetensors": (
        lambda path: save_file({"a": torch.zeros(3, 4), "b": torch.zeros(3, 4)}, path),
        "holds 2 tensors",
    ),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables_are_one_sentence_and_run_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write, sentence = BAD_TABLES[name]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=r"class table") as error:
        load_class_table(tmp_path / name, PETS)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "owned").exists()


def labelled(place, labels, **more):
    """A folder of plain pictures with a labels file."""
    place.mkdir()
    rows = []
    for number, label in enumerate(labels):
        Image.new("RGB", (8, 8), (number % 256, 0, 0)).save(place / f"{number:05d}.png")
        rows.append([f"{number:05d}.png", label])
    (place / "dataset.json").write_text(json.dumps({"labels": rows, **more}))
    return place


def test_the_table_of_a_file_starts_the_networks(tmp_path):
    np.save(tmp_path / "t.npy", np.arange(12, dtype=np.float32).reshape(3, 4))
    source = open_source(labelled(tmp_path / "d", [0, 1, 2]), resolution=8)
    condition = build_condition("class", source, table_file=tmp_path / "t.npy")
    assert (condition.spec.dim, condition.spec.num_classes) == (4, 3)
    assert torch.equal(condition.table, torch.arange(12.0).reshape(3, 4))


BAD_LABELS = {
    "gap": ([0, 1, 3, 3], {}, "has no picture of class 2 among its classes 0 to 3"),
    "gaps": ([0, 9], {}, "has no picture of class 1, 2, 3 and 5 more"),
    "named without pictures": (
        [0, 1, 0],
        {"class_names": ["fox", "dog", "car"]},
        "has no picture of class 2 (car) among",
    ),
    "negative": ([0, 1, -1], {}, "is -1, and classes are numbered from 0 on"),
    "one class": ([0, 0, 0], {}, "has 1 class, and a class condition chooses among at least 2"),
    "beyond the names": ([0, 1, 2], {"class_names": ["fox", "dog"]}, "label 2 has no name among 2"),
    "too many": ([0, 19_999], {}, "has 20000 classes, more than 10000"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_that_no_run_should_start_on_are_one_sentence(tmp_path, case):
    labels, more, sentence = BAD_LABELS[case]
    place = labelled(tmp_path / "d", labels, **more)
    with pytest.raises(ValueError, match=r"class") as error:
        check_classes(open_source(place, resolution=8), "d")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_good_labels_pass(tmp_path):
    check_classes(open_source(labelled(tmp_path / "d", [0, 1, 2, 1]), resolution=8))
    check_classes(open_source("digits", resolution=8))
    check_classes(open_source("emoji-scenes:24x8", resolution=16))
