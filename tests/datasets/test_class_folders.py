"""Which folders are classes and which are splits, and what is said where they are none."""

import os

import pytest
from layouts import labels, look, opened, picture, pictures, unused, write_folder


def classes(count, *folders):
    """Files of `count` pictures in each folder."""
    return pictures(*(f"{folder}/{number}.png" for folder in folders for number in range(count)))


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["cat", "dog"], ("cat", "dog")),
        (["images/cat", "images/dog"], ("cat", "dog")),
        (["a/b/c/cat", "a/b/c/dog"], ("cat", "dog")),
        (["cat/young", "cat/old", "dog"], ("cat", "dog")),
        (["00000", "dog"], ("00000", "dog")),
        (["0", "1", "10"], ("0", "1", "10")),
        (["train/cat", "train/dog"], ("cat", "dog")),
        (["set/Train/cat", "set/Train/dog", "set/val/cat"], ("cat", "dog")),
        (["train/images/cat", "train/images/dog", "test/images/cat"], ("cat", "dog")),
        (["train/cat", "train/dog", "test/cat", "extra"], ("cat", "dog")),
    ],
)
def test_class_folders_at_any_depth(tmp_path, folders, names):
    source = look(classes(2, *folders), tmp_path)
    assert source.class_names == names
    assert all(f"/{label}/" in f"/{name}" for name, label in labels(source).items())
    assert not source.rejects


@pytest.mark.parametrize(
    ("folders", "refusal"),
    [
        (["cat"], "all pictures lie in the one folder cat, and one class is not enough"),
        (["images/cat"], "the one folder images/cat"),
        (["00001", "10203"], r"folders named by five digits \(00001, 10203\) only divide files.* c00001"),
        (["train", "cars", "buses"], "train is called like a split and stands beside 2 others"),
        (["train", "test"], "all pictures lie in the one folder train"),
    ],
)
def test_a_refusal_names_the_rule_that_dropped_the_labels(tmp_path, folders, refusal):
    source = look(classes(3, *folders), tmp_path)
    assert source.class_names is None
    with pytest.raises(ValueError, match=refusal):
        source.require(labels=True)
    assert ("folder that counts as no class" in unused(source)) == (
        folders[0] in ("00001", "train") and folders[-1] != "test"
    )


def test_archives_divide_their_files_and_nothing_is_lost(tmp_path):
    source = look(classes(3, "00000", "00001"), tmp_path)
    assert (source.class_names, source.rejects.summary()) == (None, [])


@pytest.mark.parametrize(("each", "strays"), [(1, 1), (60, 1), (60, 12)])
def test_a_few_pictures_beside_class_folders_are_rejected(tmp_path, each, strays):
    files = classes(each, "cat", "dog") | pictures(*(f"cover{number}.png" for number in range(strays)))
    source = look(files, tmp_path)
    assert source.class_names == ("cat", "dog")
    assert source.rejects.by_reason() == {"in no class folder": strays}
    assert len(source) == 2 * each


def test_many_pictures_beside_folders_make_these_no_classes(tmp_path):
    source = look(classes(5, "new", "old") | pictures("0.png", "1.png", "2.png"), tmp_path)
    assert (len(source), source.class_names, len(source.rejects)) == (13, None, 0)
    assert unused(source) == {"folder that counts as no class": 2}
    with pytest.raises(ValueError, match="3 of 13 pictures lie beside the folders new, old"):
        source.require(labels=True)


def test_what_lies_beside_and_below_class_folders_is_named(tmp_path):
    files = classes(2, "cat/young", "cat/old", "dog") | {"owl/0.heic": "x", "docs/README.md": "x"}
    source = look(files, tmp_path)
    assert {reason: what.names for reason, what in source.rejects.unused.items()} == {
        "file of no known kind": ["docs/README.md"],
        "picture of a format that is not read": ["owl/0.heic"],
        "folder within a class folder, which makes no class of its own": ["cat/old", "cat/young"],
        "folder without pictures beside the class folders": ["docs", "owl"],
    }


# Splits


@pytest.mark.parametrize("around", ["", "set/"])
def test_splits_of_folders_and_zips(tmp_path, around):
    files = classes(2, f"{around}train") | classes(3, f"{around}test") | classes(4, f"{around}val")
    files |= {f"{around}metadata.csv": "file_name,text\ntrain/0.png,a\ntrain/1.png,b\ntest/0.png,c\n"}
    counts = {}
    for split in ("train", "test", "val"):
        (tmp_path / split).mkdir()
        source = look(files, tmp_path / split, split=split, reject_limit=1.0) if split != "val" else None
        if source is not None:
            counts[split] = [entry.caption for entry in source.entries]
            assert unused(source)["picture of the split val"] == 4
    assert counts == {"train": ["a", "b"], "test": ["c"]}
    del files[f"{around}metadata.csv"]
    assert len(look(files, tmp_path, split="val")) == 4
    with pytest.raises(ValueError, match="no split 'held_out': use one that it has, test, train, val"):
        look(files, tmp_path, split="held_out")


def test_a_split_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no split 'test': make a folder test/"):
        look(classes(2, "cat", "dog"), tmp_path, split="test")
    with pytest.raises(ValueError, match="there is no split 'unseen': use train, test, held_out"):
        look(classes(2, "cat", "dog"), tmp_path, split="unseen")


def test_pictures_outside_of_splits_are_counted(tmp_path):
    source = look(classes(2, "train", "test", "extra") | pictures("cover.png"), tmp_path)
    assert [entry.name for entry in source.entries] == ["train/0.png", "train/1.png"]
    assert unused(source) == {"picture outside of the splits": 3, "picture of the split test": 2}


# Links and what is no file


def test_a_class_folder_may_be_a_link(tmp_path):
    write_folder(classes(3, "dog", "owl"), tmp_path / "set")
    write_folder(classes(3, "cat/in"), tmp_path / "far")
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "far" / "cat")
    source = opened(tmp_path / "set")
    assert (source.class_names, len(source)) == (("cat", "dog", "owl"), 9)
    assert list(source.samples())


def test_links_in_circles_end_and_are_named(tmp_path):
    folder = write_folder(classes(2, "cat", "dog"), tmp_path / "set")
    (folder / "cat" / "up").symlink_to(folder)
    (folder / "dog" / "again").symlink_to(folder / "cat")
    (folder / "out").symlink_to(tmp_path)
    (folder / "self").symlink_to("self")
    (folder / "gone").symlink_to(tmp_path / "nothing")
    source = opened(folder)
    assert (source.class_names, len(source)) == (("cat", "dog"), 4)
    assert {reason: what.names for reason, what in source.rejects.unused.items()} == {
        "link to nothing": ["gone", "self"],
        "link to a folder that is read already": ["cat/up", "dog/again"],
        "link to a folder that holds the data set": ["out"],
    }


def test_links_to_each_others_folders_are_read_once(tmp_path):
    folder = write_folder(classes(1, *"abcdefgh"), tmp_path / "set")
    for one in "abcdefgh":
        for other in "abcdefgh":
            (folder / one / f"to_{other}").symlink_to(folder / other)
    assert len(opened(folder)) == 8


def test_pipes_are_not_waited_for(tmp_path):
    folder = write_folder(pictures("0.png", "1.png"), tmp_path / "set")
    for name in ("x.png", "1.txt", "metadata.csv", "dataset.json", "fifo"):
        os.mkfifo(folder / name)
    (folder / "linked.png").symlink_to("x.png")
    (folder / "gone.png").symlink_to("nothing.png")
    source = opened(folder)
    assert len(list(source.samples())) == 2
    assert sorted((name, reason) for name, reason, _ in source.rejects.items) == [
        ("gone.png", "link to nothing"),
        ("linked.png", "no regular file"),
        ("x.png", "no regular file"),
    ]
    assert unused(source) == {"no regular file": 4}
    os.mkfifo(tmp_path / "captions.csv")
    with pytest.raises(ValueError, match="a named pipe"):
        opened(folder, captions=tmp_path / "captions.csv")


def test_a_picture_that_becomes_a_pipe_is_not_waited_for(tmp_path):
    folder = write_folder(pictures("0.png", "1.png"), tmp_path / "set")
    source = opened(folder)
    (folder / "0.png").unlink()
    os.mkfifo(folder / "0.png")
    assert len(list(source.samples())) == 1
    assert source.rejects.by_reason() == {"cannot be read": 1}


def test_empty_folders_are_named(tmp_path):
    folder = write_folder(classes(2, "cat", "dog") | {"owl/.DS_Store": b""}, tmp_path / "set")
    (folder / "fox").mkdir()
    assert opened(folder).rejects.unused["empty folder"].names == ["fox", "owl"]


def test_links_inside_zips_are_named(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name in ("dog/0.png", "owl/0.png"):
            archive.writestr(name, picture())
        link = zipfile.ZipInfo("cat")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "../far/cat")
        archive.mkdir("fox")
    source = opened(tmp_path / "d.zip")
    assert unused(source) == {"link in an archive": 1, "empty folder": 1}
