"""Phases of a text generator as one run: what trains in each, what goes on, what conditions the generator."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import tiny_run

from sgxl_t.metrics.judges.judges import load_judge
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.loop.trainer import Trainer
from sgxl_t.training.progressive.judgement import answers, judge_stage
from sgxl_t.training.progressive.planner import plan_run
from sgxl_t.training.train import main

PHASES = (
    "[{name: picture, resolution: 16}, "
    "{name: words, resolution: 16, train: text_encoder, clip_weight: 5}, "
    "{name: again, resolution: 16, train: generator}, "
    "{name: large, resolution: 32, freeze_below: 32}]"
)


def phases_run(folder, features, **settings):
    settings = {"cond": "text", "log__track_images": 0, "deterministic": "true", **settings}
    settings = {"optimizer__text_lr": 0.01, **settings}
    return [*tiny_run(folder, features, **settings), "--stages", PHASES]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_features):
    """A run of four phases."""
    folder = tmp_path_factory.mktemp("phases") / "run"
    main(phases_run(folder, tiny_features))
    return folder


def checkpoint(finished, name):
    _, parts, state = load_newest(finished / f"stage_{name}" / "checkpoints")
    return parts, state


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def parameters(parts):
    """Without the buffers that move in every phase."""
    return {name: value for name, value in parts["network_g"].items() if "_avg" not in name}


def test_all_phases_end_and_the_last_is_the_runs_model(finished):
    stages = json.loads((finished / "chain.json").read_text())["stages"]
    assert [(stage["folder"], stage["state"]) for stage in stages] == [
        (f"stage_{name}", "finished") for name in ("picture", "words", "again", "large")
    ]
    generator, condition, _ = load_model(finished / "best")
    assert (generator.img_resolution, condition.kind) == (32, "text")


def test_the_text_phase_leaves_the_generator_alone_and_moves_the_tower(finished):
    picture, words = checkpoint(finished, "picture")[0], checkpoint(finished, "words")[0]
    assert same(parameters(picture), parameters(words))
    assert not same(picture["network_d"], words["network_d"])
    first = load_file(finished / "stage_words" / "last" / "text_encoder" / "model.safetensors")
    before = load_file(finished / "stage_picture" / "last" / "text_encoder" / "model.safetensors")
    assert not same(first, before)


def test_later_phases_are_conditioned_through_the_tower_that_learnt(finished):
    words = load_file(finished / "stage_words" / "last" / "text_encoder" / "model.safetensors")
    for name in ("again", "large"):
        assert same(
            words, load_file(finished / f"stage_{name}" / "last" / "text_encoder" / "model.safetensors")
        )
    assert not same(
        parameters(checkpoint(finished, "words")[0]), parameters(checkpoint(finished, "again")[0])
    )


def test_optimisers_go_on_from_phase_to_phase(finished):
    steps = [
        float(checkpoint(finished, name)[0]["optimizer_g"]["synthesis.b8.convs1.0.weight.step"])
        for name in ("picture", "words", "again")
    ]
    assert steps == [2, 2, 4]
    heads = checkpoint(finished, "large")[0]["optimizer_d"]
    assert max(float(value) for name, value in heads.items() if name.endswith(".step")) == 8


def test_low_blocks_rest_in_the_large_phase(finished):
    again, large = parameters(checkpoint(finished, "again")[0]), parameters(checkpoint(finished, "large")[0])
    moved = {name for name in again if not torch.equal(again[name], large[name])}
    assert moved
    assert all(".torgb." in name for name in moved)
    assert {name.split(".")[1] for name in large.keys() - again.keys()} == {"b32"}


def test_blur_does_not_begin_again_and_averages_go_on(tmp_path, tiny_features):
    arguments = phases_run(tmp_path / "run", tiny_features, objective__blur_init_sigma=2)
    sigmas, ramps = zip(
        *(
            (stage.config.objective.blur_init_sigma, stage.config.ema.rampup)
            for stage in plan_run(parse_config(arguments)).stages
        ),
        strict=True,
    )
    assert sigmas == (2, 0, 0, 0)
    assert ramps == (0.05, None, None, None)


@pytest.mark.parametrize("stopped", ["words", "large"])
def test_an_interrupted_run_of_phases_ends_like_an_unbroken_one(
    stopped, finished, tmp_path, tiny_features, monkeypatch
):
    folder, update = tmp_path / "run", Trainer.update

    def second(self, rounds):
        if self.checkpoints.folder.name == f"stage_{stopped}" and self.state.iteration:
            raise RuntimeError("the power went")
        update(self, rounds)

    monkeypatch.setattr(Trainer, "update", second)
    with pytest.raises(RuntimeError, match="power"):
        main(phases_run(folder, tiny_features))
    monkeypatch.setattr(Trainer, "update", update)
    main(phases_run(folder, tiny_features))
    for part, tensors in checkpoint(finished, "large")[0].items():
        assert same(tensors, checkpoint(folder, "large")[0][part]), part


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ("[{resolution: 32}, {resolution: 16}]", "from small to large"),
        ("[{resolution: 16}, {resolution: 16}]", "two stages are called 16"),
        ("[{resolution: 16, head_layers: 4}]", "without heads"),
        ("[{name: ../x, resolution: 16}]", "is called"),
        ("[{resolution: 16, freeze_below: 12}]", "freeze_below=12 is no block"),
        ("[{resolution: 16, overrides: {start: runs/x}}]", "overrides may not set start"),
    ],
)
def test_mistakes_are_one_sentence(stages, words, tmp_path, tiny_features, capsys):
    arguments = tiny_run(tmp_path / "run", tiny_features, cond="text")
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--stages", stages])
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert words in error
    assert len(error.strip().splitlines()) == 1


def test_a_start_without_checkpoint_is_refused(tmp_path, tiny_features, capsys):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SystemExit):
        main(tiny_run(tmp_path / "run", tiny_features, start=tmp_path / "nothing"))
    assert "holds neither checkpoints nor a model" in capsys.readouterr().err


def test_the_judge_reads_what_captions_ask_for_and_pairs_never_shown(finished):
    folder = finished / "stage_picture" / "best"
    given = {"seed": 0, "device": torch.device("cpu")}
    figures = judge_stage(folder, folder, "emoji-scenes:24x8", "text", **given)
    assert "judge_frechet_all_below" not in figures, "the side is the same"
    assert {
        "judge_object_scene",
        "judge_object_scene_held_out",
        "judge_retrieval",
        "judge_clip",
    } <= figures.keys()
    assert figures["judge_accuracy"] <= figures["judge_object_scene"] < 0.2, "hardly trained"
    assert figures["judge_clip"] != figures["judge_clip_held_out"]
    shown = answers(folder, "emoji-scenes:24x8", "text", split="held_out", **given)
    assert len(shown.images) == len(shown.captions) == 960
    assert (
        load_judge("emoji-scenes:24x8", 16).accuracy(shown.images, shown.requested)["all"]
        == (figures["judge_accuracy_held_out"])
    )


@pytest.mark.parametrize("size", ["lite", "full"])
def test_the_papers_phases_follow_each_other(size, tmp_path):
    path = Path(__file__).parents[2] / "configs" / "text" / f"{size}.yaml"
    stages = plan_run(parse_config(["--config", str(path), "--run-dir", str(tmp_path)])).stages
    configs = [stage.config for stage in stages]
    assert [stage.resolution for stage in stages] == [64, 64, 64, 256, 512]
    assert [config.freeze_generator for config in configs] == [False, True, False, False, False]
    assert [config.objective.clip_weight for config in configs] == [1.6, 400, 1.6, 1.6, 1.6]
    assert [config.objective.blur_init_sigma for config in configs] == [32, 0, 0, 0, 0]
    assert configs[0].start is None
    assert configs[4].start == str(tmp_path / "stage_256")
    towers = [config.conditioning.own_text_encoder for config in configs]
    assert towers[:2] == [None, None]
    assert towers[4] == f"local:{tmp_path / 'stage_256' / 'last' / 'text_encoder'}"
