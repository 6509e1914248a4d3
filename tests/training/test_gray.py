"""Gray pictures: one channel from the generator, the same losses, and files in gray."""

import json

import pytest
import torch
from click.testing import CliRunner
from crashes import final_state
from PIL import Image
from tiny_runs import tiny_run

from sgxl_t.cli.main import cli
from sgxl_t.ops.images import as_rgb
from sgxl_t.sampling.pipeline import Pipeline
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


@pytest.mark.parametrize("channels", [0, 2, 4, 64])
def test_other_numbers_of_channels_are_refused_before_anything_is_made(
    channels, tmp_path, tiny_features, capsys
):
    with pytest.raises(SystemExit) as caught:
        main(tiny_run(tmp_path / "run", tiny_features, generator__img_channels=channels))
    assert caught.value.code == 2
    assert (
        f"img_channels={channels} makes no picture: use 3 for colour or 1 for gray" in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()


def test_one_channel_stands_for_three_and_three_stay():
    gray, colour = torch.rand(2, 1, 4, 4), torch.rand(2, 3, 4, 4)
    assert torch.equal(as_rgb(gray), gray.repeat(1, 3, 1, 1))
    assert as_rgb(colour) is colour
