"""The extractor without weights: what its features say, and that planted faults move the distance."""

import pytest
import torch
from planted_pictures import discs, planted

from sgxl_t.metrics.distances.frechet import frechet_distance
from sgxl_t.metrics.features import load_extractor
from sgxl_t.metrics.features.contrast import SHARE_POWER

OCTAVES, MAPS = 7, 4


@pytest.fixture(scope="module")
def contrast():
    return load_extractor("contrast")


def shares(contrast, images):
    """Shares [N, scale, map, octave], without the power, and the layout [N, 51]."""
    found = contrast(images)["shares"]
    return found[:, :-51].unflatten(1, (-1, MAPS, OCTAVES)).pow(1 / SHARE_POWER), found[:, -51:]


def test_a_flat_picture_has_all_pixels_in_the_first_octave_and_its_colour_in_the_layout(contrast):
    found, layout = shares(contrast, torch.full((1, 3, 32, 32), 128, dtype=torch.uint8))
    assert found[0, :4, :, 0].eq(1).all(), "32, 16, 8 and 4 px"
    assert found[0, :4, :, 1:].eq(0).all()
    assert found[0, 4:].eq(0).all(), "scales that it does not have"
    brightness = layout[0, :16]
    assert torch.allclose(brightness, torch.full((16,), 128 / 255 / 2), atol=1e-6)
    assert layout[0, 16:48].abs().max() < 1e-6


def test_an_edge_lies_in_the_octave_of_its_height(contrast):
    image = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    image[..., 8:] = 64
    gradient = shares(contrast, image)[0][0, 0, 0]
    assert gradient[5] == pytest.approx(2 / 16, abs=1e-3), "two columns see a step of 64 of 255"
    assert gradient[0] == pytest.approx(14 / 16, abs=1e-3)
    assert gradient.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4), (20, 33), (300, 256)])
def test_pictures_of_any_shape_are_taken(contrast, size):
    images = torch.randint(
        0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    found = contrast(images)["shares"]
    assert found.shape == (2, contrast.outputs["shares"])
    assert found.isfinite().all()


@pytest.mark.parametrize("fault", ["grainy", "blurred", "repeated"])
def test_planted_faults_raise_the_distance(contrast, fault):
    real, clean = (contrast(discs(200, seed))["shares"] for seed in (0, 1))
    faulty = contrast(planted(fault, discs(200, 1)))["shares"]
    assert frechet_distance(real, faulty) > 1.5 * frechet_distance(real, clean)
