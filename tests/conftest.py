"""Shared set-up: tests/ on the import path, one thread and no hub unless asked otherwise."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # what is there must not depend on the network, nor wait for it
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Own pictures train in float32 on every processor: a process keeps the precision that it began with."""
    from sgxl_t.networks.backbones import precision

    monkeypatch.setattr(precision, "cpu_gains_by_bf16", lambda: False)
