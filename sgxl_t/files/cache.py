"""Where on this machine things are kept that save work and can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where downloads and results worth keeping go: SGXL_T_CACHE, or sgxl_t in the user's cache folder."""
    own = os.environ.get("SGXL_T_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sgxl_t"
