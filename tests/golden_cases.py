"""Reads the stored reference cases of tests/golden: description from cases.json, tensors from safetensors."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).parent / "golden"


@cache
def descriptions() -> dict[str, dict[str, Any]]:
    """All case descriptions by name."""
    cases = json.loads((FOLDER / "cases.json").read_text())["cases"]
    return {entry["name"]: entry for entry in (cases.values() if isinstance(cases, dict) else cases)}


@cache
def tensors(name: str) -> dict[str, torch.Tensor]:
    """Tensors of one case by their stored names."""
    return load_file(FOLDER / f"{name}.safetensors")


def state_of(name: str) -> dict[str, torch.Tensor]:
    """The case's state dict under official names; follows `state_from` to the case that stores it."""
    state = {
        key.removeprefix("state/"): value for key, value in tensors(name).items() if key.startswith("state/")
    }
    for prefix, source in descriptions()[name].get("state_from", {}).items():
        for key, value in tensors(source["case"]).items():
            if key.startswith(source["prefix"]):
                state[prefix.removeprefix("state/") + key.removeprefix(source["prefix"])] = value
    return state


def assert_golden(ours: torch.Tensor, stored: torch.Tensor, name: str, kind: str = "out") -> None:
    """Elementwise: |ours - ref| <= atol_of_max * max|ref| + rtol * |ref|; kind is `out` or `grad`."""
    if stored.ndim == 0 and ours.shape == (1,):  # scalars that learn are held as one element
        ours = ours.reshape(())
    tolerance = descriptions()[name]["tolerance"]
    limit = tolerance.get(kind, tolerance["out"])
    allowed = limit["atol_of_max"] * stored.abs().max() + limit["rtol"] * stored.abs()
    excess = ((ours.detach() - stored).abs() - allowed).max().item()
    assert ours.shape == stored.shape, f"{name}: shape {tuple(ours.shape)} instead of {tuple(stored.shape)}"
    assert excess <= 0, f"{name} ({kind}): {excess:.3e} over the tolerance"
