"""Ways through the latent space: weights of splines, counts of frames, what moves in each space, moves."""

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from tiny_models import tiny_model

from sgxl_t.networks.generators.fourier_input import moved_input
from sgxl_t.ops.random import latents
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.sampling.sample_spec import MovedFrame, SampleSpec, Way
from sgxl_t.sampling.styles import spec_styles, styles
from sgxl_t.sampling.truncation.truncation import Truncation
from sgxl_t.sampling.walks.curve import spline_weights
from sgxl_t.sampling.walks.move import input_of, inverse_motion, plan_move
from sgxl_t.sampling.walks.plan import WalkSettings, plan_interpolation

PLAIN = Truncation()
TEXTS = ("a red fox", "a blue car", "a small dog")


def pixels(pictures):
    return np.stack([np.asarray(image) for image in pictures.images]).astype(int)


@pytest.mark.parametrize("keys", [2, 3, 7])
@pytest.mark.parametrize("closed", [True, False])
def test_the_smooth_curve_is_the_natural_or_periodic_cubic_spline(keys, closed):
    values = torch.randn(keys, 4, generator=torch.Generator().manual_seed(0)).double()
    end = keys if closed else keys - 1
    places = torch.linspace(0, end, 41, dtype=torch.float64)
    found = spline_weights(keys, places, closed=closed) @ values
    known = torch.cat([values, values[:1]]) if closed else values
    spline = CubicSpline(np.arange(end + 1), known.numpy(), bc_type="periodic" if closed else "natural")
    torch.testing.assert_close(found, torch.from_numpy(spline(places.numpy())), atol=1e-12, rtol=0)


def test_frames_are_counted_and_a_loop_ends_where_it_began():
    keys = [SampleSpec(None, seed) for seed in range(4)]
    for curve in ("straight", "smooth"):
        open_way = plan_interpolation(keys, WalkSettings(5, curve=curve), "none")
        loop = plan_interpolation(keys, WalkSettings(5, curve=curve, loop=True), "none")
        assert (len(open_way), len(loop)) == (3 * 6 + 1, 4 * 6 + 1)
        generator, condition = tiny_model("none")
        ws = styles(generator, condition, loop, PLAIN)
        torch.testing.assert_close(ws[0], ws[-1])
        torch.testing.assert_close(ws[:-1:6], spec_styles(generator, condition, keys, PLAIN))


def test_a_smooth_loop_has_no_corner_at_any_key_and_a_straight_one_has():
    generator, condition = tiny_model("none")
    keys = [SampleSpec(None, seed) for seed in range(4)]
    corners = {}
    for curve in ("straight", "smooth"):
        frames = plan_interpolation(keys, WalkSettings(49, curve=curve, loop=True), "none")
        ws = styles(generator, condition, frames[:-1], PLAIN)[:, 0].detach().double()
        slopes = ws.roll(-1, 0) - ws
        turns = (slopes - slopes.roll(1, 0)).norm(dim=1) / slopes.norm(dim=1)
        corners[curve] = turns[::50]
    assert float(corners["smooth"].max()) < 0.2
    assert float(corners["straight"].min()) > 0.5


def test_text_alone_moves_while_the_latent_stays():
    generator, condition = tiny_model("text", "sgt-tiny-16")
    keys = [SampleSpec(text, seed) for seed, text in enumerate(TEXTS)]
    for space, still in (("text", True), ("z", False)):
        frames = plan_interpolation(keys, WalkSettings(2, space))
        ws = styles(generator, condition, frames, PLAIN)[:, 0, : generator.z_dim]
        assert torch.allclose(ws, ws[:1].expand_as(ws), atol=1e-6) == still
    smooth = styles(
        generator, condition, plan_interpolation(keys, WalkSettings(3, "z", "smooth", True)), PLAIN
    )
    lengths = smooth[:, 0, generator.z_dim :].norm(dim=1)
    torch.testing.assert_close(lengths, lengths[:1].expand_as(lengths), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["sgt-tiny-16", "sgxl-tiny-16"])
def test_z_turns_on_the_sphere_also_between_classes(name):
    generator, condition = tiny_model("class", name)
    first, last = SampleSpec(1, 3), SampleSpec(3, 8)
    frames = plan_interpolation([first, last], WalkSettings(1, "z"), "class")
    z = latents([3, 8], generator.z_dim).double()
    angle = torch.acos(torch.cosine_similarity(z[0], z[1], dim=0))
    middle = (z.sum(0) * torch.sin(angle / 2) / torch.sin(angle)).float()[None]
    ends = [generator.mapping(middle, torch.tensor([label])) for label in (1, 3)]
    ws = styles(generator, condition, frames, PLAIN)
    torch.testing.assert_close(ws[1:2], (ends[0] + ends[1]) / 2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ws[[0, 2]], spec_styles(generator, condition, [first, last], PLAIN))


def test_frames_of_several_ways_may_stand_in_one_batch():
    generator, condition = tiny_model("text")
    keys = [SampleSpec(text, 1) for text in TEXTS]
    ways = [plan_interpolation(keys, WalkSettings(1, *way)) for way in (("z", "sphere"), ("w", "smooth"))]
    mixed = [frame for pair in zip(*ways, strict=True) for frame in pair]
    assert {frame.way for frame in mixed} == {Way("z", "sphere"), Way("w", "smooth")}
    together = styles(generator, condition, mixed, PLAIN)
    for number, way in enumerate(ways):
        torch.testing.assert_close(together[number::2], styles(generator, condition, way, PLAIN))


def test_a_pipeline_walks_prompts_latents_and_seeds():
    pipe = Pipeline(*tiny_model("text"))
    kept = pipe("a dog", seed=9, psi=0.5, output="latents")
    way = pipe.interpolate(["a red fox", kept, "a car"], seeds=[1, 2], frames=1)
    assert way.conditions[::2] == ["a red fox", "a dog, seed 9, psi 0.5", "a car"]
    assert way.psis == [1, 0.75, 0.5, 0.75, 1]
    for number, single in ((0, pipe("a red fox", seed=1)), (2, pipe(ws=kept)), (4, pipe("a car", seed=2))):
        assert np.abs(pixels(way)[number] - pixels(single)[0]).max() <= 1
    seeds = pipe.interpolate("a dog", seeds=[1, 2, 3], frames=0, loop=True)
    assert seeds.seeds == [1, 2, 3, 3]
    assert (pixels(seeds)[0] == pixels(seeds)[-1]).all()
    with pytest.raises(ValueError, match="3 seeds came with 2 prompts or classes"):
        pipe.interpolate(["a dog", "a car"], seeds=[1, 2, 3])
    with pytest.raises(ValueError, match="curve='round' is unknown"):
        pipe.interpolate(["a dog", "a car"], curve="round")


def test_the_input_turns_to_the_left_and_shifts_to_the_right_and_down():
    generator, _ = tiny_model("none", "sgxl-tiny-16")
    layer = input_of(generator)
    w = torch.randn(1, generator.w_dim, generator=torch.Generator().manual_seed(0))
    still = layer(w)
    with moved_input(layer, inverse_motion([MovedFrame(SampleSpec(None, 0), degrees=90)])):
        turned = layer(w)
    torch.testing.assert_close(turned, torch.rot90(still, 1, (2, 3)), atol=1e-4, rtol=1e-4)
    pixel = 1 / layer.sampling_rate
    shift = MovedFrame(SampleSpec(None, 0), right=2 * pixel, down=pixel)
    with moved_input(layer, inverse_motion([shift])):
        shifted = layer(w)
    torch.testing.assert_close(shifted[:, :, 1:, 2:], still[:, :, :-1, :-2], atol=1e-4, rtol=1e-4)
    assert torch.equal(layer(w), still), "as before afterwards"


def test_a_mirrored_picture_moves_the_same_way():
    frames = [MovedFrame(SampleSpec(None, 0), degrees=30, right=0.1, down=0.2)] * 2
    plain, turned = inverse_motion(frames, torch.tensor([False, True]))
    mirror = torch.diag(torch.tensor([-1.0, 1, 1], dtype=torch.float64))
    torch.testing.assert_close(turned, mirror @ plain @ mirror)
    torch.testing.assert_close(plain, inverse_motion(frames)[0])


def test_a_move_goes_once_round_and_the_picture_follows():
    frames = plan_move(SampleSpec(None, 0), 7, "translate")
    assert len(frames) == 9
    assert (frames[0].right, frames[0].down) == (frames[-1].right, frames[-1].down) == (0, 0)
    radii = [math.hypot(frame.right, frame.down - 1 / 8) for frame in frames]
    assert radii == pytest.approx([1 / 8] * 9)
    assert [frame.degrees for frame in plan_move(SampleSpec(None, 0), 3, "rotate")] == [0, 90, 180, 270, 0]
    pipe = Pipeline(*tiny_model("none", "sgxl-tiny-16"))
    images = pixels(pipe.move(seed=1, frames=3))
    assert len(images) == 5
    # A quarter of the circle away the picture lies two pixels further right and down.
    error = np.abs(images[1][4:-4, 4:-4] - images[0][2:-6, 2:-6]).mean()
    assert error < 0.5 * np.abs(images[1][4:-4, 4:-4] - images[0][4:-4, 4:-4]).mean()
