"""The shape of the package: imports point down, files and functions stay readable, README commands exist."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "sgxl_t").rglob("*.py"))


def test_imports_point_down():
    # In a process of its own: the checker's logging configuration disables the loggers of its process.
    command = [Path(sys.executable).with_name("lint-imports")]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_readable(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    limit = 40 if path.parent.name == "ops" else 60
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= limit, f"{node.name}: {lines} lines"


def readme_commands():
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if "sgxl-t " in line]


@pytest.mark.parametrize("line", readme_commands())
def test_commands_of_the_readme_exist_with_their_options(line):
    from sgxl_t.cli.main import cli

    words = shlex.split(line)
    words = words[next(index for index, word in enumerate(words) if word.endswith("sgxl-t")) + 1 :]
    page = CliRunner().invoke(cli, [words[0], "--help"])
    assert page.exit_code == 0
    for word in words[1:]:
        if word.startswith("--"):
            assert word in page.output


def test_the_readme_names_the_two_commands():
    text = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in text
        assert f"\n{target}:" in makefile
