"""Training runs of two processes on this CPU, started as a user starts them."""

from __future__ import annotations

import os
import socket
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


def on_machine(folder, rank, port):
    """Called in a process that is to be the only one of machine `rank` of two, with a disk of its own."""
    Path(folder).mkdir(exist_ok=True)
    os.chdir(folder)
    place = {"RANK": rank, "GROUP_RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")


def free_port():
    """A port on which nothing listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
