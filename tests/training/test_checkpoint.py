"""Checkpoints: whole or absent; a damaged one is passed over, and nothing is lost without a word."""

import hashlib
import json

import pytest
import torch

from sgxl_t.training.checkpoint import (
    flatten_optimizer,
    load_newest,
    restore_optimizer,
    save_checkpoint,
)


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


def test_when_none_is_whole_the_user_is_asked(tmp_path):
    (write(tmp_path, 1.0, 1) / "a.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no checkpoint in .* is whole .*a\.safetensors is missing"):
        load_newest(tmp_path)


def test_a_write_that_fails_leaves_the_ones_before(tmp_path):
    write(tmp_path, 1.0, 1)
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 2.0, {"a": {"x": torch.ones(1)}}, {"bad": object()}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["kimg_0000001.000"]


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
