"""Which shards a reference names, and how subsets are weighted."""

import pytest
from tiny_shards import write_shards

from sgxl_t.datasets import open_source
from sgxl_t.datasets.shards.discover import find_shards


def names(subsets):
    return [[shard.rsplit("/", 1)[-1] for shard in subset.shards] for subset in subsets]


@pytest.fixture
def place(tmp_path):
    """a/ with two shards, a/deep/ and b/ with one each."""
    for name, count in (("a", 2), ("a/deep", 1), ("b", 1)):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (tmp_path / name / f"{number:05d}.tar").touch()
    (tmp_path / "a" / ".hidden.tar").touch()
    return tmp_path


def test_folders_are_searched_whole(place):
    assert names(find_shards(str(place / "a"))) == [["00000.tar", "00001.tar", "00000.tar"]]


def test_patterns(place):
    assert names(find_shards(f"{place}/a/{{00000..00001}}.tar")) == [["00000.tar", "00001.tar"]]
    assert names(find_shards(f"{place}/*/0*.tar")) == [["00000.tar", "00001.tar", "00000.tar"]]
    assert len(find_shards("https://host/x/{000..099}.tar")[0].shards) == 100
    commands = find_shards("pipe:aws s3 cp s3://bucket/{0..2}.tar -")[0].shards
    assert commands[2] == "pipe:aws s3 cp s3://bucket/2.tar -"
    assert find_shards("digits") == []


def test_a_name_with_brackets_is_a_file_first(tmp_path):
    (tmp_path / "a[1].tar").touch()
    assert names(find_shards(f"{tmp_path}/a[1].tar")) == [["a[1].tar"]]


def test_lists_name_subsets_relative_to_themselves(place):
    (place / "mix.txt").write_text("# both\n\n2.5 a\n0.5  b/{00000..00000}.tar\n")
    subsets = find_shards(str(place / "mix.txt"))
    assert [subset.weight for subset in subsets] == [2.5, 0.5]
    assert [len(subset.shards) for subset in subsets] == [3, 1]
    (place / "plain.txt").write_text("a/00000.tar\nhttps://host/{0..1}.tar\n")
    assert [subset.weight for subset in find_shards(str(place / "plain.txt"))] == [None, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 a\nb\n", "1 of 2 lines a weight"),
        ("-1 a\n", "line 1: weight -1"),
        ("0 a\n0 b\n", "weight 0"),
        ("# nothing\n", "lists no shards"),
        ("c\n", "line 1: 'c' names no shards"),
        ("a/00007.tar\n", "1 of 1 shards do not exist"),
        ("nan a\n", "weight nan"),
    ],
)
def test_lists_that_mean_nothing(place, text, message):
    (place / "mix.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        find_shards(str(place / "mix.txt"))


def test_a_list_that_is_no_text(place):
    (place / "mix.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="not UTF-8"):
        find_shards(str(place / "mix.txt"))


def test_shards_still_being_written_are_left_out_folder_by_folder(place):
    (place / "a" / "00001_stats.json").write_text("{}")
    (place / "mix.txt").write_text("a\nb\n")
    assert names(find_shards(str(place / "mix.txt"))) == [["00001.tar", "00000.tar"], ["00000.tar"]]


def test_pipes_and_paths_give_the_same_pictures(tmp_path):
    write_shards(tmp_path, shards=2)
    by_path = open_source(f"{tmp_path}/{{00000..00001}}.tar", resolution=16)
    by_pipe = open_source(f"pipe:cat {tmp_path}/{{00000..00001}}.tar", resolution=16)
    assert [one.caption for one in by_pipe.samples()] == [one.caption for one in by_path.samples()]
    assert len(by_pipe) == len(by_path) == 12
    assert by_pipe[7].caption == by_path[7].caption


def test_an_order_for_weights(tmp_path):
    write_shards(tmp_path / "a", shards=1)
    (tmp_path / "mix.txt").write_text("1 a\n")
    from sgxl_t.datasets.shards.source import ShardOptions

    with pytest.raises(ValueError, match="take the weights out"):
        open_source(tmp_path / "mix.txt", resolution=16, shards=ShardOptions(order="epochs"))
    assert open_source(tmp_path / "mix.txt", resolution=16).order.resample


def test_settings_of_shards_are_refused_elsewhere():
    from sgxl_t.datasets.shards.source import ShardOptions

    assert len(open_source("digits", resolution=16, shards=ShardOptions())) > 100
    for options in (ShardOptions(filter="a > 1"), ShardOptions(order="epochs")):
        with pytest.raises(ValueError, match="only works with shards"):
            open_source("digits", resolution=16, shards=options)
