"""Numbers that are not finite: a step is left out and counted; a lasting case goes back once, then stops."""

import math

import pytest
import torch
from tiny_runs import tiny_run

from sgxl_t.objectives.objective import Objective
from sgxl_t.training.callbacks.stats_file import read_stats
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.parallel.exit_codes import DIVERGED
from sgxl_t.training.parallel.trained_network import TrainedNetwork
from sgxl_t.training.train import main


def run(folder, features, **settings):
    values = {"deterministic": "true", "schedule__kimg": 0.064, "schedule__max_skipped_steps": 2}
    main(tiny_run(folder, features, cond="text", log__track_images=0, **{**values, **settings}))


def spoil(monkeypatch, name, spoilt):
    """Multiplies a loss by NaN at calls for which `spoilt(call number)` holds."""
    whole, calls = getattr(Objective, name), [0]

    def broken(self, *args, **kwargs):
        loss, stats = whole(self, *args, **kwargs)
        calls[0] += 1
        return (loss * math.nan if spoilt(calls[0]) else loss), stats

    monkeypatch.setattr(Objective, name, broken)


def tensors(folder):
    _, parts, state = load_newest(folder / "checkpoints")
    return {f"{part}/{name}": v for part, group in parts.items() for name, v in group.items()}, state


@pytest.mark.parametrize("name", ["g_loss", "d_loss"])
def test_one_bad_loss_is_skipped_and_counted(name, tmp_path, tiny_features, monkeypatch, caplog):
    caplog.set_level("INFO")
    spoil(monkeypatch, name, lambda call: call == 3)
    run(tmp_path / "run", tiny_features)
    found, state = tensors(tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in found.values() if value.is_floating_point())
    assert sum(state["skipped_steps"].values()) == 1
    assert state["images_seen"] == 64
    lines = read_stats(tmp_path / "run" / "stats.jsonl")
    counts = [line["skipped_steps"] for line in lines if "skipped_steps" in line]
    assert counts[:4] == [0, 0, 1, 1]
    assert not any("back to the newest checkpoint" in line for line in caplog.messages)


def test_a_bad_spell_goes_back_to_the_checkpoint_and_on(tmp_path, tiny_features, monkeypatch, caplog):
    caplog.set_level("INFO")
    spoil(monkeypatch, "g_loss", lambda call: call in (4, 5))
    run(tmp_path / "run", tiny_features)
    assert (
        sum("2 steps in a row had a loss or gradient that is not finite" in m for m in caplog.messages) == 1
    )
    assert any("resumed from" in line and "0.0 kimg" in line for line in caplog.messages)
    found, state = tensors(tmp_path / "run")
    assert state["images_seen"] == 64
    assert state["rollbacks"] == 1
    lines = [line["images"] for line in read_stats(tmp_path / "run" / "stats.jsonl") if "loss/g" in line]
    assert lines == sorted(set(lines))
    assert all(torch.isfinite(value).all() for value in found.values() if value.is_floating_point())


def test_what_lasts_goes_back_once_and_then_stops(tmp_path, tiny_features, monkeypatch, caplog, capsys):
    caplog.set_level("INFO")
    spoil(monkeypatch, "d_loss", lambda call: call > 3)
    with pytest.raises(SystemExit) as caught:
        run(tmp_path / "run", tiny_features)
    assert caught.value.code == DIVERGED
    assert sum("back to the newest checkpoint" in line for line in caplog.messages) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: 2 steps in a row had a loss or gradient that is not finite, again after")
    assert error.count("\n") == 1
    _, state = tensors(tmp_path / "run")
    assert state["images_seen"] == 24  # the checkpoint of the last good update


def test_without_a_checkpoint_it_stops_at_once(tmp_path, tiny_features, monkeypatch, capsys):
    spoil(monkeypatch, "g_loss", lambda call: True)
    with pytest.raises(SystemExit) as caught:
        run(tmp_path / "run", tiny_features)
    assert caught.value.code == DIVERGED
    assert "has no checkpoint to go back to" in capsys.readouterr().err


def role_of(parameter, scaler=None):
    network = torch.nn.Module()
    network.weight = parameter
    optimizer = torch.optim.Adam([{"params": [parameter], "lr": 0.1, "first_lr": 0.1}], fused=True)
    return TrainedNetwork(network, network, optimizer, mean=lambda value: value, scaler=scaler)


def test_a_loss_scale_that_is_too_high_is_halved_and_the_step_left_out():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    role = role_of(torch.nn.Parameter(torch.ones(2)), scaler)
    for factor, skipped in [(1e38, 1), (1.0, 1)]:
        before = role.raw.weight.detach().clone()
        role.backward((role.raw.weight * factor).sum(), 1)
        role.step()
        assert role.skipped_steps == skipped
        assert torch.equal(role.raw.weight.detach(), before) == (factor > 1)
    assert scaler.get_scale() == 2.0**15
    other = role_of(torch.nn.Parameter(torch.ones(2)), torch.amp.GradScaler("cpu"))
    other.load_scaler_state(role.scaler_state())
    assert other.scaler.get_scale() == 2.0**15


def test_a_follower_steps_with_its_network_and_is_unscaled_too():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    leader, follower = (role_of(torch.nn.Parameter(torch.ones(2)), scaler) for _ in range(2))
    leader.followers.append(follower)
    leader.backward((leader.raw.weight * follower.raw.weight * 1e-3).sum(), 1)
    leader.step()
    torch.testing.assert_close(leader.raw.weight.detach(), torch.full((2,), 0.9))
    torch.testing.assert_close(follower.raw.weight.detach(), torch.full((2,), 0.9))


def test_counts_in_a_row_start_again_after_a_good_step():
    role = role_of(torch.nn.Parameter(torch.ones(2)))
    rows = []
    for value in (math.nan, math.inf, 1.0, math.nan):
        role.backward((role.raw.weight * value).sum(), 1)
        role.step()
        rows.append((role.skipped_steps, role.skipped_in_a_row))
    assert rows == [(1, 1), (2, 2), (2, 0), (3, 1)]
