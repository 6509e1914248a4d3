"""Runs whose generator attends to captions: they train, go on exactly, start from plain runs, and sample."""

import pytest
import torch
from tiny_runs import tiny_run

from sgxl_t.model_io.model_folder import load_model
from sgxl_t.networks.text.clip import ClipModel
from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.training.build_trainer import build_trainer
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.train import main

ON = {"cond": "text", "generator__stylegan_t__attention_resolutions": "[8, 16]", "deterministic": "true"}
MODES = {
    "frozen": {"objective__share_fakes": "true"},
    "learning-text": {
        "conditioning__train_text_encoder": "true",
        "optimizer__text_lr": 0.01,
        "batch__per_device": 4,
    },
    "path-length": {
        "objective__pl_weight": 0.25,
        "objective__pl_start_kimg": 0,
        "objective__pl_interval": 1,
        "objective__clip_weight": 0.2,
    },
}


def final(folder):
    return load_newest(folder / "checkpoints")[1]


def scales(parts):
    return {name: value for name, value in parts["network_g"].items() if name.endswith("attention.scale")}


@pytest.mark.parametrize("mode", MODES)
def test_a_run_goes_on_bit_for_bit_and_its_attention_learns(mode, tmp_path, tiny_features):
    settings = {**ON, **MODES[mode]}
    main(tiny_run(tmp_path / "straight", tiny_features, schedule__kimg=0.032, **settings))
    main(tiny_run(tmp_path / "parts", tiny_features, schedule__kimg=0.016, **settings))
    main(tiny_run(tmp_path / "parts", tiny_features, schedule__kimg=0.032, **settings))
    straight, resumed = final(tmp_path / "straight"), final(tmp_path / "parts")
    assert straight.keys() == resumed.keys()
    for part, tensors in straight.items():
        assert [name for name in tensors if not torch.equal(tensors[name], resumed[part][name])] == []
    assert len(scales(straight)) == 2
    assert all(value.abs().sum() > 0 for value in scales(straight).values())
    generator, condition, info = load_model(tmp_path / "parts" / "last")
    assert info.condition.token_dim == condition.spec.token_dim == 16
    assert generator.attends
    assert Pipeline(generator, condition)("a red fox").images[0].size == (16, 16)


def test_one_seed_starts_with_the_pictures_of_a_plain_run(tmp_path, tiny_features):
    off = {**ON, "generator__stylegan_t__attention_resolutions": "[]"}
    trainers = [
        build_trainer(
            parse_config(tiny_run(tmp_path / name, tiny_features, **settings)),
            Runtime(deterministic=True),
            tmp_path / name,
        )
        for name, settings in (("on", ON), ("off", off))
    ]
    z = torch.randn(4, trainers[0].state.g.raw.z_dim)
    given = ["a red fox", "an owl at night", "a small cat", "a large dog on grass"]
    pictures = []
    for trainer in trainers:
        pictures.append(trainer.state.g.raw(z, trainer.state.condition.encode(given), noise_mode="const"))
    assert torch.equal(*pictures)
    ours, theirs = (trainer.state.d.raw.state_dict() for trainer in trainers)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_a_plain_run_is_the_start_of_one_that_attends(tmp_path, tiny_features):
    off = {**ON, "generator__stylegan_t__attention_resolutions": "[]"}
    main(tiny_run(tmp_path / "plain", tiny_features, **off))
    on = {**ON, "start": tmp_path / "plain", "objective__d_alone_kimg": 0}
    arguments = tiny_run(tmp_path / "on", tiny_features, **on)
    trainer = build_trainer(parse_config(arguments), Runtime(deterministic=True), tmp_path / "on")
    trainer.begin()
    generator, condition, _ = load_model(tmp_path / "plain" / "last")
    z, given = torch.randn(2, generator.z_dim), ["a red fox", "a dog"]
    with torch.no_grad():
        before = generator(z, condition.encode(given), noise_mode="const")
        after = trainer.state.ema.network(z, trainer.state.condition.encode(given), noise_mode="const")
    assert torch.equal(before, after)
    main(arguments)
    assert all(value.abs().sum() > 0 for value in scales(final(tmp_path / "on")).values())


def test_tokens_are_read_once_for_all_phases(tmp_path, tiny_features, monkeypatch):
    reads, read = [], ClipModel.encode_with_tokens

    def counted(self, texts):
        reads.append(len(texts))
        return read(self, texts)

    monkeypatch.setattr(ClipModel, "encode_with_tokens", counted)
    main(tiny_run(tmp_path, tiny_features, **ON))
    # Two updates, one grid of two captions, the tracked pictures in one batch, and the variety's captions.
    assert len(reads) == 5


def test_phases_keep_attending(tmp_path, tiny_features):
    phases = (
        "[{name: picture, resolution: 16}, {name: words, resolution: 16, train: text_encoder, "
        "clip_weight: 5}, {name: large, resolution: 32, freeze_below: 32}]"
    )
    main([*tiny_run(tmp_path / "run", tiny_features, **ON, optimizer__text_lr=0.01), "--stages", phases])
    generator = load_model(tmp_path / "run" / "best")[0]
    assert generator.img_resolution == 32
    assert generator.attends
    picture, large = (final(tmp_path / "run" / f"stage_{name}") for name in ("picture", "large"))
    assert all(torch.equal(value, scales(large)[name]) for name, value in scales(picture).items())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"cond": "class"}, "attends to the words of captions and needs cond=text, not cond=class"),
        ({"cond": "none"}, "needs cond=text, not cond=none: set --cond text or leave it empty"),
        ({"generator": "stylegan3"}, "needs generator.family=stylegan_t, not stylegan3: leave it empty"),
        (
            {"generator__stylegan_t__attention_resolutions": "[64]"},
            "names blocks of [64] px, which a generator of 16 px lacks: choose from [8, 16]",
        ),
    ],
)
def test_what_cannot_attend_is_refused_in_one_sentence(settings, sentence, tmp_path, tiny_features, capsys):
    with pytest.raises(SystemExit) as caught:
        main(tiny_run(tmp_path, tiny_features, **{**ON, **settings}))
    assert caught.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "checkpoints").exists()
