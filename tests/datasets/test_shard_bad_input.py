"""What becomes of broken shards, broken samples and places that cannot be reached."""

import gzip
import io
import itertools
import json
import tarfile
import time

import numpy as np
import pytest
from PIL import Image
from tiny_shards import numbers_of, picture, sample, write_shards, write_tar

from sgxl_t.datasets import open_source
from sgxl_t.datasets.decode import Bounds, decode_image
from sgxl_t.datasets.rejects import Rejects
from sgxl_t.datasets.shards.source import ShardOptions
from sgxl_t.datasets.shards.tar.samples import groups


def source_of(place, *, reject_limit=0.5, **options):
    return open_source(place, resolution=16, reject_limit=reject_limit, shards=ShardOptions(**options))


def stream(source, count):
    samples = source.stream(seed=0, part=0, parts=1)
    return [one for _, one in itertools.islice(samples, count)]


def header_offset(data, name):
    """Where the tar header of a file begins."""
    return data.index(name.encode())


def damaged(tmp_path, change):
    """A folder of one shard of six samples and one that `change` turned into something else."""
    write_shards(tmp_path, shards=2)
    path = tmp_path / "00001.tar"
    path.write_bytes(change(path.read_bytes()))
    return source_of(tmp_path)


DAMAGE = {
    "cut inside a picture": (
        lambda data: data[: header_offset(data, "000000009.png") + 540],
        [6, 7, 8],
        {"shard cannot be read to its end": 1},
    ),
    "cut inside a header": (
        lambda data: data[: header_offset(data, "000000009.png") + 100],
        [6, 7, 8],
        {"shard cannot be read to its end": 1},
    ),
    "wrong checksum": (
        lambda data: data.replace(b"000000008.png", b"000000X08.png", 1),
        [6, 7, 9, 10, 11],
        {"broken header in a shard": 1, "no picture in the sample": 1},
    ),
    "wrong checksum of the first header": (
        lambda data: b"x" + data[1:],
        [],
        {"shard is no tar archive": 1},
    ),
    "no tar": (lambda data: b"<html>not found</html>" * 99, [], {"shard is no tar archive": 1}),
    "compressed": (gzip.compress, [], {"shard is no tar archive": 1}),
    "empty": (lambda data: b"", [], {"shard is empty or cannot be reached": 1}),
    "no end mark": (lambda data: data[: data.rindex(b"}") // 512 * 512 + 512], [6, 7, 8, 9, 10, 11], {}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_costs_what_it_hits(tmp_path, name):
    change, rest, reasons = DAMAGE[name]
    source = damaged(tmp_path, change)
    assert sorted(numbers_of(source.samples())) == [*range(6), *rest]
    assert source.rejects.by_reason() == reasons
    again = source_of(tmp_path)
    assert {one.caption for one in stream(again, 60)} == {f"sample {n}" for n in [*range(6), *rest]}
    addressed = source_of(tmp_path)
    assert {addressed[index].caption for index in range(len(addressed))} >= {f"sample {n}" for n in rest}


@pytest.mark.parametrize("name", ["cut inside a picture", "wrong checksum"])
def test_commands_meet_damage_as_files_do(tmp_path, name):
    change, rest, reasons = DAMAGE[name]
    damaged(tmp_path, change)
    source = source_of(f"pipe:cat {tmp_path}/0000{{0..1}}.tar")
    assert sorted(numbers_of(source.samples())) == [*range(6), *rest]
    assert source.rejects.by_reason() == reasons


def test_every_single_damaged_block_is_survived(tmp_path):
    """Whichever block of a shard is overwritten, samples elsewhere stay and nothing raises."""
    write_shards(tmp_path, shards=1, samples=4)
    path = tmp_path / "00000.tar"
    data = path.read_bytes()
    for block in range(1, len(data) // 512):
        path.write_bytes(data[: block * 512] + b"\xa5" * 512 + data[block * 512 + 512 :])
        found = list(groups(str(path), Bounds(), Rejects()))
        assert len(found) >= 3, block


def odd(tmp_path, number, files):
    """A shard of five samples whose sample `number` has other files."""
    return source_of(
        write_shards(tmp_path, shards=1, samples=5, of=lambda n: files if n == number else sample(n))
    )


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"png": b"", "txt": b"x"}, "no readable picture"),
        ({"jpg": picture(1, (64, 64), "jpeg")[:-20], "txt": b"x"}, "cannot be decoded"),
        ({"txt": b"x", "json": b"{}"}, "no picture in the sample"),
        ({"png": picture(1)}, "no caption"),
        ({"png": picture(1), "txt": b"\xff\xfe"}, "caption is not UTF-8"),
        ({"png": picture(1), "txt": b" \n"}, "caption is empty"),
        ({"png": picture(1), "json": b'{"caption": "x'}, "no caption"),
        ({"png": picture(1), "json": b"[" * 100_000}, "no caption"),
        ({"png": picture(1, (4, 4)), "txt": b"x"}, "too small"),
        ({"npy": b"1", "mp4": b"2"}, "no picture in the sample"),
    ],
)
def test_one_broken_sample_is_skipped_and_counted(tmp_path, files, reason):
    source = odd(tmp_path, 2, files)
    assert numbers_of(source.samples()) == [0, 1, 3, 4]
    assert source.rejects.by_reason() == {reason: 1}
    assert source.rejects.items[0][0] == "00000.tar/000000002"
    assert "sample 2" not in {one.caption for one in stream(source_of(tmp_path), 20)}


def kinds_of_pictures():
    """Red pictures of 64 px in kinds that are rare on the web: (ending, bytes)."""
    red, exif = Image.new("RGB", (64, 64), (200, 0, 0)), Image.Exif()
    exif[0x0112] = 6
    frames = [Image.new("RGB", (64, 64), (0, 0, blue)) for blue in (90, 180)]
    grey = Image.fromarray(np.full((64, 64), 200 * 257, np.uint16))
    for ending, kind, image, more in (
        ("gif", "gif", red, {"save_all": True, "append_images": frames}),
        ("jpg", "jpeg", red.convert("CMYK"), {}),
        ("png", "png", grey, {}),
        ("png", "png", red.quantize(4), {"transparency": 3}),
        ("jpeg", "jpeg", red, {"exif": exif.tobytes()}),
        ("webp", "webp", red, {}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, kind, **more)
        yield ending, buffer.getvalue()


@pytest.mark.parametrize("number", range(6))
def test_rare_kinds_of_pictures_are_read(tmp_path, number):
    """Of an animation the first frame is taken."""
    ending, data = list(kinds_of_pictures())[number]
    source = odd(tmp_path, 2, {ending: data, "txt": b"rare"})
    rare = next(one for one in stream(source, 20) if one.caption == "rare")
    assert (rare.image[0].float().mean() - 200).abs() < 8
    assert not source.rejects.items


def test_files_that_come_twice_or_leave_their_folder(tmp_path):
    files = [("a.png", picture(1)), ("a.png", picture(2)), ("a.txt", b"sample 1"), ("a.PNG", picture(3))]
    files += [
        (name, picture(4)) for name in ("../up.png", "/etc/x.png", "b/../../c.png", "..\\d.png", "C:/e.png")
    ]
    files += [("f.png", picture(5)), ("f.txt", b"sample 5")]
    write_tar(tmp_path / "0.tar", files)
    source = source_of(tmp_path)
    found = list(source.samples())
    assert [one.image[0, 0, 0].item() for one in found] == [1, 5]
    assert source.rejects.by_reason() == {
        "path leaves the data set": 5,
        "second file of one name in a shard": 2,
    }


def test_samples_that_come_twice(tmp_path):
    files = [
        (f"{key}.{end}", data) for place, key in enumerate("abacb") for end, data in sample(place).items()
    ]
    source = source_of(write_tar(tmp_path / "0.tar", files))
    assert numbers_of(source.samples()) == [0, 1, 3]
    assert [source[index].caption for index in range(len(source))] == ["sample 0", "sample 1", "sample 3"]
    assert source.rejects.by_reason() == {"second sample of one name": 2}


def test_links_folders_and_long_names(tmp_path):
    long_name = "deep/" * 40 + "é" * 30
    for kind, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        with tarfile.open(tmp_path / f"{kind}.tar", "w", format=form) as tar:
            folder, link = tarfile.TarInfo("deep"), tarfile.TarInfo("x.png")
            folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(folder)
            tar.addfile(link)
            for ending, data in sample(kind).items():
                header = tarfile.TarInfo(f"{long_name}.{ending}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    source = source_of(tmp_path)
    assert numbers_of(source.samples()) == [0, 1]
    assert [source[index].caption for index in range(2)] == ["sample 0", "sample 1"]
    assert not source.rejects.items


def test_members_that_are_too_large_or_too_many(tmp_path):
    files = [("a.png", picture(1)), ("a.txt", b"x" * (2**22 + 1))]
    files += [(f"b.{number}", b"") for number in range(80)] + [("c.png", picture(2)), ("c.txt", b"sample 2")]
    source = source_of(write_tar(tmp_path / "0.tar", files))
    assert numbers_of(source.samples()) == [2]
    reasons = source.rejects.by_reason()
    assert reasons["file too large"] == 1
    assert reasons["too many files in one sample"] > 10


def test_a_shard_of_very_many_files(tmp_path):
    """100,000 files in one shard are indexed by their headers in seconds, and streamed from the first on."""
    one = picture(1)
    padded = one + bytes(-len(one) % 512)
    head = tarfile.TarInfo("0.png")
    head.size = len(one)
    with (tmp_path / "0.tar").open("wb") as out:
        for number in range(100_000):
            head.name = f"{number:08d}.png"
            out.write(head.tobuf(tarfile.USTAR_FORMAT) if number % 10_000 == 0 else _renamed(head))
            out.write(padded)
        out.write(bytes(1024))
    began = time.monotonic()
    source = source_of(tmp_path, shuffle_samples=10)
    assert len(stream(source, 20)) == 20
    assert time.monotonic() - began < 10, "the shard is not read whole before the first picture"
    assert len(source) == 100_000
    assert source[99_999].image[0, 0, 0] == 1


_HEADER: dict[str, bytearray] = {}


def _renamed(head):
    """A header like the one before but for name and checksum, made without tarfile's cost."""
    block = _HEADER.setdefault("block", bytearray(head.tobuf(tarfile.USTAR_FORMAT)))
    block[:100] = head.name.encode().ljust(100, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_no_captions_at_all(tmp_path):
    write_shards(tmp_path, of=lambda n: {"png": picture(n)})
    source = source_of(tmp_path)
    assert not source.has_captions
    assert stream(source, 5)[0].caption is None
    with pytest.raises(ValueError, match="has no captions"):
        source.require(captions=True)


@pytest.mark.parametrize("reference", ["http://127.0.0.1:9/{0..7}.tar", "pipe:exit 3", "nothing://x/0.tar"])
def test_nothing_in_reach_is_one_sentence_at_the_start(reference):
    with pytest.raises(ValueError, match=r"^the \d shards of .* that were tried hold no sample \(shard "):
        source_of(reference)


def test_some_out_of_reach_are_skipped_and_counted(tmp_path):
    write_shards(tmp_path, shards=9)
    (tmp_path / "list.txt").write_text("0000{0..8}.tar\nhttp://127.0.0.1:9/0.tar\n")
    source = source_of(tmp_path / "list.txt", reject_limit=0.1)
    assert len({one.caption for one in stream(source, 120)}) == 54
    assert source.rejects.items[0][0] == "http://127.0.0.1:9/0.tar"
    assert len(source) == 54


def test_too_many_out_of_reach_stop(tmp_path):
    write_shards(tmp_path, shards=9)
    (tmp_path / "list.txt").write_text("0000{0..8}.tar\nhttp://127.0.0.1:9/{0..5}.tar\n")
    with pytest.raises(ValueError, match=r"2 of \d+ shards cannot be read .* above the limit of 10%"):
        stream(source_of(tmp_path / "list.txt", reject_limit=0.1, shuffle_samples=2), 200)


def test_shards_that_vanish_stop_in_the_end(tmp_path):
    source = source_of(write_shards(tmp_path, shards=1), reject_limit=1.0)
    (tmp_path / "00000.tar").unlink()
    with pytest.raises(ValueError, match="no sample of 1 shards can be used"):
        stream(source, 1)


# draft


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(512, 512), (700, 400), (130, 500)])
def test_draft_pictures_are_nearly_those_of_the_resize_rule(mode, size):
    draws = np.random.RandomState(0).randint(0, 256, (24, 24, 3), dtype=np.uint8)
    photo = Image.fromarray(draws).resize(size, Image.Resampling.BICUBIC).convert(mode)
    buffer = io.BytesIO()
    photo.save(buffer, "jpeg", quality=92)
    whole, draft = (decode_image(buffer.getvalue(), 32, draft=draft).float() for draft in (False, True))
    assert (whole - draft).abs().mean() < 2
    assert (whole - draft).abs().max() < 24


def test_draft_keeps_the_orientation_and_needs_twice_the_side():
    photo = Image.new("RGB", (512, 512))
    photo.paste((255, 255, 255), (0, 0, 512, 128))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    photo.save(buffer, "jpeg", exif=exif.tobytes())
    out = decode_image(buffer.getvalue(), 32, draft=True)
    assert out[:, :, 26:].float().mean() > 240
    assert out[:, :, :22].float().mean() < 15
    same = [decode_image(buffer.getvalue(), 512, draft=draft) for draft in (False, True)]
    assert (same[0] == same[1]).all()


def test_streams_draft_and_addresses_do_not(tmp_path):
    noise = np.random.RandomState(0).randint(0, 256, (128, 128, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "jpeg")
    files = {"jpg": buffer.getvalue(), "txt": b"x", "json": json.dumps({}).encode()}
    write_shards(tmp_path, shards=1, samples=1, of=lambda n: files)
    exact = decode_image(buffer.getvalue(), 16)
    assert (source_of(tmp_path)[0].image == exact).all()
    assert (stream(source_of(tmp_path, fast_jpeg=False), 1)[0].image == exact).all()
    assert not (stream(source_of(tmp_path), 1)[0].image == exact).all()


# Limits of headers


def raw_header(name, size=0, kind=b"0", **fields):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(data):
    return data + bytes(-len(data) % 512)


def good(number):
    files = sample(number).items()
    return b"".join(raw_header(f"{number}.{end}", len(data)) + padded(data) for end, data in files)


def pax(pairs):
    lines = b""
    for key, value in pairs.items():
        body = f" {key}={value}\n".encode()
        length = len(body) + len(str(len(body)))
        lines += str(len(str(length)) + len(body)).encode() + body
    return raw_header("PaxHeaders/x", len(lines), tarfile.XHDTYPE) + padded(lines)


HEADERS = {
    "sparse as POSIX has it": (
        pax({"GNU.sparse.major": "1", "GNU.sparse.name": "x.png", "GNU.sparse.realsize": "9" * 14})
        + raw_header("GNUSparseFile.0/x.png", 512)
        + bytes(512),
        {"sparse file in an archive": 1},
    ),
    "sparse as GNU has it": (raw_header("x.png", 512, b"S") + bytes(512), {"sparse file in an archive": 1}),
    "headers without end": (pax({"comment": "x"}) * 99, {"shard cannot be read to its end": 1}),
    "a header of a gigabyte": (
        raw_header("p", 2**30, tarfile.XHDTYPE),
        {"shard cannot be read to its end": 1},
    ),
    "a file of exabytes": (raw_header("x.png", 2**62), {"shard cannot be read to its end": 1}),
    "a size of exabytes": (
        pax({"size": "9" * 15}) + raw_header("x.png"),
        {"shard cannot be read to its end": 1},
    ),
    "a kind nobody knows": (raw_header("x.bin", 600, b"Q") + bytes(1024), {"no picture in the sample": 1}),
    "a folder": (raw_header("d/", 0, tarfile.DIRTYPE), {}),
    "a comment for all": (raw_header("g", 12, tarfile.XGLTYPE) + padded(b"12 comment=x"), {}),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("way", ["path", "command"])
def test_headers_that_claim_much_cost_little(tmp_path, name, way):
    odd_part, reasons = HEADERS[name]
    stops = "shard cannot be read to its end" in reasons
    (tmp_path / "0.tar").write_bytes(good(0) + good(1) + odd_part + good(2) + bytes(1024))
    began = time.process_time()
    source = source_of(
        f"pipe:cat {tmp_path}/0.tar" if way == "command" else tmp_path / "0.tar", reject_limit=1.0
    )
    assert numbers_of(source.samples()) == [0, 1] + [2] * (not stops)
    assert source.rejects.by_reason() == reasons
    assert time.process_time() - began < 5


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_compressed_shards_say_by_what(tmp_path, kind):
    import bz2
    import lzma

    pack = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[kind]
    (tmp_path / "0.tar").write_bytes(pack(good(0) * 9))
    with pytest.raises(ValueError, match=f"it is compressed by {kind}: unpack it first"):
        source_of(tmp_path)


def test_a_table_of_very_many_rows_is_refused_before_it_is_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_shards(tmp_path, shards=1)
    rows = pa.table({"key": pa.DictionaryArray.from_arrays(pa.array(np.zeros(21_000_000, np.int8)), ["x"])})
    pq.write_table(rows, tmp_path / "00000.parquet")
    assert (tmp_path / "00000.parquet").stat().st_size < 2**20
    with pytest.raises(ValueError, match="it has 21000000 rows, more than 20000000"):
        source_of(tmp_path, filter="punsafe < 1")
