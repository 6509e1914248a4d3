"""Latents, ways between samples and truncation have the values that their formulas give."""

import pytest
import torch
from tiny_models import tiny_model

from sgxl_t.ops.random import latents
from sgxl_t.sampling.prompt_cache import PromptCache
from sgxl_t.sampling.sample_spec import InterpolationFrame, Mix, SampleSpec
from sgxl_t.sampling.styles import interpolated_styles, slerp, spec_styles, styles, token_context
from sgxl_t.sampling.truncation.centroids import compute_centroids
from sgxl_t.sampling.truncation.truncation import Truncation, check_truncation, truncated_styles

NAMES = pytest.mark.parametrize("name", ["sgt-tiny-16", "sgxl-tiny-16"])
ENDS = {"class": (1, 3), "text": ("a red fox", "a blue car"), "none": (None, None)}


def on_arc(first, last, share):
    """Shoemake's formula."""
    first, last = first.double(), last.double()
    angle = torch.acos((first * last).sum() / first.norm() / last.norm())
    return (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * last) / torch.sin(angle)


def at_angle(angle):
    angle = torch.tensor(angle, dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()])[None]


def test_a_latent_is_the_first_normal_draw_of_its_seed():
    rows = latents([5, 2], 7)
    for row, seed in zip(rows, (5, 2), strict=True):
        assert torch.equal(row, torch.randn(7, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("angle", [3.0, 1.0, 0.3, 0.01, 1e-5, 2e-6])
def test_vectors_apart_by_more_than_a_millionth_turn_on_the_arc(angle):
    first, last = at_angle(0.2), at_angle(0.2 + angle)
    for share in (0.25, 0.5, 0.9):
        between = slerp(first, last, torch.tensor([[share]], dtype=torch.float64))
        torch.testing.assert_close(between, at_angle(0.2 + share * angle), rtol=0, atol=5e-14)


def test_the_angle_grows_evenly_where_a_straight_line_would_lag():
    # At 25 degrees the angle of a straight line is behind at a quarter of the way.
    first, last = at_angle(0.0), at_angle(0.43)
    between = slerp(first, last, torch.tensor([[0.25]]))
    assert torch.atan2(between[0, 1], between[0, 0]).item() == pytest.approx(0.25 * 0.43, abs=1e-12)
    assert between.norm().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("angle", [0.0, 5e-7, torch.pi, torch.pi - 5e-7])
def test_parallel_vectors_move_on_a_straight_line(angle):
    first, last = at_angle(0.2), 3 * at_angle(0.2 + angle)
    between = slerp(first, last, torch.tensor([[0.25]]))
    assert torch.equal(between, first.lerp(last, torch.tensor([[0.25]], dtype=torch.float64)))


def test_every_row_has_its_own_way_and_dtype_stays():
    first, last = (torch.randn(3, 5, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    first, last = (vectors / vectors.norm(dim=1, keepdim=True) for vectors in (first, last))
    share = torch.tensor([[0.1], [0.5], [0.7]])
    between = slerp(first, last, share)
    assert between.dtype == torch.float32
    for row in range(3):
        expected = on_arc(first[row], last[row], float(share[row]))
        torch.testing.assert_close(between[row], expected.float())
    longer = slerp(first, last * torch.tensor([[1.0], [2.0], [3.0]]), share)
    for row in range(3):
        torch.testing.assert_close(longer[row], on_arc(first[row], (row + 1) * last[row], share[row]).float())


@NAMES
@pytest.mark.parametrize("kind", ENDS)
def test_the_way_between_two_samples(name, kind):
    generator, condition = tiny_model(kind, name)
    first, last = SampleSpec(ENDS[kind][0], 3, 0.9), SampleSpec(ENDS[kind][1], 8, 0.4)
    frames = [InterpolationFrame(first, last, share) for share in (0.25, 0.75)]
    way = interpolated_styles(generator, condition, frames, Truncation(cutoff=2))
    assert torch.equal(way, styles(generator, condition, frames, Truncation(cutoff=2)))
    for ws, share in zip(way, (0.25, 0.75), strict=True):
        if kind != "text":
            ends = spec_styles(generator, condition, [first, last], Truncation(cutoff=2))
            expected = (1 - share) * ends[0] + share * ends[1]
        else:
            z, c = latents([3, 8], generator.z_dim), condition.encode(list(ENDS[kind])).c
            z, c = (on_arc(*pair, share) if pair is c else slerp_of(pair, share) for pair in (z, c))
            psi = 0.9 + share * (0.4 - 0.9)
            options = {"truncation_psi": psi, "truncation_cutoff": 2}
            expected = generator.mapping(z[None].float(), c[None].float(), **options)[0]
        torch.testing.assert_close(ws, expected, rtol=1e-4, atol=1e-5)


def test_whole_numbers_of_psi_move_evenly_too():
    generator, condition = tiny_model("text")
    first, last = ("a red fox", 3), ("a blue car", 8)
    ways = [
        interpolated_styles(
            generator,
            condition,
            [InterpolationFrame(SampleSpec(*first, one), SampleSpec(*last, zero), 0.25)],
            Truncation(),
        )
        for one, zero in ((1, 0), (1.0, 0.0))
    ]
    assert torch.equal(*ways)


@NAMES
def test_generators_that_attend_to_no_tokens_are_given_none(name):
    generator, condition = tiny_model("text", name)
    assert token_context(generator, condition, [SampleSpec("a red fox", 1)]) is None


def slerp_of(pair, share):
    return slerp(pair[:1], pair[1:], torch.tensor([[share]]))[0]


@NAMES
def test_specs_are_styled_one_by_one_and_mixes_take_the_layers_of_the_other(name):
    generator, condition = tiny_model("text", name)
    one, other = ENDS["text"]
    specs = [SampleSpec(one, 1, 0.5), SampleSpec(other, 2, 1.0), SampleSpec(one, 3, 0.25, Mix(other, (0, 2)))]
    ws = styles(generator, condition, specs, Truncation(cutoff=1))
    assert torch.equal(ws, spec_styles(generator, condition, specs, Truncation(cutoff=1)))

    def alone(prompt, seed, psi):
        z, c = latents([seed], generator.z_dim), condition.encode([prompt]).c
        return generator.mapping(z, c, truncation_psi=psi, truncation_cutoff=1)[0]

    torch.testing.assert_close(ws[0], alone(one, 1, 0.5), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ws[1], alone(other, 2, 1.0), rtol=1e-5, atol=1e-6)
    expected = alone(one, 3, 0.25).clone()
    expected[[0, 2]] = alone(other, 3, 0.25)[[0, 2]]
    torch.testing.assert_close(ws[2], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("psis", "mode", "asked"), [
    ((0.5, 1.0), "class", 1), ((1.0, 1.0), "class", 0), ((0.5, 1.0), "centroid", 0),
])  # fmt: skip
def test_centres_of_prompts_are_asked_for_where_truncation_needs_them(psis, mode, asked):
    generator, condition = tiny_model("text")
    prompts, calls = PromptCache(condition, generator), []
    known = prompts.centers
    prompts.centers = lambda texts: calls.append(list(texts)) or known(texts)
    centroids = compute_centroids(generator, 2, draws=8) if mode == "centroid" else None
    truncation = Truncation(mode, centroids=centroids)
    specs = [SampleSpec(text, seed, psi) for text, seed, psi in zip(ENDS["text"], (1, 2), psis, strict=True)]
    ws = spec_styles(generator, prompts, specs, truncation)
    assert calls == [list(ENDS["text"])] * asked
    torch.testing.assert_close(ws, spec_styles(generator, condition, specs, truncation))


@pytest.mark.parametrize(
    ("kind", "truncation"), [("class", "class"), ("class", "global"), ("none", "global")]
)
@pytest.mark.parametrize(("cutoff", "count"), [(None, 99), (0, 0), (1, 1), (99, 99), (-1, 0)])
def test_truncated_styles_are_the_centre_and_psi_times_the_rest(kind, truncation, cutoff, count):
    generator, condition = tiny_model(kind, "sgxl-tiny-16")
    z, c = latents([1, 2, 3], generator.z_dim), condition.encode([ENDS[kind][0]] * 3).c
    average, psi = generator.mapping.w_avg, torch.tensor([0.25, 1.0, -0.5])
    center = average if kind == "none" else average[1] if truncation == "class" else average.mean(0)
    ws = generator.mapping(z, c)
    ours = truncated_styles(generator, z, c, psi=psi, cutoff=cutoff, truncation=truncation)
    expected = center + psi[:, None, None] * (ws - center)
    torch.testing.assert_close(ours[:, :count], expected[:, :count])
    assert torch.equal(ours[:, count:], ws[:, count:])
    one = truncated_styles(generator, z, c, psi=0.25, cutoff=cutoff, truncation=truncation)
    torch.testing.assert_close(one[0], ours[0])
    given = truncated_styles(generator, z, c, psi=0.0, center=torch.ones(3, generator.w_dim))
    assert torch.equal(given, torch.ones_like(given))


@pytest.mark.parametrize("mode", ["class", "global", "centroid"])
def test_psi_beyond_one_exaggerates_and_double_latents_are_truncated_too(mode):
    generator, condition = tiny_model("class", "sgxl-tiny-16")
    centroids = compute_centroids(generator, 2, draws=8)
    z, c = latents([1, 2], generator.z_dim), condition.encode([1, 3]).c
    options = {"truncation": mode, "centroids": centroids}
    ws, center = generator.mapping(z, c), truncated_styles(generator, z, c, psi=0.0, **options)
    doubled = truncated_styles(generator, z, c, psi=2.0, **options)
    torch.testing.assert_close(doubled, center + 2 * (ws - center), rtol=1e-4, atol=1e-5)
    double = truncated_styles(generator, z.double(), c, psi=torch.full((2,), 0.5), **options)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), (center + ws) / 2, rtol=1e-4, atol=1e-5)


def test_styles_of_psi_one_are_the_networks_own():
    generator, condition = tiny_model("class", "sgxl-tiny-16")
    z, c = latents([1, 2], generator.z_dim), condition.encode([1, 3]).c
    for psi in (1, 1.0, torch.ones(2)):
        assert torch.equal(truncated_styles(generator, z, c, psi=psi), generator.mapping(z, c))
    without = truncated_styles(generator, z, c, psi=1.0, truncation="centroid")
    assert torch.equal(without, generator.mapping(z, c)), "no centre is needed"


@pytest.mark.parametrize(
    ("kind", "name", "truncation", "words"),
    [
        ("class", "sgxl-tiny-16", "classes", "use class, global, centroid"),
        ("class", "sgxl-tiny-16", "centroid", "sgxl-t centroids MODEL"),
        ("text", "sgxl-tiny-16", "global", "use class, which pulls"),
        ("text", "sgt-tiny-16", "global", None),
        ("class", "sgxl-tiny-16", "global", None),
        ("text", "sgxl-tiny-16", "class", None),
    ],
)
def test_truncation_that_a_model_has_no_centre_for_is_refused(kind, name, truncation, words):
    generator, _ = tiny_model(kind, name)
    if words is None:
        check_truncation(generator, Truncation(truncation))
        return
    with pytest.raises(ValueError, match=words):
        check_truncation(generator, Truncation(truncation))


def test_a_cutoff_counts_the_models_styles():
    generator, _ = tiny_model("class")
    for cutoff in (None, 0, 1, generator.num_ws):
        check_truncation(generator, Truncation(cutoff=cutoff))
    for cutoff in (-1, generator.num_ws + 1):
        with pytest.raises(ValueError, match=f"so use 0 to {generator.num_ws}"):
            check_truncation(generator, Truncation(cutoff=cutoff))
