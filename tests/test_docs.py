"""What README and docs say is so: commands parse, Python runs, links and named files exist."""

import pkgutil
import re
import shlex
import struct
import tomllib
from pathlib import Path

import click
import pytest
import yaml

import sgxl_t
from sgxl_t.cli.main import cli
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.train import DRY_RUN

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "configs/README.md",
        *(ROOT / "data").rglob("*.md"),
    ]
)


def named(path):
    return path.relative_to(ROOT).as_posix()


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands():
    """Every line of every bash block, with the page that it stands on."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    yield pytest.param(page, words, id=f"{named(page)}: {' '.join(words)}")


def check_command(words):
    """`sgxl-t COMMAND ...`: click takes the arguments."""
    if words[0] == "train":
        return check_training(words[1:])
    command, context = cli, click.Context(cli)
    while isinstance(command, click.Group):
        command, words = command.get_command(context, words[0]), words[1:]
    command.make_parser(click.Context(command)).parse_args(list(words))


def check_training(words):
    """The flags of `scripts/train.py` make a configuration."""
    parse_config([word for word in words if word not in DRY_RUN])


def check_launch(words):
    """`accelerate launch ... scripts/train.py ...`: the launcher takes its flags and the script its own."""
    from accelerate.commands.launch import launch_command_parser

    arguments = launch_command_parser().parse_args(words)
    if arguments.config_file is not None:
        assert Path(arguments.config_file).is_file()
    if arguments.module:
        assert arguments.training_script == "sgxl_t.cli"
        return check_command(arguments.training_script_args)
    check_python([arguments.training_script, *arguments.training_script_args])


def check_python(words):
    """`python FILE ...`: the file exists, and flags of `scripts/train.py` make a configuration."""
    if words[0] in ("-m", "-c"):
        return
    assert (ROOT / words[0]).is_file(), f"{words[0]} does not exist"
    if words[0] == "scripts/train.py":
        check_training(words[1:])


def check_make(words):
    assert f"\n{words[0]}:" in (ROOT / "Makefile").read_text()


def check_script(words):
    assert (ROOT / words[0]).is_file()


@pytest.mark.parametrize(("page", "words"), list(commands()))
def test_commands_exist_with_their_options(page, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    while re.match(r"^\w+=", words[0]) or words[0] in ("taskset", "env"):
        words = words[3:] if words[0] == "taskset" else words[1:]
    head, rest = Path(words[0]).name, words[1:]
    if head == "accelerate":
        assert rest[0] == "launch"
        return check_launch(rest[1:])
    checks = {"sgxl-t": check_command, "python": check_python, "make": check_make}
    if head in checks:
        return checks[head](rest)
    if words[0].startswith(("benchmarks/", "scripts/")):
        return check_script(words)
    assert head in OTHERS, f"{named(page)}: nothing checks {' '.join(words)}"


OTHERS = {"pip", "npm", "git", "pre-commit", "img2dataset", "curl", "wget", "unzip", "tar"}
OTHERS |= {"cd", "mkdir", "export"}
"""Programs of others."""


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=named)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """In a folder that has the packaged model where the pages have theirs."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "text").symlink_to(ROOT / "sgxl_t" / "assets" / "demo_text")
    for folder in ("sgxl_t", "data"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "python"):
        if "weights=" in block:  # a published file, which is not here
            block = "\n".join(line for line in block.splitlines() if line.startswith(("import ", "from ")))
        exec(compile(block.replace("range(100)", "range(2)"), named(page), "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_relative_links_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r"(?m)^\[[^\]]+\]: (\S+)$", text)]
    for link in links:
        if not re.match(r"^(https?:|mailto:|#)", link):
            assert (page.parent / link.split("#")[0]).exists(), link


@pytest.mark.parametrize(
    "page", [*(ROOT / "docs").rglob("*.md"), README, ROOT / "CONTRIBUTING.md"], ids=named
)
def test_files_named_in_the_text_exist(page):
    """Words in backquotes that are paths of this repository."""
    for path in re.findall(
        r"`((?:sgxl_t|tests|configs|docs|scripts|benchmarks|data)/[\w./-]*)`", page.read_text()
    ):
        if path != "data/photos.zip":
            assert (ROOT / path).exists(), path


def dotted_names():
    """Modules, functions and classes of the package that pages name by their path."""
    for page in PAGES:
        for name in re.findall(r"`(sgxl_t(?:\.\w+)+)", page.read_text()):
            if not (ROOT / name).exists():
                yield name


@pytest.mark.parametrize("name", sorted(set(dotted_names())))
def test_names_of_the_package_exist(name):
    assert pkgutil.resolve_name(name) is not None


def test_the_readme_is_short_and_begins_with_pictures():
    lines = README.read_text().splitlines()
    assert len(lines) <= 200
    assert max(map(len, lines)) <= 110
    first = next(line for line in lines if line.startswith("!["))
    assert lines.index(first) < 12
    file = ROOT / re.search(r"\]\((.*)\)", first)[1]
    assert file.stat().st_size < 500_000
    width, height = struct.unpack(">II", file.read_bytes()[16:24])
    assert 600 <= width <= 2000
    assert height <= 2000


def test_the_floors_that_are_drawn_are_those_that_are_checked():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {word for layer in contracts[0]["layers"] for word in re.findall(r"sgxl_t\.(\w+)", layer)}
    drawn = re.search(r"```mermaid\n(.*?)```", (ROOT / "docs/architecture.md").read_text(), re.DOTALL)[1]
    assert set(re.findall(r"<b>(\w+)</b>", drawn)) == layers


def test_workflow_hooks_and_citation_are_whole():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make lint", "make test"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    assert {hook["id"] for hook in hooks[0]["hooks"]} == {"ruff", "ruff-format", "large-files", "spelling"}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert [reference["year"] for reference in citation["references"]] == [2022, 2023]
    assert citation["version"] == sgxl_t.__version__


def test_the_readme_names_the_two_commands():
    text = README.read_text()
    assert "make demo" in text
    assert "make test" in text


CONCEPTS = (
    "caption dropout",
    "R1",
    "EMA",
    "plateau",
    "w_avg",
    "filter of shards",
    "ZeRO-3",
    "PPL",
    "--mix",
    "model card",
)


@pytest.mark.parametrize("concept", CONCEPTS)
def test_the_architecture_page_says_where_it_is(concept):
    rows = [line for line in (ROOT / "docs/architecture.md").read_text().splitlines() if line.startswith("|")]
    assert any(concept in row.split("|")[1] and ".py" in row for row in rows), concept
