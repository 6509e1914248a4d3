"""Losses and settings that neither paper has, in runs: they train with either discriminator and say what they
measured."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import tiny_run

from sgxl_t.model_io.model_folder import load_model
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.ops.random import latents
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.train import main


def checkpoint_parts(folder):
    """Tensors by the file that holds them."""
    return {path.stem: load_file(path) for path in folder.glob("*.safetensors")}


@pytest.mark.parametrize("discriminator", ["projected", "dino"])
def test_relativistic_loss_with_penalty_and_mismatched_captions(discriminator, tmp_path, tiny_features):
    settings = {
        "objective__loss": "relativistic",
        "objective__gradient_penalty": 1,
        "objective__mismatch_weight": 0.5,
        "batch__per_device": 4,
    }
    main(tiny_run(tmp_path, tiny_features, cond="text", discriminator=discriminator, **settings))
    rows = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    reported = {name: value for row in rows for name, value in row.items() if name.startswith("loss/")}
    assert {"loss/d", "loss/g", "loss/r1", "loss/r2", "loss/mismatch"} <= set(reported)
    assert all(value > 0 for value in reported.values())


def test_diversity_term_and_unconditional_logits_in_a_run(tmp_path, tiny_features):
    settings = {"objective__diversity_weight": 0.1, "discriminator__projected__unconditional": "true"}
    main(tiny_run(tmp_path, tiny_features, cond="class", discriminator="projected", **settings))
    rows = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    measured = [row["loss/diversity"] for row in rows if "loss/diversity" in row]
    assert measured
    assert all(value > 0 for value in measured)


@pytest.mark.parametrize("shared", ["true", "false"])
def test_a_generator_stays_as_it_is_while_the_heads_learn_alone(shared, tmp_path, tiny_features):
    settings = {"cond": "text", "objective__share_fakes": shared, "objective__d_alone_kimg": 0.016}
    main(tiny_run(tmp_path, tiny_features, **settings))  # the whole run is two updates
    first, last = (checkpoint_parts(folder) for folder in sorted((tmp_path / "checkpoints").iterdir()))
    weights = {name for name in last["network_g"] if name.endswith(("weight", "bias"))}
    assert weights
    assert all(torch.equal(first["network_g"][name], last["network_g"][name]) for name in weights)
    assert any(not torch.equal(first["network_d"][name], value) for name, value in last["network_d"].items())


def test_a_family_without_named_features_takes_its_own():
    config = parse_config(
        ["--cond", "text", "--discriminator.family", "dino", "--discriminator.features", "[]"]
    )
    assert config.discriminator.features == ("timm:vit_small_patch16_224.dino",)


def test_a_run_whose_generator_mirrors_every_other_seed(tmp_path, tiny_features):
    main(tiny_run(tmp_path, tiny_features, cond="text", generator__stylegan_t__mirrored="true"))
    generator, condition, _ = load_model(tmp_path / "best")
    sizes = replace(generator.config.stylegan_t, mirrored=False)
    plain = build_generator(replace(generator.config, stylegan_t=sizes), condition.spec)
    plain.load_state_dict(generator.state_dict())
    seeds, z = list(range(8)), latents(range(8), generator.z_dim)
    for psi in (1, 0.8):
        turned = (z[:, 0] < -(1 - psi) / psi).tolist()
        assert 0 < sum(turned) < 8
        mirrored, straight = (
            [np.asarray(image) for image in Pipeline(one, condition)("a red fox", seed=seeds, psi=psi).images]
            for one in (generator, plain)
        )
        for way, picture, other in zip(turned, mirrored, straight, strict=True):
            assert np.array_equal(picture, other[:, ::-1] if way else other)
