"""The bar on the terminal."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from sgxl_t.files.terminal import visible
from sgxl_t.training.callbacks.callback import Callback, Line
from sgxl_t.training.train_state import TrainState

FORMAT = "{desc}: {percentage:3.0f}% {n:.1f}/{total:.1f} kimg [{elapsed}<{remaining}] {postfix}"


class ProgressBar(Callback):
    """Thousand images seen, of those that the run is configured to see, beside the newest numbers."""

    def __init__(self, name: str, total_kimg: float) -> None:
        self._name, self._total = name, total_kimg
        self._bar: Any = None

    def on_start(self, state: TrainState) -> None:
        """Shows the bar where something is left to train."""
        if self._bar is None and state.kimg < self._total:
            self._bar = tqdm(
                total=self._total,
                initial=state.kimg,
                unit="kimg",
                desc=visible(self._name),
                bar_format=FORMAT,
            )
        elif self._bar is not None:
            self._bar.n = state.kimg

    def on_update(self, state: TrainState) -> None:
        """Moves it on."""
        if self._bar is not None:
            if state.fitted is not None:
                self._bar.total = state.fitted[1] / 1000
            self._bar.update(state.kimg - self._bar.n)

    def on_numbers(self, line: Line) -> None:
        """Shows speed and losses."""
        if self._bar is not None:
            losses = {name: line.get(f"loss/{name.lower()}") for name in "GD"}
            told = [f"{name} {value:.2f}" for name, value in losses.items() if value is not None]
            self._bar.set_postfix_str(", ".join([f"{line['images_per_second']:.0f} img/s", *told]))

    def on_exit(self) -> None:
        """Leaves the line as it is."""
        if self._bar is not None:
            self._bar.close()
