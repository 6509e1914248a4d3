"""The device that somebody asks for by its name."""

from __future__ import annotations

import torch


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the best there is; ValueError when it is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(
            f"device {str(device)!r} is not available here: use cpu, or see sgxl-t doctor"
        ) from None
    return chosen
