"""Resizing rules of metrics: against stored numbers, Pillow and TensorFlow 1's arithmetic."""

import json

import numpy as np
import pytest
import torch
from golden_cases import FOLDER
from PIL import Image

from sgxl_t.metrics.features.resize import bicubic_antialias, bicubic_uint8, lanczos_uint8, tf1_bilinear
from sgxl_t.ops.images import to_uint8

CASES = json.loads((FOLDER / "metrics.json").read_text())
ARRAYS = np.load(FOLDER / "metrics.npz", allow_pickle=False)
PICTURES = torch.randint(0, 256, (2, 3, 20, 33), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def stored(name):
    return torch.from_numpy(ARRAYS[name])


def as_image(picture):
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


def as_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["resize_tf1_up", "resize_tf1_down"])
def test_golden_resize_tf1(name):
    expected = stored(name)
    ours = tf1_bilinear(stored("resize_in"), tuple(expected.shape[-2:]))
    assert CASES["resize_tf1"]["tolerance"]["abs"] == 0.02
    # The direct form, as here, is a hundred times closer than the case allows for the grid form.
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=0)


@pytest.mark.golden
def test_golden_resize_bicubic_antialias():
    expected = stored("bicubic_aa_out")
    ours = bicubic_antialias(stored("bicubic_in"), tuple(expected.shape[-2:]))
    limit = CASES["resize_bicubic_antialias"]["tolerance"]["abs"]
    torch.testing.assert_close(ours, expected, atol=limit, rtol=0)


@pytest.mark.golden
def test_golden_resize_lanczos_uint8():
    expected = stored("lanczos_u8_out")
    assert torch.equal(lanczos_uint8(stored("bicubic_in"), tuple(expected.shape[-2:])), expected)


@pytest.mark.golden
def test_golden_quantise():
    assert torch.equal(to_uint8(stored("quant_in")), stored("quant_out"))


@pytest.mark.parametrize("side", [299, 20, 11])
def test_tf1_bilinear_equals_an_independent_implementation(side):
    name = "torch_fidelity.interpolate_compat_tensorflow"
    oracle = pytest.importorskip(name).interpolate_bilinear_2d_like_tensorflow1x
    expected = oracle(PICTURES.float(), size=(side, side), align_corners=False)
    torch.testing.assert_close(tf1_bilinear(PICTURES, side), expected, atol=1e-4, rtol=0)


def test_tf1_bilinear_reads_without_half_pixel_offset_and_repeats_the_border():
    row = torch.tensor([[[[0.0, 100.0]]]])
    assert tf1_bilinear(row, (1, 4)).flatten().tolist() == [0, 50, 100, 100]


@pytest.mark.parametrize("size", [(7, 50), (40, 66)])
def test_bicubic_antialias_equals_pillow_on_floats(size):
    ours = bicubic_antialias(PICTURES, size)
    for picture, result in zip(PICTURES.float().numpy(), ours, strict=True):
        planes = [Image.fromarray(plane).resize(size[::-1], Image.Resampling.BICUBIC) for plane in picture]
        expected = torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))
        torch.testing.assert_close(result, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("resize", "method"),
    [(bicubic_uint8, Image.Resampling.BICUBIC), (lanczos_uint8, Image.Resampling.LANCZOS)],
)
def test_byte_resizing_is_pillows_on_colour_pictures(resize, method):
    ours = resize(PICTURES, (9, 40))
    for picture, result in zip(PICTURES, ours, strict=True):
        assert torch.equal(result, as_tensor(as_image(picture).resize((40, 9), method)))
    with pytest.raises(ValueError, match="takes uint8"):
        resize(PICTURES.float(), 8)


@pytest.mark.parametrize("resize", [tf1_bilinear, bicubic_antialias, bicubic_uint8, lanczos_uint8])
def test_pictures_of_the_asked_size_stay_as_they_are(resize):
    result = resize(PICTURES, (20, 33))
    assert torch.equal(result.float(), PICTURES.float())
    assert resize(PICTURES[:0], (10, 10)).shape == (0, 3, 10, 10)
