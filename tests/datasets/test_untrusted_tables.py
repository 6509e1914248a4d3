"""Tables and dataset.json that anybody may have written: bounded before memory is taken, no traceback."""

import json
import os
import resource
import time
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import dataset_json, opened, pictures, write_folder, write_zip

NAMES = [f"{number}.png" for number in range(5)]
TABLES = ["metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet", "0.txt"]


@pytest.fixture
def folder(tmp_path):
    return write_folder(pictures(*NAMES), tmp_path / "d")


def refused_quickly(place, message, **options):
    """The sentence of a refusal that takes neither time nor memory."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ValueError, match=message) as info:
        opened(place, **options)
    assert "\n" not in str(info.value)
    assert time.monotonic() - begun < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB
    return str(info.value)


def repeated(value, count):
    """A column of one text that needs no memory for each of its rows."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, "int32")), [value])


@pytest.mark.parametrize("number", [100_000, 2**31 - 1, 2**63, 10**900])
def test_a_label_is_bounded_before_classes_are_counted(folder, number):
    rows = [[name, place] for place, name in enumerate(NAMES[:4])]
    (folder / "dataset.json").write_bytes(dataset_json(labels=[*rows, ["4.png", number]]))
    refused_quickly(folder, f"label {number if number < 2**64 else 'of more than 20 digits'} is too large")
    (folder / "dataset.json").unlink()
    (folder / "labels.jsonl").write_text(json.dumps({"file": "0.png", "label": number}))
    refused_quickly(folder, "label .* is too large")


@pytest.mark.parametrize(
    "name", ["dataset.json", "metadata.json", "metadata.parquet", "captions.csv", "labels.jsonl"]
)
def test_files_of_five_gigabytes_are_not_read(folder, name):
    with (folder / name).open("wb") as file:
        file.truncate(5 * 2**30)
    refused_quickly(folder, rf"{name} has 5368709120 bytes, more than the \d+ that are read: split")


def test_a_caption_file_of_five_gigabytes_rejects_its_picture(folder):
    for name in NAMES:
        (folder / name).with_suffix(".txt").write_text("a mug")
    with (folder / "2.txt").open("wb") as file:
        file.truncate(5 * 2**30)
    source = opened(folder)
    assert len(source) == 4
    assert source.rejects.by_reason() == {"caption file too large": 1}


def test_members_of_zips_are_bounded_too(tmp_path):
    archive = write_zip(pictures(*NAMES), tmp_path / "d.zip")
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as more:
        more.writestr("dataset.json", b" " * (300 * 2**20), compresslevel=1)
        more.writestr("noise", os.urandom(2**21))
    refused_quickly(archive, "dataset.json has 314572800 bytes")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "captions.txt"])
def test_lines_are_counted_before_they_are_read(folder, name):
    (folder / name).write_bytes(b"\n" * 9_000_000)
    refused_quickly(folder, f"{name} has more than 2000000 rows")


def test_many_rows_of_parquet_in_few_bytes(folder):
    table = pa.table({"file_name": repeated("0.png", 3_000_000), "text": repeated("a mug", 3_000_000)})
    pq.write_table(table, folder / "metadata.parquet", compression="zstd")
    assert (folder / "metadata.parquet").stat().st_size < 100_000
    refused_quickly(folder, "metadata.parquet has more than 2000000 rows: make shards")


def test_long_texts_of_parquet_in_few_bytes(folder):
    table = pa.table({"file_name": repeated("0.png", 9000), "text": repeated("x" * 1_000_000, 9000)})
    pq.write_table(table, folder / "metadata.parquet", compression="zstd")
    refused_quickly(folder, "metadata.parquet unpacks to more than 536870912 bytes")


def test_long_lists_of_parquet_in_few_bytes(folder):
    values = pa.ListArray.from_arrays(pa.array([0, 20_000_000]), pa.array(np.zeros(20_000_000, "int8")))
    pq.write_table(pa.table({"file_name": ["0.png"], "text": values}), folder / "metadata.parquet")
    refused_quickly(folder, "metadata.parquet unpacks to 6[0-9]* bytes")


def test_columns_that_nobody_needs_are_not_read(folder):
    table = pa.table(
        {"file_name": ["0.png"], "label": [1], "image": [b"x" * 10_000_000], "clip": [[0.5] * 9]}
    )
    pq.write_table(table, folder / "metadata.parquet")
    source = opened(folder)
    assert [(entry.name, entry.label) for entry in source.entries] == [("0.png", 1)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "is a list of 0 where a group of keys belongs"),
        ({"labels": {"0.png": 1}}, "labels is a group of keys where a list belongs"),
        ({"labels": [["0.png", 1], ["1.png"]]}, r"labels\[1\] is no \[path, value\]"),
        ({"labels": [[5, 1]]}, r"labels\[0\] is no \[path, value\]"),
        ({"labels": [["0.png", [1, "x", 0, None]], ["1.png", [2, 0]]]}, "not one-hot"),
        ({"labels": [["0.png", [[1], 0]]]}, "not one-hot"),
        ({"labels": [["0.png", -1]]}, "numbered from 0 on"),
        ({"labels": [["0.png", 1]], "class_names": ["a", 7]}, r"class_names\[1\] is 7 where text belongs"),
        ({"labels": [["0.png", 1]], "class_names": ["only"]}, "label 1 has no name among 1 class names"),
        ({"labels": [["0.png", [0.0] * 100_000 + [1.0]]]}, "label 100000 is too large"),
    ],
)
def test_wrong_types_in_dataset_json_are_named_with_their_place(folder, table, message):
    (folder / "dataset.json").write_text(json.dumps(table))
    refused_quickly(folder, message)


def sentence(place):
    """The refusal of a data set; empty where it opens."""
    try:
        opened(place)
    except ValueError as error:
        return str(error)
    return ""


KEYS = ["labels", "captions", "class_names", "images", "annotations", "id", "image_id", "text", "file_name"]
KEYS += ["caption", "label", "conversations", "from", "value", *NAMES]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
files = st.sampled_from(
    ["dataset.json", "metadata.json", "labels.json", "annotations.json", "metadata.jsonl", "0.json"]
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(anything, files)
def test_any_json_gives_a_source_or_one_sentence(tmp_path_factory, value, name):
    place = tmp_path_factory.mktemp("fuzz")
    write_folder(pictures(*NAMES) | {name: json.dumps(value)}, place)
    assert "\n" not in sentence(place)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.binary(max_size=80), st.sampled_from(TABLES))
def test_any_bytes_give_a_source_or_one_sentence(tmp_path_factory, data, name):
    place = tmp_path_factory.mktemp("fuzz")
    write_folder(pictures(*NAMES) | {name: b"file_name,text\n" * (name[-3:] == "csv") + data}, place)
    assert "\n" not in sentence(place)
