"""The other version's process: runs the cases of this folder on the `sgxl_t` that PYTHONPATH names.

Started as a file by `other.py`, never imported by it. One JSON request per line on standard input, one
answer per line on standard output; outputs travel as a file of tensors.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

NAME = "sgxl_t_bench_cases"


class OnlyThere:
    """Finds parts of `sgxl_t` in its own folder alone.

    An editable installation would lend its parts to a version that lacks them.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """As the import system asks for it."""
        if not name.startswith("sgxl_t."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r} in that version", name=name)
        return spec


def main() -> None:
    """Serves until its input ends."""
    sys.meta_path.insert(0, OnlyThere)  # type: ignore[arg-type]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    runners: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _serve(runners, request)
        except Exception as error:  # the other version may lack anything
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


def _load_cases() -> Any:
    """This folder as a package of its own name: `sgxl_t` is the other version here."""
    if NAME in sys.modules:
        return import_module(f"{NAME}.cases.cases")
    folder = Path(__file__).parents[1]
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)
    return import_module(f"{NAME}.cases.cases")


def _serve(runners: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    import torch

    import sgxl_t

    match request["do"]:
        case "start":
            torch.set_num_threads(request["threads"])
            if request["keep_memory"]:
                _load_cases()
                import_module(f"{NAME}.allocator").keep_memory()
            return {"from": str(Path(sgxl_t.__file__).resolve().parent)}
        case "prepare":
            runner = _runner(request)
            runners[request["key"]] = runner
            outputs, memory = runner.memory()
            torch.save([x.cpu() for x in outputs], request["file"])
            return {"saved": memory.saved, "peak": memory.peak, "ms": runner.watched_ms}
        case "warm_up":
            runners[request["key"]].warm_up()
            return {}
        case "time":
            return {"ms": runners[request["key"]].time(request["loops"])}
        case "forget":
            runners.clear()
            return {}
        case unknown:
            raise ValueError(f"request {unknown!r} is unknown")


def _runner(request: dict[str, Any]) -> Any:
    """The runner of a case by its name, on the default backend."""
    import torch

    cases = _load_cases()
    (case,) = cases.find_cases(request["quick"], [request["name"]])
    work = case.build(request["batch"], torch.device(request["device"]))
    runner = import_module(f"{NAME}.runner").Runner
    return runner(work, request["mode"], cases.DTYPES[request["dtype"]], request["clock"])


if __name__ == "__main__":
    main()
