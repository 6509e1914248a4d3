"""Conversion among layouts, and that nothing half-written stays."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from sgxl_t.cli.main import main
from sgxl_t.datasets import open_source
from sgxl_t.datasets.prepare import Choice, write_dataset


@pytest.fixture
def photos(tmp_path):
    """Two classes of five pictures with captions, and one broken file."""
    place = tmp_path / "photos"
    for number in range(10):
        name = place / ("cat", "dog")[number % 2] / f"{number}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (number * 20, 0, 50)).save(name)
        name.with_suffix(".txt").write_text(f"picture {number}")
    (place / "cat" / "bad.png").write_bytes(b"broken")
    (place / "cat" / "bad.txt").write_text("broken")
    return place


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["prepare", *map(str, arguments)])
    out, err = capsys.readouterr()
    return end.value.code, out, err


def contents(source):
    return [(s.image.numpy().tobytes(), s.label, s.caption) for s in source.samples()]


@pytest.mark.parametrize("name", ["d.zip", "shards"])
def test_round_trip(photos, tmp_path, capsys, name):
    target = tmp_path / name
    code, out, _ = command(capsys, photos, target, "--resolution", 16, "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["images"], report["classes"], report["rejected"]) == (10, 2, 1)
    assert report["reasons"] == {"no readable picture": 1}
    assert "bad.png" in Path(report["rejects_file"]).read_text()
    before, after = open_source(photos, resolution=16), open_source(target, resolution=16)
    assert after.class_names == ("cat", "dog")
    assert contents(before) == contents(after)
    other = tmp_path / ("again" if name == "d.zip" else "again.zip")
    assert command(capsys, target, other, "--resolution", 16)[0] == 0
    assert contents(open_source(other, resolution=16)) == contents(before)


def test_equal_input_gives_equal_bytes(photos, tmp_path):
    source = open_source(photos, resolution=16)
    for name in ("a.zip", "b.zip"):
        write_dataset(source, tmp_path / name, progress=False)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_max_images_is_a_seeded_choice(tmp_path):
    source = open_source("emoji-scenes:24x8", resolution=16, split="held_out")
    report = write_dataset(source, tmp_path / "a.zip", choice=Choice(max_images=50), progress=False)
    assert report.images == 50
    chosen = open_source(tmp_path / "a.zip", resolution=16)
    assert len({chosen[i].label for i in range(50)}) > 10


def test_interruption_leaves_nothing(photos, tmp_path, monkeypatch):
    source = open_source(photos, resolution=16)
    before = sorted(os.listdir(tmp_path))
    read, calls = source._read, []

    def interrupted(index):
        calls.append(index)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return read(index)

    monkeypatch.setattr(source, "_read", interrupted)
    for name, kind in (("d.zip", "zip"), ("shards", "shards")):
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            write_dataset(source, tmp_path / name, format=kind, progress=False)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SRC", "OUT.zip", "--resolution", "24"], "power of two"),
        (["EMPTY", "OUT.zip", "--resolution", "16"], "holds no pictures"),
        (["nowhere", "OUT.zip", "--resolution", "16"], "does not exist"),
        (["SRC", "FILE/out.zip", "--resolution", "16"], "cannot be written"),
        (["SRC", "OUT.tar", "--resolution", "16"], "shards need a folder"),
        (["SRC", "OUT", "--resolution", "16", "--format", "zip"], "does not end in .zip"),
        (["SRC", "OUT.zip", "--resolution", "16", "--max-images", "0"], "use 1 or more"),
        (["SRC", "OUT.zip", "--resolution", "16", "--holdout", "1.5"], "below 1, such as 0.1"),
        (["SRC", "OUT.zip", "--resolution", "16", "--holdout", "0.01"], "leaves some on both sides"),
        (["SRC", "OUT.zip", "--resolution", "16", "--captions", "gone.csv"], "does not exist"),
        (["SRC", "OUT.zip", "--resolution", "16", "--reject-limit", "0"], "rejected"),
        (["SRC", "OUT.zip", "--resolution", "16", "--reject-limit", "nan"], "out of range"),
        (["SRC", "TAKEN.zip", "--resolution", "16"], "exists"),
        (["SRC", "EMPTYDIR", "--resolution", "16", "--min-side", "4096"], "rejected"),
    ],
)
def test_mistakes_end_with_one_sentence(photos, tmp_path, capsys, arguments, message):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("x")
    (tmp_path / "TAKEN.zip").write_text("x")
    before = sorted(os.listdir(tmp_path))
    places = {"SRC": photos, "gone.csv": "gone.csv", "nowhere": "nowhere"}
    listed = [places.get(a, tmp_path / a if a[0].isupper() else a) for a in arguments]
    code, out, err = command(capsys, *listed)
    assert (code, out) == (2, "")
    assert message in err
    assert err.strip().count("\n") == 0
    assert "Traceback" not in err
    assert sorted(os.listdir(tmp_path)) == before


def test_no_list_of_rejects_where_there_are_none(photos, tmp_path, capsys):
    (photos / "cat" / "bad.png").unlink()
    (photos / "cat" / "bad.txt").unlink()
    (tmp_path / "d.zip.rejects.jsonl").write_text("of an older set")
    for name in ("d.zip", "shards"):
        code, out, _ = command(capsys, photos, tmp_path / name, "--resolution", 16, "--json")
        assert (code, json.loads(out)["rejects_file"]) == (0, None)
    assert not list(tmp_path.rglob("*rejects.jsonl"))


def test_the_report_names_what_is_not_used(photos, tmp_path, capsys):
    (photos / "notes.md").write_text("x")
    (photos / "cat" / "0.caption").write_text("another caption")
    code, out, _ = command(capsys, photos, tmp_path / "d.zip", "--resolution", 16)
    assert code == 0
    lines = [line.strip() for line in out.splitlines()[1:]]
    assert lines == [
        "rejected: 1 x no readable picture (cat/bad.png)",
        "not used: 1 x file of no known kind (notes.md)",
        "not used: 1 x caption of a picture whose captions come from .txt files (cat/0.caption)",
        f"all 1 rejected are listed in {tmp_path / 'd.zip.rejects.jsonl'}",
    ]
    report = json.loads(command(capsys, photos, tmp_path / "e.zip", "--resolution", 16, "--json")[1])
    assert report["summary"] == lines[:3]
    assert report["not_used"]["file of no known kind"] == {"count": 1, "names": ["notes.md"]}


@pytest.mark.parametrize(("name", "kind"), [("d.zip", "zip"), ("shards", "shards")])
def test_a_second_one_to_the_same_target_is_refused(photos, tmp_path, name, kind):
    source, second = (open_source(photos, resolution=16) for _ in range(2))
    samples = source.samples

    def meanwhile(indices=None):
        with pytest.raises(ValueError, match=f"{name} is being written by process .*: wait for it, or name"):
            write_dataset(second, tmp_path / name, format=kind, progress=False)
        yield from samples(indices)

    source.samples = meanwhile
    report = write_dataset(source, tmp_path / name, format=kind, progress=False)
    assert report.images == 10
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_a_killed_process_left_is_removed(photos, tmp_path):
    (tmp_path / ".d.zip.writing-0123abcd").write_text("half")
    (tmp_path / ".other.zip.writing-0123abcd").write_text("half")
    write_dataset(open_source(photos, resolution=16), tmp_path / "d.zip", progress=False)
    hidden = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("."))
    assert hidden == [".other.zip.writing-0123abcd"]
