"""Styles of specs: mixed layers, ways between, and what grids are planned from."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from sgxl_t.ops.random import latents
from sgxl_t.sampling.asked_numbers import spans
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.sampling.sample_spec import InterpolationFrame, Mix, SampleSpec, candidates
from sgxl_t.sampling.sheets.grid_rows import ConditionEntry, column_titles, grid_lines, plan_rows
from sgxl_t.sampling.styles import interpolated_styles, slerp, spec_styles
from sgxl_t.sampling.truncation.truncation import Truncation, truncated_styles
from sgxl_t.sampling.walks.plan import WalkSettings, plan_interpolation

NAMES = ("sgt-tiny-16", "sgxl-tiny-16")
ENDS = {"class": (1, 3), "text": ("a red fox", "a blue car")}
PLAIN = Truncation()


def unit(count, dim, seed=0):
    vectors = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1)


def test_the_arc_keeps_length_and_its_angle_grows_evenly():
    first, last = unit(5, 16), unit(5, 16, 1)
    whole = torch.acos((first * last).sum(1))
    for share in (0.0, 0.25, 0.5, 1.0):
        between = slerp(first, last, torch.full((5, 1), share))
        torch.testing.assert_close(between.norm(dim=1), torch.ones(5))
        angle = torch.acos((first * between).sum(1).clamp(-1, 1))
        torch.testing.assert_close(angle, share * whole, atol=1e-3, rtol=0)
    assert torch.equal(slerp(first, last, torch.zeros(5, 1)), first)
    assert torch.equal(slerp(first, last, torch.ones(5, 1)), last)


def test_equal_and_opposite_vectors_have_a_way_too():
    first = unit(2, 8)
    assert torch.equal(slerp(first, first, torch.full((2, 1), 0.3)), first)
    assert torch.isfinite(slerp(first, -first, torch.full((2, 1), 0.5))).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ENDS)
def test_a_way_begins_and_ends_with_the_shots(kind, name):
    generator, condition = tiny_model(kind, name)
    first, last = SampleSpec(ENDS[kind][0], 1, 0.9), SampleSpec(ENDS[kind][1], 2, 0.4)
    ends = spec_styles(generator, condition, [first, last], PLAIN)
    way = interpolated_styles(
        generator,
        condition,
        [InterpolationFrame(first, last, share) for share in (0.0, 1.0, 0.5)],
        PLAIN,
    )
    torch.testing.assert_close(way[:2], ends, rtol=1e-5, atol=1e-6)
    if kind == "class":
        torch.testing.assert_close(way[2], ends.mean(0), rtol=1e-5, atol=1e-6)


def test_text_features_turn_on_the_sphere():
    generator, condition = tiny_model("text")
    first, last = (SampleSpec(end, 1) for end in ENDS["text"])
    way = interpolated_styles(generator, condition, [InterpolationFrame(first, last, 0.5)], PLAIN)[0, 0]
    features = way[generator.z_dim :].detach()
    ends = condition.encode(list(ENDS["text"])).c.detach()
    assert float(features.norm()) == pytest.approx(float(ends.norm(dim=1).mean()), rel=1e-5)
    middle = torch.nn.functional.normalize(ends.sum(0), dim=0)
    assert float(torch.cosine_similarity(features, middle, dim=0)) == pytest.approx(1, abs=1e-5)
    alone = spec_styles(generator, condition, [first], PLAIN)[0, 0]
    torch.testing.assert_close(way[: generator.z_dim], alone[: generator.z_dim])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ENDS)
def test_a_mix_takes_exactly_its_layers_from_the_other(kind, name):
    generator, condition = tiny_model(kind, name)
    first, other = ENDS[kind]
    layers = (0, generator.num_ws - 1)
    specs = [
        SampleSpec(first, 3, 0.7, Mix(other, layers)),
        SampleSpec(first, 3, 0.7),
        SampleSpec(other, 3, 0.7),
    ]
    mixed, base, source = spec_styles(generator, condition, specs, PLAIN)
    for layer in range(generator.num_ws):
        expected = source if layer in layers else base
        torch.testing.assert_close(mixed[layer], expected[layer])
    assert not torch.allclose(base, source)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["class", "text"])
def test_truncation_by_sample_equals_that_of_the_network(kind, name):
    generator, condition = tiny_model(kind, name)
    z, c = latents([1, 2, 3], generator.z_dim), condition.encode([ENDS[kind][0]] * 3).c
    psis = [0.3, 1.0, -0.5]
    ours = truncated_styles(generator, z, c, psi=torch.tensor(psis), cutoff=2)
    for row, psi in enumerate(psis):
        one = slice(row, row + 1)
        theirs = generator.mapping(z[one], c[one], truncation_psi=psi, truncation_cutoff=2)
        torch.testing.assert_close(ours[one], theirs, rtol=1e-5, atol=1e-6)


def test_interpolation_in_python_equals_plain_calls_at_its_ends():
    pipe = Pipeline(*tiny_model("text"))
    way = pipe.interpolate(["a red fox", "a blue car"], frames=2, seed=4, psi=[1.0, 0.4])
    assert way.conditions == ["a red fox", *["a red fox to a blue car"] * 2, "a blue car"]
    np.testing.assert_allclose(way.psis, [1, 0.8, 0.6, 0.4])
    for image, prompt, psi in ((way.images[0], "a red fox", 1.0), (way.images[-1], "a blue car", 0.4)):
        alone = np.asarray(pipe(prompt, seed=4, psi=psi).images[0]).astype(int)
        assert np.abs(np.asarray(image) - alone).max() <= 1


def rows_of(asked, seeds=(0, 1), psis=(1.0,), **more):
    return plan_rows(asked, seeds, psis, name=str, label=str.upper, **more)


def test_rows_have_a_column_per_seed_and_psi():
    rows = rows_of([ConditionEntry("fox")], psis=(0.5, 1.0))
    assert [(spec.seed, spec.psi) for spec in rows[0].specs] == [(0, 0.5), (0, 1.0), (1, 0.5), (1, 1.0)]
    assert column_titles(rows) == ["seed 0, psi 0.5", "seed 0, psi 1", "seed 1, psi 0.5", "seed 1, psi 1"]
    assert column_titles(rows_of([ConditionEntry("fox")], seeds=(3,), psis=(0.5, 1.0))) == [
        "psi 0.5",
        "psi 1",
    ]


def test_what_a_row_has_of_its_own_stands_in_its_label():
    rows = rows_of([ConditionEntry("fox"), ConditionEntry("dog", psi=0.5), ConditionEntry("car", seed=9)])
    assert [row.label for row in rows] == ["FOX", "DOG | psi 0.5", "CAR | seed 9"]
    assert [len(row.specs) for row in rows] == [2, 2, 1]
    assert column_titles(rows[:2]) == ["seed 0", "seed 1"]
    assert column_titles(rows) == ["", "seed 1"], "no title where rows differ"


@pytest.mark.parametrize(
    ("prompts", "seeds", "psis", "widths"),
    [
        (1, 8, 1, [8]),
        (1, 32, 1, [8, 8, 8, 8]),
        (1, 13, 1, [4, 4, 4, 1]),
        (1, 4, 3, [6, 6]),
        (1, 1, 10, [5, 5]),
        (2, 16, 1, [16, 16]),
        (2, 20, 1, [16, 4, 16, 4]),
        (2, 6, 3, [15, 3, 15, 3]),
    ],
)
def test_rows_of_a_grid_wrap_where_they_are_long(prompts, seeds, psis, widths):
    asked = [ConditionEntry(name) for name in ("fox", "dog")[:prompts]]
    rows = rows_of(asked, range(seeds), [number / 10 for number in range(psis)])
    lines = grid_lines(rows)
    assert [len(line.specs) for line in lines] == [len(line.columns) for line in lines] == widths
    assert [spec for line in lines for spec in line.specs] == [spec for row in rows for spec in row.specs]
    assert [line.label for line in lines if line.label] == ["FOX", "DOG"][:prompts]


def test_candidates_of_two_seeds_never_meet():
    tried = [one.seed for seed in range(3) for one in candidates(SampleSpec("fox", seed), 4)]
    assert tried == list(range(12))
    assert rows_of([ConditionEntry("fox")], best_of=4)[0].columns == (
        "best of seeds 0-3",
        "best of seeds 4-7",
    )


def test_steps_show_every_shot_once():
    keys = [SampleSpec(word, 0) for word in ("a", "b", "a")]
    steps = plan_interpolation(keys, WalkSettings(1))
    assert [(step.first.condition, step.share) for step in steps] == [
        ("a", 0.0),
        ("a", 0.5),
        ("b", 0.0),
        ("b", 0.5),
        ("b", 1.0),
    ]
    assert len(plan_interpolation(keys, WalkSettings(0))) == 3


def test_numbers_are_written_as_people_do():
    assert spans([4, 2, 3, 0, 9]) == "0,2-4,9"
    assert spans([]) == ""
