"""Mutants of the core's formulas that no test notices: `python benchmarks/mutation.py [NAME ...]`.

Makes the mutants of mutmut 3, and min for max and the reverse, in each file of TARGETS. Each is patched into
a forked copy of one pytest session, which runs the tests that reach its function, quickest first, up to the
first failure: no import and no collection per mutant. mutmut's own runner leaves out decorated functions,
properties and constants, which is where many formulas live. Not mutated: texts of errors, logs and
assertions, annotations and imports. Tests above SLOW seconds do not take part.

Needs `pip install mutmut`. NAME: only the files whose path contains it. See docs/experiments/mutation.md.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import libcst as cst
import pytest
from _pytest.runner import runtestprotocol
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parents[1]
SLOW = 2.0
WORKERS = 2

# Without the tests that count operations, which hold no formula.
OBJECTIVES = [
    f"objectives/test_{name}.py"
    for name in (
        "golden_losses_t", "golden_losses_xl", "golden_path_length",
        "losses", "objective", "relativistic", "stem_guidance",
    )
]  # fmt: skip
TARGETS = {
    "objectives/adversarial.py": OBJECTIVES,
    "objectives/config.py": OBJECTIVES,
    "objectives/guidance.py": OBJECTIVES,
    "objectives/objective.py": OBJECTIVES,
    "objectives/path_length.py": OBJECTIVES,
    "objectives/penalty.py": OBJECTIVES,
    "objectives/weights.py": OBJECTIVES,
    "training/loop/ema.py": [],
    "training/loop/learning_rate.py": [],
    "networks/generators/mapping_xl.py": ["networks/test_mapping_xl.py", "networks/test_generator_xl.py"],
    "networks/generators/mapping_t.py": ["networks/test_generator_t.py"],
    "networks/generators/schedule_xl.py": ["networks/test_schedule_xl.py", "networks/test_superres.py"],
    "ops/resample/blur.py": ["ops/test_ops_behaviour.py", "ops/test_ops_golden.py"],
    "conditioning/class_table.py": ["conditioning/test_conditions.py"],
    "metrics/distances/ppl.py": ["metrics/test_ppl.py"],
    "sampling/truncation/truncation.py": ["sampling/test_latents.py", "sampling/test_centroids.py"],
    "sampling/styles.py": ["sampling/test_styles.py", "sampling/test_token_context.py"],
}
"""Tests of each file, in tests/; the test_formulas_* of the same room always belong to them."""
HOUSEKEEPING = ("device", "non_blocking", "strict")
FUNCTIONS = {"training/loop/learning_rate.py": {"learning_rate_factor"}}
"""Functions to mutate where the rest of a file is no formula."""


class Mutants(cst.CSTVisitor):
    """Collects (first line, byte span, new text) of the mutants of one module."""

    METADATA_DEPENDENCIES = (PositionProvider, ByteSpanPositionProvider)
    _SKIPPED = (cst.Annotation, cst.Raise, cst.Assert, cst.Import, cst.ImportFrom, cst.Decorator)

    def __init__(self, functions: set[str] | None) -> None:
        super().__init__()
        self.found: list[tuple[int, int, int, str]] = []
        self.functions, self.inside = functions, functions is None

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Adds the mutants of this node; False where those inside it are not wanted."""
        if isinstance(node, self._SKIPPED) or self._is_text(node):
            return False
        if isinstance(node, cst.Arg) and node.keyword and node.keyword.value in HOUSEKEEPING:
            return False
        if isinstance(node, cst.FunctionDef) and self.functions is not None:
            self.inside = node.name.value in self.functions
        if self.inside:
            for other in mutated(node):
                line = self.get_metadata(PositionProvider, node).start.line
                span = self.get_metadata(ByteSpanPositionProvider, node)
                text = cst.Module([]).code_for_node(other)
                self.found.append((line, span.start, span.start + span.length, text))
        return True

    @staticmethod
    def _is_text(node: cst.CSTNode) -> bool:
        """Docstrings, logging, types made of texts."""
        if isinstance(node, cst.Expr):
            return isinstance(node.value, cst.BaseString)
        code = cst.Module([]).code_for_node
        if isinstance(node, cst.Call):
            return code(node.func).startswith(("log.", "cast", "logging."))
        if isinstance(node, cst.Subscript):
            return code(node.value) in ("Literal", "Callable")
        return isinstance(node, cst.Assign) and code(node.targets[0]).startswith("__all__")


def mutated(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """What mutmut makes of a node, and min for max."""
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            made = [other for other in operator(node) if not _is_housekeeping(node, other)]
            # One broken text says as much as three.
            yield from made[:1] if isinstance(node, cst.BaseString) else made
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in ("min", "max"):
        yield node.with_changes(func=cst.Name({"min": "max", "max": "min"}[node.func.value]))


def _is_housekeeping(node: cst.CSTNode, other: cst.CSTNode) -> bool:
    """Whether only an argument differs that says where a tensor lies or how zip complains, not a value."""
    if not isinstance(node, cst.Call) or not isinstance(other, cst.Call):
        return False
    kept = {id(arg) for arg in other.args}
    dropped = [arg for arg in node.args if id(arg) not in kept]
    return bool(dropped) and all(arg.keyword and arg.keyword.value in HOUSEKEEPING for arg in dropped)


def mutants_of(source: str, functions: set[str] | None) -> list[tuple[int, str, str]]:
    """Line, description and whole source of every mutant that compiles."""
    visitor = Mutants(functions)
    MetadataWrapper(cst.parse_module(source)).visit(visitor)
    raw, made, seen = source.encode(), [], set()
    for line, start, stop, text in visitor.found:
        other = (raw[:start] + text.encode() + raw[stop:]).decode()
        try:
            compile(other, "mutant", "exec")
        except SyntaxError:
            continue
        if other not in seen and other != source:
            seen.add(other)
            made.append((line, f"{raw[start:stop].decode()}  ->  {text}", other))
    return made


def patch(module: ModuleType, path: Path, source: str) -> None:
    """Gives the functions, class attributes and constants of a module what its changed source makes them."""
    other: dict[str, Any] = {"__name__": module.__name__, "__file__": str(path)}
    exec(compile(source, str(path), "exec"), other)
    users = [
        each
        for name, each in sys.modules.items()
        if each is not None and name.startswith(("sgxl_t", "test_"))
    ]
    for name, new in other.items():
        old = vars(module).get(name)
        if name.startswith("__") or old is new:
            continue
        if isinstance(new, type) and new.__module__ == module.__name__:
            _patch_class(old, new)
        elif isinstance(new, FunctionType):
            _patch_function(old, new)
        elif new is None or isinstance(new, int | float | str | dict | tuple) or _ours(new):
            for user in users:
                if vars(user).get(name) is old:
                    setattr(user, name, new)


def _ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).startswith("sgxl_t")


def _patch_class(old: Any, new: type) -> None:
    for name, value in vars(new).items():
        before = vars(old).get(name)
        if isinstance(value, property):
            _patch_function(before.fget, value.fget)
        elif isinstance(value, staticmethod | classmethod | functools.cached_property):
            _patch_function(
                getattr(before, "__func__", None) or before.func,
                getattr(value, "__func__", None) or value.func,
            )
        elif isinstance(value, FunctionType):
            _patch_function(before, value)
        elif isinstance(value, int | float | str | type(None)) and not name.startswith("__"):
            setattr(old, name, value)


def _patch_function(old: Any, new: Any) -> None:
    while hasattr(old, "__wrapped__") and hasattr(new, "__wrapped__"):
        old, new = old.__wrapped__, new.__wrapped__
    old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__


def functions_by_line(code: CodeType, path: str) -> dict[int, str]:
    """Outermost function or method that a line belongs to."""
    owners: dict[int, str] = {}

    def walk(code: CodeType, owner: str | None) -> None:
        for part in code.co_consts:
            if isinstance(part, CodeType):
                inside = owner or (part.co_qualname if part.co_flags & 0x2 else None)
                if inside:
                    for line in {at for *_, at in part.co_lines() if at}:
                        owners[line] = inside
                walk(part, inside)

    walk(code, None)
    return owners


class Session:
    """pytest plugin: in place of running the tests, runs them on every mutant."""

    def __init__(self, name: str, earlier: list[dict[str, Any]] | None) -> None:
        """earlier: try only these mutants, survivors of another run."""
        self.earlier = None if earlier is None else {(each["line"], each["change"]) for each in earlier}
        self.name, self.path = name, ROOT / "sgxl_t" / name
        self.result: dict[str, Any] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Measures which tests reach which function, then tries all mutants."""
        started = time.monotonic()
        source = self.path.read_text()
        module = import_module("sgxl_t." + self.name[:-3].replace("/", "."))
        reach: dict[str, set[int]] = defaultdict(set)
        seconds: dict[int, float] = {}
        for number, item in enumerate(session.items):
            begun, names = time.process_time(), set[str]()

            def trace(frame: Any, event: str, arg: Any, names: set[str] = names) -> None:
                if frame.f_code.co_filename == str(self.path):
                    names.add(frame.f_code.co_qualname.split(".<")[0])

            sys.setprofile(trace)
            reports = runtestprotocol(item, nextitem=None, log=False)
            sys.setprofile(None)
            took = time.process_time() - begun
            if took > SLOW or any(report.outcome != "passed" for report in reports):
                if any(report.failed for report in reports):
                    print("fails without a mutant:", item.nodeid)
                continue
            seconds[number] = took
            for one in names:
                reach[one].add(number)
        owners = functions_by_line(compile(source, str(self.path), "exec"), str(self.path))
        mutants = mutants_of(source, FUNCTIONS.get(self.name))
        total = len(mutants)
        if self.earlier is not None:
            mutants = [each for each in mutants if each[:2] in self.earlier]
        print(
            f"{self.name}: {len(mutants)} mutants, {len(seconds)} tests, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        jobs = []
        for line, change, other in mutants:
            owner = owners.get(line)
            numbers = seconds.keys() if owner is None else reach.get(owner, set())
            jobs.append((line, change, other, sorted(numbers, key=seconds.__getitem__)))
        unchanged = 0, "", source, sorted(seconds)
        check, *said = self._all(session, module, [unchanged, *jobs], sum(seconds.values()))
        assert check == "survived", "the tests fail on the patched but unchanged file"
        left = [
            {"line": line, "change": change, "tests": len(numbers)}
            for (line, change, _, numbers), what in zip(jobs, said, strict=True)
            if what == "survived"
        ]
        self.result = {"mutants": total, "survived": len(left), "left": left}
        print(
            f"{self.name}: {len(left)} of {len(mutants)} survived, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        return True

    def _all(self, session: pytest.Session, module: ModuleType, jobs: list[Any], usual: float) -> list[str]:
        """What the tests say of every mutant, WORKERS at a time."""
        said, running = ["" for _ in jobs], dict[int, tuple[int, float]]()
        waiting = list(enumerate(jobs))[::-1]
        gc.collect()
        gc.freeze()  # the children's collector leaves the parent's pages alone
        while waiting or running:
            while waiting and len(running) < WORKERS:
                number, (_, _, source, items) = waiting.pop()
                pid = os.fork()
                if pid == 0:
                    self._child(session, module, source, items)
                running[pid] = number, time.monotonic()
            for pid, (number, begun) in list(running.items()):
                done, status = os.waitpid(pid, os.WNOHANG)
                late = time.monotonic() - begun > 20 * usual + 20
                if late:
                    os.kill(pid, 9)
                    os.waitpid(pid, 0)
                if done or late:
                    del running[pid]
                    said[number] = (
                        "survived" if not late and os.waitstatus_to_exitcode(status) == 0 else "killed"
                    )
            time.sleep(0.005)
        return said

    def _child(self, session: pytest.Session, module: ModuleType, source: str, numbers: list[int]) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            patch(module, self.path, source)
            items = [session.items[number] for number in numbers]
            for item, following in zip(items, [*items[1:], None], strict=True):
                if any(report.failed for report in runtestprotocol(item, nextitem=following, log=False)):
                    os._exit(1)
        except BaseException:
            os._exit(2)
        os._exit(0)


def _selection(name: str, tests: list[str]) -> list[str]:
    """Arguments that make pytest collect a file's tests, each once."""
    chosen = [f"tests/{test}" for test in tests]
    formulas = sorted((ROOT / "tests" / name.split("/")[0]).glob("test_formulas_*.py"))
    return [*chosen, *(str(path.relative_to(ROOT)) for path in formulas)]


def main() -> None:
    """Runs the targets, each in a process of its own; results of earlier calls in --out are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("mutation.json"))
    parser.add_argument("--survivors", type=Path, help="results to go on from: only the mutants left there")
    options = parser.parse_args()
    os.chdir(ROOT)
    earlier = json.loads(options.survivors.read_text()) if options.survivors else {}
    for name, tests in TARGETS.items():
        if options.names and not any(part in name for part in options.names):
            continue
        pid = os.fork()
        if pid == 0:
            one = Session(name, earlier[name]["left"] if options.survivors else None)
            pytest.main(["-q", "-p", "no:cacheprovider", "-s", *_selection(name, tests)], plugins=[one])
            results = json.loads(options.out.read_text()) if options.out.exists() else {}
            options.out.write_text(json.dumps({**results, name: one.result}, indent=1))
            os._exit(0)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
