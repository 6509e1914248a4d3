"""Labels and captions are found alike in a folder, in its zip, and in a zip of one folder around it all."""

import json
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import (
    captions,
    dataset_json,
    found,
    labels,
    look,
    opened,
    picture,
    pictures,
    unused,
    write_folder,
    write_zip,
)

FOLDERS = [
    "",
    "a/",
    "b/",
    "cat/",
    "images/",
    "images/cat/",
    "00000/",
    "00001/",
    "train/",
    "train/x/",
    "test/",
]
SIDECARS = {
    "{}.txt": lambda name: f"text of {name}",
    "{}.caption": lambda name: f"caption of {name}",
    "{}.json": lambda name: json.dumps({"caption": f"json of {name}"}),
}
OTHERS = [
    "README.md",
    "a/notes.txt",
    "__MACOSX/a/._0.png",
    ".DS_Store",
    "Thumbs.db",
    "a/0.heic",
    "docs/x.pdf2",
]
COCO = (
    '{{"images": [{{"id": 1, "file_name": "{}.png"}}], '
    '"annotations": [{{"id": 5, "image_id": 1, "caption": "a mug"}}]}}'
)


@st.composite
def layouts(draw):
    """Files of a random data set."""
    places = draw(st.lists(st.sampled_from(FOLDERS), min_size=1, max_size=4, unique=True))
    numbers = st.integers(0, 3)
    names = sorted(
        {f"{place}{draw(numbers)}.png" for place in places for _ in range(draw(st.integers(1, 4)))}
    )
    files = pictures(*names)
    for pattern, text in SIDECARS.items():
        for name in draw(st.lists(st.sampled_from(names), max_size=3, unique=True)):
            files[pattern.format(name.removesuffix(".png"))] = text(name).encode()
    for folder in draw(st.lists(st.sampled_from([*places, ""]), max_size=2, unique=True)):
        rows = draw(st.lists(st.sampled_from([*names, "gone.png"]), min_size=1, max_size=4))
        relative = [name.removeprefix(folder) for name in rows]
        kind = draw(st.sampled_from(["dataset", "csv", "jsonl", "columns"]))
        if kind == "dataset":
            value = draw(st.sampled_from([0, 1, "words", [0, 1], ["two", "texts"]]))
            files[f"{folder}dataset.json"] = dataset_json(labels=[[name, value] for name in relative])
        elif kind == "csv":
            lines = [f"{name},{place},row, {place}" for place, name in enumerate(relative)]
            files[f"{folder}metadata.csv"] = "\n".join(["file_name,label,text", *lines]).encode()
        elif kind == "jsonl":
            lines = [json.dumps({"image": name, "prompt": f"of {name}"}) for name in relative]
            files[f"{folder}captions.jsonl"] = "\n".join(lines).encode()
        else:
            files[f"{folder}labels.csv"] = b"file_name,width\n" + f"{relative[0]},3\n".encode()
    for name in draw(st.lists(st.sampled_from(OTHERS), max_size=3, unique=True)):
        files[name] = b"x"
    return files


def attempt(place, prefix=""):
    """What is found, or the sentence that refuses it, without the place."""
    try:
        return found(opened(place), prefix)
    except ValueError as error:
        return str(error).replace(str(place), "PLACE").replace(prefix or "\0", "")


@settings(max_examples=80, deadline=None, derandomize=True)
@given(layouts())
def test_a_folder_its_zip_and_a_zip_of_the_folder_give_the_same(files):
    with tempfile.TemporaryDirectory() as place:
        folder = attempt(write_folder(files, Path(place, "set")))
        assert attempt(write_zip(files, Path(place, "set.zip"))) == folder
        wrapped = attempt(write_zip(files, Path(place, "wrapped.zip"), "whole set/"), "whole set/")
        if isinstance(folder, dict):
            told, wrapped_told = folder.pop("told"), wrapped.pop("told")
            assert [text is None for text in told] == [text is None for text in wrapped_told] or (
                "one folder whole set" in str(wrapped_told[0])
            )
        assert wrapped == folder


# Where captions are found


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("{}.txt", "a mug"),
        ("{}.caption", "a mug"),
        ("{}.png.txt", "a mug"),
        ("{}.json", '{"caption": "a mug", "url": "x"}'),
        ("{}.json", '{"prompt": "a mug"}'),
        (
            "{}.json",
            '{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "a mug"}]}',
        ),
    ],
)
def test_captions_beside_pictures(tmp_path, name, data):
    files = pictures(*(f"in/{number}.png" for number in range(4)))
    files |= {f"in/{name.format(number)}": data for number in range(4)}
    assert set(captions(look(files, tmp_path)).values()) == {"a mug"}


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("metadata.csv", "file_name,text\n{}.png,a mug\n"),
        ("captions.csv", "image,caption\n{}.png,a mug\n"),
        ("prompts.tsv", "filename\tprompt\n{}.png\ta mug\n"),
        ("metadata.csv", "file_name,description\n{}.png,a mug\n"),
        ("metadata.csv", "File Name;Description\n{}.png;a mug\n"),
        ("metadata.jsonl", '{{"file_name": "{}.png", "text": "a mug"}}\n'),
        ("captions.json", '[{{"image": "{}.png", "caption": "a mug"}}]'),
        ("captions.json", '{{"{}.png": "a mug"}}'),
        ("metadata.json", '{{"{}": {{"caption": "a mug"}}}}'),
        ("captions.txt", "image,caption\n{}.png,a mug\n"),
        ("annotations.json", COCO),
    ],
)
@pytest.mark.parametrize("folder", ["", "sub/in/"])
def test_tables_in_any_folder(tmp_path, name, table, folder):
    files = pictures(f"{folder}0.png") | {f"{folder}{name}": table.format(0)}
    assert captions(look(files, tmp_path)) == {f"{folder}0.png": "a mug"}


def test_a_table_in_the_root_names_pictures_below(tmp_path):
    rows = "a/0.png,first\n1.png,second\n2,third\n"
    files = pictures("a/0.png", "b/1.png", "b/2.png") | {"metadata.csv": "file_name,text\n" + rows}
    assert list(captions(look(files, tmp_path)).values()) == ["first", "second", "third"]


def test_a_name_that_fits_several_pictures_fits_none(tmp_path):
    files = pictures("a/0.png", "b/0.png", "b/1.png") | {"captions.csv": "image,text\n0.png,?\n1.png,one\n"}
    source = look(files, tmp_path)
    assert captions(source) == {"b/1.png": "one"}
    assert ("0.png", "annotation without picture", "in captions.csv") in source.rejects.items


def test_accents_count_however_they_are_written(tmp_path):
    files = pictures("cafe\u0301.png") | {"metadata.csv": "file_name,text\ncaf\u00e9.png,a cup\n"}
    assert list(captions(look(files, tmp_path)).values()) == ["a cup"]


class Unmarked(zipfile.ZipInfo):
    """A member whose name is written without the mark of UTF-8."""

    def _encodeFilenameFlags(self):  # noqa: N802
        return self.filename.encode("cp437"), 0


def test_names_in_zips_are_utf8_with_and_without_the_mark(tmp_path):
    # macOS leaves the mark out: the same bytes as of a name in CP437.
    raw = "caf\u00e9.png".encode().decode("cp437")
    files = {"metadata.csv": "file_name,text\ncaf\u00e9.png,a cup\n", raw: picture()}
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as out:
        for name, content in files.items():
            out.writestr(Unmarked(name), content)
    assert captions(opened(tmp_path / "d.zip")) == {"caf\u00e9.png": "a cup"}


def test_of_several_places_the_first_is_taken_and_the_others_are_counted(tmp_path):
    files = pictures("0.png", "1.png", "2.png", "3.png")
    files["dataset.json"] = dataset_json(captions=[["0.png", "of dataset.json"]])
    files["metadata.csv"] = "file_name,text\n0.png,of csv\n1.png,of csv\n"
    files["captions.csv"] = "file_name,text\n1.png,other\n2.png,of captions\n0.png,of dataset.json\n"
    files |= {f"{number}.txt": "of txt" for number in range(4)} | {"3.caption": "of caption"}
    source = look(files, tmp_path)
    assert list(captions(source).values()) == ["of dataset.json", "of csv", "of captions", "of txt"]
    assert unused(source) == {
        "caption of a picture whose captions come from dataset.json": 2,
        "caption of a picture whose captions come from metadata.csv": 2,
        "caption of a picture whose captions come from captions.csv": 1,
        "caption of a picture whose captions come from .txt files": 1,
    }


def test_what_is_no_caption_is_named(tmp_path):
    files = pictures("0.png", "1.png") | {
        "captions/0.txt": "far",
        "0.json": '{"shapes": []}',
        "notes.md": "x",
    }
    files |= {"labels.csv": "file_name,width\n0.png,3\n", "1.heic": "x", "set.tar.gz": "x"}
    files |= {"metadata.json": '{"author": "me"}', "prompts.csv": "0.png,a mug\n1.png,a cup\n"}
    source = look(files, tmp_path)
    assert (source.class_names, source.has_captions) == (None, False)
    assert {reason: what.names for reason, what in source.rejects.unused.items()} == {
        "text file without picture": ["captions/0.txt"],
        "file of no known kind": ["notes.md", "set.tar.gz"],
        "picture of a format that is not read": ["1.heic"],
        "table without a column of captions or labels": ["labels.csv: file_name, width"],
        "table that names no picture here": ["metadata.json: such as author"],
        "table without a first line of column names": ["prompts.csv: 0.png, a mug"],
        "JSON beside a picture, without caption or label": ["0.json"],
    }
    with pytest.raises(ValueError, match=r"prompts.csv: 0.png, a mug is not used"):
        source.require(captions=True)


def test_captions_that_were_named_are_the_only_ones(tmp_path):
    files = pictures("0.png", "1.png") | {"0.txt": "beside", "1.txt": "beside"}
    (tmp_path / "mine.csv").write_text("file_name,text\n0.png,mine\n")
    source = look(files, tmp_path, captions=tmp_path / "mine.csv")
    assert captions(source) == {"0.png": "mine"}
    assert source.rejects.by_reason() == {"no caption": 1}
    assert unused(source) == {"caption of a picture whose captions come from mine.csv": 2}
    (tmp_path / "mine.csv").write_text("file_name,text\n7.png,mine\n")
    with pytest.raises(ValueError, match=r"mine.csv gives no captions: table that names no picture here"):
        look(files, tmp_path, captions=tmp_path / "mine.csv")


# Where labels are found


def test_dataset_json_is_relative_to_its_folder(tmp_path):
    files = pictures("set/0.png", "set/1.png")
    files["set/dataset.json"] = dataset_json(labels=[["0.png", 1], ["set/1.png", 0]])
    assert labels(look(files, tmp_path)) == {"set/0.png": "1", "set/1.png": "0"}


def test_two_archives_side_by_side(tmp_path):
    files = pictures("a/0.png", "b/0.png") | {"a/dataset.json": dataset_json(labels=[["0.png", 0]])}
    files["b/dataset.json"] = dataset_json(labels=[["0.png", 1]])
    assert labels(look(files, tmp_path)) == {"a/0.png": "0", "b/0.png": "1"}


@pytest.mark.parametrize("texts", [("cat", "dog"), ("0", "1")])
def test_texts_under_labels_are_captions_and_the_refusal_says_so(tmp_path, texts):
    rows = [[f"{number}.png", texts[number % 2]] for number in range(4)]
    files = pictures(*(f"{number}.png" for number in range(4)))
    source = look(files | {"dataset.json": dataset_json(labels=rows)}, tmp_path)
    assert source.has_captions
    with pytest.raises(ValueError, match=f"first '{texts[0]}'. were read as captions: write whole numbers"):
        source.require(labels=True)
    (tmp_path / "named").mkdir()
    named = dataset_json(labels=rows, class_names=texts[::-1])
    assert labels(look(files | {"dataset.json": named}, tmp_path / "named"))["1.png"] == texts[1]


def test_labels_of_a_table_go_before_folders_and_both_are_told(tmp_path):
    files = pictures("a/0.png", "b/1.png") | {"labels.csv": "file,label\na/0.png,3.0\nb/1.png,1\n"}
    source = look(files, tmp_path)
    assert labels(source) == {"a/0.png": "3", "b/1.png": "1"}
    assert unused(source) == {"class folder, since the labels come from labels.csv": 2}


def test_system_members_are_nobodys(tmp_path):
    files = pictures("photos/0.png", "photos/1.png", "photos/.hidden.png", "@eaDir/0.png/THUMB.jpg")
    files |= {"__MACOSX/photos/._0.png": "x", "photos/._1.png": "x", "photos/Thumbs.db": "x"}
    files |= {".DS_Store": "x", "photos/desktop.ini": "x", "photos/0.png:Zone.Identifier": "x"}
    source = look(files, tmp_path)
    assert [entry.name for entry in source.entries] == ["photos/0.png", "photos/1.png"]
    assert source.rejects.summary() == []


def test_a_set_without_pictures_says_what_is_there(tmp_path):
    files = {"a/0.heic": picture(), "metadata.csv": "file_name,text\n0.heic,x\n"}
    for place in (write_folder(files, tmp_path / "d"), write_zip(files, tmp_path / "d.zip")):
        with pytest.raises(ValueError, match=r"holds no pictures \(not used: 1 x picture of a format"):
            opened(place)
