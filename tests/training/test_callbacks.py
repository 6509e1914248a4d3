"""Callbacks take part in a run in their order; a checkpoint holds the states of those that have one."""

from types import SimpleNamespace

import pytest

from sgxl_t.training.callbacks.callback import Callback, Callbacks
from sgxl_t.training.parallel.runtime import Runtime

STATE = SimpleNamespace(
    images_seen=8, ema=SimpleNamespace(network="averaged generator"), averaged_condition="condition"
)


class Measures(Callback):
    state_key = "measured"

    def __init__(self):
        self.values = []

    def on_tick(self, state):
        return {"speed": 2.0}

    def on_snapshot(self, snapshot):
        self.values.append(snapshot.kimg)
        snapshot.numbers["fd"] = 1.5

    @property
    def ended_by(self):
        return "plateau" if self.values else None

    def state_dict(self):
        return {"values": self.values}

    def model_folders(self):
        return {"best": "models/best"}

    def load_state_dict(self, state, checkpoint):
        self.values, self.read_from = list(state["values"]), checkpoint


class Writes(Callback):
    def __init__(self):
        self.lines, self.closed = [], False

    def on_numbers(self, line):
        self.lines.append(line)

    def on_snapshot(self, snapshot):
        self.lines.append(snapshot.line)

    def on_exit(self):
        self.closed = True


@pytest.fixture
def callbacks(tmp_path):
    return Callbacks([Measures(), Writes()], Runtime(deterministic=False), tmp_path)


def test_later_callbacks_see_the_numbers_of_earlier_ones(tmp_path):
    measures, writes = Measures(), Writes()
    both = Callbacks([measures, writes], Runtime(deterministic=False), tmp_path)
    both.tick(STATE)
    assert both.ended_by is None
    both.snapshot(STATE)
    assert writes.lines == [{"images": 8, "speed": 2.0}, {"images": 8, "fd": 1.5}]
    assert both.ended_by == "plateau"
    both.close()
    assert writes.closed
    turned = Callbacks([Writes(), Measures()], Runtime(deterministic=False), tmp_path)
    turned.snapshot(STATE)
    assert turned._callbacks[0].lines == [None], "there were no numbers yet"


def test_states_and_models_go_into_a_checkpoint_by_name(callbacks, tmp_path):
    callbacks.snapshot(STATE)
    assert callbacks.state_dict() == {"measured": {"values": [0.008]}}
    assert callbacks.model_folders() == {"best": "models/best"}
    measures = Measures()
    later = Callbacks([measures, Writes()], Runtime(deterministic=False), tmp_path)
    later.load_state_dict({"images_seen": 8}, tmp_path)
    assert measures.values == [], "an older checkpoint may lack a state"
    later.load_state_dict({"measured": {"values": [0.008]}}, tmp_path / "kimg")
    assert (measures.values, measures.read_from) == ([0.008], tmp_path / "kimg")
