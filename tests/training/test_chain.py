"""Progressive growing as one run: stages by themselves, resuming in the right one, mistakes first."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_runs import tiny_run

from sgxl_t.conditioning import ClassCondition
from sgxl_t.datasets.open import open_source
from sgxl_t.model_io.model_folder import load_model, save_model
from sgxl_t.model_io.run_model import model_in
from sgxl_t.networks.generators.registry import build_generator, model_config
from sgxl_t.networks.generators.superres import stage_parameter_names
from sgxl_t.training.callbacks.stats_file import newest_numbers, read_stats
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.parallel.exit_codes import INTERRUPTED
from sgxl_t.training.progressive.judgement import answers, judge_stage
from sgxl_t.training.progressive.planner import plan_run
from sgxl_t.training.train import main

IMAGENET = Path(__file__).parents[2] / "configs" / "class" / "imagenet.yaml"
TWO = "[{resolution: 16}, {resolution: 32, head_layers: 4}]"


def chain_run(folder, features, stages=TWO, **settings):
    settings = {"generator": "stylegan3", "log__track_images": 0, "deterministic": "true", **settings}
    return [*tiny_run(folder, features, **settings), "--stages", stages]


def chain_of(folder):
    return {stage["resolution"]: stage for stage in json.loads((folder / "chain.json").read_text())["stages"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_features):
    """A chain of two stages that ran without a word from anybody."""
    folder = tmp_path_factory.mktemp("chain") / "run"
    main(chain_run(folder, tiny_features))
    return folder


def copy_of(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def weights(folder):
    return load_file(folder / "generator.safetensors")


def newest(folder):
    return load_newest(folder / "checkpoints")


def test_a_chain_runs_by_itself_and_says_where_it_stands(finished):
    stages = chain_of(finished)
    assert [stage["state"] for stage in stages.values()] == ["finished", "finished"]
    assert [stage["ended_by"] for stage in stages.values()] == ["kimg", "kimg"]
    assert stages[32]["started_from"] == str(finished / "stage_016" / "best")
    for name in ("stage_016", "stage_032"):
        assert {"config.yaml", "checkpoints", "samples", "best", "last", "report.html"} <= {
            path.name for path in (finished / name).iterdir()
        }
    best, top = weights(finished / "best"), weights(finished / "stage_032" / "best")
    assert best.keys() == top.keys()
    assert all(torch.equal(best[name], top[name]) for name in best)
    page = (finished / "report.html").read_text()
    assert "32 px" in page
    assert page.count("<h3>Health of ") == 2
    with Image.open(finished / "timelapse.webp") as film:
        assert film.n_frames == 2, "a grid of each stage"
    for words in (
        "16 px: 0.016 kimg",
        "32 px: 0.016 kimg",
        "Stages side by side",
        ">real<",
        "stage_016/report.html",
    ):
        assert words in page, words


def test_what_a_stage_keeps_is_bit_identical_before_and_after(finished):
    below, above = weights(finished / "stage_016" / "best"), weights(finished / "stage_032" / "best")
    generator, _, _ = load_model(finished / "stage_032" / "best")
    trained = set(stage_parameter_names(generator, train_input=False))
    kept = [name for name, _ in generator.named_parameters() if name not in trained]
    _, parts, _ = newest(finished / "stage_032")
    assert any(name.startswith("mapping.") for name in kept)
    assert any(name.startswith("synthesis.L") for name in kept)
    for name in kept:
        assert torch.equal(below[name], above[name]), name
        assert torch.equal(below[name], parts["network_g"][name]), name
    assert trained
    fresh = [name for name in trained if name in below]
    assert fresh == []


def test_the_trained_input_moves_when_asked_as_in_the_release(finished, tmp_path, tiny_features):
    folder = copy_of(finished, tmp_path)
    shutil.rmtree(folder / "stage_032")
    main([*chain_run(folder, tiny_features, freeze_input="false"), "--stage", "32"])
    below, above = weights(folder / "stage_016" / "best"), weights(folder / "stage_032" / "best")
    assert not torch.equal(below["synthesis.input.weight"], above["synthesis.input.weight"])
    assert torch.equal(below["mapping.fc0.weight"], above["mapping.fc0.weight"])


@pytest.mark.parametrize("stopped", [16, 32])
def test_the_same_command_goes_on_in_the_stage_that_was_interrupted(
    stopped, finished, tmp_path, tiny_features, monkeypatch
):
    from sgxl_t.training.loop.trainer import Trainer

    folder, update = tmp_path / "run", Trainer.update

    # The checkpoint after the first update is there, and the process ends in the second one.
    def second(self, rounds):
        if self.state.g.raw.img_resolution == stopped and self.state.iteration:
            raise RuntimeError("the power went")
        update(self, rounds)

    monkeypatch.setattr(Trainer, "update", second)
    with pytest.raises(RuntimeError, match="power"):
        main(chain_run(folder, tiny_features))
    assert chain_of(folder)[stopped]["state"] == "running"
    monkeypatch.setattr(Trainer, "update", update)
    main(chain_run(folder, tiny_features))
    for name in ("stage_016", "stage_032"):
        _, straight, _ = newest(finished / name)
        _, resumed, _ = newest(folder / name)
        different = [
            (part, key)
            for part, tensors in straight.items()
            for key, value in tensors.items()
            if not torch.equal(value, resumed[part][key])
        ]
        assert different == []


def test_a_finished_chain_stays_as_it_is_and_grows_when_a_stage_is_added(finished, tmp_path, tiny_features):
    folder = copy_of(finished, tmp_path)
    before = (folder / "stage_032" / "stats.jsonl").read_text()
    three = TWO[:-1] + ", {resolution: 64, head_layers: 3, kimg: 0.008}]"
    main(chain_run(folder, tiny_features, stages=three))
    assert (folder / "stage_032" / "stats.jsonl").read_text() == before
    assert chain_of(folder)[64]["state"] == "finished"
    assert weights(folder / "best").keys() == weights(folder / "stage_064" / "best").keys()


def test_stages_on_data_with_a_judge_are_judged_at_their_own_size(finished, tmp_path):
    stages = chain_of(finished)
    names = ("accuracy", "frechet", "floor", "frechet_all", "floor_all", "recall", "recall_real")
    for stage in stages.values():
        assert set(stage["metrics"]) == {f"judge_{name}" for name in names}
        assert stage["metrics"]["judge_frechet"] > 2 * stage["metrics"]["judge_floor"]  # hardly trained
    assert "judge_accuracy" in (finished / "report.html").read_text()
    shown = answers(finished / "best", "digits", "class", seed=0, device=torch.device("cpu"))
    assert shown.images.shape == (360, 3, 32, 32)
    assert shown.requested.bincount().min() > 30


def test_a_stage_is_compared_with_the_one_below_enlarged(tmp_path):
    condition = ClassCondition(open_source("digits", resolution=16).class_names, dim=8)
    models = []
    for resolution in (8, 16):
        sizes = replace(model_config("sgxl-tiny-16"), img_resolution=resolution)
        generator = build_generator(sizes, condition.spec, seed=1).eval()
        models.append(save_model(tmp_path / str(resolution), generator, condition, {}))
    device = torch.device("cpu")
    figures = judge_stage(models[1], models[0], "digits", "class", seed=0, device=device)
    assert figures["judge_frechet_all_below"] > figures["judge_floor_all"]
    assert judge_stage(models[0], None, "photos", "class", seed=0, device=device) == {}
    assert judge_stage(models[0], None, "digits", "none", seed=0, device=device) == {}


def test_time_ends_a_chain_between_updates_with_the_code_of_an_interruption(tmp_path, tiny_features):
    with pytest.raises(SystemExit) as caught:
        main(chain_run(tmp_path / "run", tiny_features, schedule__max_minutes=1e-5))
    assert caught.value.code == INTERRUPTED
    assert chain_of(tmp_path / "run")[16]["state"] == "running"
    assert chain_of(tmp_path / "run")[32]["state"] == "waiting"
    assert "Samples over time" in (tmp_path / "run" / "report.html").read_text()
    assert model_in(tmp_path / "run").relative_to(tmp_path / "run").parts == ("stage_016", "last")


def test_a_stage_ends_by_the_plateau_rule_and_says_so(tmp_path, tiny_features, monkeypatch, caplog):
    from sgxl_t.metrics.plateau import PlateauConfig, PlateauMonitor
    from sgxl_t.training.callbacks import plateau

    monkeypatch.setattr(
        plateau, "PlateauMonitor", lambda: PlateauMonitor(PlateauConfig(window=5, gain=0.99, hold=1))
    )
    caplog.set_level("INFO")
    settings = {"log__track_images": 16, "schedule__plateau": "true", "schedule__snapshot_kimg": 0.008}
    stages = "[{resolution: 16, kimg: 1, overrides: {objective.blur_init_sigma: 0}}]"
    arguments = chain_run(tmp_path / "run", tiny_features, stages=stages, **settings)
    main(arguments)
    stage = chain_of(tmp_path / "run")[16]
    assert (stage["state"], stage["ended_by"], stage["kimg"]) == ("finished", "plateau", 0.04)
    assert any("stage 16 has ended by plateau at 0.04 kimg" in line for line in caplog.messages)
    assert list(stage["metrics"])
    main([*arguments, "--stage", "16"])
    assert chain_of(tmp_path / "run")[16]["ended_by"] == "plateau"


@pytest.mark.slow
@pytest.mark.parametrize("cond", ["none", "text"])
def test_other_conditions_grow_as_well(cond, tmp_path, tiny_features):
    main(chain_run(tmp_path / "run", tiny_features, cond=cond))
    assert chain_of(tmp_path / "run")[32]["state"] == "finished"
    generator, condition, _ = load_model(tmp_path / "run" / "best")
    assert (generator.img_resolution, condition.kind) == (32, cond)


def refused(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("stages", "more", "named"),
    [
        ("[{resolution: 16}, {resolution: 64}]", [], "stage 64 follows 16 px"),
        ("[{resolution: 16}, {resolution: 32, up_factor: 3}]", [], "up_factor=3"),
        ("[{resolution: 16, head_layers: 4}]", [], "is the stem"),
        (TWO, ["--stage", "64"], "--stage 64 is not listed"),
        (TWO, ["--stage", "32"], "which is missing"),
        ("[{resolution: 16, overrides: {log.bogus: 1}}]", [], "bogus"),
        ("[{resolution: 16, overrides: {generator.z_dim: 3}}]", [], "may not set generator.z_dim"),
        ("[{resolution: 16}, {resolution: 32, head_layers: 2}]", [], "head_layers=2"),
        ("[{resolution: 16}, {resolution: 32, batch: 12}]", [], "does not split"),
        ("[{resolution: 16}, {resolution: 32, overrides: {data.source: no/such}}]", [], "no/such"),
        (TWO, ["--generator.family", "stylegan_t"], "without heads"),
        ("[]", ["--objective.stem_weight", "1"], "needs a generator to grow on"),
        (TWO, ["--objective.stem_weight", "1", "--freeze_input", "false"], "while its input rests"),
        (
            "[{resolution: 16}, {resolution: 32, cls_weight: 1}]",
            ["--data.source", "emoji-scenes:4x4"],
            "tells 10 classes apart",
        ),
    ],
)
def test_mistakes_are_one_sentence_before_anything_trains(
    stages, more, named, tmp_path, tiny_features, capsys
):
    folder = tmp_path / "run"
    assert named in refused([*chain_run(folder, tiny_features, stages=stages), *more], capsys)
    assert not folder.exists()


def test_a_stem_of_another_configuration_is_refused(finished, tmp_path, tiny_features, capsys):
    folder = copy_of(finished, tmp_path)
    arguments = chain_run(folder, tiny_features, generator__stylegan3__channel_max=4)
    error = refused([*arguments, "--stage", "32"], capsys)
    assert "channel_max=8 instead of 4" in error


def test_a_best_model_that_vanished_is_missed_before_training(finished, tmp_path, tiny_features, capsys):
    folder = copy_of(finished, tmp_path)
    shutil.rmtree(folder / "stage_016" / "best")
    shutil.rmtree(folder / "stage_032")
    assert "stage_016/best is missing" in refused(
        [*chain_run(folder, tiny_features), "--stage", "32"], capsys
    )


def test_a_finished_stage_without_its_best_model_is_missed(finished, tmp_path, tiny_features, capsys):
    folder = copy_of(finished, tmp_path)
    shutil.rmtree(folder / "stage_032" / "best")
    assert "stage 32 is finished but" in refused(chain_run(folder, tiny_features), capsys)


def test_a_folder_of_a_plain_run_takes_no_chain(tmp_path, tiny_features, capsys):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert "without stages" in refused(chain_run(tmp_path / "run", tiny_features), capsys)


def test_stages_take_their_own_settings_and_the_papers_where_they_say_nothing(tmp_path):
    path = tmp_path / "chain.yaml"
    path.write_text(
        "cond: class\nobjective: {cls_weight: 1.0, pl_weight: 0.25, stem_weight: 2}\n"
        "stages:\n- {resolution: 16, batch: 32, per_device: 16}\n- {resolution: 32, cls_weight: 0.5}\n"
        "- {resolution: 64, g_lr: 0.001, kimg: 7, overrides: {objective: {blur_fade_kimg: 5}}}\n"
        "- {resolution: 256, up_factor: 4, head_layers: 6}\n"
    )
    base = parse_config(["--config", str(path), "--run-dir", str(tmp_path / "run")])
    stem, first, second, jump = (stage.config for stage in plan_run(base).stages)
    assert (stem.batch.images, first.batch.images) == (32, base.batch.images)
    assert [one.objective.cls_weight for one in (stem, first, second, jump)] == [0.0, 0.5, 1.0, 1.0]
    assert [one.objective.pl_weight for one in (stem, first, second)] == [0.25, 0.0, 0.0]
    assert [one.objective.stem_weight for one in (stem, first, second)] == [0.0, 2.0, 2.0]
    assert (second.optimizer.g_lr, second.schedule.kimg, second.objective.blur_fade_kimg) == (0.001, 7, 5)
    heads = [(head.head_layers, head.up_factor) for head in jump.generator.stylegan3.superres]
    assert heads == [(7, 2), (7, 2), (6, 4)]
    assert (stem.stem, jump.stem) == (None, str(tmp_path / "run" / "stage_064" / "best"))


def test_all_stages_of_a_text_chain_read_captions_with_one_encoder(tmp_path):
    arguments = ["--cond", "text", "--generator.family", "stylegan3", "--run-dir", str(tmp_path)]
    stem, head = (stage.config for stage in plan_run(parse_config([*arguments, "--stages", TWO])).stages)
    assert stem.conditioning.text_encoder == "auto:clip"
    assert head.conditioning.text_encoder == f"local:{tmp_path / 'stage_016' / 'features' / 'clip'}"
    with pytest.raises(ValueError, match="encoder other than the stem's"):
        parse_config([*arguments, "--stages", "[{resolution: 64}]", "--stem", "a/model"])


def test_a_chain_may_begin_on_a_model_from_elsewhere(finished, tmp_path, tiny_features):
    stem = finished / "stage_016" / "best"
    stages = "[{resolution: 64, up_factor: 4, head_layers: 4}]"
    settings = {"objective__stem_weight": 2}
    main([*chain_run(tmp_path / "run", tiny_features, stages=stages, **settings), "--stem", str(stem)])
    stats = read_stats(tmp_path / "run" / "stage_064" / "stats.jsonl")
    assert newest_numbers(stats)["loss/stem"] > 0
    generator, _, _ = load_model(tmp_path / "run" / "best")
    assert generator.img_resolution == 64
    assert torch.equal(generator.mapping.fc0.weight, load_model(stem)[0].mapping.fc0.weight)


def test_the_papers_chain_has_39_layers(tmp_path):
    config = parse_config(["--config", str(IMAGENET), "--run-dir", str(tmp_path)])
    assert [stage.layers for stage in plan_run(config).stages] == [11, 16, 21, 26, 31, 36, 39]
