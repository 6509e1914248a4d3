"""Photographs to latents: what is optimised falls, what is stored goes on, what is tuned stays near."""

import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_models import tiny_folder, tiny_model

from sgxl_t.datasets.open import open_source
from sgxl_t.networks.configs import ConditionSpec
from sgxl_t.networks.generators.registry import build_generator, model_config
from sgxl_t.ops.images import from_uint8
from sgxl_t.sampling.inversion.encoder import Encoder, load_encoder, save_encoder
from sgxl_t.sampling.inversion.encoder_training import train_encoder
from sgxl_t.sampling.inversion.invert import Inversion, run_inversion
from sgxl_t.sampling.inversion.losses import (
    Features,
    noise_loss,
    open_features,
    pixel_loss,
    psnr,
    random_sums,
)
from sgxl_t.sampling.inversion.optimise import Goal, LatentSearch, ramp
from sgxl_t.sampling.inversion.photos import read_photos
from sgxl_t.sampling.inversion.pivotal import PivotalTuning
from sgxl_t.sampling.inversion.settings import InversionSettings
from sgxl_t.sampling.inversion.state import load_state, save_state
from sgxl_t.sampling.inversion.style_pool import StylePool, all_conditions, synthesize
from sgxl_t.sampling.inversion.tuned import Tuned
from sgxl_t.sampling.pipeline import Pipeline

EMOJI_SCENES_MODEL = Path(__file__).parents[2] / "data/emoji-scenes/model"
QUICK = {"steps": 12, "candidates": 16}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return Pipeline.from_pretrained(tiny_folder(tmp_path_factory.mktemp("m") / "model", "class"))


def photographs(pipe, count=3):
    return pipe(["fox"], seeds=range(count), psi=0.7).images


def begun(pipe, photos, **settings):
    chosen = InversionSettings(**{**QUICK, **settings})
    config = pipe.generator.config
    read = read_photos(photos, config.img_resolution, config.img_channels)
    return Inversion(pipe.source, pipe.info, read, [], chosen)


def test_psnr_is_that_of_bytes():
    one, other = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 10 / 127.5)
    assert psnr(one, other).tolist() == pytest.approx([20 * torch.log10(torch.tensor(25.5)).item()] * 2)
    assert psnr(one, one).tolist() == [99.0, 99.0]


def test_pixel_loss_counts_a_shift_of_all_pixels_at_every_scale():
    photos = torch.zeros(1, 3, 16, 16)
    assert pixel_loss(photos + 0.5, photos).tolist() == pytest.approx([3 * 0.25]), "16, 8 and 4 px"
    checks = ((torch.arange(16)[:, None] + torch.arange(16)) % 2 - 0.5).expand(1, 3, 16, 16)
    assert pixel_loss(checks, photos).tolist() == pytest.approx([0.25]), "only the finest scale sees it"


def test_squares_of_random_sums_are_the_pixel_loss_in_the_mean():
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 16, 16, generator=rng) * torch.tensor([0.2, 1.0])[:, None, None, None]
    squares = torch.stack([random_sums(images, rng) for _ in range(3000)]).square().mean(dim=0)
    assert squares.tolist() == pytest.approx(pixel_loss(images, torch.zeros(1)).tolist(), rel=0.15)


def test_noise_loss_tells_noise_from_a_ramp():
    noise = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    smooth = torch.linspace(-1.7, 1.7, 32).expand(32, 32)
    assert noise_loss([noise]) < 0.1 * noise_loss([smooth])


def test_rate_rises_stays_and_falls():
    rates = [ramp(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 101 / 0.05)
    assert rates[10:70] == [1.0] * 60
    assert 0 < rates[-1] < 0.01


def test_features_name_themselves(monkeypatch, tmp_path):
    monkeypatch.setenv("SGXL_T_CACHE", str(tmp_path))
    assert open_features(None, torch.device("cpu")).name == "random:small_cnn"
    with pytest.raises(ValueError, match="no weights of LPIPS"):
        open_features("lpips", torch.device("cpu"))


@pytest.mark.parametrize("space", ["w", "w+"])
def test_latents_come_close_and_the_best_is_kept(pipe, space):
    inversion = begun(pipe, photographs(pipe), space=space, steps=30)
    assert run_inversion(inversion)
    found = inversion.result()
    assert [*found.stages] == (["start", "w"] if space == "w" else ["start", "w", "w+"])
    stages = [statistics.median(values) for values in found.stage_psnr.values()]
    assert stages[-1] > stages[0] + 3
    if space == "w":
        assert found.latents.ws.equal(found.latents.ws[:, :1].expand_as(found.latents.ws))
    drawn = pipe(ws=found.latents).images
    assert psnr_of(drawn, found.photos) == pytest.approx(found.psnr, abs=0.1)
    assert min(found.history.psnr[-1]) <= min(found.psnr) + 0.5


def psnr_of(images, photos):
    read = read_photos(images, photos[0].pixels.shape[-1], 3)
    pairs = [(one.pixels.float(), other.pixels.float()) for one, other in zip(read, photos, strict=True)]
    return [float(10 * torch.log10(255**2 / (a - b).square().mean())) for a, b in pairs]


def test_photographs_do_not_disturb_each_other(pipe):
    photos = photographs(pipe)
    together = begun(pipe, photos, batch_size=2)
    alone = begun(pipe, photos[2:])
    run_inversion(together)
    run_inversion(alone)
    assert together.result().latents.ws[2].allclose(alone.result().latents.ws[0], atol=2e-3)


@pytest.mark.parametrize("after", [2, 7, 14])
def test_what_was_stored_goes_on_as_if_nothing_had_happened(pipe, tmp_path, after):
    photos, settings = photographs(pipe, 2), {"pti": 6}
    straight = begun(pipe, photos, **settings)
    run_inversion(straight)
    cut = begun(pipe, photos, **settings)
    assert not run_inversion(cut, stop=lambda: cut.step == after)
    save_state(tmp_path, *cut.state())
    resumed = begun(pipe, photos, **settings)
    resumed.load_state(load_state(tmp_path))
    assert resumed.step == after
    assert resumed.result().psnr == pytest.approx(cut.result().psnr, abs=0.05)
    run_inversion(resumed)
    assert resumed.result().latents.ws.allclose(straight.result().latents.ws, atol=1e-5)
    assert resumed.result().psnr == pytest.approx(straight.result().psnr, abs=0.05)
    assert len(resumed.history.losses) == len(straight.history.losses) == 18


def test_tuning_comes_closer_and_leaves_the_model_alone(pipe, tmp_path):
    before = {name: value.clone() for name, value in pipe.generator.state_dict().items()}
    found = pipe.invert(photographs(pipe, 2), "fox", pti=25, **QUICK)
    assert all(value.equal(before[name]) for name, value in pipe.generator.state_dict().items())
    assert min(found.stage_psnr["pti"]) > min(found.stage_psnr["w+"]) + 0.5
    file = found.tuned.save(tmp_path / "tuned.safetensors")
    model = pipe.info.folder
    tuned = Pipeline.from_pretrained(model, tuned=file)
    assert psnr_of(tuned(ws=found.latents).images, found.photos) == pytest.approx(found.psnr, abs=0.1)
    assert tuned.drawn_by != pipe.drawn_by
    assert tuned.model_hash == pipe.model_hash


def test_tuned_files_of_other_models_and_broken_ones_are_one_sentence(pipe, tmp_path):
    changes = {"synthesis.b8.torgb.bias": torch.ones(3)}
    with pytest.raises(ValueError, match="starts from another model"):
        Tuned(changes, "0" * 16).applied(pipe.generator, pipe.model_hash)
    with pytest.raises(ValueError, match="does not have"):
        Tuned({"synthesis.none": torch.ones(3)}, None).applied(pipe.generator, None)
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="truncated or no safetensors"):
        Tuned.open(tmp_path / "broken.safetensors")


def test_locality_holds_what_lies_around_the_pivot(pipe):
    """With the term, images near the pivot change less; without it they follow the photograph."""
    source, moved = pipe.source, []
    photos = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    goal = Goal.of(photos, open_features("random:small_cnn", torch.device("cpu")), 0.1, None, 8)
    pool = StylePool(source.generator, source.condition, range(4))
    pivot = pool.draw(1, torch.Generator().manual_seed(1)).w[:, None]
    near = pivot.lerp(pool.draw(32, torch.Generator().manual_seed(2)).w[:, None], 0.25)
    for held in (True, False):
        tuning = PivotalTuning(source.generator, goal, pivot, pool, 30, 0)
        if not held:
            tuning._locality = lambda: torch.zeros((), requires_grad=True)
        for _ in range(30):
            tuning.advance()
        with torch.no_grad():
            both = [synthesize(one, near) for one in (source.generator, tuning.tuned)]
        moved.append(float((both[0] - both[1]).square().mean()))
    assert moved[0] < 0.8 * moved[1]


def test_noise_inputs_learn_with_the_generator():
    config = model_config("sgt-tiny-16")
    sizes = replace(config.stylegan_t, use_noise=True)
    spec = ConditionSpec(kind="none")
    generator = build_generator(replace(config, stylegan_t=sizes), spec, seed=1).eval().requires_grad_(False)
    for layer in generator.synthesis.noisy_layers():
        layer.noise_strength.fill_(0.1)
    _, condition = tiny_model("none")
    photos = torch.zeros(1, 3, 16, 16)
    goal = Goal.of(photos, Features("none", lambda x: x.flatten(1)), 0.0, None, 8)
    pool = StylePool(generator, condition, [None])
    tuning = PivotalTuning(generator, goal, pool.draw(1, torch.Generator()).w[:, None], pool, 5, 0)
    for _ in range(5):
        tuning.advance()
    assert any(name.endswith("noise_const") for name in tuning.changes())


def test_generator_weights_take_no_gradient_while_latents_are_searched(pipe):
    inversion = begun(pipe, photographs(pipe, 1))
    inversion.advance()
    assert isinstance(inversion._phase, LatentSearch)
    assert all(value.grad is None for value in pipe.generator.parameters())


@pytest.mark.parametrize("kind", ["none", "text", "class"])
def test_every_kind_of_model_finds_a_start(kind, tmp_path):
    pipe = Pipeline.from_pretrained(tiny_folder(tmp_path / "model", kind))
    asked = {"none": None, "text": "a fox in snow", "class": "dog"}[kind]
    shown = {"none": None, "text": "a fox in snow", "class": 1}[kind]
    image = pipe(asked, seed=3).images[0]
    found = pipe.invert(image, asked, steps=0, candidates=64)
    assert found.latents.conditions == (shown,)
    assert [*found.stages] == ["start"]
    assert pipe.invert(image, steps=0, candidates=64).latents.conditions[0] in all_conditions(
        pipe.condition, pipe.info
    )


def test_alias_free_generators_are_inverted_and_tuned_alike(tmp_path):
    pipe = Pipeline.from_pretrained(tiny_folder(tmp_path / "model", "class", "sgxl-tiny-16"))
    found = pipe.invert(pipe("fox", seed=1).images, "fox", steps=6, pti=4, candidates=8)
    assert found.psnr[0] > found.stage_psnr["start"][0]
    tuned = pipe.tuned_by(found.tuned)
    assert psnr_of(tuned(ws=found.latents).images, found.photos) == pytest.approx(found.psnr, abs=0.1)


def test_more_candidates_start_closer(pipe):
    photos = photographs(pipe)
    few, many = (pipe.invert(photos, steps=0, candidates=count) for count in (4, 256))
    assert statistics.mean(many.psnr) > statistics.mean(few.psnr)


def test_an_encoder_learns_its_model_and_is_used_for_no_other(tmp_path):
    pipe = Pipeline.from_pretrained(tiny_folder(tmp_path / "model", "none"))
    pool = StylePool(pipe.generator, pipe.condition, [None])
    encoder, report = train_encoder(pool, 2000)
    assert report.loss < 0.9
    rounded = save_encoder(pipe.info.folder, encoder, pipe.model_hash, {})
    assert rounded.stat().st_size < 2**20
    images = pipe(seeds=range(8), psi=0.8).images
    found = pipe.invert(images, steps=0)
    assert set(found.starts) == {"encoder"}
    average = pipe(psi=0.0, seeds=[0]).images * 8
    assert statistics.mean(found.psnr) > statistics.mean(psnr_of(average, found.photos))
    assert set(pipe.invert(images, steps=0, encoder=False, candidates=4).starts) == {"nearest of 4 random w"}
    with pytest.raises(ValueError, match="trained for other weights"):
        load_encoder(pipe.info.folder, pipe.generator, "0" * 16)


def test_real_pictures_make_an_encoder_better_at_real_ones(tmp_path):
    pipe = Pipeline.from_pretrained(tiny_folder(tmp_path / "model", "none"))
    for number in range(32):
        Image.new("RGB", (16, 16), (8 * number, 90, 250 - 8 * number)).save(tmp_path / f"{number:02}.png")
    data = open_source(tmp_path, resolution=16)
    real = torch.stack([from_uint8(data[number].image) for number in range(len(data))])
    pool = StylePool(pipe.generator, pipe.condition, [None])
    ratios = []
    for seen in (None, data):
        encoder, report = train_encoder(pool, 960, data=seen)
        ratios.append(psnr(synthesize(pipe.generator, encoder(real)[:, None]), real).mean())
    assert (report.images, report.real) == (672, 288)
    assert ratios[1] > ratios[0] + 0.5


def test_axes_are_as_long_as_w_varies_and_do_not_overlap(tmp_path):
    pipe = Pipeline.from_pretrained(tiny_folder(tmp_path / "model", "none"))
    encoder, _ = train_encoder(StylePool(pipe.generator, pipe.condition, [None]), 64)
    axes = encoder.axes / encoder.std
    assert (axes @ axes.T).allclose(torch.eye(len(axes)), atol=1e-4)
    assert not axes.abs().allclose(torch.eye(len(axes)), atol=0.5), "none was looked for"


def test_steps_along_the_axes_of_an_encoder_come_closer(monkeypatch):
    """On a trained model and pictures that neither it nor its encoder was trained on."""
    pipe = Pipeline.from_pretrained(EMOJI_SCENES_MODEL)
    data = open_source("emoji-scenes:24x8", resolution=32, split="test")
    photos = [data[number].image for number in range(1500, 1504)]
    found = pipe.invert(photos, steps=30, space="w")
    monkeypatch.setattr(Encoder, "load_state_dict", _without_axes)
    plain = pipe.invert(photos, steps=30, space="w")
    assert found.stage_psnr["start"] == plain.stage_psnr["start"]
    assert statistics.mean(found.psnr) > statistics.mean(plain.psnr) + 0.4


def _without_axes(encoder, tensors):
    torch.nn.Module.load_state_dict(encoder, {**tensors, "axes": torch.diag(tensors["std"].float())})


def test_a_stored_search_keeps_the_axes_that_it_went_along(tmp_path):
    pipe = Pipeline.from_pretrained(EMOJI_SCENES_MODEL)
    photos = pipe("a fox in snow", seed=2).images
    straight, cut = (begun(pipe, photos, space="w", steps=6) for _ in range(2))
    run_inversion(straight)
    run_inversion(cut, stop=lambda: cut.step == 3)
    save_state(tmp_path, *cut.state())
    resumed = begun(pipe, photos, space="w", steps=6)
    resumed._encoder.axes.zero_()
    resumed.load_state(load_state(tmp_path))
    run_inversion(resumed)
    assert resumed.result().latents.ws.allclose(straight.result().latents.ws, atol=1e-5)


def test_encoder_takes_any_side():
    encoder = Encoder(3, 256, 10)
    assert encoder(torch.zeros(2, 3, 256, 256)).shape == (2, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -1}, "steps=-1 is out of range"),
        ({"pti": 10**9}, "is out of range"),
        ({"space": "z"}, "space='z' is unknown: use w or w+"),
        ({"candidates": 0}, "candidates=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"feature_weight": float("nan")}, "feature_weight=nan"),
    ],
)
def test_numbers_out_of_range_are_one_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        InversionSettings(**change)


def test_between_two_tuned_photographs_the_way_is_smooth():
    """On a trained model: no step of feature distance above three times the median one."""
    pipe = Pipeline.from_pretrained(EMOJI_SCENES_MODEL)
    photos = pipe(["a fox in snow", "a car on a beach"], seed=2, psi=0.9).images
    found = pipe.invert(photos, steps=24, pti=24, candidates=64, encoder=False)
    tuned = pipe.tuned_by(found.tuned).generator
    features = open_features("random:small_cnn", torch.device("cpu"))
    first, last = found.latents.ws
    with torch.no_grad():
        way = torch.stack([first.lerp(last, share) for share in torch.linspace(0, 1, 17).tolist()])
        seen = features.embed(synthesize(tuned, way))
    steps = (seen[1:] - seen[:-1]).norm(dim=1)
    assert steps.max() <= 3 * steps.median()
