"""Directions: found between ends, by spread and by weights; kept in files; applied to latents."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_clips import tiny_whole_clip
from tiny_models import tiny_clip, tiny_model

from sgxl_t.objectives.guidance import spherical_distance
from sgxl_t.sampling.directions.affines import sensitivity, style_affines
from sgxl_t.sampling.directions.by_clip import ClipSettings
from sgxl_t.sampling.directions.direction import Directions, open_directions, parse_strengths
from sgxl_t.sampling.directions.edits_file import read_edits
from sgxl_t.sampling.directions.find import boundary
from sgxl_t.sampling.latents import Latents
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.sampling.truncation.centroids import free_width

NAMES = ("sgt-tiny-16", "sgxl-tiny-16")
ENDS = {"text": ("a red fox", "a blue car"), "class": ("fox", "car")}


def piped(kind="text", name=NAMES[0]):
    return Pipeline(*tiny_model(kind, name), device="cpu")


def test_the_difference_of_two_prompts_is_the_whole_way_for_every_z():
    pipe = piped()
    found = pipe.directions.between(*ENDS["text"], name="repaint")
    first, last = (pipe(end, seeds=[3, 8], output="latents") for end in ENDS["text"])
    moved = pipe.edit(first, found, 1)
    torch.testing.assert_close(moved.ws, last.ws)
    assert moved.names[0] == "a red fox, seed 3, repaint +1"
    assert moved.z is None
    assert moved.made[0]["edits"] == [{"direction": "repaint", "strength": 1.0}]
    z_part = found.vectors[..., : pipe.generator.z_dim]
    assert z_part.abs().max() < 1e-6


def test_several_ends_give_the_mean_of_their_ways():
    find = piped().directions
    pairs = [("a red fox", "a blue fox"), ("a red car", "a blue car")]
    single = [find.between(*pair).vectors for pair in pairs]
    firsts, lasts = zip(*pairs, strict=True)
    torch.testing.assert_close(find.between(firsts, lasts).vectors, sum(single) / 2)


def test_classes_are_led_over_by_the_mean_way_of_their_styles():
    pipe = piped("class", NAMES[1])
    found = pipe.directions.between("fox", "car")
    means = [pipe(end, seeds=range(256), output="latents").ws.double().mean(0) for end in ("fox", "car")]
    torch.testing.assert_close(found.vectors[0].double(), means[1] - means[0], atol=1e-5, rtol=1e-4)


def test_a_boundary_finds_what_labels_differ_in_and_not_what_varies_anyway():
    rng = torch.Generator().manual_seed(0)
    first, last = (torch.randn(200, 6, generator=rng).double() for _ in range(2))
    for part in (first, last):
        part[:, 1] *= 10
    last[:, 0] += 6
    first[:, 1] += 2  # far below the spread there
    vector, about = boundary(first, last)
    assert float(vector[0] / vector.norm()) > 0.99
    assert float(vector.norm()) == pytest.approx(6, rel=0.1)
    assert about["examples"] == [200, 200]
    assert about["separated"] > 0.98


def test_one_example_on_each_side_is_enough_and_equal_ones_are_refused():
    one, other = torch.zeros(1, 5).double(), torch.tensor([[0.0, 3, 0, 4, 0]]).double()
    torch.testing.assert_close(boundary(one, other)[0], other[0])
    with pytest.raises(ValueError, match="same mean"):
        boundary(one, one)


def test_latents_in_files_are_examples(tmp_path):
    pipe = piped("none", NAMES[1])
    sides = [pipe(seeds=range(start, start + 8), output="latents") for start in (0, 8)]
    files = [str(side.save(tmp_path / f"{place}.safetensors")) for place, side in enumerate(sides)]
    found = pipe.directions.between(*files)
    torch.testing.assert_close(found.vectors, pipe.directions.between(*sides).vectors)
    gaps = [(side.ws.mean(dim=1) @ found.vectors[0, 0]).mean() for side in sides]
    assert float(gaps[1] - gaps[0]) == pytest.approx(float(found.vectors[0, 0].norm() ** 2), rel=1e-3)
    with pytest.raises(ValueError, match="alike"):
        pipe.directions.between(sides[0], "x")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["class", "text", "none"])
def test_pca_finds_orthogonal_ways_of_one_deviation_in_order(kind, name):
    pipe = piped(kind, name)
    asked = {"text": ["a red fox", "a car"], "class": None, "none": None}[kind]
    found = pipe.directions.pca(3, asked)
    width = free_width(pipe.generator)
    assert found.vectors[..., width:].abs().sum() == 0
    moved = found.vectors[:, 0, :width].double()
    lengths = moved.norm(dim=1)
    assert (lengths[:-1] >= lengths[1:]).all()
    across = moved / lengths[:, None]
    torch.testing.assert_close(across @ across.T, torch.eye(3).double(), atol=1e-5, rtol=0)
    label = {"text": "a red fox", "class": "fox", "none": None}[kind]
    w = pipe(label, seeds=range(2000), output="latents").ws[:, 0, :width].double()
    if kind != "class":  # whose classes differ in their spread
        assert ((w @ across.T).std(dim=0) / lengths - 1).abs().max() < 0.15
    assert found.found["shares"] == sorted(found.found["shares"], reverse=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_closed_form_is_what_styles_answer_to_most(name):
    pipe = piped("none", name)
    generator = pipe.generator
    assert sorted({number for number, _ in style_affines(generator)}) == list(range(generator.num_ws))
    found = pipe.directions.closed_form(2)
    w = pipe(seeds=range(4096), output="latents").ws[:, 0].mean(dim=0)
    form = sensitivity(generator, w, None)
    across = found.vectors[:, 0].double()
    across /= across.norm(dim=1, keepdim=True)
    answers = torch.einsum("kd,de,ke->k", across, form, across)
    assert float(answers[0]) == pytest.approx(float(torch.linalg.eigvalsh(form)[-1]), rel=1e-3)
    assert answers[0] >= answers[1]
    if name == NAMES[1]:  # linear layers: the slope is the weight and w does not matter
        torch.testing.assert_close(sensitivity(generator, w + 5, None), form, atol=1e-6, rtol=1e-4)


def test_layers_that_are_not_named_stay(tmp_path):
    pipe = piped()
    rows = pipe("a red fox", seeds=[1], output="latents")
    whole = pipe.directions.pca(1, ["a red fox"])
    part = pipe.directions.pca(1, ["a red fox"], layers=[1, 2])
    torch.testing.assert_close(part.vectors[:, [1, 2]], whole.vectors[:, [1, 2]])
    by_text = pipe.edit(rows, whole, [2.0], layers="1-2")
    torch.testing.assert_close(by_text.ws, pipe.edit(rows, part, 2).ws)
    assert by_text.ws[:, 0].equal(rows.ws[:, 0])
    for refused in ("0-99", []):
        with pytest.raises(ValueError, match="layers"):
            pipe.edit(rows, whole, 1, layers=refused)


def test_strengths_of_opposite_sign_go_opposite_ways_and_0_stays():
    pipe = piped()
    rows = pipe("a red fox", seeds=[1, 2], output="latents")
    found = pipe.directions.pca(2, ["a red fox"])
    moved = pipe.edit(rows, found, [-1, 0, 1])
    assert len(moved) == 2 * 2 * 3
    steps = moved.ws.reshape(2, 2, 3, *rows.ws.shape[1:])
    assert steps[:, :, 1].equal(rows.ws[:, None].expand(-1, 2, -1, -1))
    torch.testing.assert_close(steps[:, :, 0] + steps[:, :, 2], 2 * steps[:, :, 1])
    pictures = pipe(ws=moved).images
    assert np.abs(np.asarray(pictures[0]).astype(int) - np.asarray(pictures[2])).max() > 0


def test_a_file_gives_the_directions_again_and_says_what_they_fit(tmp_path):
    pipe = piped()
    found = pipe.directions.pca(3, ["a fox"])
    file = found.save(tmp_path / "pca.safetensors")
    again = Directions.open(file)
    assert again.vectors.equal(found.vectors)
    assert (again.names, again.mapping, again.found) == (found.names, found.mapping, found.found)
    assert file.read_bytes() == again.save(tmp_path / "again.safetensors").read_bytes()
    assert open_directions(f"{file}:2,0").names == ("component 2", "component 0")
    with pytest.raises(ValueError, match="no direction 7"):
        open_directions(f"{file}:7")


def test_directions_of_another_mapping_are_refused_and_a_higher_stage_takes_them():
    pipe, other = piped(), piped("text", NAMES[1])
    found = pipe.directions.pca(1, ["a fox"])
    with pytest.raises(ValueError, match="take a direction of this model"):
        found.for_generator(other.generator)
    stranger = piped()
    for weight in stranger.generator.mapping.parameters():
        weight.data += 0.1
    with pytest.raises(ValueError, match="another mapping"):
        stranger.edit(stranger("a fox", output="latents"), found, 1)
    higher = piped(name="sgt-tiny-16")
    higher.generator.num_ws += 2  # as a stage with two layers more has
    more = found.for_generator(higher.generator)
    assert more.shape[1] == found.vectors.shape[1] + 2
    assert more[:, -1].equal(found.vectors[:, 0])
    partly = replace(found, vectors=found.vectors * (torch.arange(pipe.generator.num_ws) > 1)[:, None])
    assert partly.for_generator(higher.generator)[:, -2:].abs().sum() == 0


def test_broken_files_and_files_of_other_things_are_one_sentence(tmp_path):
    pipe = piped()
    good = pipe.directions.pca(1, ["a fox"])
    latents = pipe("a fox", output="latents").save(tmp_path / "latents.safetensors")
    cases = {"latents.safetensors": latents.read_bytes()}
    cases["cut.safetensors"] = good.save(tmp_path / "good.safetensors").read_bytes()[:-9]
    cases["empty.safetensors"] = b""
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    about = {"format": 1, "mapping": "x", "num_ws": 1, "w_dim": 2, "names": ["a"]}
    for name, changed in {
        "format": {"format": 9},
        "names": {"names": ["a", "b"]},
        "none": {"names": []},
    }.items():
        header = {"directions": json.dumps(about | changed)}
        save_file({"directions": torch.zeros(1, 1, 2)}, tmp_path / f"{name}.safetensors", metadata=header)
        cases[f"{name}.safetensors"] = b""
    header = {"directions": json.dumps(about)}
    save_file({"directions": torch.full((1, 1, 2), torch.nan)}, tmp_path / "nan.safetensors", metadata=header)
    for name in [*cases, "nan.safetensors", "absent.safetensors"]:
        with pytest.raises(ValueError, match=r"^[^\n]*safetensors[^\n]*$"):
            Directions.open(tmp_path / name)


@pytest.mark.parametrize("text", ["", "a", "1,nan", "1,inf", "1000"])
def test_strengths_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="strength"):
        parse_strengths(text)


def test_lines_of_one_name_are_one_edit(tmp_path):
    file = tmp_path / "edits.txt"
    file.write_text(
        "# a note\nnight: a fox -> a fox at night\n\nblue: a -> b\nnight: a dog -> a dog at night\n"
    )
    night, blue = read_edits(file)
    assert night.name == "night"
    assert night.firsts == ("a fox", "a dog")
    assert blue.lasts == ("b",)
    assert [one.name for one in read_edits(file, ["blue"])] == ["blue"]
    with pytest.raises(ValueError, match="no edit 'red'"):
        read_edits(file, ["red"])
    file.write_text("night: a fox\n")
    with pytest.raises(ValueError, match="line 1"):
        read_edits(file)


def test_the_edits_of_the_repository_are_read():
    names = [edit.name for edit in read_edits(Path(__file__).parents[2] / "data/prompts/edits.txt")]
    assert {"smile", "no stripes", "big eyes", "at night", "blue", "larger", "in snow"} <= set(names)


def test_unfit_requests_are_one_sentence():
    find = piped().directions
    with pytest.raises(ValueError, match="name at least one"):
        find.pca(1)
    with pytest.raises(ValueError, match="1 to"):
        find.pca(0, ["a fox"])
    with pytest.raises(ValueError, match="as many"):
        find.between(["a fox"], [])
    with pytest.raises(ValueError, match="layers"):
        find.closed_form(1, ["a fox"], layers=[99])
    with pytest.raises(ValueError, match="a name for each"):
        Directions(torch.zeros(2, 1, 1), ["one"], "x")


def test_latents_of_another_shape_are_refused():
    pipe = piped()
    found = pipe.directions.pca(1, ["a fox"])
    rows = Latents(torch.zeros(1, 2, 3), ["row"])
    with pytest.raises(ValueError, match="latents of this model"):
        found.applied(rows, 1, pipe.generator)


def test_words_lead_images_to_where_clip_sees_them():
    pipe, clip, asked = piped(), tiny_whole_clip(), ["a red fox"]
    few = ClipSettings(images=64, keep=0)
    found = pipe.directions.by_clip("a red fox", "a blue car", clip, asked, settings=few)
    assert found.names == ("a red fox to a blue car",)
    rows = pipe(asked, seeds=range(32), output="latents")
    way = clip.encode_text(["a blue car"]) - clip.encode_text(["a red fox"])
    seen = [clip.encode_image(pipe(ws=pipe.edit(rows, found, step), output="pt").images) for step in (0, 1)]
    far = [spherical_distance(one, seen[0] + way).mean() for one in seen]
    assert far[1] < far[0]


def test_what_is_kept_keeps_images_nearer_and_layers_that_are_not_named_stay():
    pipe, clip = piped(), tiny_whole_clip()
    rows = pipe("a red fox", seeds=range(4), output="latents")
    old = pipe(ws=rows, output="np").images
    ways = []
    for keep in (0.0, 0.1):
        few, asked = ClipSettings(images=64, keep=keep), ["a red fox"]
        found = pipe.directions.by_clip("a red fox", "a blue car", clip, asked, layers=[1, 2], settings=few)
        assert found.vectors[:, 3:].abs().sum() == 0
        assert found.vectors[:, 1:3].abs().sum() > 0
        ways.append(np.abs(pipe(ws=pipe.edit(rows, found, 1), output="np").images - old).mean())
    assert ways[1] < ways[0]


def test_a_clip_without_image_tower_is_refused():
    with pytest.raises(ValueError, match="leave --clip out"):
        piped().directions.by_clip("a", "b", "own", ["a fox"])
    with pytest.raises(ValueError, match="image tower"):
        piped().directions.by_clip("a", "b", tiny_clip(), ["a fox"])
    with pytest.raises(ValueError, match="images=1"):
        ClipSettings(images=1)
