"""Launch configurations that cannot work with a run end before anything trains."""

from __future__ import annotations

import hashlib
import json

import torch

from sgxl_t import __version__
from sgxl_t.datasets.base import ImageSource
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.config.config_file import config_to_dict
from sgxl_t.training.parallel.runtime import Runtime


def check_launch(config: TrainConfig, runtime: Runtime, source: ImageSource) -> None:
    """ValueError where processes differ in what they start from, or the back end lacks what is asked."""
    written = json.dumps(config_to_dict(config), sort_keys=True)
    with runtime.one_per_machine_first():  # the others find the hashes that it has remembered
        data = source.fingerprint()
    runtime.check_same(
        [
            ("configuration", hashlib.sha256(written.encode()).hexdigest()),
            ("data set", data),
            ("version", f"sgxl_t {__version__}, torch {torch.__version__}"),
        ]
    )
    refuse_second_order(config, runtime.zero_stage)


def refuse_second_order(config: TrainConfig, zero_stage: int) -> None:
    """ValueError for second-order gradients beside ZeRO stage 3, which takes weights apart between passes."""
    if zero_stage != 3:
        return
    weights = {
        "objective.pl_weight": config.objective.pl_weight,
        "objective.gradient_penalty": config.objective.gradient_penalty,
    }
    for name, weight in weights.items():
        if weight > 0:
            raise ValueError(
                f"{name}={weight} needs second-order gradients, which ZeRO stage 3 cannot give: "
                f"set --{name} 0, or launch with stage 2, for example configs/launch/gpu8_zero2.yaml"
            )
