"""Archives and tables that other programs write, and what another library makes of the same folders."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from layouts import captions, found, labels, opened, pictures, write_folder

pytestmark = pytest.mark.slow

TABLE = """file_name,text
cat/0.png,a cat, sitting
cat/1.png,two
dog/café.png,three
dog/3.png,four
"""
FILES = pictures("cat/0.png", "cat/1.png", "dog/café.png", "dog/3.png", "cover.png") | {
    "metadata.csv": TABLE,
    "dog/3.txt": "another",
    "README.md": "x",
    "cat/.DS_Store": "x",
    "__MACOSX/cat/._0.png": "x",
}
ARCHIVERS = {
    "zip": ["zip", "-q", "-r", "../d.zip", "."],
    "zip of the folder": ["zip", "-q", "-r", "d.zip", "set"],
    "zip without folders": ["zip", "-q", "-D", "-0", "-r", "../d.zip", "."],
    "zip from a stream": ["sh", "-c", "zip -q -r - . > ../d.zip"],
    "7z": ["7z", "a", "-tzip", "-bso0", "../d.zip", "."],
    "7z of the folder": ["7z", "a", "-tzip", "-mcu=on", "-bso0", "d.zip", "set"],
    "bsdtar": ["bsdtar", "--format", "zip", "-cf", "../d.zip", "."],
    "python -m zipfile": [sys.executable, "-m", "zipfile", "-c", "d.zip", "set/"],
}


@pytest.fixture
def folder(tmp_path):
    return write_folder(FILES, tmp_path / "set")


def without_told(source, prefix=""):
    what = found(source, prefix)
    del what["told"]
    return what


@pytest.mark.parametrize("name", list(ARCHIVERS))
def test_archives_of_other_programs_give_what_the_folder_gives(folder, tmp_path, name):
    command = ARCHIVERS[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    wrapped = command[-1].startswith("set")
    subprocess.run(command, cwd=tmp_path if wrapped else folder, check=True, capture_output=True)
    source = opened(tmp_path / "d.zip")
    assert source.class_names == ("cat", "dog")
    assert captions(source)[("set/" if wrapped else "") + "cat/0.png"] == "a cat, sitting"
    assert without_told(source, "set/" if wrapped else "") == without_told(opened(folder))


def test_a_linked_class_in_a_zip_that_keeps_links_is_named(folder, tmp_path):
    (folder / "fox").symlink_to("cat")
    subprocess.run(["zip", "-q", "-y", "-r", "../d.zip", "."], cwd=folder, check=True)
    assert opened(tmp_path / "d.zip").rejects.unused["link in an archive"].names == ["fox"]


READ = """
import json, sys
from pathlib import Path
import datasets
from datasets import Image, load_dataset
found = load_dataset("imagefolder", data_dir=sys.argv[1], cache_dir=sys.argv[2])
rows = {}
for split, part in found.items():
    part = part.cast_column("image", Image(decode=False))
    names = part.features["label"].names if "label" in part.features else None
    for row in part:
        name = Path(row["image"]["path"]).relative_to(sys.argv[1]).as_posix()
        label = names[row["label"]] if names and row["label"] is not None else row.get("label")
        rows[name] = [split, label, row.get("text")]
print(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def datasets_library(tmp_path_factory):
    """Where the library `datasets` lies, installed aside."""
    target = os.environ.get("DATASETS_TARGET") or str(tmp_path_factory.mktemp("datasets"))
    if "DATASETS_TARGET" not in os.environ:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--target", target, "datasets"], check=True
        )
    return target


FOLDERS = {
    "classes": pictures("cat/0.png", "cat/1.png", "dog/0.png"),
    "splits of classes": pictures("train/cat/0.png", "train/dog/0.png", "test/cat/5.png", "test/dog/6.png"),
    "csv": pictures("0.png", "1.png") | {"metadata.csv": "file_name,text\n0.png,one\n1.png,two\n"},
    "jsonl": pictures("0.png") | {"metadata.jsonl": '{"file_name": "0.png", "text": "one"}\n'},
    "a table in each split": pictures("train/0.png", "test/1.png")
    | {"train/metadata.csv": "file_name,text\n0.png,one\n", "test/metadata.csv": "file_name,text\n1.png,b\n"},
    "a table above": pictures("in/0.png", "in/1.png")
    | {"metadata.csv": 'file_name,text\nin/0.png,"one, with a comma"\nin/1.png,two\n'},
}


@pytest.mark.parametrize("name", list(FOLDERS))
def test_folders_mean_what_they_mean_to_imagefolder(name, tmp_path, datasets_library):
    folder = write_folder(FOLDERS[name], tmp_path / "set")
    environment = {
        **os.environ,
        "PYTHONPATH": datasets_library,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    command = [sys.executable, "-c", READ, str(folder), str(tmp_path / "cache")]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    theirs = json.loads(answer.stdout.splitlines()[-1])
    for split in {split for split, _, _ in theirs.values()}:
        source = opened(folder, split=split)
        mine = labels(source) if source.class_names else dict.fromkeys(captions(source))
        expected = {path: (label, text) for path, (part, label, text) in theirs.items() if part == split}
        assert {path: (mine[path], text) for path, text in captions(source).items()} == expected
