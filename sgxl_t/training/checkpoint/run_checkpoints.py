"""The checkpoints of one run: written while it trains, read when it starts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sgxl_t.datasets.base import ImageSource
from sgxl_t.files.terminal import visible
from sgxl_t.training.callbacks.callback import Callbacks
from sgxl_t.training.checkpoint.checkpoint import load_newest, save_checkpoint
from sgxl_t.training.parallel.machines import share_checkpoint
from sgxl_t.training.parallel.main_process import on_main_process
from sgxl_t.training.parallel.runtime import Runtime
from sgxl_t.training.train_state import Tensors, TrainState

log = logging.getLogger("sgxl_t")


class RunCheckpoints:
    """Saves and restores a `TrainState`, and the state of the callbacks beside it.

    begin: makes a state ready that no checkpoint is found for. rolled_back: the run went back to a checkpoint
    and has not saved since.
    """

    def __init__(
        self,
        folder: Path,
        runtime: Runtime,
        source: ImageSource,
        config: Mapping[str, Any],
        *,
        keep: int,
        begin: Callable[[TrainState], None],
    ) -> None:
        """folder: of the run. source, config: what a checkpoint says of them. keep: newest ones that stay."""
        self.folder, self.runtime, self.keep = folder, runtime, keep
        self.rolled_back = False
        self._source, self._config, self._begin = source, config, begin

    def save(self, state: TrainState, callbacks: Callbacks) -> None:
        """Writes everything that the next start needs; all processes gather, the main one writes."""
        with on_main_process(self.runtime, self.folder, "a checkpoint"):
            tensors, counters = state.state_dict()
            if self.runtime.is_main:
                facts = {"data_fingerprint": self._source.fingerprint(), "config": self._config}
                save_checkpoint(
                    self.folder / "checkpoints",
                    state.kimg,
                    tensors,
                    {**counters, **callbacks.state_dict(), **facts},
                    models=callbacks.model_folders(),
                    keep=self.keep,
                )
        self.rolled_back = False

    def restore(self, state: TrainState, callbacks: Callbacks) -> None:
        """Loads the main process's newest whole checkpoint on every process, or begins a new run."""
        share_checkpoint(self.runtime, self.folder, keep=self.keep)
        found = load_newest(self.folder / "checkpoints")
        if found is None:
            self._begin(state)
            return
        folder, tensors, saved = found
        try:
            state.load_networks(tensors)
        except (RuntimeError, KeyError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise ValueError(
                f"checkpoint {folder} was made by other networks than the configuration builds ({reason}): "
                "use the run's own config.yaml, or a new --run-dir"
            ) from None
        try:
            _load_progress(state, callbacks, folder, tensors, saved)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"checkpoint {folder} does not say where the run stood ({visible(error)}): remove it to go "
                "on from the one before, or use a new --run-dir"
            ) from error
        log.info("resumed from %s at %.1f kimg", folder, state.kimg)
        self._compare_data(saved.get("data_fingerprint"))

    def _compare_data(self, before: str | None) -> None:
        """before: fingerprint of the data then; checkpoints of older versions have none."""
        now = self._source.fingerprint()
        if before not in (None, now):
            log.warning(
                "the data set is not the one of the checkpoint (fingerprint %s then, %s now): training goes "
                "on with what is there",
                visible(before),
                now,
            )


def _load_progress(
    state: TrainState, callbacks: Callbacks, folder: Path, tensors: Tensors, saved: Mapping[str, Any]
) -> None:
    """How far the run was, and what its callbacks had found."""
    state.load_counters(saved, str(folder))
    state.objective.load_state_dict(tensors["objective"])
    callbacks.load_state_dict(saved, folder)
