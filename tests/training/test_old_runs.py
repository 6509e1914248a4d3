"""Run folders and models that an earlier version wrote open, go on and give the same numbers."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from crashes import final_state, numbers

from sgxl_t.sampling.pipeline import Pipeline
from sgxl_t.training.callbacks.stats_file import read_stats
from sgxl_t.training.train import main

OLD = Path(__file__).parents[1] / "old_runs"
NEWER = {"variety/nearest", "looks/grain", "looks/sharpness", "looks/noise"}
"""Numbers that the old version did not give."""
ASKED = {"class": [0, 3, 7], "text": ["a red fox in snow", "a cat", "an owl at night"]}


@pytest.mark.parametrize("kind", ASKED)
def test_an_old_model_makes_the_same_pictures(kind):
    pipe = Pipeline.from_pretrained(OLD / kind / "best")
    images = np.stack([np.asarray(pipe(asked, seed=5, psi=0.7).images[0]) for asked in ASKED[kind]])
    expected = np.load(OLD / f"{kind}_images.npz")["images"]
    # Other processors may round the last bit of a float differently.
    assert np.abs(images.astype(int) - expected).max() <= 1
    assert (images == expected).mean() > 0.99


@pytest.mark.parametrize("kind", ASKED)
def test_an_old_run_goes_on_as_it_would_have_then(kind, tmp_path, monkeypatch):
    shutil.copytree(OLD / kind, tmp_path / kind)
    monkeypatch.chdir(tmp_path)  # the run names its folder from where it was started
    main(["--config", f"{kind}/config.yaml", "--schedule.kimg", "0.032"])
    tensors, state = final_state(tmp_path / kind)
    assert state["images_seen"] == 32
    assert state["iteration"] == 4
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    expected = read_stats(OLD / f"{kind}_longer.jsonl")
    ours = numbers(tmp_path / kind)
    assert [line["images"] for line in ours] == [line["images"] for line in expected]
    for line, then in zip(ours, expected, strict=True):
        line = {name: value for name, value in line.items() if name not in NEWER}
        assert line == pytest.approx({name: then[name] for name in line}, rel=1e-3, abs=1e-5)
