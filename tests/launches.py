"""Training runs of two processes on this CPU, started as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

MODES = {
    "ddp": {},
    "zero1": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"},
    "zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "zero3": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
    "fsdp": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    "fp16": {"ACCELERATE_MIXED_PRECISION": "fp16"},
}
"""What an accelerate config of each back end puts into the environment."""


def launch(arguments, *, config="cpu2", timeout=240):
    """`accelerate launch` with a file of configs/launch/."""
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", f"configs/launch/{config}.yaml", "--main_process_port", "0"]
    return _run([*command, "scripts/train.py", *arguments], {}, timeout)


def torchrun(arguments, *, mode="ddp", script="scripts/train.py", timeout=240):
    """Two processes without Accelerate's launcher, which takes seconds to start."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    return _run([*command, str(script), *arguments], MODES[mode], timeout)


def _run(command, further, timeout):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **further}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout)
