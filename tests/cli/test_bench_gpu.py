import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sgxl_t.bench.cases import cases
from sgxl_t.bench.stages.schedule import stages_of
from sgxl_t.bench.variants import variants
from sgxl_t.cli.bench import bench

ROOT = Path(__file__).parents[2]


def gpu_script(tmp_path, *options, stub):
    """Runs the script with an interpreter of bash; returns the run and what it left in $log."""
    interpreter, log = tmp_path / "python", tmp_path / "log"
    interpreter.write_text(f"#!/bin/bash\nlog={log}\n{stub}\n")
    interpreter.chmod(0o755)
    command = ["bash", ROOT / "benchmarks" / "gpu.sh", tmp_path / "out", *options]
    environment = {**os.environ, "PYTHON": str(interpreter)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done, [line.split("\t")[:-1] for line in log.read_text().splitlines()]


NOTE = 'printf "%s\\t" "$@" >>$log; echo >>$log'


@pytest.mark.parametrize("quick", [True, False])
def test_script_for_gpus_asks_for_what_there_is(tmp_path, quick):
    done, calls = gpu_script(tmp_path, *["--quick"] * quick, stub=NOTE)
    assert done.returncode == 0, done.stderr
    tables = [words for words in calls if words[:3] == ["-m", "sgxl_t.cli", "bench"]]
    scripts = [words[0] for words in calls if words not in tables]
    assert [Path(file).name for file in scripts] == ["machine.py", "backbones_speed.py", "memory_rows.py"]
    written = [Path(words[words.index("--json") + 1]).stem for words in tables]
    assert len(set(written)) == len(written) == 13
    for words in tables:
        asked = bench.make_context("bench", words[3:]).params
        assert asked["quick"] == quick
        assert asked["device"] == ("cpu" if quick else "cuda")
        if asked["stages"]:
            assert stages_of(asked["stages"])
        else:
            assert cases.find_cases(quick, asked["only"])
        assert set(asked["variant"]) <= set(variants(torch.device(asked["device"])))
        assert Path(asked["file"]).parent == tmp_path / "out"


def test_script_for_gpus_goes_on_after_a_failure_and_says_so(tmp_path):
    stub = f'{NOTE}\n[[ "$*" != *layers* ]] || {{ echo "RuntimeError: broken" >&2; exit 3; }}\necho row'
    done, calls = gpu_script(tmp_path, "operators", "--quick", stub=stub)
    assert done.returncode == 1
    assert len(calls) == 6  # machine, four tables, memory
    assert "RuntimeError: broken" in (tmp_path / "out" / "layers.txt").read_text()
    assert (tmp_path / "out" / "filters.txt").read_text() == "row\n"


def test_script_for_gpus_stops_a_group_in_time(tmp_path):
    script = (ROOT / "benchmarks" / "gpu.sh").read_text()
    hasty = tmp_path / "benchmarks" / "gpu.sh"
    hasty.parent.mkdir()
    hasty.write_text(script.replace("SECONDS + 400", "SECONDS + 1"))
    stub = tmp_path / "python"
    stub.write_text('#!/bin/bash\n[[ "$*" != *machine* ]] || sleep 5\n')
    stub.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(stub)}
    done = subprocess.run(
        ["bash", hasty, tmp_path / "out", "operators"], env=environment, capture_output=True
    )
    assert done.returncode == 1
    assert "stopped after 1 s" in (tmp_path / "out" / "machine.txt").read_text()
    assert "left out" in (tmp_path / "out" / "filters.txt").read_text()


def test_script_for_gpus_keeps_within_its_time():
    script = (ROOT / "benchmarks" / "gpu.sh").read_text()
    seconds = [int(number) for number in re.findall(r"deadline=.*SECONDS \+ (\d+)", script)]
    assert sum(seconds) < 25 * 60
    assert max(sum(seconds[:1]), sum(seconds[1:3]), sum(seconds[3:6])) + 30 < 10 * 60


@pytest.mark.parametrize("words", [[], ["out", "--fast"], ["--quick", "out"]])
def test_script_for_gpus_wants_a_folder_and_groups(words):
    command = ["bash", ROOT / "benchmarks" / "gpu.sh", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage" in done.stderr


def test_memory_of_all_files_is_summed_up(tmp_path):
    row = {"name": "sgxl-a", "batch": 4, "dtype": "float32", "variant": "default", "mode": "forward_backward"}
    row |= {"saved_mib": 10.0, "reference_saved_mib": 100.0, "peak_mib": 20.0, "reference_peak_mib": 50.0}
    (tmp_path / "a.json").write_text(json.dumps([row, {**row, "mode": "forward"}]))
    (tmp_path / "machine.json").write_text("{}")
    command = [sys.executable, ROOT / "benchmarks" / "memory_rows.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *_, last = done.stdout.splitlines()
    assert len(done.stdout.splitlines()) == 3
    assert last.split() == [
        "sgxl-a",
        "4",
        "float32",
        "default",
        "100.0",
        "10.0",
        "10.0",
        "50.0",
        "20.0",
        "2.5",
    ]
