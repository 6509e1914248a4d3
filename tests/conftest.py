"""Shared set-up: tests/ on the import path, one thread and no hub unless asked otherwise."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # what is there must not depend on the network, nor wait for it
sys.path.insert(0, str(Path(__file__).parent))
