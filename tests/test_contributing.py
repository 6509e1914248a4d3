"""The worked examples of CONTRIBUTING.md run as they stand there, and the models they make can be used."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text().replace("\\\n", "")
COMMANDS = re.findall(r"(?m)^python (docs/examples/.*)$", TEXT)

DRIVER = """
import json, runpy, shlex, sys
import sgxl_t

for command in json.loads(sys.argv[1]):
    script, *words = shlex.split(command)
    print("example", script, flush=True)
    sys.argv = [script, *words]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        assert not end.code, f"{command} ended with {end.code}"
    if "--run-dir" in words:
        pipe = sgxl_t.Pipeline.from_pretrained(words[words.index("--run-dir") + 1] + "/best")
        request = {"words": ["level stripes"], "class": [0], "none": None}[pipe.condition.spec.cond]
        assert pipe(request, seed=1, psi=0.7).images[0].size == (16, 16)
    if "--generator.family" in words:
        from sgxl_t.networks.generators.generator import register_generator
        try:
            register_generator("plain")(None)
        except ValueError as error:
            print(error)
"""


def test_there_is_an_example_of_each_kind():
    named = [Path(command.split()[0]).stem for command in COMMANDS]
    assert named == ["add_generator", "add_discriminator", "add_condition", "add_dataset", "add_metric"]
    assert sorted(named) == sorted(path.stem for path in (ROOT / "docs/examples").glob("*.py"))


def test_the_examples_run_and_their_models_draw(tmp_path):
    """In one process of its own, as what is registered stays for the process."""
    for name in ("docs", "sgxl_t"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DRIVER, json.dumps(COMMANDS)]
    answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert re.search(r"mean_gap50_vs_50 +0\.\d", answer.stdout)
    assert "'plain' is taken (stylegan3, stylegan_t, plain)" in answer.stdout
    runs = {folder.name: folder for folder in (tmp_path / "runs").iterdir()}
    assert len(runs) == 4
    for folder in runs.values():
        assert (folder / "stats.jsonl").read_text().strip()
    config = json.loads((runs["add-generator"] / "best" / "config.json").read_text())
    assert config["generator"]["family"] == "plain"
    config = json.loads((runs["add-condition"] / "best" / "config.json").read_text())
    assert config["condition"]["registered"] == "words"


def test_a_model_whose_module_is_not_imported_is_refused_in_one_sentence(tmp_path):
    from sgxl_t.model_io.model_folder import load_model

    folder = tmp_path / "model"
    folder.symlink_to(ROOT / "sgxl_t/assets/demo_text")
    words = json.loads((folder / "config.json").read_text())
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).symlink_to(file)
    (copy / "config.json").unlink()
    words["condition"]["registered"] = "words"
    (copy / "config.json").write_text(json.dumps(words))
    with pytest.raises(ValueError, match="'words', which is not registered here: import the module"):
        load_model(copy)


def test_names_that_are_taken_are_refused():
    from sgxl_t.datasets.open import register_source
    from sgxl_t.metrics.protocol import register_metric

    with pytest.raises(ValueError, match="a data set 'digits' exists: choose another name"):
        register_source("digits")
    for word in ("fid", "fd", "Fid 2"):
        with pytest.raises(ValueError, match="choose another name"):
            register_metric(word, extractor="random:small_cnn")
