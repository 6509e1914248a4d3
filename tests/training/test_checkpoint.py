"""Checkpoints: whole or absent; a damaged one is passed over, and nothing is lost without a word."""

import hashlib
import json
import shutil

import pytest
import torch
from crashes import assert_same_run
from tiny_runs import tiny_run

from sgxl_t.files.whole import whole_folder
from sgxl_t.training.checkpoint.checkpoint import (
    flatten_optimizer,
    load_newest,
    restore_optimizer,
    save_checkpoint,
)
from sgxl_t.training.checkpoint.disk import WriteError
from sgxl_t.training.train import main


def write(root, kimg, value, keep=2):
    return save_checkpoint(
        root, kimg, {"a": {"x": torch.full((3,), value)}}, {"images_seen": value}, keep=keep
    )


def test_the_newest_comes_back_and_old_ones_go(tmp_path):
    for number in range(4):
        write(tmp_path, float(number), number)
    folder, parts, state = load_newest(tmp_path)
    assert folder.name == "kimg_0000003.000"
    assert parts["a"]["x"].tolist() == [3, 3, 3]
    assert state["images_seen"] == 3
    assert len(list(tmp_path.glob("kimg_*"))) == 2


def test_none_when_nothing_was_saved(tmp_path):
    assert load_newest(tmp_path / "none") is None


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "manifest"])
@pytest.mark.parametrize("name", ["a.safetensors", "state.json"])
def test_a_damaged_newest_is_passed_over(tmp_path, damage, name):
    write(tmp_path, 1.0, 1)
    newest = write(tmp_path, 2.0, 2)
    path = newest / ("manifest.json" if damage == "manifest" else name)
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    elif damage == "flip":
        data[-1] ^= 1
        path.write_bytes(bytes(data))
    else:
        path.write_bytes(bytes(data[: len(data) // 2]))
    _, _, state = load_newest(tmp_path)
    assert state["images_seen"] == 1


@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_model_folders_are_copied_and_their_damage_is_found(tmp_path, damage):
    model = tmp_path / "model"
    (model / "text_encoder").mkdir(parents=True)
    (model / "text_encoder" / "config.json").write_text("{}")
    root = tmp_path / "checkpoints"
    write(root, 1.0, 1)
    newest = save_checkpoint(root, 2.0, {}, {"images_seen": 2}, models={"best": model}, keep=2)
    assert load_newest(root)[0] == newest
    stored = newest / "best" / "text_encoder" / "config.json"
    if damage == "flip":
        stored.write_text("[]")
    else:
        stored.unlink()
    assert load_newest(root)[2]["images_seen"] == 1


@pytest.mark.parametrize("name", ["../outside", "{root}/outside"])
def test_a_manifest_reads_nothing_outside_its_folder(tmp_path, name, caplog):
    write(tmp_path / "c", 1.0, 1)
    newest = write(tmp_path / "c", 2.0, 2)
    (tmp_path / "c" / "outside").write_text("x")
    manifest = json.loads((newest / "manifest.json").read_text())
    manifest["files"][name.format(root=tmp_path / "c")] = {
        "bytes": 1,
        "sha256": hashlib.sha256(b"x").hexdigest(),
    }
    (newest / "manifest.json").write_text(json.dumps(manifest))
    assert load_newest(tmp_path / "c")[2]["images_seen"] == 1
    assert "outside is missing" in caplog.text


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"format": 1, "files": {}}', "does not list state.json"),
        ('{"format": 1, "files": []}', "garbled"),
        ('{"format": 1, "files": [1]}', "garbled"),
        ('{"format": 1}', "garbled"),
        ('{"format": 2, "files": {}}', "format 2 instead of 1"),
        ("[]", "garbled"),
        ("", "garbled"),
        ("\0" * 99, "garbled"),
    ],
)
def test_a_manifest_of_other_content(tmp_path, content, named, caplog):
    write(tmp_path, 1.0, 1)
    (write(tmp_path, 2.0, 2) / "manifest.json").write_text(content)
    assert load_newest(tmp_path)[2]["images_seen"] == 1
    assert named in caplog.text


@pytest.mark.parametrize("keep", [1, 2])
def test_damaged_ones_ahead_never_push_out_whole_ones(tmp_path, keep):
    """Going on from before them, the run writes checkpoints of fewer images than theirs."""
    write(tmp_path, 1.0, 1, keep=3)
    for kimg in (3.0, 4.0):
        (write(tmp_path, kimg, 3, keep=3) / "state.json").unlink()
    assert load_newest(tmp_path)[2]["images_seen"] == 1
    write(tmp_path, 2.0, 2, keep=keep)
    assert load_newest(tmp_path)[2]["images_seen"] == 2
    assert sorted(path.name for path in tmp_path.iterdir())[-1] == "kimg_0000002.000"


def test_when_none_is_whole_the_user_is_asked(tmp_path):
    (write(tmp_path, 1.0, 1) / "a.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no checkpoint in .* is whole .*a\.safetensors is missing"):
        load_newest(tmp_path)


def test_a_write_that_fails_leaves_the_ones_before(tmp_path):
    write(tmp_path, 1.0, 1)
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 2.0, {"a": {"x": torch.ones(1)}}, {"bad": object()}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["kimg_0000001.000"]


def test_nothing_grows_where_a_run_was_moved_away(tmp_path):
    with pytest.raises(WriteError):
        write(tmp_path / "run" / "checkpoints", 1.0, 1)
    with pytest.raises(FileNotFoundError):
        fill_run_folder(tmp_path / "run" / "last")
    assert not (tmp_path / "run").exists()


def fill_run_folder(folder):
    with whole_folder(folder, mark=None, parents=False) as aside:
        (aside / "config.json").write_text("{}")


RUN = {
    "deterministic": "true",
    "schedule__snapshot_kimg": 0.008,
    "objective__pl_weight": 0.25,
    "objective__pl_start_kimg": 0,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_features):
    """A run with checkpoints at 16 and 24 images, and the same one unbroken to 32."""
    root = tmp_path_factory.mktemp("runs")
    main(tiny_run(root / "short", tiny_features, schedule__kimg=0.024, **RUN))
    main(tiny_run(root / "unbroken", tiny_features, schedule__kimg=0.032, **RUN))
    return root / "short", root / "unbroken"


def newest_of(run):
    return max((run / "checkpoints").iterdir())


def files_of(checkpoint):
    return sorted(path.relative_to(checkpoint) for path in checkpoint.rglob("*") if path.is_file())


def spoil(path, damage):
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(bytes(data[: len(data) // 2]))
    elif damage == "flipped":
        data[len(data) // 2] ^= 4
        path.write_bytes(bytes(data))
    elif damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(b"\x93garbage\0" * (len(data) // 9 + 1))


DAMAGES = ("truncated", "flipped", "deleted", "garbage")


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_file_of_a_checkpoint_is_needed(damage, runs, tmp_path, caplog):
    checkpoint = newest_of(runs[0])
    files = files_of(checkpoint)
    assert len(files) > 12
    root = tmp_path / "checkpoints"
    for name in files:
        shutil.copytree(runs[0] / "checkpoints", root)
        spoil(root / checkpoint.name / name, damage)
        caplog.clear()
        folder, _, state = load_newest(root)
        assert (folder.name, state["images_seen"]) == ("kimg_0000000.016", 16), name
        assert f"checkpoint {checkpoint.name} is damaged" in caplog.text
        assert str(name) in caplog.text or name.name == "manifest.json"
        shutil.rmtree(root)


def goes_on(name, damage, runs, tmp_path, features, caplog):
    """A damaged run, and the same command: it ends as the unbroken one."""
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    spoil(newest_of(run) / name, damage)
    caplog.set_level("INFO")
    caplog.clear()
    main(tiny_run(run, features, schedule__kimg=0.032, **RUN))
    assert "kimg_0000000.016 at 0.0 kimg" in caplog.text
    assert_same_run(run, runs[1])
    shutil.rmtree(run)


@pytest.mark.parametrize(
    ("name", "damage"), [("optimizer_g.safetensors", "flipped"), ("manifest.json", "deleted")]
)
def test_a_run_goes_on_from_the_checkpoint_before(name, damage, runs, tmp_path, tiny_features, caplog):
    goes_on(name, damage, runs, tmp_path, tiny_features, caplog)


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_goes_on_whatever_file_is_damaged(damage, runs, tmp_path, tiny_features, caplog):
    for name in files_of(newest_of(runs[0])):
        goes_on(name, damage, runs, tmp_path, tiny_features, caplog)


def test_a_run_without_a_whole_checkpoint_says_so(runs, tmp_path, tiny_features, capsys):
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    first, second = sorted((run / "checkpoints").iterdir())
    spoil(first / "network_d.safetensors", "truncated")
    spoil(second / "state.json", "deleted")
    with pytest.raises(SystemExit) as caught:
        main(tiny_run(run, tiny_features, schedule__kimg=0.032, **RUN))
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.count("\n") == 1
    assert "no checkpoint in" in error
    assert f"{first.name}: network_d.safetensors does not match its manifest" in error
    assert f"{second.name}: state.json is missing" in error
    assert len(list((run / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [("images_seen", "many"), ("iteration", None), ("images_seen", -1), ("skipped_steps", [1])],
)
def test_a_state_of_other_content_is_one_sentence(key, value, runs, tmp_path, tiny_features, capsys):
    """Its manifest fits: somebody wrote both."""
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    path = newest_of(run) / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    manifest = json.loads((path.parent / "manifest.json").read_text())
    data = path.read_bytes()
    manifest["files"]["state.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path.parent / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SystemExit) as caught:
        main(tiny_run(run, tiny_features, schedule__kimg=0.032, **RUN))
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.count("\n") == 1
    assert "does not say where the run stood" in error


def updated(steps, state=None):
    """A layer and its optimiser after so many updates; `state` is restored before the third."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 3)
    optimizer = torch.optim.Adam(layer.parameters(), betas=(0.0, 0.99))
    for step in range(steps):
        if step == 2 and state is not None:
            restore_optimizer(optimizer, layer, state)
        layer.weight.grad = torch.full((3, 4), float(step + 1))
        optimizer.step()
    return layer, optimizer


def optimizer_state(steps):
    layer, optimizer = updated(steps)
    return {name: value.clone() for name, value in flatten_optimizer(optimizer, layer).items()}


def test_optimizer_state_survives():
    state = optimizer_state(2)
    assert torch.equal(updated(3, state)[0].weight, updated(3)[0].weight)
    assert set(state) == {"weight.step", "weight.exp_avg", "weight.exp_avg_sq"}


def test_optimizer_state_of_other_parameters_is_left_out_where_that_is_asked_for():
    state = optimizer_state(2) | {"gone.step": torch.tensor(2.0), "gone.exp_avg": torch.ones(3)}
    layer, optimizer = updated(0)
    with pytest.raises(ValueError, match="gone"):
        restore_optimizer(optimizer, layer, state)
    restore_optimizer(optimizer, layer, state, partly=True)
    assert set(flatten_optimizer(optimizer, layer)) == {"weight.step", "weight.exp_avg", "weight.exp_avg_sq"}
    wider = torch.nn.Linear(5, 3)
    fresh = torch.optim.Adam(wider.parameters())
    restore_optimizer(fresh, wider, state, partly=True)
    assert flatten_optimizer(fresh, wider) == {}
