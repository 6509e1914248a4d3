"""The house: imports point down without circles, rooms stay small, functions take few values."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sgxl_t"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MOST_FILES, MOST_PARAMETERS = 15, 8
PUBLIC_CALLS = {("sgxl_t/sampling/pipeline.py", "__call__")}
"""What people type in a notebook: every setting is a keyword of its own there."""


def named(path):
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path):
    return ast.parse(path.read_text())


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path, modules):
    """Files of the package that a file imports, in functions and for type checkers as well."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in modules else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def circle_in(graph):
    """Files that import each other in a circle, the first again at the end; [] where there are none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_imports_point_down():
    # In a process of its own: the checker's logging configuration disables the loggers of its process.
    command = [Path(sys.executable).with_name("lint-imports")]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout


def test_no_files_import_each_other_in_a_circle():
    modules = {module_of(path) for path in SOURCES}
    graph = {module_of(path): set(imports_of(path, modules)) for path in SOURCES}
    # The package itself gives its public names when they are asked for, and imports nothing before.
    del graph["sgxl_t"]
    graph = {module: (targets & graph.keys()) - {module} for module, targets in graph.items()}
    assert circle_in(graph) == []


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}
    assert sorted(set(circle_in(graph))) == ["b", "c"]
    del graph["c"]
    assert circle_in(graph) == []


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=named)
def test_rooms_are_small_and_say_what_they_are_for(folder):
    assert len(list(folder.glob("*.py"))) <= MOST_FILES
    words = ast.get_docstring(parsed(folder / "__init__.py")) or ""
    assert len(words.split()) >= 5


def decorators(function):
    return " ".join(ast.unparse(decorator) for decorator in function.decorator_list)


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_functions_are_short_and_take_few_values(path):
    """Commands of click, kernels of Triton and the calls listed above take as many as they have options."""
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        assert node.end_lineno - node.lineno < 60, f"{node.name} is long"
        if "click." in decorators(node) or "jit" in decorators(node):
            continue
        if (named(path), node.name) in PUBLIC_CALLS:
            continue
        taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        taken = [one.arg for one in taken if one.arg not in ("self", "cls")]
        assert len(taken) <= MOST_PARAMETERS, f"{node.name} takes {len(taken)}: {', '.join(taken)}"


def test_three_functions_read_the_whole_configuration():
    """Everything below them is given what it needs."""
    readers = []
    for path in SOURCES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                hints = [one.annotation for one in [*node.args.args, *node.args.kwonlyargs] if one.annotation]
                if any("TrainConfig" in ast.unparse(hint) for hint in hints):
                    readers.append(f"{named(path)}: {node.name}")
    assert len(readers) <= 3, readers


def test_files_of_tests_have_names_of_their_own():
    """pytest cannot tell two modules of one name apart, as the folders of tests are no packages."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
