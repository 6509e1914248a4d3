"""EQ-T measures how exactly a picture follows its input, whatever the batch and the number of processes."""

import math

import pytest
import torch
import torch.multiprocessing as mp
from metrics_golden import CASES, TENSORS
from torch import nn

from sgxl_t.metrics.distances.equivariance import eqt, masked_errors, psnr, translate
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.generators.registry import build_generator

SIDE = 32


class Plane(nn.Module):
    """An input that takes the user's transform and nothing else."""

    def __init__(self):
        super().__init__()
        self.register_buffer("transform", torch.eye(3))


class Waves(nn.Module):
    """Sums of sines of the continuous place, which follow any shift, and any turn, exactly."""

    def __init__(self, noise=None):
        super().__init__()
        self.z_dim, self.noise = 5, noise
        self.synthesis = _WavesSynthesis(noise)

    def mapping(self, z, c=None):
        return z[:, None]


class _WavesSynthesis(nn.Module):
    def __init__(self, noise):
        super().__init__()
        self.input, self.noise = Plane(), noise
        self.calls = 0

    def forward(self, ws, noise_mode):
        assert noise_mode == "const"
        if self.noise is not None:
            self.calls += 1
            rng = torch.Generator().manual_seed(self.calls)
            return self.noise * torch.randn(len(ws), 3, SIDE, SIDE, generator=rng)
        matrix = self.input.transform.double().expand(len(ws), 3, 3)
        places = (torch.arange(SIDE, dtype=torch.float64) + 0.5) / SIDE - 0.5
        x, y = (
            matrix[:, axis, 0, None, None] * places
            + matrix[:, axis, 1, None, None] * places[:, None]
            + matrix[:, axis, 2, None, None]
            for axis in (0, 1)
        )
        picture = sum(
            ws[:, 0, k, None, None] * torch.sin(2 * math.pi * (k * x + (2 - k) * y) + k) for k in range(3)
        )
        return (picture / 4)[:, None].repeat(1, 3, 1, 1).float()


@pytest.mark.golden
@pytest.mark.parametrize(
    ("name", "moved", "shift", "scale"),
    [("eqt_int", "eqt_shifted", "eqt_t", 32), ("eqt_frac", "eqt_frac_shifted", "eqt_frac_t", 32)],
)
def test_golden_eqt(name, moved, shift, scale):
    still, after = (torch.from_numpy(TENSORS[key]) for key in ("eqt_orig", moved))
    shifts = [tuple(TENSORS[shift] * scale)] * len(still)
    ours = psnr(masked_errors(still, after, shifts, fractional=name == "eqt_frac"))
    assert ours == pytest.approx(CASES[name]["expected"], abs=CASES[name]["tolerance"]["abs"])


@pytest.mark.golden
def test_golden_eqt_frac_reference_and_mask():
    still = torch.from_numpy(TENSORS["eqt_orig"])
    for image, reference in zip(still, torch.from_numpy(TENSORS["eqt_frac_ref"]), strict=True):
        moved, valid = translate(image, *(TENSORS["eqt_frac_t"] * SIDE), lanczos=True)
        assert torch.equal(valid, torch.from_numpy(TENSORS["eqt_frac_mask"]).bool())
        torch.testing.assert_close(moved[:, valid], reference[:, valid], rtol=0, atol=1e-6)


def test_an_exactly_equivariant_generator_reaches_more_than_60_db():
    assert eqt(Waves(), 40) > 100
    # The Lanczos reference itself is the limit of fractional shifts.
    assert eqt(Waves(), 40, fractional=True) > 60


@pytest.mark.parametrize("fractional", [False, True])
def test_white_noise_gives_its_closed_form(fractional):
    """Lanczos keeps sum(taps^2) of the variance, whole pixels keep all of it."""
    deviation = 0.3
    value = eqt(Waves(noise=deviation), 60, fractional=fractional)
    expected = 20 * math.log10(2) - 10 * math.log10(2 * deviation**2)
    assert value == pytest.approx(expected, abs=0.9 if fractional else 0.1)


@pytest.mark.parametrize("fractional", [False, True])
def test_batch_size_changes_rounding_only(fractional):
    generator = build_generator("sgxl-tiny-16", ConditionSpec(kind="class", dim=8, num_classes=3), seed=0)

    def classes(indices):
        return torch.tensor(indices) % 3

    values = [
        eqt(generator.eval(), 20, fractional=fractional, conditions=classes, seed=5, batch_size=size)
        for size in (1, 7, 64)
    ]
    assert values == pytest.approx([values[0]] * 3, abs=1e-4)
    assert 30 < values[0] < 80
    assert torch.equal(generator.synthesis.input.transform, torch.eye(3))


def test_another_seed_draws_other_shifts_and_latents():
    generator = Waves(noise=0.3)
    assert eqt(generator, 4, seed=1) != eqt(generator, 4, seed=2)


def test_whole_shifts_move_every_pixel_and_mask_what_entered():
    image = torch.arange(12.0).view(1, 3, 4)
    moved, valid = translate(image, 1, -1, lanczos=False)
    assert moved[0, :2, 1:].tolist() == image[0, 1:, :3].tolist()
    assert valid.tolist() == [[False, True, True, True]] * 2 + [[False] * 4]


def _of_two(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    value = eqt(Waves(), 5, batch_size=2)
    torch.save(value, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_both_the_number_of_one(tmp_path):
    mp.start_processes(_of_two, args=(str(tmp_path),), nprocs=2, start_method="fork")
    alone = eqt(Waves(), 5, batch_size=2)
    assert [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)] == pytest.approx([alone] * 2, abs=1e-9)


def test_a_generator_without_input_transform_is_unsupported():
    generator = build_generator("sgt-tiny-16", ConditionSpec(kind="none"), seed=0)
    with pytest.raises(ValueError, match=r"unsupported for a generator of family stylegan_t: .*stylegan3"):
        eqt(generator, 4)
    with pytest.raises(ValueError, match="unsupported"):
        eqt(nn.Linear(2, 2), 4)


@pytest.mark.parametrize("sizes", [{"count": 0}, {"count": 4, "batch_size": 0}])
def test_no_samples_are_named(sizes):
    with pytest.raises(ValueError, match="at least 1"):
        eqt(Waves(), **sizes)


def test_pictures_that_are_not_finite_are_counted():
    with pytest.raises(ValueError, match="4 of 4 samples"):
        eqt(Waves(noise=float("nan")), 4)
