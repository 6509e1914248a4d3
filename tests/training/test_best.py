"""best/ is the model at the lowest median of three values, and stays so when a run ends early and goes on."""

import itertools
import json
import math
import shutil
from types import SimpleNamespace

import pytest
from tiny_runs import tiny_run

from sgxl_t.metrics.runner import MetricResult
from sgxl_t.model_io.model_folder import read_info
from sgxl_t.training.callbacks.best import best_smoothed
from sgxl_t.training.callbacks.callback import Callback, Callbacks
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.checkpoint.run_checkpoints import RunCheckpoints
from sgxl_t.training.train import main

NAN = math.nan
LUCKY = (10, 8, 6, 1, 7, 9)
PROMOTED = (5, 4.8, 4, 9, 3, 8)  # the fourth is only an unlucky value among good ones
STEP = 8
FILES = ("config.json", "generator.safetensors", "metrics.json", "README.md")


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([5], 0),
        ([5, 4], 1),
        ([4, 5], 0),
        ([4, 4], 1),
        ([9, 8, 7], 1),  # nothing confirms the last
        ([9, 8, 7, 6, 5], 3),
        (LUCKY, 2),
        ([10, 9, 2, 8, 9], 3),
        ([10, 9, 2, 9.5, 10], 1),
        ([10, 9, 8, 7, 1], 3),
        ([1, 9, 8, 7, 7], 4),
        ([8, 4, 9, 4.5, 8], 2),
        (PROMOTED, 3),
        ([5, 6, 7, 8], 1),
    ],
)
def test_one_lucky_value_does_not_make_a_best(values, best):
    assert best_smoothed(values) == best


def test_the_best_stays_or_is_one_of_the_two_newest():
    for values in itertools.product(range(4), repeat=6):
        for count in range(2, len(values) + 1):
            possible = {best_smoothed(values[: count - 1]), count - 2, count - 1}
            assert best_smoothed(values[:count]) in possible, values[:count]


class Crafted(Callback):
    """In place of the tracked metrics: one value per snapshot."""

    values = ()

    def __init__(self, *_given, **_named):
        pass

    def on_snapshot(self, snapshot):
        value = self.values[snapshot.images_seen // STEP - 1]
        snapshot.results = [MetricResult("crafted", value, None, "", SimpleNamespace(), 1, None, "told to")]
        snapshot.metrics = {"crafted": value} if math.isfinite(value) else {}
        snapshot.numbers |= snapshot.metrics


@pytest.fixture
def crafted(tmp_path, tiny_features, monkeypatch):
    """A run that measures given values at its snapshots, one an update; resumes where one is there."""
    monkeypatch.setattr("sgxl_t.training.build_trainer.TrackedMetrics", Crafted)

    def go(name, values, *, until=None, **settings):
        monkeypatch.setattr(Crafted, "values", values)
        settings = {
            "cond": "none",
            "deterministic": "true",
            "schedule__kimg": (until or len(values)) * STEP / 1000,
            "schedule__snapshot_kimg": STEP / 1000,
            **settings,
        }
        main(tiny_run(tmp_path / name, tiny_features, **settings))
        return tmp_path / name

    return go


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Runs from start to end, each made once: what runs in several parts are compared with."""
    made = {}

    def of(crafted, values, **settings):
        key = repr((values, settings))
        if key not in made:
            made[key] = crafted(tmp_path_factory.mktemp("unbroken"), values, **settings)
        return made[key]

    return of


def chosen(folder):
    """Position of the snapshot whose model is best/."""
    return round(read_info(folder / "best").provenance["kimg"] * 1000) // STEP - 1


def content(folder):
    return {name: (folder / "best" / name).read_bytes() for name in FILES}


@pytest.mark.parametrize(
    ("values", "best"),
    [((5,), 0), ((5, 4), 1), ((4, 5), 0), (LUCKY, 2), (PROMOTED, 3), ((NAN, 3, NAN, 2), 3), ((NAN, NAN), 1)],
)
def test_best_is_the_model_of_the_smoothed_minimum(crafted, values, best):
    folder = crafted("run", values)
    assert chosen(folder) == best
    numbers = json.loads((folder / "best" / "metrics.json").read_text())
    assert numbers == ({} if math.isnan(values[best]) else {"crafted": values[best]})
    assert read_info(folder / "last").provenance["kimg"] == len(values) * STEP / 1000


def test_values_that_are_not_finite_do_not_come_between_neighbours(crafted):
    assert chosen(crafted("run", (10, 8, NAN, 1, NAN, 8, 9))) == 5


def test_the_newest_is_best_where_nothing_is_tracked(crafted):
    assert chosen(crafted("run", (1, 2, 3), log__track_images=0)) == 2
    assert chosen(crafted("run", (1, 2, 3, 4, 5), until=4)) == 3, "and earlier values count no more"


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("values", [LUCKY, PROMOTED], ids=["lucky", "promoted"])
def test_a_run_in_two_parts_ends_with_the_best_of_an_unbroken_one(crafted, unbroken, values, stop):
    straight = unbroken(crafted, values)
    crafted("parts", values, until=stop)
    parts = crafted("parts", values)
    assert content(parts) == content(straight)
    states = [load_newest(folder / "checkpoints")[2]["snapshots"] for folder in (straight, parts)]
    assert states[0] == states[1]


class Killed(BaseException):
    """Nothing catches it, as nothing survives the real thing."""


@pytest.mark.parametrize("at", [2, 4, 5])
@pytest.mark.parametrize("interval", [1, 3])
def test_after_a_kill_between_snapshot_and_checkpoint_as_well(crafted, unbroken, monkeypatch, at, interval):
    settings = {"schedule__checkpoint_kimg": interval * STEP / 1000}
    straight = unbroken(crafted, PROMOTED, **settings)
    snapshot = Callbacks.snapshot

    def killed(self, state):
        snapshot(self, state)
        if state.images_seen == at * STEP:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Callbacks, "snapshot", killed)
        with pytest.raises(Killed):
            crafted("parts", PROMOTED, **settings)
    parts = crafted("parts", PROMOTED, **settings)
    assert chosen(parts) == 3
    assert content(straight) == content(parts)


def test_what_a_lost_part_of_a_run_called_best_is_forgotten(crafted, monkeypatch):
    """Another course after the checkpoint, as on devices that do not repeat themselves."""
    first = crafted("run", (5, 6))
    assert chosen(first) == 0
    before = content(first)
    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoints, "save", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            crafted("run", (5, 6, 1), until=3)
    assert chosen(first) == 1
    shutil.rmtree(first / "last")
    crafted("run", (5, 6), until=2)
    assert content(first) == before
    shutil.rmtree(first / "best")
    crafted("run", (5, 6), until=2)
    assert content(first) == before, "also where it is missing"


def test_the_text_tower_of_a_waiting_model_waits_with_it(crafted):
    settings = {
        "cond": "text",
        "conditioning__train_text_encoder": "true",
        "optimizer__final_lr_share": 1,  # rates that fall would depend on the length of each part
    }
    straight = crafted("straight", PROMOTED, **settings)
    crafted("parts", PROMOTED, until=4, **settings)
    parts = crafted("parts", PROMOTED, **settings)
    assert chosen(parts) == 3
    towers = [sorted((folder / "best" / "text_encoder").iterdir()) for folder in (straight, parts)]
    assert towers[0]
    for one, other in zip(*towers, strict=True):
        assert one.read_bytes() == other.read_bytes()
