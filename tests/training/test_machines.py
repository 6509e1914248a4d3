"""Machines with disks of their own: all go on from what the main process has, or none does."""

import functools
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from crashes import _SERVER, assert_same_run, final_state, start
from launches import free_port, on_machine
from PIL import Image
from tiny_runs import tiny_run

from sgxl_t.training.checkpoint.checkpoint import find_newest, load_newest, save_checkpoint
from sgxl_t.training.parallel.exit_codes import INTERRUPTED, USER_ERROR
from sgxl_t.training.parallel.machines import weights_hash

TWO = {"batch__per_device": 4, "deterministic": "true"}


def begin(folders, arguments):
    """Processes and logs of a run on two machines, each in its folder."""
    port = free_port()
    logs = [Path(f"{folder}.{rank}.log") for rank, folder in enumerate(folders)]
    for log in logs:
        log.unlink(missing_ok=True)
    machines = [functools.partial(on_machine, folder, rank, port) for rank, folder in enumerate(folders)]
    return [start(arguments, log, machine) for log, machine in zip(logs, machines, strict=True)], logs


def both(folders, arguments):
    """Exit codes and words of such a run to its end."""
    processes, logs = begin(folders, arguments)
    for process in processes:
        process.join(180)
        if process.is_alive():
            process.kill()
    return [process.exitcode for process in processes], [log.read_text() for log in logs]


def done(folders, arguments):
    codes, words = both(folders, arguments)
    assert codes == [0, 0], words
    return words


def errors(words):
    return [[line for line in text.splitlines() if line.startswith("error: ")] for text in words]


# Files ---------------------------------------------------------------------------------------------------


def checkpoint(folder, kimg, value):
    Path(folder).mkdir(parents=True, exist_ok=True)
    return save_checkpoint(
        Path(folder) / "checkpoints",
        kimg,
        {"network_g": {"w": torch.full((3,), value), "n": torch.tensor(7)}},
        {"images_seen": kimg * 1000},
        keep=2,
    )


def on_one(folder, rank, port, answers):
    """What machine `rank` makes of every case below, in one process group."""
    on_machine(folder, rank, port)
    from sgxl_t.training.parallel.machines import check_same_checkpoint, share_checkpoint
    from sgxl_t.training.parallel.runtime import Runtime

    runtime = Runtime(deterministic=False)
    got = {}
    for case in CASES:
        try:
            share_checkpoint(runtime, Path(case, "run"), keep=1)
            found = find_newest(Path(case, "run", "checkpoints"))
            weights = load_newest(found.parent)[1]["network_g"]["w"].tolist()
            got[case] = found.name, weights, sorted(path.name for path in found.parent.iterdir())
        except ValueError as error:
            got[case] = str(error)
    try:
        check_same_checkpoint(runtime, Path("older", "start"), "start=old")
    except ValueError as error:
        got["start"] = str(error)
    answers.put((rank, got))
    runtime.wait()
    runtime.finish()


CASES = {
    "none": (2.0, None),
    "older": (2.0, 1.0),
    "different": (2.0, 2.0),
    "damaged": (2.0, 2.0),
    "ahead": (1.0, 2.0),
    "alone": (None, 2.0),
}
"""Kimg of the checkpoints of the main process and of the other machine."""


@pytest.fixture(scope="module")
def agreed(tmp_path_factory):
    """Folder, and what each of two machines made of each case."""
    root = tmp_path_factory.mktemp("two")
    for case, found in CASES.items():
        for rank, kimg in enumerate(found):
            if kimg is not None:
                made = checkpoint(root / f"m{rank}" / case / "run", kimg, [0.5, 3.0][rank])
    (root / "m1" / "damaged" / "run" / "checkpoints" / made.name / "state.json").unlink()
    checkpoint(root / "m0" / "older" / "start", 2.0, 0.5)
    port, answers = free_port(), _SERVER.Queue()
    processes = [
        _SERVER.Process(target=on_one, args=(root / f"m{rank}", rank, port, answers)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    got = dict(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(30)
        assert process.exitcode == 0, "no process aborts"
    return root, got


@pytest.mark.parametrize("case", ["none", "older", "different", "damaged"])
def test_the_newest_checkpoint_of_the_main_process_is_on_all_machines(case, agreed):
    root, got = agreed
    name = "kimg_0000002.000"
    assert got[0][case] == got[1][case] == (name, [0.5, 0.5, 0.5], [name])
    main, other = (
        {path.name: path.read_bytes() for path in (root / m / case / "run/checkpoints" / name).iterdir()}
        for m in ("m0", "m1")
    )
    assert main == other


@pytest.mark.parametrize(("case", "has"), [("ahead", "one at 1 kimg"), ("alone", "none")])
def test_a_machine_that_is_ahead_ends_all(case, has, agreed):
    found = f"process 1 found a checkpoint at 2 kimg in {case}/run/checkpoints"
    for rank in (0, 1):
        assert agreed[1][rank][case].startswith(f"{found}, and the main process {has}: start the machine")


def test_another_folder_to_start_from_ends_all(agreed):
    for rank in (0, 1):
        assert agreed[1][rank]["start"].startswith("start=old: process 1 found another checkpoint there")


def test_a_sum_tells_weights_apart():
    one = [torch.arange(4.0), torch.tensor([1, 2]), torch.zeros(3, dtype=torch.bfloat16)]
    other = [one[0].clone(), one[1], one[2]]
    assert weights_hash([one]) == weights_hash([other])
    other[0][2] += 1e-6
    assert weights_hash([one]) != weights_hash([other])


# Runs ----------------------------------------------------------------------------------------------------


def test_pictures_that_one_machine_lacks_end_both_with_one_sentence(tmp_path, tiny_features):
    arguments = tiny_run("run", tiny_features, data__source="pictures", cond="none", **TWO)
    (tmp_path / "m0" / "pictures").mkdir(parents=True)
    for number in range(16):
        picture = Image.new("RGB", (16, 16), (number * 10, 9, 9))
        picture.save(tmp_path / "m0" / "pictures" / f"{number}.png")
    codes, words = both([tmp_path / "m0", tmp_path / "m1"], arguments)
    assert codes == [1, USER_ERROR], words
    first, second = errors(words)
    assert len(first) == len(second) == 1, words
    assert first[0] == second[0].replace("error: ", "error: process 1: ")
    assert "pictures" in first[0]
    assert "Traceback" not in "".join(words)
    assert not (tmp_path / "m0" / "run").exists()


@pytest.mark.slow
def test_disks_of_their_own_give_the_run_of_a_shared_one_bit_for_bit(tmp_path, tiny_features):
    settings = {"schedule__keep_checkpoints": 1, **TWO}
    shared, own = [tmp_path / "shared"] * 2, [tmp_path / "m0", tmp_path / "m1"]
    for kimg in (0.016, 0.032, 0.048):
        arguments = tiny_run("run", tiny_features, schedule__kimg=kimg, **settings)
        done(shared, arguments)
        words = done(own, arguments)
    assert "process 1 found no such checkpoint as run/checkpoints/kimg_0000000.032" in words[0]
    assert_same_run(tmp_path / "m0" / "run", tmp_path / "shared" / "run")
    kept = [path.name for path in (tmp_path / "m1" / "run" / "checkpoints").iterdir()]
    assert kept == ["kimg_0000000.032"]
    assert not (tmp_path / "m1" / "run" / "stats.jsonl").exists()


@pytest.mark.slow
def test_the_machine_with_the_checkpoints_must_be_the_first(tmp_path, tiny_features):
    own = [tmp_path / "m0", tmp_path / "m1"]
    done(own, tiny_run("run", tiny_features, **TWO))
    codes, words = both(own[::-1], tiny_run("run", tiny_features, schedule__kimg=0.032, **TWO))
    assert codes == [USER_ERROR, USER_ERROR], words
    assert errors(words)[0] == errors(words)[1]
    assert (
        "process 1 found a checkpoint at 0.016 kimg in run/checkpoints, and the main process none" in words[0]
    )
    assert final_state(tmp_path / "m0" / "run")[1]["images_seen"] == 16


@pytest.mark.slow
def test_features_that_the_main_process_trains_are_sent(tmp_path, tiny_features):
    names = {"discriminator__features": "[auto:cnn]", "conditioning__class_features": "auto:cnn"}
    settings = {**names, "conditioning__classifier": "auto:cnn", "conditioning__feature_seconds": 1}
    own = [tmp_path / "m0", tmp_path / "m1"]
    done(own, tiny_run("run", tiny_features, **settings, **TWO))
    one, other = (
        {path.name: path.read_bytes() for path in (folder / "run" / "features" / "cnn").iterdir()}
        for folder in own
    )
    assert one == other
    shutil.rmtree(tmp_path / "m1" / "run")
    done(own, tiny_run("run", tiny_features, schedule__kimg=0.024, **settings, **TWO))


@pytest.mark.slow
def test_feature_networks_that_differ_between_machines_end_all(tmp_path, tiny_features):
    own = [tmp_path / "m0", tmp_path / "m1"]
    for folder in own:
        shutil.copytree(tiny_features, folder / "features")
    config = json.loads((tiny_features / "cnn" / "config.json").read_text())
    from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallCNNConfig, save_local

    assert config["kind"] == "cnn"
    torch.manual_seed(9)
    shutil.rmtree(own[1] / "features" / "cnn")
    other = SmallCNNConfig(
        image_size=16, channels=(4, 4, 8, 8), convs=(1, 1, 1, 1), num_classes=10, projection=16
    )
    save_local(own[1] / "features" / "cnn", SmallCNN(other))
    codes, words = both(own, tiny_run("run", Path("features"), **TWO))
    assert codes == [USER_ERROR, USER_ERROR], words
    assert "process 1 has another set of weights in its feature networks" in words[0]


STAGES = {
    "stylegan3": ("class", "{resolution: 16}", "{resolution: 32, head_layers: 4}"),
    "stylegan_t": ("text", "{name: one, resolution: 16}", "{name: two, resolution: 16, train: text_encoder}"),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", STAGES)
def test_stages_on_disks_of_their_own(family, tmp_path, tiny_features):
    """The second machine is a new one when the second stage begins."""
    own = [tmp_path / "m0", tmp_path / "m1"]
    cond, first, second = STAGES[family]
    arguments = tiny_run("run", tiny_features, generator=family, cond=cond, **TWO)
    done(own, [*arguments, "--stages", f"[{first}]"])
    shutil.rmtree(own[1])
    done(own, [*arguments, "--stages", f"[{first}, {second}]"])
    chain = json.loads((own[0] / "run" / "chain.json").read_text())
    assert [stage["state"] for stage in chain["stages"]] == ["finished", "finished"]


@pytest.mark.slow
def test_a_limit_ends_both_and_both_go_on(tmp_path, tiny_features):
    own = [tmp_path / "m0", tmp_path / "m1"]
    codes, words = both(
        own, tiny_run("run", tiny_features, schedule__kimg=100, schedule__max_minutes=0.001, **TWO)
    )
    assert codes == [INTERRUPTED, INTERRUPTED], words
    seen = final_state(own[0] / "run")[1]["images_seen"]
    done(own, tiny_run("run", tiny_features, schedule__kimg=seen / 1000 + 0.008, **TWO))
    assert final_state(own[0] / "run")[1]["images_seen"] == seen + 8
    assert os.listdir(own[1] / "run") == ["checkpoints"]


@pytest.mark.slow
def test_a_machine_that_vanishes_ends_the_other_with_one_sentence(tmp_path, tiny_features):
    own = [tmp_path / "m0", tmp_path / "m1"]
    processes, logs = begin(own, tiny_run("run", tiny_features, schedule__kimg=100, **TWO))
    limit = time.monotonic() + 120
    while not list(own[0].glob("run/checkpoints/kimg_*")) and time.monotonic() < limit:
        time.sleep(0.1)
    processes[1].kill()
    processes[0].join(60)
    words = logs[0].read_text()
    assert processes[0].exitcode == 1, words
    assert errors([words])[0][0].startswith("error: another process has ended, its own log says why (")
    assert "Traceback" not in words
