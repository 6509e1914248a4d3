"""Heads beside a model: what a run that begins with it takes of them."""

import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_runs import tiny_run

from sgxl_t.model_io.model_folder import load_model
from sgxl_t.training.build_trainer import build_trainer
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.progressive.planner import plan_run
from sgxl_t.training.start.heads import HEADS, View, read_heads, view_of, write_heads
from sgxl_t.training.train import main

SCRIPTS = Path(__file__).parents[2] / "scripts"
QUIET = {"log__track_images": 0, "deterministic": "true", "objective__d_alone_kimg": 0}


def pack(run, out, *given):
    script = import_module("pack_model")
    done = CliRunner().invoke(script.pack, [str(run), "--out", str(out), *given])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def packed(tmp_path_factory, tiny_features):
    """Runs on classes and on captions, and model folders with heads of both."""
    folder, found = tmp_path_factory.mktemp("heads"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        for cond in ("class", "text"):
            main(tiny_run(folder / cond, tiny_features, cond=cond, **QUIET))
            found[cond] = pack(folder / cond, folder / f"{cond}-packed", "--heads", "--kimg", "7")
    return found


def begun(folder, features, **settings):
    """The state of a run before its first update."""
    config = plan_run(parse_config(tiny_run(folder, features, **{**QUIET, **settings}))).stages[0].config
    trainer = build_trainer(config, Runtime(deterministic=True), folder)
    trainer.begin()
    return trainer.state


@pytest.mark.parametrize("cond", ["class", "text"])
def test_a_run_goes_on_with_the_heads_beside_its_start(cond, packed, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    start = packed[cond]
    assert load_model(start)[2].provenance["kimg"] == 7
    state = begun(tmp_path / "run", tiny_features, cond=cond, start=start)
    stored = load_newest(start.with_name(cond) / "checkpoints")[1]
    for name, value in stored["network_d"].items():
        torch.testing.assert_close(state.d.weights()[name], value.half().to(value.dtype))
    for name, value in state.features.projection_state().items():
        torch.testing.assert_close(value, stored["projection"][name].half().float())
    (said,) = [line for line in caplog.messages if line.startswith("starts from")]
    assert f"{len(stored['network_d'])} tensors of d" in said
    assert said.endswith("fresh: optimiser states")


def test_weights_may_go_a_share_of_the_way_to_another_model(packed, tmp_path, tiny_features, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    run = packed["class"].with_name("class")
    main(tiny_run(tmp_path / "on", tiny_features, start=run / "last", **QUIET))
    mean = pack(tmp_path / "on", tmp_path / "mean", "--toward", str(run / "last"), "--share", "0.25")
    here, there, between = (
        load_model(folder)[0].state_dict() for folder in (tmp_path / "on" / "last", run / "last", mean)
    )
    assert any(not torch.equal(here[name], there[name]) for name in here)
    for name, value in between.items():
        expected = here[name] + 0.25 * (there[name] - here[name])
        torch.testing.assert_close(value, expected, atol=1e-3, rtol=1e-3)
    script = import_module("pack_model")
    given = [str(run), "--out", str(tmp_path / "not"), "--toward", "demo_text"]
    done = CliRunner().invoke(script.pack, given)
    assert "--toward demo_text has other sizes than the run's model" in done.output


@pytest.mark.parametrize(
    "other",
    [{"cond": "none"}, {"data__source": "emoji-scenes:4x4", "cond": "class"}],
    ids=["condition", "data"],
)
def test_heads_of_another_condition_or_other_data_stay_behind(other, packed, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    start = packed["class"]
    state = begun(tmp_path / "run", tiny_features, start=start, **other)
    fresh = begun(tmp_path / "fresh", tiny_features, **other)
    own, theirs = state.d.weights(), fresh.d.weights()
    assert all(torch.equal(own[name], theirs[name]) for name in own if ".main." in name)
    (said,) = [line for line in caplog.messages if line.startswith("starts from")]
    assert "fresh: discriminator, optimiser states" in said


def test_heads_of_other_networks_stay_behind(packed, tmp_path, tiny_features, caplog):
    caplog.set_level("INFO")
    other = Path(shutil.copytree(tiny_features, tmp_path / "features"))
    file = other / "cnn" / "model.safetensors"
    with safe_open(file, framework="pt") as stored:
        about = stored.metadata()
    changed = {n: v * 1.01 if v.is_floating_point() else v for n, v in load_file(file).items()}
    save_file(changed, file, about)
    begun(tmp_path / "run", other, start=packed["class"])
    assert "fresh: discriminator, optimiser states" in caplog.text


HEADS_OF_TWO = {
    f"networks.{number}.mini_discs.0.{name}": torch.full((2, 3), 10.0 * number + place)
    for number in (0, 1)
    for place, name in enumerate(("main.0.weight", "cls.weight"))
}
AFTER = {f"{number}.scale": torch.full((4,), 100.0 + number) for number in (0, 1)}


def test_networks_are_found_wherever_they_stand_in_line(tmp_path):
    write_heads(tmp_path, HEADS_OF_TWO, AFTER, View(("a", "b"), "none", "data"))
    heads, after = read_heads(tmp_path / HEADS, HEADS_OF_TWO, AFTER, View(("b", "c"), "none", "data"))
    expected = {name: value + 10 for name, value in HEADS_OF_TWO.items() if name.startswith("networks.0.")}
    assert heads.keys() == expected.keys()
    assert all(torch.equal(heads[name], expected[name]) for name in heads)
    assert after.keys() == {"0.scale"}
    assert torch.equal(after["0.scale"], torch.full((4,), 101.0))
    for view in (View(("b",), "class x", "data"), View(("b",), "none", "other")):
        assert read_heads(tmp_path / HEADS, HEADS_OF_TWO, AFTER, view) is None
    assert read_heads(tmp_path / HEADS, HEADS_OF_TWO, AFTER, View(("d",), "none", "data")) is None
    wider = {name: torch.ones(5) for name in AFTER}
    assert read_heads(tmp_path / HEADS, HEADS_OF_TWO, wider, View(("a", "b"), "none", "data")) is None


def test_a_broken_file_is_one_sentence(tmp_path):
    save_file(dict(HEADS_OF_TWO), tmp_path / HEADS)
    with pytest.raises(ValueError, match=r"does not say which networks its heads look through: restore"):
        read_heads(tmp_path / HEADS, HEADS_OF_TWO, AFTER, View(("a",), "none", "data"))
    (tmp_path / HEADS).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"is truncated or no safetensors file: restore the file, or remove"):
        read_heads(tmp_path / HEADS, HEADS_OF_TWO, AFTER, View(("a",), "none", "data"))
    with pytest.raises(ValueError, match=r"family=dino are not kept beside a model"):
        write_heads(tmp_path, {"heads.0.cls.weight": torch.ones(1)}, {}, View(("a",), "none", "data"))


def test_a_view_tells_networks_by_reference_and_local_ones_by_their_weights(tmp_path, packed):
    condition = load_model(packed["class"])[1]
    for name, value in (("one", 1.0), ("same", 1.0), ("other", 2.0)):
        (tmp_path / name).mkdir()
        save_file({"w": torch.full((3,), value)}, tmp_path / name / "model.safetensors")
    references = ["timm:x", *(f"local:{tmp_path / name}" for name in ("one", "same", "other"))]
    timm, one, same, other = view_of(references, tmp_path, condition, "x").networks
    assert timm == "timm:x"
    assert one == same != other
    assert view_of([], tmp_path, condition, "x").target.startswith("class ")
