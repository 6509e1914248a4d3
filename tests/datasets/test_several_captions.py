"""Pictures with several captions: all are read and stored, and training draws one each time."""

import hashlib
import itertools
import json
import zipfile

import pandas as pd
import pytest
import torch
from PIL import Image

from sgxl_t.datasets import BatchOptions, batches, open_source
from sgxl_t.datasets.prepare import write_dataset
from sgxl_t.datasets.shards.source import ShardOptions

COUNT, EACH = 6, 5
NAMES = [f"p{index}.png" for index in range(COUNT)]


def texts_of(index, each=EACH):
    return tuple(f"caption {number} of {index}" for number in range(each))


def coco_of(captions):
    """COCO's table of lists of captions, its annotations shuffled, each picture's ids in their order."""
    notes = [
        {"id": 100 * number + index, "image_id": index, "caption": text}
        for index, texts in enumerate(captions)
        for number, text in enumerate(texts)
    ]
    return {
        "images": [{"id": index, "file_name": name} for index, name in enumerate(NAMES)],
        "annotations": notes[::-1],
    }


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "data"
    place.mkdir()
    for index, name in enumerate(NAMES):
        Image.new("RGB", (16, 16), (20 * index, 10, 10)).save(place / name)
    return place


@pytest.fixture
def coco(folder):
    """The pictures with five captions each, opened with a COCO file."""
    file = folder.parent / "captions.json"
    file.write_text(json.dumps(coco_of([texts_of(index) for index in range(COUNT)])))
    return open_source(folder, resolution=16, captions=file)


def captions_of(source):
    return [sample.captions for sample in source.samples()]


def drawn(source, count, *, images_seen=0, **options):
    """Captions of the next batches of three."""
    options = BatchOptions(**{"batch_size": 3, "seed": 1} | options)
    taken = itertools.islice(batches(source, options, images_seen=images_seen), count)
    return [text for batch in taken for text in batch.captions]


def with_rows(folder, rows):
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_source(folder, resolution=16, reject_limit=0.5)


# reading


def test_coco_keeps_all_captions_in_the_order_of_their_ids(coco):
    assert captions_of(coco) == [texts_of(index) for index in range(COUNT)]
    assert coco[2].caption == "caption 0 of 2"
    assert coco[2].captions == texts_of(2)


def test_rows_and_lists_of_a_table_add_up_without_duplicates(folder):
    rows = [{"file_name": name, "text": "first"} for name in NAMES]
    rows += [{"file_name": NAMES[1], "text": ["second", " first\n", "third"]}]
    rows += [{"file_name": NAMES[2], "text": "first"}]
    found = captions_of(with_rows(folder, rows))
    assert found[1] == ("first", "second", "third")
    assert found[2] == ("first",)


def test_lists_in_parquet(folder):
    table = pd.DataFrame({"file_name": NAMES, "caption": [list(texts_of(i, 2)) for i in range(COUNT)]})
    table.to_parquet(folder / "metadata.parquet")
    assert captions_of(open_source(folder, resolution=16))[4] == texts_of(4, 2)


def test_a_picture_is_rejected_only_when_all_of_its_captions_are_bad(folder):
    rows = [{"file_name": name, "text": "good"} for name in NAMES[2:]]
    rows += [{"file_name": NAMES[0], "text": ["", "good"]}, {"file_name": NAMES[0], "text": 7}]
    rows += [{"file_name": NAMES[1], "text": [" ", 7]}]
    source = with_rows(folder, rows)
    assert captions_of(source) == [("good",)] * (COUNT - 1)
    assert source.rejects.items == [(NAMES[1], "caption is empty", "")]
    assert source.rejects.notes == {
        "caption is empty, and its picture has others": 1,
        "caption is no text, and its picture has others": 1,
    }


def test_captions_beyond_the_bound_are_counted(folder, monkeypatch):
    monkeypatch.setattr("sgxl_t.datasets.images.annotations.MAX_CAPTIONS", 3)
    source = with_rows(folder, [{"file_name": name, "text": texts_of(0)} for name in NAMES])
    assert captions_of(source)[0] == texts_of(0, 3)
    assert source.rejects.notes["caption beyond the first 3 of its picture left out"] == 2 * COUNT


@pytest.mark.parametrize("key", ["labels", "captions"])
def test_dataset_json_takes_strings_and_lists_of_strings(folder, key):
    values = ["one", ["one", "two"], ["a"], "b", "c", ["d", "d"]]
    table = {"labels": [[name, [0.0, 1.0]] for name in NAMES]} if key == "captions" else {}
    table[key] = [list(row) for row in zip(NAMES, values, strict=True)]
    (folder / "dataset.json").write_text(json.dumps(table))
    source = open_source(folder, resolution=16)
    assert captions_of(source) == [("one",), ("one", "two"), ("a",), ("b",), ("c",), ("d",)]
    assert source[0].label == (1 if key == "captions" else None)


# preparing


@pytest.mark.parametrize("labelled", [False, True])
def test_a_zip_stores_all_captions(coco, folder, labelled):
    if labelled:
        for index, name in enumerate(NAMES):
            (folder / "ab"[index % 2]).mkdir(exist_ok=True)
            (folder / name).rename(folder / "ab"[index % 2] / name)
        table = coco_of([texts_of(index) for index in range(COUNT)])
        for image in table["images"]:
            image["file_name"] = f"{'ab'[image['id'] % 2]}/{image['file_name']}"
        (folder.parent / "captions.json").write_text(json.dumps(table))
        coco = open_source(folder, resolution=16, captions=folder.parent / "captions.json")
    write_dataset(coco, folder.parent / "d.zip", progress=False)
    stored = open_source(folder.parent / "d.zip", resolution=16)
    assert captions_of(stored) == captions_of(coco)
    assert sorted(captions_of(stored)) == [texts_of(index) for index in range(COUNT)]
    assert stored.num_classes == (2 if labelled else 0)


def test_single_captions_are_stored_as_strings(folder):
    rows = [{"file_name": name, "text": ["one", "two"] if name == NAMES[1] else "one"} for name in NAMES]
    write_dataset(with_rows(folder, rows), folder.parent / "d.zip", progress=False)
    with zipfile.ZipFile(folder.parent / "d.zip") as archive:
        table = json.loads(archive.read("dataset.json"))
    assert [value for _, value in table["labels"]] == ["one", ["one", "two"], *["one"] * 4]


def test_shards_store_all_captions_for_one_field(folder):
    rows = [{"file_name": name, "text": "one" if name == NAMES[3] else ["one", "two"]} for name in NAMES]
    write_dataset(with_rows(folder, rows), folder.parent / "shards", format="shards", progress=False)
    plain = open_source(folder.parent / "shards", resolution=16)
    stream = plain.stream(seed=0, part=0, parts=1)
    assert {next(stream)[1].caption for _ in range(40)} == {"one"}
    options = ShardOptions(caption_fields=("captions",))
    several = open_source(folder.parent / "shards", resolution=16, shards=options)
    stream = several.stream(seed=0, part=0, parts=1)
    assert {next(stream)[1].caption for _ in range(40)} == {"one", "two"}
    assert not several.rejects.by_reason()
    for source, name in ((plain, "a.zip"), (several, "b.zip")):
        write_dataset(source, folder.parent / name, progress=False)
        found = captions_of(open_source(folder.parent / name, resolution=16))
        assert found == [("one",) if index == 3 else ("one", "two") for index in range(COUNT)]


# drawing


def test_each_caption_is_drawn_about_as_often(coco):
    seen = drawn(coco, 600)
    assert set(seen) == {text for index in range(COUNT) for text in texts_of(index)}
    counts = [sum(f"caption {number} " in text for text in seen) for number in range(EACH)]
    assert min(counts) > 290  # 360 expected, standard deviation 17
    epochs = [tuple(sorted(seen[start : start + COUNT])) for start in range(0, 60, COUNT)]
    assert len(set(epochs)) > 8


def test_captions_fit_their_pictures(coco):
    for batch in itertools.islice(batches(coco, BatchOptions(batch_size=3, seed=0)), 8):
        for image, text in zip(batch.images, batch.captions, strict=True):
            assert text in texts_of(int(image[0, 0, 0]) // 20)


def test_draws_repeat_after_resume_with_workers_and_over_ranks(coco):
    whole = drawn(coco, 20)
    assert whole != drawn(coco, 20, seed=2)
    assert drawn(coco, 13, images_seen=21) == whole[21:]
    assert drawn(coco, 20, num_workers=2) == whole
    assert drawn(coco, 10, batch_size=6) == whole
    ranks = [drawn(coco, 10, rank=rank, world_size=2) for rank in range(2)]
    steps = [ranks[step % 2][3 * (step // 2) : 3 * (step // 2) + 3] for step in range(20)]
    assert list(itertools.chain(*steps)) == whole


def test_mirrored_pictures_have_all_captions_too(folder, coco):
    file = folder.parent / "captions.json"
    doubled = open_source(folder, resolution=16, captions=file, mirror=True)
    assert doubled[COUNT + 1].captions == texts_of(1)


# sets of one caption each


def test_sets_of_one_caption_are_what_they_were(folder):
    rows = [{"file_name": name, "text": f"caption of {name}"} for name in NAMES]
    source = with_rows(folder, rows)
    digest = hashlib.sha256()
    for batch in itertools.islice(
        batches(source, BatchOptions(batch_size=4, seed=5, caption_dropout=0.3)), 6
    ):
        digest.update(batch.images.numpy().tobytes() + json.dumps(batch.captions).encode())
    assert digest.hexdigest()[:16] == "e3513a0776c9c77d"
    write_dataset(source, folder.parent / "d.zip", progress=False)
    with zipfile.ZipFile(folder.parent / "d.zip") as archive:
        assert hashlib.sha256(archive.read("dataset.json")).hexdigest()[:16] == "0d650907ce67a118"


def test_the_fingerprint_tells_further_captions_apart(folder):
    found = set()
    for more in ([], ["two"], ["two", "three"], ["three", "two"]):
        rows = [{"file_name": name, "text": ["one", *more]} for name in NAMES]
        found.add(with_rows(folder, rows).fingerprint())
    assert len(found) == 4


def test_pictures_are_the_same_with_one_caption_and_with_several(folder, coco):
    single = with_rows(folder, [{"file_name": name, "text": "one"} for name in NAMES])
    pairs = zip(
        batches(single, BatchOptions(batch_size=4, seed=0)),
        batches(coco, BatchOptions(batch_size=4, seed=0)),
        strict=True,
    )
    for one, several in itertools.islice(pairs, 5):
        assert torch.equal(one.images, several.images)
