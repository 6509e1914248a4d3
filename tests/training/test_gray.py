"""Gray pictures: one channel from the generator, the same losses, and files in gray."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from crashes import final_state
from PIL import Image
from tiny_models import tiny_model
from tiny_runs import tiny_run

from sgxl_t.cli.main import cli
from sgxl_t.conditioning.condition import NoCondition
from sgxl_t.datasets import BatchOptions, batches
from sgxl_t.model_io.model_folder import save_model
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.ops.images import as_rgb, to_gray
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.loop.data import open_data
from sgxl_t.training.train import main


@pytest.mark.parametrize(
    ("cond", "generator", "discriminator"),
    [
        ("class", "stylegan3", "projected"),
        ("none", "stylegan3", "dino"),
        ("text", "stylegan_t", "projected"),
        ("class", "stylegan_t", "dino"),
    ],
)
def test_gray_generators_train_and_draw_gray_pictures(
    cond, generator, discriminator, tmp_path, tiny_features
):
    kinds = {"generator": generator, "discriminator": discriminator}
    guided = {"objective__clip_weight": 0.2} if cond == "text" else {}
    run = tmp_path / "run"
    main(tiny_run(run, tiny_features, cond=cond, **kinds, generator__img_channels=1, **guided))
    pipe = Pipeline.from_pretrained(run / "last", device="cpu")
    image = pipe({"class": 3, "text": "a red fox", "none": None}[cond]).images[0]
    assert (image.mode, image.size) == ("L", (16, 16))
    page = Image.open(next((run / "samples").glob("fakes_*.png"))).convert("RGB")
    assert all(
        low == high for low, high in zip(*[page.getchannel(c).getextrema() for c in (0, 2)], strict=True)
    )
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert all(torch.tensor(line["loss/g"]).isfinite() for line in lines if "loss/g" in line)


def test_a_gray_run_resumes_bit_for_bit_and_is_measured(tmp_path, tiny_features):
    gray = {"deterministic": "true", "generator__img_channels": 1}
    main(tiny_run(tmp_path / "straight", tiny_features, schedule__kimg=0.032, **gray))
    for kimg in (0.016, 0.032):
        main(tiny_run(tmp_path / "parts", tiny_features, schedule__kimg=kimg, **gray))
    straight, resumed = (final_state(tmp_path / name)[0] for name in ("straight", "parts"))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    words = ["evaluate", str(tmp_path / "parts" / "last"), "--data", "digits", "--metrics", "fd_random_32"]
    answer = CliRunner().invoke(cli, [*words, "--cache", str(tmp_path / "cache")])
    assert answer.exit_code == 0, answer.output


def coloured(folder, count=24):
    """Pictures of strong colours whose brightness varies, with labels by folder and captions."""
    rng = np.random.default_rng(0)
    for index in range(count):
        place = folder / ("cat", "dog")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{index:02}.png")
    return folder


@pytest.mark.parametrize("kind", ["folder", "zip", "shards"])
def test_coloured_data_trains_a_gray_generator_by_its_brightness(kind, tmp_path, tiny_features):
    folder = coloured(tmp_path / "pictures")
    data = {"folder": folder, "zip": tmp_path / "p.zip", "shards": tmp_path / "shards"}[kind]
    if kind != "folder":
        answer = CliRunner().invoke(cli, ["prepare", str(folder), str(data), "--resolution", "16"])
        assert answer.exit_code == 0, answer.output
    config = parse_config(
        tiny_run(tmp_path / "run", tiny_features, data__source=data, generator__img_channels=1)
    )
    source = open_data(config.data, config.generator)
    expected = {name.read_bytes(): name for name in folder.rglob("*.png")}
    wanted = {np.asarray(Image.open(name).convert("L")).tobytes() for name in expected.values()}
    assert {source[index].image.numpy().tobytes() for index in range(len(source))} == wanted
    assert {sample.image.numpy().tobytes() for sample in source.samples()} == wanted
    batch = next(batches(source, BatchOptions(batch_size=8, seed=0)))
    assert batch.images.shape == (8, 1, 16, 16)
    assert {image.numpy().tobytes() for image in batch.images} <= wanted
    main(tiny_run(tmp_path / "run", tiny_features, data__source=data, generator__img_channels=1))
    real = np.asarray(Image.open(tmp_path / "run" / "samples" / "reals.png").convert("RGB"))
    assert (real == real[..., :1]).all(), "real pictures are shown as they train"


def test_a_gray_model_is_measured_against_gray_pictures(tmp_path):
    folder, results = coloured(tmp_path / "pictures"), tmp_path / "r.jsonl"
    for name, channels in (("gray", 1), ("colour", 3)):
        condition = NoCondition()
        config = replace(tiny_model("none")[0].config, img_channels=channels)
        save_model(tmp_path / name, build_generator(config, condition.spec), condition, {})
        words = ["evaluate", str(tmp_path / name), "--data", str(folder), "--metrics", "fd_random_16"]
        words += ["--cache", str(tmp_path / "cache"), "--json", str(results)]
        answer = CliRunner().invoke(cli, words)
        assert answer.exit_code == 0, answer.output
    gray, colour = (json.loads(line) for line in results.read_text().splitlines())
    assert gray["data"] == f"{colour['data']} in gray"
    assert gray["data_fingerprint"] != colour["data_fingerprint"]
    answer = CliRunner().invoke(cli, ["info", str(tmp_path / "gray"), "--json"])
    assert json.loads(answer.output)["channels"] == 1
    assert "16 x 16 pixels in gray" in (tmp_path / "gray" / "README.md").read_text()


@pytest.mark.slow
def test_features_that_a_run_trains_see_its_gray_pictures(tmp_path):
    words = [
        "--config",
        "configs/debug/class.yaml",
        "--generator.img_channels",
        "1",
        "--batch.per_device",
        "16",
    ]
    words += ["--run_dir", str(tmp_path / "run"), "--schedule.kimg", "0.016"]
    words += ["--conditioning.feature_seconds", "1", "--discriminator.features", '["auto:cnn"]']
    main(words)
    assert (tmp_path / "run" / "features" / "cnn" / "config.json").exists()


@pytest.mark.slow
def test_a_gray_chain_grows_close_to_its_stem(tmp_path, tiny_features):
    stages = "[{resolution: 16}, {resolution: 32, head_layers: 4}]"
    run = tmp_path / "run"
    gray = {"generator": "stylegan3", "generator__img_channels": 1, "objective__stem_weight": 1}
    main([*tiny_run(run, tiny_features, **gray), "--stages", stages])
    models = sorted(path.parent for path in run.rglob("last/generator.safetensors"))
    assert {Pipeline.from_pretrained(model, device="cpu")(3).images[0].mode for model in models} == {"L"}
    assert len(models) > 1
    assert (run / "report.html").exists()


def test_the_memory_of_a_gray_run_is_estimated(tmp_path, tiny_features, capsys):
    main(
        [*tiny_run(tmp_path / "run", tiny_features, generator__img_channels=1, batch__images=64), "--dry-run"]
    )
    assert "Memory of each process" in capsys.readouterr().out


def test_gray_pictures_go_into_grids_strips_and_films(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator, condition = tiny_model("class")
    config = replace(generator.config, img_channels=1)
    save_model(tmp_path / "m", build_generator(config, condition.spec), condition, {})
    for words in (
        "sample --class 0-1 --out o --grid g.png --sheet s.png --best-of 1",
        "interpolate --class 0 --class 1 --frames 1 --out f --strip p.png --animation a.webp",
        "interpolate --class 0 --class 1 --frames 1 --animation a.gif",
    ):
        answer = CliRunner().invoke(cli, [*words.split(), "--model", "m"])
        assert answer.exit_code == 0, answer.output
    assert {Image.open(path).mode for path in [*Path("o").iterdir(), *Path("f").iterdir()]} == {"L"}
    assert Image.open("g.png").mode == "RGB"


def test_brightness_is_that_of_pillow():
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    ours = [gray[0].numpy() for gray in to_gray(pixels)]
    theirs = [np.asarray(Image.fromarray(one.permute(1, 2, 0).numpy()).convert("L")) for one in pixels]
    assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))
    gray = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert torch.equal(to_gray(gray.expand(3, 16, 16)), gray)


@pytest.mark.parametrize("channels", [0, 2, 4, 64])
def test_other_numbers_of_channels_are_refused_before_anything_is_made(
    channels, tmp_path, tiny_features, capsys
):
    with pytest.raises(SystemExit) as caught:
        main(tiny_run(tmp_path / "run", tiny_features, generator__img_channels=channels))
    assert caught.value.code == 2
    assert (
        f"img_channels={channels} is not possible: use 3 for colour or 1 for gray" in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()


def test_one_channel_stands_for_three_and_three_stay():
    gray, colour = torch.rand(2, 1, 4, 4), torch.rand(2, 3, 4, 4)
    assert torch.equal(as_rgb(gray), gray.repeat(1, 3, 1, 1))
    assert as_rgb(colour) is colour
