"""A class model that begins as a text model: classes are what captions say of them, z says the rest."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from tiny_models import tiny_folder, tiny_model

from sgxl_t.conditioning import ClassCondition
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.layers import normalize_2nd_moment
from sgxl_t.training.start.carry import standing_in

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return import_module("class_from_text")


def test_the_class_model_draws_what_the_text_model_draws_of_vectors_made_from_z(script):
    theirs, _ = tiny_model("text")
    dim = theirs.mapping.condition.dim
    rng = torch.Generator().manual_seed(3)
    table = torch.randn(3, dim, generator=rng)
    residuals = torch.randn(500, dim, generator=rng) @ torch.diag(torch.linspace(0, 1, dim))
    ours = script.class_generator(theirs, ClassCondition("abc", table), residuals)
    fixed = torch.randn(4096, theirs.z_dim, generator=torch.Generator().manual_seed(0))
    scale = theirs.config.stylegan_t.text_scale
    with torch.no_grad():
        draws = theirs.mapping.mlp(normalize_2nd_moment(fixed))
        matrix, offset = standing_in(draws, scale * (residuals - residuals.mean(dim=0)))
    z, labels = torch.randn(4, theirs.z_dim, generator=rng), torch.tensor([0, 2, 2, 1])
    with torch.no_grad():
        rest = (theirs.mapping.mlp(normalize_2nd_moment(z)) @ matrix.T + offset) / scale
        expected = theirs(z, table[labels] + rest, noise_mode="const")
        torch.testing.assert_close(ours(z, labels, noise_mode="const"), expected, atol=5e-4, rtol=0)
        alone = theirs(z, table[labels], noise_mode="const")
    assert (alone - expected).abs().max() > 0.05


def test_a_model_folder_of_the_datas_classes_is_written(script, tmp_path):
    tiny_folder(tmp_path / "text", "text")
    given = ["--model", str(tmp_path / "text"), "--data", "emoji-scenes:3x4", "--out", str(tmp_path / "c")]
    done = CliRunner().invoke(script.main, given)
    assert done.exit_code == 0, done.output
    generator, condition, _ = load_model(tmp_path / "c")
    assert condition.kind == "class"
    assert len(condition.names) == 3
    rows = generator.mapping.embed.weight
    assert (rows[0] - rows[1]).norm() > 0


def test_pictures_that_a_text_model_remembers_make_its_classes(script):
    plain, _ = tiny_model("text")
    sizes = replace(plain.config, stylegan_t=replace(plain.config.stylegan_t, instances=32))
    theirs = build_generator(sizes, replace(plain.condition, picture_dim=4), seed=0)
    rng = torch.Generator().manual_seed(1)
    captions = F.normalize(torch.randn(32, plain.condition.dim, generator=rng), dim=1)
    theirs.mapping.memory.fill(captions, torch.randn(32, 4, generator=rng), torch.ones(4))
    vectors = script.seen(theirs, captions)
    z = torch.randn(32, theirs.z_dim, generator=torch.Generator().manual_seed(0))
    scale = theirs.config.stylegan_t.text_scale
    drawn = theirs.mapping.memory(z, captions) / scale
    torch.testing.assert_close(vectors, torch.cat([captions, drawn], dim=1))
    torch.testing.assert_close(script.seen(plain, captions), captions)
    table = vectors[:3]
    ours = script.class_generator(theirs, ClassCondition("abc", table), torch.zeros(9, table.shape[1]))
    assert ours.mapping.memory is None
    with torch.no_grad():
        pictures = ours(z[:3], torch.arange(3), noise_mode="const")
        cond = Conditioning(c=captions[:3], pictures=scale * table[:, captions.shape[1] :])
        torch.testing.assert_close(pictures, theirs(z[:3], cond, noise_mode="const"), atol=1e-4, rtol=0)


def test_other_models_are_refused(script, tmp_path):
    tiny_folder(tmp_path / "classes", "class")
    given = ["--model", str(tmp_path / "classes"), "--data", "digits", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(script.main, given)
    assert done.exit_code == 2
    assert "is no text model of the family stylegan_t" in done.output
