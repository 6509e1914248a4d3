"""Runs whose generator remembers pictures: they learn under them, go on exactly, start from plain runs."""

import json
import logging

import pytest
import torch
from tiny_runs import tiny_run
from torch.testing import assert_close

from sgxl_t.model_io.model_folder import load_model
from sgxl_t.networks.frozen import load_clip
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.training.build_trainer import build_trainer
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.train import main

ON = {"cond": "text", "generator__stylegan_t__instances": 40, "deterministic": "true"}


def final(folder):
    return load_newest(folder / "checkpoints")[1]


def begun(folder, features, **settings):
    """A trainer at the beginning of its run."""
    arguments = tiny_run(folder, features, **settings)
    trainer = build_trainer(parse_config(arguments), Runtime(deterministic=True), folder)
    trainer.begin()
    return trainer


def test_a_run_goes_on_bit_for_bit_and_its_model_draws_other_pictures_for_other_seeds(
    tmp_path, tiny_features
):
    main(tiny_run(tmp_path / "straight", tiny_features, schedule__kimg=0.032, **ON))
    main(tiny_run(tmp_path / "parts", tiny_features, schedule__kimg=0.016, **ON))
    main(tiny_run(tmp_path / "parts", tiny_features, schedule__kimg=0.032, **ON))
    straight, resumed = final(tmp_path / "straight"), final(tmp_path / "parts")
    for part, tensors in straight.items():
        assert [name for name in tensors if not torch.equal(tensors[name], resumed[part][name])] == []
    generator, condition, info = load_model(tmp_path / "parts" / "last")
    assert info.condition.picture_dim == condition.spec.picture_dim == 16
    c = condition.encode(["a red fox"] * 8).c
    shown = generator.mapping(torch.randn(8, generator.z_dim), c)[:, 0, generator.z_dim :]
    assert len(shown.round(decimals=3).unique(dim=0)) > 1
    pipe = Pipeline(generator, condition)
    assert pipe("a red fox", seeds=[0, 1]).images[0].size == (16, 16)
    at_zero = [pipe("a red fox", seeds=[seed], psi=0).images[0].tobytes() for seed in (0, 1)]
    assert at_zero[0] == at_zero[1]  # nothing of the drawn picture is left


def test_generator_and_heads_are_told_the_pictures_and_guidance_the_captions(tmp_path, tiny_features):
    trainer = begun(tmp_path, tiny_features, **ON)
    trainer.data.open(trainer.state)
    batch = trainer.data.next(0)
    made = trainer.device_batches.micro_batch(batch, 0)
    clip = load_clip(f"local:{tiny_features / 'clip'}")
    seen = clip.encode_image((made.real + 1) / 2)
    memory = trainer.state.g.raw.mapping.memory
    captions = clip.encode_text(batch.captions)
    assert_close(made.cond.target[0::2], torch.cat([captions, seen], dim=1)[0::2])
    assert_close(made.cond.target[1::2], torch.cat([captions, torch.zeros_like(seen)], dim=1)[1::2])
    assert_close(made.cond.pictures[0::2], memory.told(made.cond.c, seen)[0::2])
    assert made.cond.own.tolist() == [True, False] * (len(seen) // 2)
    apart = torch.cdist(made.cond.pictures[1::2], memory.deviations)
    assert apart.min(1).values.median() < 0.4  # remembered ones, as at sampling
    again = trainer.device_batches.micro_batch(batch, 0)
    assert torch.equal(again.cond.pictures, made.cond.pictures)
    assert not torch.equal(trainer.device_batches.micro_batch(batch, 8).cond.pictures, made.cond.pictures)
    assert_close(made.cond.guide, clip.encode_text(batch.captions))
    assert made.cond.frozen.pictures is None
    z = torch.randn(len(seen), trainer.state.g.raw.z_dim)
    generator = trainer.state.g.raw
    pictures = generator(z, made.cond, noise_mode="const")
    captions = generator(z, made.cond._replace(pictures=None), noise_mode="const")
    assert not torch.equal(pictures, captions)


def test_a_run_may_ask_the_generator_to_follow_what_it_is_told(tmp_path, tiny_features):
    main(tiny_run(tmp_path, tiny_features, objective__following_weight=1, schedule__kimg=0.016, **ON))
    lines = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert 0 < next(line["loss/following"] for line in lines if "loss/following" in line) < 10


def test_a_plain_run_is_the_start_of_one_that_remembers_and_that_of_a_third(tmp_path, tiny_features, caplog):
    caplog.set_level(logging.INFO, logger="sgxl_t")
    off = {**ON, "generator__stylegan_t__instances": 0}
    main(tiny_run(tmp_path / "plain", tiny_features, **off))
    main(tiny_run(tmp_path / "on", tiny_features, start=tmp_path / "plain" / "last", **ON))
    assert "6 tensors of g (mapping.*)" in caplog.text
    assert "the generator remembers 40 pictures of the data" in caplog.text
    first, _, _ = load_model(tmp_path / "on" / "last")
    third = begun(tmp_path / "third", tiny_features, start=tmp_path / "on" / "last", **{**ON, "seed": 5})
    memory = third.state.g.raw.mapping.memory
    assert torch.equal(memory.expected, first.mapping.memory.expected)
    assert not torch.equal(memory.keys, first.mapping.memory.keys)  # other pictures, drawn by another seed
    average = third.state.ema.network.mapping.memory
    assert all(torch.equal(value, average.state_dict()[name]) for name, value in memory.state_dict().items())


def test_other_conditions_begin_with_what_it_draws_and_remember_nothing(tmp_path, tiny_features):
    main(tiny_run(tmp_path / "on", tiny_features, **ON))
    start = tmp_path / "on" / "last"
    theirs, condition, _ = load_model(start)
    arguments = [
        "--start",
        str(start),
        "--cond",
        "none",
        "--data.source",
        "digits",
        "--out",
        str(tmp_path / "none"),
    ]
    common = ["--features", "local", "--discriminator.features", f'["local:{tiny_features / "cnn"}"]']
    config = parse_config([*arguments, *common])
    assert config.generator.stylegan_t.instances == 0
    trainer = build_trainer(config, Runtime(deterministic=True), tmp_path / "none")
    trainer.begin()
    ours = trainer.state.ema.network
    assert ours.mapping.memory is None
    z = torch.randn(1024, theirs.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = theirs(z, condition.encode(["a red fox", "a dog"] * 512), noise_mode="const")
        carried = ours(z, None, noise_mode="const")
    means = torch.stack([drawn.mean(0).flatten(), carried.mean(0).flatten()])
    assert torch.corrcoef(means)[0, 1] > 0.7
    assert carried.std(0).mean() > 0.01


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cond": "class"}, "instances=40 remembers pictures beside captions, and this run has cond=class"),
        ({"conditioning__train_text_encoder": "true"}, "instances=40 remembers captions as they are read"),
        ({"generator__stylegan_t__instances": -1}, "instances=-1 must not be negative"),
        (
            {"generator__stylegan_t__exaggeration": -1},
            "exaggeration=-1 makes the differences that instances=40",
        ),
        (
            {"generator__stylegan_t__instances": 0, "objective__following_weight": 1},
            "following_weight=1 needs a generator that is told of pictures",
        ),
    ],
)
def test_what_cannot_be_remembered_is_said_before_anything_is_built(wrong, said, tmp_path, tiny_features):
    with pytest.raises((ValueError, SystemExit), match=said):
        parse_config(tiny_run(tmp_path, tiny_features, **{**ON, **wrong}))
