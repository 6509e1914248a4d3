"""Pictures of more than eight bits, and of rare modes: what they look like, and what is noted about them."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from tiny_shards import write_shards

from sgxl_t.datasets import open_source
from sgxl_t.datasets.decode import decode_image
from sgxl_t.datasets.rejects import RejectedItemError

SIDE = 16


def ramp(top, dtype=np.uint16):
    """Values from 0 to `top`, by rows."""
    return np.linspace(0, top, SIDE * SIDE).reshape(SIDE, SIDE).astype(dtype)


def encoded(values, kind="png", **options):
    buffer = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_sbit(png, *bits):
    """The PNG with an sBIT chunk behind its header, where Pillow writes none."""
    return png[:33] + chunk(b"sBIT", bytes(bits)) + png[33:]


def deep_png(values, colour):
    """A PNG of 16 bits a channel: colour type 2 is RGB, 4 grey with alpha, 6 RGB with alpha."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def decoded(data):
    """Mean of the picture and its notes."""
    notes = []
    image = decode_image(data, SIDE, note=notes.append)
    return image.float().mean().item(), image.max().item(), notes


NARROW = {
    255: "a 256th of its range (values to 255)",
    1023: "a 64th of its range (values to 1023)",
    4095: "a sixteenth of its range (values to 4095)",
    16383: "a quarter of its range (values to 16383)",
}


@pytest.mark.parametrize("top", NARROW)
@pytest.mark.parametrize(
    "kind", ["png", "tiff", "big endian", "jpeg 2000", "rgb", "grey and alpha", "rgb and alpha"]
)
def test_values_of_few_bits_in_16_stay_and_are_noted(kind, top):
    values = ramp(top)
    data = {
        "png": lambda: encoded(values),
        "tiff": lambda: encoded(values, "tiff"),
        "big endian": lambda: encoded(values.astype(">u2"), "tiff"),
        "jpeg 2000": lambda: encoded(values, "jpeg2000"),
        "rgb": lambda: deep_png(np.stack([values] * 3, 2), 2),
        "grey and alpha": lambda: deep_png(np.stack([values, values * 0 + 65535], 2), 4),
        "rgb and alpha": lambda: deep_png(np.stack([values] * 3 + [values * 0 + 65535], 2), 6),
    }[kind]()
    _, most, notes = decoded(data)
    assert most == top >> 8
    assert len(notes) == 1
    assert NARROW[top] in notes[0]


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_pictures_that_use_16_bits_are_not_noted(kind):
    mean, most, notes = decoded(encoded(ramp(65535), kind))
    assert (most, notes) == (255, [])
    assert abs(mean - 127) < 1
    assert decoded(encoded(ramp(0), kind))[2] == []


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_the_significant_bits_of_a_png_become_black_to_white(bits):
    mean, most, notes = decoded(with_sbit(encoded(ramp(2**bits - 1)), bits))
    assert (most, notes) == (255, [])
    assert abs(mean - 127) < 1


def test_a_png_that_keeps_its_significant_bits_above_as_the_format_asks():
    mean, most, notes = decoded(with_sbit(encoded(ramp(4095) << 4), 12))
    assert (most, notes) == (255, [])
    assert abs(mean - 127) < 1
    dark = with_sbit(encoded((ramp(4095) // 32) << 4), 12)
    assert decoded(dark)[1] == 7


@pytest.mark.parametrize("data", [(200,), (0,), (12, 12, 12, 12), ()])
def test_significant_bits_that_mean_nothing_change_nothing(data):
    plain = decoded(encoded(ramp(65535)))
    assert decoded(with_sbit(encoded(ramp(65535)), *data)) == plain


def test_the_largest_value_that_a_tiff_names_is_white():
    mean, most, notes = decoded(encoded(ramp(4095), "tiff", tiffinfo={281: 4095}))
    assert (most, notes) == (255, [])
    assert abs(mean - 127) < 1
    assert (
        decoded(encoded(ramp(65535), "tiff", tiffinfo={281: 4095}))[:2] == decoded(encoded(ramp(65535)))[:2]
    )


def test_a_tiff_of_twelve_packed_bits():
    values = ramp(4095).astype(int)
    pairs = values.reshape(-1, 2)
    packed = (
        np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
        .astype(np.uint8)
        .tobytes()
    )
    entries = [(256, SIDE), (257, SIDE), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, SIDE)]
    entries.append((279, len(packed)))
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed
    mean, most, notes = decoded(head + struct.pack("<H", len(entries)) + tags + bytes(4))
    assert (most, notes) == (255, [])
    assert abs(mean - 127) < 1


def test_a_tiff_in_which_zero_is_white():
    image = decode_image(encoded(ramp(65535), "tiff", tiffinfo={262: 0}), SIDE)
    assert image[0, 0, 0] == 255
    assert image[0, -1, -1] == 0


def test_integers_of_32_bits():
    assert decoded(encoded(ramp(255, np.int32), "tiff"))[1:] == (255, [])
    assert decoded(encoded(ramp(65535, np.int32), "tiff"))[1:] == (255, [])
    assert "a sixteenth" in decoded(encoded(ramp(4095, np.int32), "tiff"))[2][0]
    assert decoded(encoded(ramp(300, np.int32) - 100, "tiff"))[2][0].startswith("picture with values below 0")
    with pytest.raises(RejectedItemError, match="picture of more than 16 bits: a value of 70000"):
        decoded(encoded(ramp(70000, np.int32), "tiff"))


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floats_are_taken_by_their_range(top):
    mean, most, notes = decoded(encoded(ramp(top, np.float32), "tiff"))
    assert (most, notes) == (255, [])
    assert abs(mean - 127.5) < 1


def test_floats_that_are_no_brightness():
    assert "below 0" in decoded(encoded(ramp(2, np.float32) - 1, "tiff"))[2][0]
    for bad, reason in ((np.nan, "no numbers"), (np.inf, "no numbers"), (1e9, "more than 16 bits")):
        values = ramp(1, np.float32)
        values[3, 3] = bad
        with pytest.raises(RejectedItemError, match=reason):
            decoded(encoded(values, "tiff"))


def test_the_clear_value_of_16_bit_grey_becomes_white():
    image = decode_image(encoded(np.full((SIDE, SIDE), 300, np.uint16), transparency=300), SIDE)
    assert image.min() == 255


RED = Image.new("RGB", (SIDE, SIDE), (200, 0, 0))


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (RED.convert("CMYK"), "tiff", (200, 0, 0)),
        (RED.quantize(4), "png", (200, 0, 0)),
        (Image.new("1", (SIDE, SIDE), 1), "png", (255, 255, 255)),
        (Image.new("1", (SIDE, SIDE), 1), "tiff", (255, 255, 255)),
        (Image.new("LA", (SIDE, SIDE), (10, 0)), "png", (255, 255, 255)),
        (Image.new("LA", (SIDE, SIDE), (10, 255)), "png", (10, 10, 10)),
        (Image.new("L", (SIDE, SIDE), 3), "png", (3, 3, 3)),
    ],
)
def test_pictures_of_eight_bits_and_fewer_are_as_they_were(image, kind, expected):
    notes = []
    out = decode_image(encoded(image, kind), SIDE, note=notes.append)
    assert tuple(out[:, 4, 4].tolist()) == expected
    assert notes == []


@pytest.mark.parametrize("place", ["folder", "zip", "shards"])
def test_every_kind_of_source_counts_each_picture_once(tmp_path, place):
    data = encoded(ramp(4095))
    if place == "shards":
        reference = write_shards(tmp_path / "s", shards=1, of=lambda n: {"png": data})
    elif place == "zip":
        reference = tmp_path / "s.zip"
        with zipfile.ZipFile(reference, "w") as archive:
            for number in range(6):
                archive.writestr(f"{number}.png", data)
    else:
        reference = tmp_path / "s"
        reference.mkdir()
        for number in range(6):
            (reference / f"{number}.png").write_bytes(data)
    source = open_source(reference, resolution=SIDE)
    assert len(list(source.samples())) == len(list(source.samples())) == 6
    lines = [line for line in source.rejects.summary() if "sixteenth" in line]
    assert lines == [
        "note: 6 x 16-bit picture that uses a sixteenth of its range (values to 4095) and comes out dark: "
        "scale its values to 65535"
    ]
