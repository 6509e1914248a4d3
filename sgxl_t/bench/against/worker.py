"""The process in which this version runs its cases for another version's `sgxl-t bench --against`.

Started as a file by `other.py` of that version, never imported. One JSON request per line on standard input,
one answer per line on standard output; outputs travel as a file of tensors. Versions speak to each other
here, so the requests and answers stay as they are.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

import sgxl_t
from sgxl_t.bench.allocator import keep_memory
from sgxl_t.bench.cases.cases import DTYPES, find_cases
from sgxl_t.bench.runner import Runner


def main() -> None:
    """Serves until its input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not be read as an answer
    runners: dict[str, Runner] = {}
    for line in sys.stdin:
        try:
            answer = _serve(runners, json.loads(line))
        except Exception as error:  # the other process says what failed and goes on
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


def _serve(runners: dict[str, Runner], request: dict[str, Any]) -> dict[str, Any]:
    match request["do"]:
        case "start":
            torch.set_num_threads(request["threads"])
            if request["keep_memory"]:
                keep_memory()
            return {"from": str(Path(sgxl_t.__file__).resolve().parent)}
        case "prepare":
            (case,) = find_cases(request["quick"], [request["name"]])
            work = case.build(request["batch"], torch.device(request["device"]))
            runner = Runner(work, request["mode"], DTYPES[request["dtype"]], request["clock"])
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


if __name__ == "__main__":
    main()
