"""Launch configurations that cannot work with a run end before anything trains."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from sgxl_t import __version__
from sgxl_t.datasets.base import ImageSource
from sgxl_t.objectives.config import ObjectiveConfig
from sgxl_t.training.parallel.runtime import Runtime


def check_launch(
    written: dict[str, Any], objective: ObjectiveConfig, runtime: Runtime, source: ImageSource
) -> None:
    """ValueError where processes differ in what they start from, or the back end lacks what is asked.

    written: the whole configuration, as config.yaml holds it.
    """
    text = json.dumps(written, sort_keys=True)
    with runtime.one_per_machine_first():  # the others find the hashes that it has remembered
        data = source.fingerprint()
    runtime.check_same(
        [
            ("configuration", hashlib.sha256(text.encode()).hexdigest()),
            ("data set", data),
            ("version", f"sgxl_t {__version__}, torch {torch.__version__}"),
        ]
    )
    refuse_second_order(objective, runtime.zero_stage)


def refuse_second_order(objective: ObjectiveConfig, zero_stage: int) -> None:
    """ValueError for second-order gradients beside ZeRO stage 3, which takes weights apart between passes."""
    if zero_stage != 3:
        return
    weights = {
        "objective.pl_weight": objective.pl_weight,
        "objective.gradient_penalty": objective.gradient_penalty,
    }
    for name, weight in weights.items():
        if weight > 0:
            raise ValueError(
                f"{name}={weight} needs second-order gradients, which ZeRO stage 3 cannot give: "
                f"set --{name} 0, or launch with stage 2, for example configs/launch/gpu8_zero2.yaml"
            )
