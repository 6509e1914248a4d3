"""Reference numbers of the metrics: cases by name and the arrays they take."""

import json
from pathlib import Path
from typing import Any

import numpy as np

_FOLDER = Path(__file__).parent / "golden"
CASES: dict[str, Any] = json.loads((_FOLDER / "metrics.json").read_text())
TENSORS = np.load(_FOLDER / "metrics.npz", allow_pickle=False)


def inputs(name: str) -> list[np.ndarray]:
    """Arrays of a case whose inputs are plain names."""
    return [TENSORS[key] for key in CASES[name]["inputs"]]
