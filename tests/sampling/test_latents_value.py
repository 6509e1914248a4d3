"""Latents as values: given to a pipeline, given by it, kept in files; what does not fit is one sentence."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import tiny_folder, tiny_model

from sgxl_t.ops.random import latents as z_of_seeds
from sgxl_t.sampling.latents import Latents, latent_specs, open_rows
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.sampling.sample_spec import SampleSpec

NAMES = ("sgt-tiny-16", "sgxl-tiny-16")
REQUESTS = {"class": ["dog", "fox"], "text": ["a red fox", "a blue car"], "none": None}


def pixels(pictures):
    return np.stack([np.asarray(image) for image in pictures.images]).astype(int)


def some(count=3, num_ws=4, w_dim=8):
    ws = torch.randn(count, num_ws, w_dim, generator=torch.Generator().manual_seed(0))
    return Latents(ws, [f"row {row}" for row in range(count)], model="abc")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("psi", [1.0, 0.6])
def test_latents_of_a_call_give_its_images_again(kind, name, psi):
    pipe = Pipeline(*tiny_model(kind, name))
    asked = {"conditions": REQUESTS[kind], "seeds": [4, 2], "psi": psi}
    latents = pipe(**asked, output_type="latents")
    assert latents.ws.shape == (len(latents), pipe.generator.num_ws, pipe.generator.w_dim)
    assert latents.psi == (psi,) * len(latents)
    assert np.abs(pixels(pipe(ws=latents)) - pixels(pipe(**asked))).max() <= 1
    if psi == 1:
        from_w = pipe(w=latents.ws[:, 0], conditions=list(latents.conditions) if kind != "none" else None)
        assert np.abs(pixels(from_w) - pixels(pipe(**asked))).max() <= 1
    from_z = pipe(REQUESTS[kind], z=z_of_seeds([4, 2], pipe.generator.z_dim), psi=psi)
    assert np.abs(pixels(from_z) - pixels(pipe(**asked))).max() <= 1


def test_psi_pulls_latents_further_than_they_were():
    for kind, name in (("class", NAMES[1]), ("text", NAMES[0]), ("text", NAMES[1]), ("none", NAMES[1])):
        pipe = Pipeline(*tiny_model(kind, name))
        first = (REQUESTS[kind] or [None])[0]
        whole, half = (pipe(first, seeds=[1, 2], psi=psi, output="latents") for psi in (1.0, 0.5))
        again = pipe(ws=whole, psi=0.5, output="latents")
        torch.testing.assert_close(again.ws, half.ws)
        quarter = pipe(ws=half, psi=[0.5, 1], output="latents")
        torch.testing.assert_close(quarter.ws, pipe(ws=whole, psi=[0.25, 0.5], output="latents").ws)
        assert quarter.psi == (0.25, 0.5)


def test_styles_of_every_layer_keep_their_condition_part_when_pulled():
    pipe = Pipeline(*tiny_model("text", "sgt-tiny-16"))
    z_dim = pipe.generator.z_dim
    ws = torch.randn(2, pipe.generator.num_ws, pipe.generator.w_dim)
    pulled = pipe(ws=ws, psi=0.25, output="latents").ws
    assert torch.equal(pulled[:, :, z_dim:], ws[:, :, z_dim:])
    center = pipe.generator.mapping.x_avg
    torch.testing.assert_close(pulled[:, :, :z_dim] - center, 0.25 * (ws[:, :, :z_dim] - center))


def test_pulling_what_has_no_known_class_is_one_sentence():
    pipe = Pipeline(*tiny_model("class", "sgxl-tiny-16"))
    ws = torch.randn(1, pipe.generator.num_ws, pipe.generator.w_dim)
    with pytest.raises(ValueError, match="the class or prompt of these latents is not known"):
        pipe(ws=ws, psi=0.5)
    assert pipe("dog", ws=ws, psi=0.5).images
    assert pipe(ws=ws, psi=0.5, truncation="global").images


def test_a_seeded_torch_generator_gives_the_image_of_its_seed():
    pipe = Pipeline(*tiny_model("text"))
    made = pipe("a red fox", generator=torch.Generator().manual_seed(3))
    assert np.abs(pixels(made) - pixels(pipe("a red fox", seed=3))).max() <= 1
    assert made.seeds == [None]
    for asked in ({"seed": torch.Generator().manual_seed(3)}, {"seeds": [torch.Generator().manual_seed(3)]}):
        assert (pixels(pipe("a red fox", **asked)) == pixels(made)).all()
    two = pipe(["a red fox", "a dog"], generator=[torch.Generator().manual_seed(s) for s in (3, 4)])
    expected = pipe("a red fox", seeds=[3, 4])
    assert np.abs(pixels(two)[:2] - pixels(expected)).max() <= 1
    assert np.abs(pixels(two)[2] - pixels(pipe("a dog", seed=3))).max() > 1, "the next draw"


def test_output_types_are_those_of_diffusers():
    pipe = Pipeline(*tiny_model("class"))
    images = pixels(pipe("dog", seeds=[0, 1]))
    array = pipe("dog", seeds=[0, 1], output_type="np").images
    assert (array.dtype, array.shape) == (np.float32, (2, 16, 16, 3))
    assert (np.round(array * 255) == images).all()
    tensor = pipe("dog", seeds=[0, 1], output_type="pt").images
    assert tensor.shape == (2, 3, 16, 16)
    assert (tensor.permute(0, 2, 3, 1).numpy() == array).all()


def test_to_returns_the_pipeline_and_takes_sampling_mode_back():
    pipe = Pipeline(*tiny_model("class"), device="cpu")
    before = pixels(pipe("dog"))
    pipe.optimize()
    assert pipe.to("cpu") is pipe
    assert pipe._drawing.fast is None
    assert (pixels(pipe("dog")) == before).all()
    with pytest.raises(ValueError, match="device 'cuda:77' is not available"):
        pipe.to("cuda:77")
    with pytest.raises(ValueError, match=r"torch.float16 is no device"):
        pipe.to(torch.float16)


def test_best_of_gives_the_latents_of_the_chosen_images(monkeypatch):
    pipe = Pipeline(*tiny_model("text"))

    class Scorer:
        def cosines(self, images, prompts):
            return images.float().mean(dim=(1, 2, 3))

    monkeypatch.setattr("sgxl_t.sampling.pipeline.open_scorer", lambda *_: Scorer())
    seed = pipe("a red fox", seed=2, best_of=4).seeds[0]
    latents = pipe("a red fox", seed=2, best_of=4, output="latents")
    assert latents.made[0]["seed"] == seed
    assert torch.equal(latents.z, z_of_seeds([seed], pipe.generator.z_dim))


def test_rows_can_be_chosen_joined_and_mixed():
    latents = some()
    assert latents[1].names == ("row 1",)
    assert latents[-1].names == latents[2:].names == ("row 2",)
    both = Latents.join([latents[[2, 0]], latents[1]])
    assert both.names == ("row 2", "row 0", "row 1")
    assert torch.equal(both.ws, latents.ws[[2, 0, 1]])
    mixed = latents.mixed(latents[0], [1, 3])
    assert torch.equal(mixed.ws[:, [1, 3]], latents.ws[:1, [1, 3]].expand(3, -1, -1))
    assert torch.equal(mixed.ws[:, [0, 2]], latents.ws[:, [0, 2]])
    with pytest.raises(ValueError, match="layers"):
        latents.mixed(latents[0], [4])
    with pytest.raises(ValueError, match="different models"):
        Latents.join([latents, replace(latents, model="other")])
    with pytest.raises(IndexError):
        latents[3]


def test_a_file_holds_all_of_it_and_equal_latents_are_equal_bytes(tmp_path):
    pipe = Pipeline.from_pretrained(tiny_folder(tmp_path / "m", "class"))
    latents = pipe(["dog", "fox"], seeds=[1, 2], psi=0.5, output="latents")
    file = latents.save(tmp_path / "new" / "a.safetensors")
    again = Latents.open(file)
    for name in ("names", "conditions", "psi", "made", "model", "facts"):
        assert getattr(again, name) == getattr(latents, name), name
    assert torch.equal(again.ws, latents.ws)
    assert torch.equal(again.z, latents.z)
    assert again.made[1] == {"seed": 2, "psi": 0.5, "class": 1}
    assert again.model == pipe.model_hash is not None
    assert again.save(tmp_path / "b.safetensors").read_bytes() == file.read_bytes()
    assert (pixels(pipe(ws=str(file))) == pixels(pipe(ws=file))).all()
    rows, numbers = open_rows(f"{file}:0,2-3")
    assert numbers == [0, 2, 3]
    assert rows.names == tuple(latents.names[row] for row in numbers)
    with pytest.raises(ValueError, match="has no row 4: take rows 0 to 3"):
        open_rows(f"{file}:4")


def test_latents_of_another_model_are_refused(tmp_path):
    pipe, other = (Pipeline.from_pretrained(tiny_folder(tmp_path / kind, kind)) for kind in ("class", "text"))
    latents = pipe("dog", output="latents")
    with pytest.raises(ValueError, match=r"holds \d+ styles of \d+ numbers a row and the model takes"):
        other(ws=latents)
    with pytest.raises(ValueError, match="was made with another model"):
        pipe(ws=replace(latents, model="0123"))
    with pytest.raises(ValueError, match="names 99 as a condition"):
        pipe(ws=replace(latents, conditions=[99]))
    with pytest.raises(ValueError, match="names 'dog' as a condition"):
        pipe(ws=replace(latents, conditions=["dog"]))


def altered(latents, file, **changes):
    """A file with something else in its header or tensors."""
    tensors = changes.pop("tensors", {"ws": latents.ws})
    about = {"format": 1, "model": "abc", "num_ws": 4, "w_dim": 8, "facts": {}} | changes
    about.setdefault(
        "rows", [{"name": name, "condition": None, "psi": 1, "made": {}} for name in latents.names]
    )
    save_file(tensors, file, {"latents": json.dumps(about)})
    return file


def test_files_from_elsewhere_are_refused_with_a_sentence(tmp_path):
    latents, file = some(), tmp_path / "a.safetensors"
    assert len(Latents.open(altered(latents, file))) == 3
    wrong = {
        "format": ({"format": 2}, "format is 2 and this version reads format 1"),
        "rows": ({"rows": []}, "describes 0 rows"),
        "size": ({"w_dim": 9}, "describes 3 rows of 4 x 9 numbers and holds ws of shape"),
        "psi": ({"rows": [{"name": "a", "psi": "x", "made": {}}] * 3}, "rows.0..psi is text"),
        "name": ({"rows": [{"psi": 1, "made": {}}] * 3}, 'rows.0. has no "name"'),
        "nan": ({"tensors": {"ws": latents.ws * float("nan")}}, "not finite float32 rows"),
        "type": ({"tensors": {"ws": latents.ws.double()}}, "not finite float32 rows"),
        "z": ({"tensors": {"ws": latents.ws, "z": torch.zeros(2, 4)}}, "holds z for 2 of 3 rows"),
        "other": ({"tensors": {"weight": latents.ws}}, "a safetensors file without latents"),
    }
    for changes, sentence in wrong.values():
        with pytest.raises(ValueError, match=sentence):
            Latents.open(altered(latents, file, **changes))
    file.write_bytes(b"no safetensors")
    with pytest.raises(ValueError, match="truncated or no safetensors file"):
        Latents.open(file)
    with pytest.raises(ValueError, match="is missing"):
        Latents.open(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="is no name for latents"):
        latents.save(tmp_path / "a.pt")


MISTAKES = {
    "two": ({"z": torch.zeros(1, 64), "seeds": [1]}, "z and seeds say twice"),
    "z": ({"z": torch.zeros(1, 3)}, r"z of shape \[1, 3\] does not fit: the model takes \[N, 64\]"),
    "w": ({"w": "abc"}, "w of type str is no tensor"),
    "ws": ({"ws": torch.zeros(1, 2, 3)}, r"ws of shape \[1, 2, 3\] does not fit"),
    "nan": ({"z": torch.full((1, 64), torch.nan)}, "z holds numbers that are not finite"),
    "generator": ({"generator": 3}, "generator takes a torch.Generator"),
    "kind": ({"output_type": "png"}, "output_type='png' is unknown: use pil, np, pt, latents"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_latents_are_one_sentence(mistake):
    wrong, sentence = MISTAKES[mistake]
    with pytest.raises(ValueError, match=sentence):
        Pipeline(*tiny_model("class"))("dog", **wrong)


def test_mixes_and_best_of_start_from_seeds():
    pipe = Pipeline(*tiny_model("text"))
    latents = pipe("a red fox", output="latents")
    with pytest.raises(ValueError, match="a mix takes a prompt's styles for the same seed"):
        pipe(ws=latents, mix="a dog", layers="1")
    with pytest.raises(ValueError, match="leave the mix, or the latents, out"):
        pipe(ws=latents, best_of=2)
    z = z_of_seeds([7], pipe.generator.z_dim)
    mixed = pipe("a red fox", z=z, mix="a dog", layers="1-2", output="latents")
    expected = pipe("a red fox", seed=7, mix="a dog", layers="1-2", output="latents")
    assert torch.equal(mixed.ws, expected.ws)
    assert mixed.z is None
    assert len(list(pipe.sample([SampleSpec("a dog", 1), *latent_specs(latents)]))) == 2
