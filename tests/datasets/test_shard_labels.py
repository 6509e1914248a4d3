"""Labels and captions of shards, wherever tools put them; what is found and not used is counted and named."""

import json
import tarfile
from itertools import islice

import numpy as np
import pytest
from tiny_shards import picture, sample, write_shards, write_tar

from sgxl_t.datasets import open_source
from sgxl_t.datasets.decode import Bounds
from sgxl_t.datasets.shards import look as looking
from sgxl_t.datasets.shards.labels import label_in
from sgxl_t.datasets.shards.look import look_at


def opened(place, **options):
    return open_source(place, resolution=16, **options)


def labelled(label, ending="cls"):
    """Samples of a picture and a label, a function of the number."""
    return lambda n: {ending: str(label(n)).encode(), "jpg": picture(n, kind="jpeg")}


def in_json(field):
    return lambda n: {"jpg": picture(n, kind="jpeg"), "json": json.dumps(field(n)).encode()}


def labels_of(source):
    return [one.label for one in source.samples()]


NAMES = ["cat", "dog", "emu"]
LAYOUTS = {
    "numbers": (labelled(lambda n: n % 3), ("0", "1", "2"), lambda n: n % 3),
    "numbers with a line end": (labelled(lambda n: f"{n % 3}\n"), ("0", "1", "2"), lambda n: n % 3),
    "names": (labelled(lambda n: NAMES[n % 3]), tuple(NAMES), lambda n: n % 3),
    "another ending": (labelled(lambda n: n % 3, "label"), ("0", "1", "2"), lambda n: n % 3),
    "numbers in the json": (in_json(lambda n: {"label": n % 3}), ("0", "1", "2"), lambda n: n % 3),
    "cls in the json": (in_json(lambda n: {"cls": str(n % 3)}), ("0", "1", "2"), lambda n: n % 3),
    "names in the json": (in_json(lambda n: {"class_name": NAMES[n % 3]}), tuple(NAMES), lambda n: n % 3),
    "one-hot": (in_json(lambda n: {"label": np.eye(3)[n % 3].tolist()}), ("0", "1", "2"), lambda n: n % 3),
    "gaps": (labelled(lambda n: 2 * (n % 2)), ("0", "1", "2"), lambda n: 2 * (n % 2)),
    "wordnet": (labelled(lambda n: ["n02099601", "n01440764"][n % 2]), ("tench", "golden retriever"), None),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_are_classes_without_a_class_file(tmp_path, layout):
    of, names, label = LAYOUTS[layout]
    source = opened(write_shards(tmp_path, shards=2, of=of))
    assert [name.split(",")[0] for name in source.class_names] == list(names)
    assert labels_of(source) == [(label or (lambda n: 1 - n % 2))(n) for n in range(12)]
    streamed = islice(source.stream(seed=0, part=0, parts=1), 60)
    assert {one.label for _, one in streamed} == set(labels_of(source))
    assert source.classes.origin.startswith("counted in all 12 samples")
    assert not source.rejects.summary()
    source.require(labels=True)


CLASS_FILES = {
    "classes.json": '{"class_names": ["cat", "dog", "emu"]}',
    "classnames.txt": "cat\ndog\nemu\n",
    "classes.txt": "\ufeffcat\r\ndog\r\nemu",
    "dataset_info.json": '{"features": {"cls": {"names": ["cat", "dog", "emu"], "_type": "ClassLabel"}}}',
    "dataset_infos.json": '{"default": {"features": {"label": {"names": ["cat", "dog", "emu"]}}}}',
}


@pytest.mark.parametrize("name", CLASS_FILES)
@pytest.mark.parametrize("place", ["beside", "above", "list"])
def test_class_files_name_the_classes(tmp_path, name, place):
    write_shards(tmp_path / "train", shards=1, of=labelled(lambda n: n % 2))
    folder = tmp_path / "train" if place == "beside" else tmp_path
    (folder / name).write_text(CLASS_FILES[name])
    (tmp_path / "mix.txt").write_text("train\n")
    source = opened(tmp_path / "mix.txt" if place == "list" else tmp_path / "train")
    assert source.class_names == ("cat", "dog", "emu")
    assert labels_of(source) == [0, 1] * 3
    assert source.classes.origin == str(folder / name)


@pytest.mark.parametrize("text", ['["cat", "dog"]', '{"cat": 0, "dog": 1}', '{"0": "cat", "1": "dog"}'])
def test_forms_of_classes_json(tmp_path, text):
    write_shards(tmp_path, shards=1, of=labelled(lambda n: ["dog", "cat"][n % 2]))
    (tmp_path / "classes.json").write_text(text)
    source = opened(tmp_path)
    assert source.class_names == ("cat", "dog")
    assert labels_of(source) == [1, 0] * 3


@pytest.mark.parametrize(
    "text", ["[", "3", '{"cat": 7}', '{"class_names": [[]]}', '{"cat": "x"}', "[" * 9999]
)
def test_class_files_that_are_none(tmp_path, text):
    write_shards(tmp_path, shards=1, of=labelled(lambda n: n % 2))
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(ValueError, match=r"classes\.json"):
        opened(tmp_path)


def test_folders_that_name_their_classes_otherwise(tmp_path):
    for folder, names in (("a", ["cat", "dog"]), ("b", ["dog", "cat"])):
        write_shards(tmp_path / folder, shards=1, of=labelled(lambda n: n % 2))
        (tmp_path / folder / "classes.json").write_text(json.dumps(names))
    (tmp_path / "mix.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"a/classes\.json and .*b/classes\.json name other classes"):
        opened(tmp_path / "mix.txt")


@pytest.mark.parametrize("bad", ["9" * 5000, "-1", "100000", "7", "cat", "\udcff", "", "nan"])
def test_one_label_that_is_none_costs_its_sample_alone(tmp_path, bad):
    def of(n):
        text = bad if n == 13 else str(n % 2)
        return {"cls": text.encode("utf-8", "surrogateescape"), "jpg": picture(n, kind="jpeg")}

    write_shards(tmp_path, of=of)
    (tmp_path / "classes.json").write_text('["a", "b"]')
    source = opened(tmp_path)
    assert len(labels_of(source)) == 23
    assert set(source.rejects.by_reason()) <= {"label is no class", "no label"}
    (tmp_path / "classes.json").unlink()
    source = opened(tmp_path)
    assert len(labels_of(source)) == (24 if bad == "7" else 23)


# Where there are no classes, the reason is told


def refusal(source):
    with pytest.raises(ValueError, match="class labels") as caught:
        source.require(labels=True)
    return str(caught.value)


def test_shards_without_labels_say_where_labels_belong(tmp_path):
    source = opened(write_shards(tmp_path, of=lambda n: {"png": picture(n), "txt": b"x"}))
    assert "the first samples hold png, txt and no label" in refusal(source)
    assert "NAME.cls" in refusal(source)
    (tmp_path / "classes.json").write_text('["a", "b"]')
    source = opened(tmp_path)
    assert source.class_names is None
    assert "class file of shards without labels" in "\n".join(source.rejects.summary())


def test_texts_that_differ_everywhere_are_no_classes(tmp_path, monkeypatch):
    monkeypatch.setattr("sgxl_t.datasets.shards.labels.FREE_TEXTS", 20)
    source = opened(write_shards(tmp_path, of=labelled(lambda n: f"a fox number {n}")))
    assert source.class_names is None
    assert "24 of 24 labels are different texts and no classes" in refusal(source)
    assert any(
        line.startswith("not used: 6 x label of the first samples") for line in source.rejects.summary()
    )


def test_labels_of_some_captioned_samples_are_named_and_not_used(tmp_path):
    source = opened(write_shards(tmp_path, of=lambda n: sample(n, **({"label": 1} if n % 2 else {}))))
    assert len(list(source.samples())) == 24
    assert "12 of 24 samples have no label" in refusal(source)


def test_shards_out_of_sight_need_a_class_file(tmp_path):
    write_shards(tmp_path, shards=1, of=labelled(lambda n: n % 2))
    source = opened(f"pipe:cat {tmp_path}/00000.tar")
    assert "put classes.json" in refusal(source)
    assert "beside a .txt list" in refusal(source)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mix.txt").write_text(f"pipe:cat {tmp_path}/00000.tar\n")
    (tmp_path / "x" / "classnames.txt").write_text("a\nb\n")
    from sgxl_t.datasets.shards.discover import Consent
    from sgxl_t.datasets.shards.source import ShardOptions

    listed = opened(tmp_path / "x" / "mix.txt", shards=ShardOptions(consent=Consent(allow_pipe=True)))
    assert labels_of(listed) == [0, 1] * 3


# The survey of large sets


@pytest.mark.parametrize("order", ["mixed", "sorted"])
def test_a_survey_sees_the_classes_of_mixed_and_of_sorted_shards(tmp_path, monkeypatch, order):
    monkeypatch.setattr(looking, "COUNTED", 50)
    monkeypatch.setattr(looking, "SURVEYED", 400)
    monkeypatch.setattr(looking, "ESTIMATE", 10)
    write_shards(
        tmp_path, shards=4, samples=150, of=labelled(lambda n: n % 10 if order == "mixed" else n // 60)
    )
    shards = sorted(map(str, tmp_path.glob("*.tar")))
    seen = look_at(shards, Bounds(), label_in, labelled=True)
    assert not seen.whole
    assert seen.samples < 500
    assert set(seen.labels) == set(range(10))
    assert seen.samples == seen.labels.total(), "the rest of a cut sample counts as none"
    source = opened(tmp_path)
    assert source.class_names == tuple(map(str, range(10)))
    assert source.classes.origin == f"counted in a survey of {seen.samples} samples from 4 of 4 shards"


# Captions elsewhere, and files that are not used


@pytest.mark.parametrize(
    "files",
    [
        {"caption": b"a fox"},
        {"text": b"a fox"},
        {"json": b'{"prompt": "a fox"}'},
        {"json": b'{"TEXT": "a fox", "url": "http://x"}'},
        {"json": b'{"caption": ["a fox", "a fox"]}'},
        {"json": b'{"captions": ["a fox"], "width": 3}'},
    ],
)
def test_captions_are_found_where_people_keep_them(tmp_path, files):
    source = opened(write_shards(tmp_path, of=lambda n: {"png": picture(n), **files}))
    assert {one.caption for one in source.samples()} == {"a fox"}
    assert not source.rejects.summary()


def test_captions_that_are_not_taken_are_named(tmp_path):
    def of(n):
        return {**sample(n, alt_text="another", caption=f"sample {n}"), "caption": b"a third"}

    lines = opened(write_shards(tmp_path, shards=1, of=of)).rejects.summary()
    assert lines == [
        f"not used: 6 x caption of the first samples in the {where}, which data.caption_fields can name "
        "(00000.tar/000000000, 00000.tar/000000001, 00000.tar/000000002, ...)"
        for where in ("file ending .caption", "json field alt_text")
    ]


def plain(n):
    return sample(n, caption=f"sample {n}")


def test_what_no_rule_takes_is_counted_by_kind(tmp_path):
    files = [(f"{n}.{end}", data) for n in range(4) for end, data in plain(n).items()]
    files += [("9.png", picture(1)), ("9.txt", b"x"), ("9.jpg", picture(2, kind="jpeg")), ("9.npy", b"1")]
    files += [("README", b"x"), ("9.heic", b"x")]
    path = write_tar(tmp_path / "0.tar", files)
    with tarfile.open(path, "a") as tar:
        for kind, name in (
            (tarfile.SYMTYPE, "l.png"),
            (tarfile.LNKTYPE, "h.png"),
            (tarfile.FIFOTYPE, "f.png"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
    source = opened(path)
    assert len(list(source.samples())) == 5
    assert source.rejects.summary() == [
        "not used: 1 x further picture of a sample (0.tar/9.jpg)",
        "not used: 2 x file of no known kind (0.tar/9.npy, 0.tar/README)",
        "not used: 1 x picture of a format that is not read (0.tar/9.heic)",
        "not used: 2 x link in an archive (0.tar/l.png, 0.tar/h.png)",
        "not used: 1 x device in an archive (0.tar/f.png)",
    ]


def test_members_that_systems_leave_are_nobodys_data(tmp_path):
    files = [(f"{n}.{end}", data) for n in range(4) for end, data in plain(n).items()]
    for name in ("._0.png", "__MACOSX/._0.png", ".DS_Store", "Thumbs.db", "./._1.txt"):
        files.insert(2, (name, b"Mac OS X"))
    source = opened(write_tar(tmp_path / "0.tar", files), reject_limit=0.0)
    assert len(list(source.samples())) == 4
    assert not source.rejects.summary()


def test_only_the_first_picture_of_a_sample_is_held(tmp_path):
    """So that a sample of many pictures takes the memory of one."""
    from sgxl_t.datasets.rejects import Rejects
    from sgxl_t.datasets.shards.tar.samples import groups

    path = write_tar(tmp_path / "0.tar", [(f"a.{end}", picture(1)) for end in ("png", "jpg", "webp", "gif")])
    (group,) = groups(str(path), Bounds(), Rejects())
    assert [ending for ending, data in group.items() if isinstance(data, bytes)] == ["png"]
