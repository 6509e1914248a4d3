"""`sgxl-t info` on shards and its sheet."""

import json

import pytest
from PIL import Image
from test_main import call
from tiny_shards import picture, sample, write_shards


@pytest.fixture
def shards(tmp_path):
    """Two shards of six: four PNG and a JPEG of other sizes, captions of two lengths, one broken picture."""

    def mixed(number):
        files = sample(number, similarity=0.3)
        if number % 3 == 1:
            del files["png"]
            files = {"jpg": picture(number, (40, 60), "jpeg"), **files, "txt": b"a much longer caption"}
        return {**files, "png": b""} if number == 5 else files

    return write_shards(tmp_path / "s", shards=2, of=mixed)


def test_shards_are_counted_and_measured(capsys, shards):
    code, out, _ = call(capsys, "info", str(shards), "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["holds"], found["shards"], found["samples"], found["examined"]) == ("data set", 2, 12, 12)
    assert (found["usable"], found["rejected"]) == (11, {"no readable picture": 1})
    assert found["formats"] == {"PNG": 7, "JPEG": 4}
    assert found["width"] == {"min": 20, "median": 20, "max": 40}
    assert found["height"]["max"] == 60
    assert found["caption_characters"] == {"min": 8, "median": 8, "max": 21}
    assert found["json_fields"] == ["caption", "height", "key", "similarity", "width"]
    lines = call(capsys, "info", str(shards))[1]
    assert "rejected.no readable picture 1" in " ".join(lines.split())


def test_fewer_samples_are_examined_evenly(capsys, shards):
    found = json.loads(call(capsys, "info", str(shards), "--examine", "4", "--json")[1])
    assert (found["samples"], found["examined"], found["usable"]) == (12, 4, 4)
    assert found["formats"] == {"PNG": 4}


def test_subsets_of_a_list(capsys, shards):
    (shards.parent / "mix.txt").write_text("3 s/00000.tar\n1 s/00001.tar\n")
    found = json.loads(call(capsys, "info", str(shards.parent / "mix.txt"), "--json")[1])
    assert [(one["shards"], one["weight"]) for one in found["subsets"]] == [(1, 3.0), (1, 1.0)]
    lines = call(capsys, "info", str(shards.parent / "mix.txt"))[1]
    assert "2: name=s/00000.tar shards=1 weight=3.0, name=s/00001.tar" in lines


def test_a_command_is_not_counted_to_its_end(capsys, shards):
    found = json.loads(call(capsys, "info", f"pipe:cat {shards}/00000.tar", "--json")[1])
    assert (found["samples"], found["shards_behind_urls"], found["usable"]) == (None, 1, 5)


def test_sheets(capsys, shards, tmp_path):
    for number, data in enumerate((str(shards), "digits")):
        sheet = tmp_path / f"{number}.png"
        assert call(capsys, "info", data, "--sheet", str(sheet))[0] == 0
        with Image.open(sheet) as picture:
            assert picture.width > 8 * 128
            assert len(picture.getcolors(2**20) or range(99)) > 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "s"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["DATA", "--examine", "0"], "examine"),
        (["RUN", "--sheet", "x.png"], "holds a run"),
        (["pipe:exit 3"], "hold no sample"),
        (["http://127.0.0.1:9/{0..3}.tar"], "hold no sample"),
    ],
)
def test_mistakes_are_one_sentence(capsys, shards, tmp_path, arguments, message):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("cond: text\n")
    places = {"DATA": str(shards), "RUN": str(tmp_path / "run")}
    code, out, err = call(capsys, "info", *(places.get(word, word) for word in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
