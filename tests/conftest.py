"""Shared set-up: tests/ on the import path, one thread unless asked otherwise."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))
