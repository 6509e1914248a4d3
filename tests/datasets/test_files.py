"""Folders, zips and shards: what is read from good ones and what becomes of bad ones."""

import io
import itertools
import json
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sgxl_t.datasets import BatchOptions, batches, open_source
from sgxl_t.datasets.decode import decode_image
from sgxl_t.datasets.rejects import RejectedItemError


def picture(colour=(200, 30, 30), size=(20, 20), mode="RGB"):
    return Image.new(mode, size, colour)


def encoded(image=None, kind="png", **options) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, kind, **options)
    return buffer.getvalue()


def png_header_only(width, height) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + head
        + struct.pack(">II", zlib.crc32(head), 9)
        + b"IDAT"
    )


@pytest.fixture
def folder(tmp_path):
    """Ten good pictures."""
    place = tmp_path / "data"
    place.mkdir()
    for index in range(10):
        picture((20 * index, 10, 10)).save(place / f"p{index}.png")
    return place


def reasons(source):
    return source.rejects.by_reason()


def source_of(place, **options):
    return open_source(place, **({"resolution": 16} | options))


# good data


def test_flat_folder(folder):
    source = source_of(folder)
    assert (len(source), source.class_names, source.has_captions) == (10, None, False)
    assert source[3].image[:, 0, 0].tolist() == [60, 10, 10]
    with pytest.raises(ValueError, match="no class labels"):
        source.require(labels=True)
    with pytest.raises(ValueError, match="no captions"):
        source.require(captions=True)


def test_class_folders_give_labels(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / "1.jpg")
    source = source_of(tmp_path)
    assert source.class_names == ("cat", "dog")
    assert [source[i].label for i in range(2)] == [0, 1]


def test_numbered_folders_are_no_classes(tmp_path):
    for name in ("00000", "00001"):
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / "1.png")
    assert source_of(tmp_path).class_names is None


def test_split_folders(tmp_path):
    for name, count in (("train", 3), ("val", 2)):
        (tmp_path / name).mkdir()
        for index in range(count):
            picture().save(tmp_path / name / f"{index}.png")
    assert len(source_of(tmp_path)) == 3
    assert len(source_of(tmp_path, split="test")) == 2
    with pytest.raises(ValueError, match="no split 'held_out'"):
        source_of(tmp_path, split="held_out")


def test_captions_beside_pictures(folder):
    for index in range(10):
        (folder / f"p{index}.txt").write_text(f"picture\nnumber {index}\n")
    assert source_of(folder)[4].caption == "picture number 4"


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_tables(folder, ending):
    rows = pd.DataFrame(
        {
            "file_name": [f"p{i}.png" for i in range(10)],
            "text": [f"a, {i}" for i in range(10)],
            "label": ["even", "odd"] * 5,
        }
    )
    path = folder / f"metadata.{ending}"
    if ending == "jsonl":
        rows.to_json(path, orient="records", lines=True)
    elif ending == "parquet":
        rows.to_parquet(path)
    else:
        rows.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    source = source_of(folder)
    assert source.class_names == ("even", "odd")
    assert (source[3].caption, source[3].label) == ("a, 3", 1)


def test_coco_captions(folder):
    table = {
        "images": [{"id": i, "file_name": f"p{i}.png"} for i in range(10)],
        "annotations": [{"id": 20 - i, "image_id": i % 10, "caption": f"note {i}"} for i in range(20)],
    }
    (folder.parent / "captions.json").write_text(json.dumps(table))
    source = source_of(folder, captions=folder.parent / "captions.json")
    assert source[3].caption == "note 13"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("labels", [[0, 2], [[1, 0, 0], [0, 0, 1]], ["a cat", "a dog"], None])
def test_stylegan_zips(tmp_path, compression, labels):
    names = ["00000/img00000000.png", "00000/img00000001.png"]
    with zipfile.ZipFile(tmp_path / "d.zip", "w", compression) as archive:
        for name in names:
            archive.writestr(name, encoded())
        rows = None if labels is None else [list(row) for row in zip(names, labels, strict=True)]
        archive.writestr("dataset.json", json.dumps({"labels": rows}))
    source = source_of(tmp_path / "d.zip")
    sample = source[1]
    if labels is None:
        assert (sample.label, sample.caption, source.num_classes) == (None, None, 0)
    elif isinstance(labels[0], str):
        assert (sample.label, sample.caption) == (None, "a dog")
    else:
        assert (sample.label, source.num_classes) == (2, 3)


def write_shards(place, shards=4, samples=6, broken=()):
    place.mkdir(exist_ok=True)
    for shard in range(shards):
        with tarfile.open(place / f"{shard:05d}.tar", "w") as tar:
            for index in range(samples):
                number = shard * samples + index
                kind = ("png", "jpeg", "webp")[number % 3]
                files = {
                    "jpg" if kind == "jpeg" else kind: encoded(picture((number * 5, 0, 0)), kind),
                    "txt": f"sample {number}".encode(),
                    "json": json.dumps({"label": number % 2}).encode(),
                }
                if number in broken:
                    files = {"jpg": b"broken", "txt": b"x"}
                for ending, data in files.items():
                    info = tarfile.TarInfo(f"{number:09d}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return place


def stream(source, count, part=0, parts=1, seed=0):
    samples = source.stream(seed=seed, part=part, parts=parts)
    return [sample for _, sample in itertools.islice(samples, count)]


def test_shards_by_index_and_by_stream(tmp_path):
    place = write_shards(tmp_path / "s")
    (place / "classes.json").write_text('{"class_names": ["even", "odd"]}')
    source = source_of(place)
    assert len(source) == 24
    assert (source[7].caption, source[7].label) == ("sample 7", 1)
    assert len(source_of(f"{place}/{{00000..00002}}.tar")) == 18
    batch = next(batches(source, BatchOptions(batch_size=5, seed=0)))
    assert batch.images.shape == (5, 3, 16, 16)
    assert len(batch.captions) == 5


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp", "gif", "tiff", "ppm", "tga"])
def test_formats(kind):
    image = decode_image(encoded(picture(), kind), 16)
    assert (image[:, 8, 8].int() - torch.tensor([200, 30, 30])).abs().max() < 6


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16", "I", "F", "RGBA", "YCbCr"])
def test_modes(mode):
    kind = "tiff" if mode in ("CMYK", "YCbCr", "F", "I") else "png"
    base = Image.linear_gradient("L").resize((24, 24))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(base).astype(np.uint16) * 257)
    else:
        image = base.convert(mode)
    out = decode_image(encoded(image, kind), 8)
    assert out[:, -1].float().mean() > out[:, 0].float().mean() + 100


def test_transparency_is_put_on_white():
    assert decode_image(encoded(picture((0, 0, 0, 0), mode="RGBA")), 16).min() == 255


def test_exif_orientation_is_respected():
    image = picture((0, 0, 0), (32, 32))
    image.paste((255, 255, 255), (0, 0, 32, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    out = decode_image(encoded(image, "jpeg", exif=exif.tobytes(), quality=95), 32)
    assert out[:, :, 28:].float().mean() > 240
    assert out[:, :, :20].float().mean() < 15


def test_centre_crop():
    image = picture((0, 0, 0), (60, 20))
    image.paste((255, 255, 255), (20, 0, 40, 20))
    assert decode_image(encoded(image), 16).min() > 250


# bad data


def test_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="holds no pictures"):
        source_of(tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"not a picture", "no readable picture"),
        (encoded(picture(size=(1, 1))), "too small"),
        (png_header_only(20_000, 20_000), "too many pixels"),
        (png_header_only(9_000, 9_000), "too many pixels"),
        (b"", "no readable picture"),
    ],
)
def test_one_bad_picture_is_skipped_counted_and_listed(folder, tmp_path, data, reason):
    (folder / "bad.png").write_bytes(data)
    source = source_of(folder)
    assert len(source) == 10
    assert reasons(source) == {reason: 1}
    source.rejects.write(tmp_path / "rejects.jsonl")
    assert json.loads((tmp_path / "rejects.jsonl").read_text())["name"] == "bad.png"


def test_a_picture_that_breaks_while_decoding_has_a_stand_in(folder, tmp_path):
    noise = np.random.RandomState(0).randint(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise))
    (folder / "p3.png").write_bytes(whole[: len(whole) // 2])
    source = source_of(folder)
    source.rejects.write(tmp_path / "rejects.jsonl")
    assert len(source) == 10
    assert torch.equal(source[3].image, source[4].image)
    assert len(list(source.samples())) == 9
    assert reasons(source) == {"cannot be decoded": 1}
    assert "p3.png" in (tmp_path / "rejects.jsonl").read_text()


def test_too_many_bad_pictures_stop(folder):
    for index in range(3):
        (folder / f"bad{index}.png").write_bytes(b"x")
    with pytest.raises(ValueError, match="3 of 13 items were rejected"):
        source_of(folder)
    assert len(source_of(folder, reject_limit=0.5)) == 10


def test_captions_without_pictures_and_the_reverse(folder):
    for index in range(9):
        (folder / f"p{index}.txt").write_text("a thing")
    (folder / "lost.txt").write_text("a thing")
    source = source_of(folder, reject_limit=0.5)
    assert len(source) == 9
    assert reasons(source) == {"no caption": 1}
    assert source.rejects.unused["text file without picture"].names == ["lost.txt"]


@pytest.mark.parametrize(
    ("data", "reason"), [(b"\xff\xfe\x00caf\xe9", "caption is not UTF-8"), (b" \n\t", "caption is empty")]
)
def test_bad_captions(folder, data, reason):
    for index in range(10):
        (folder / f"p{index}.txt").write_bytes(data if index == 2 else b"a thing")
    source = source_of(folder)
    assert len(source) == 9
    assert reasons(source) == {reason: 1}


def test_long_captions_are_cut_and_counted(folder):
    for index in range(10):
        (folder / f"p{index}.txt").write_text("word " * 2000 if index == 2 else "a thing")
    source = source_of(folder)
    assert len(source[2].caption) <= 1000
    assert source[2].caption.endswith("word")
    assert source.rejects.notes["caption cut at 1000 characters"] == 1


def test_table_rows_that_do_not_fit(folder):
    lines = [json.dumps({"file_name": f"p{i}.png", "text": "a thing"}).encode() for i in range(10)]
    lines += [b'{"file_name": "../up.png", "text": "a"}', b'{"file_name": "p', b'{"text": "\xff"}', b"[1]"]
    lines += [b'{"file_name": "gone.png", "text": "a"}']
    (folder / "metadata.jsonl").write_bytes(b"\n".join(lines))
    source = source_of(folder, reject_limit=0.5)
    assert len(source) == 10
    assert reasons(source) == {
        "path leaves the data set": 1,
        "line is no JSON": 1,
        "caption is not UTF-8": 1,
        "line is no JSON object": 1,
        "annotation without picture": 1,
    }


def test_table_without_file_names(folder):
    (folder / "metadata.csv").write_text("a,b\n1,2\n")
    source = source_of(folder)
    assert source.rejects.unused["table without a column of file names"].names == ["metadata.csv: a, b"]
    with pytest.raises(ValueError, match="gives no captions: table without a column of file names"):
        source_of(folder, captions=folder / "metadata.csv")


def test_missing_labels_are_rejected(folder):
    rows = [[f"p{i}.png", i % 2] for i in range(9)]
    (folder / "dataset.json").write_text(json.dumps({"labels": rows}))
    source = source_of(folder)
    assert (len(source), source.num_classes) == (9, 2)
    assert reasons(source) == {"no label": 1}


def good_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(20):
            archive.writestr(f"{index}.png", encoded())
    return path


def test_truncated_zip(tmp_path):
    path = good_zip(tmp_path / "d.zip")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a complete zip"):
        source_of(path)


@pytest.mark.parametrize("name", ["../up.png", "/etc/x.png", "a/../../x.png", "..\\up.png", "C:/x.png"])
def test_zip_with_paths_that_leave_it(tmp_path, name):
    with zipfile.ZipFile(good_zip(tmp_path / "d.zip"), "a") as archive:
        archive.writestr(name, encoded())
    with pytest.raises(ValueError, match="leaves the archive"):
        source_of(tmp_path / "d.zip")


def test_zip_that_unpacks_to_far_too_much(tmp_path):
    with zipfile.ZipFile(good_zip(tmp_path / "d.zip"), "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(40 * 2**20))
    with pytest.raises(ValueError, match="unpack to"):
        source_of(tmp_path / "d.zip")


def test_broken_member_of_a_zip(tmp_path):
    path = good_zip(tmp_path / "d.zip")
    data = bytearray(path.read_bytes())
    data[data.find(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(data)
    source = source_of(path)
    assert len(list(source.samples())) == 19
    assert len(source.rejects) == 1


def test_broken_samples_and_shards(tmp_path):
    place = write_shards(tmp_path / "s", broken={7})
    (place / "00009.tar").write_bytes((place / "00003.tar").read_bytes()[:3000])
    source = source_of(place)
    captions = {sample.caption for sample in stream(source, 300)}
    assert len(captions) == 23
    assert "no readable picture" in reasons(source)
    assert "shard cannot be read to its end" in reasons(source)


def test_only_broken_shards(tmp_path):
    (tmp_path / "0.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ValueError, match="hold no sample"):
        source_of(tmp_path)
    with pytest.raises(ValueError, match="shards do not exist"):
        source_of(f"{tmp_path}/{{0..3}}.tar")


def test_rejects_name_the_reason():
    with pytest.raises(RejectedItemError, match="too small") as info:
        decode_image(encoded(picture(size=(4, 4))), 16)
    assert info.value.reason == "too small"
