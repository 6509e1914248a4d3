"""The model of a run, for whoever names the folder of the run instead of one of its models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sgxl_t.files.terminal import say
from sgxl_t.model_io.model_folder import CONFIG
from sgxl_t.networks.weights.stored import read_json

RUN_CONFIG, STAGES = "config.yaml", "chain.json"
MODELS = ("best", "last")
"""Model folders of a run, the one to take first."""
MAX_STAGES = 1000


def model_in(folder: str | Path, *, quiet: bool = False) -> Path:
    """The folder itself, or of a run the model to take: best/, without one last/.

    Of a run with stages it is that of the newest stage that has one. Says on stderr which model of a run it
    took, unless quiet. ValueError for a run without a model.
    """
    folder = Path(folder)
    if not is_run_folder(folder):
        return folder
    model = run_model(folder)
    if model is None:
        raise ValueError(
            f"the run {folder} has no model yet, it writes one within a minute of its first update: wait, or "
            "start it again with the command it was started with"
        )
    if not quiet:
        say(f"{folder} is a run: taking its model {model}", err=True)
    return model


def is_run_folder(folder: Path) -> bool:
    """Whether a folder is that of a run, with or without stages."""
    return not (folder / CONFIG).is_file() and any((folder / name).is_file() for name in (RUN_CONFIG, STAGES))


def run_model(folder: Path) -> Path | None:
    """The model of a run that commands take; None where it has none."""
    found = [part / name for part in _parts(folder) for name in MODELS]
    return next((model for model in found if (model / CONFIG).is_file()), None)


def stage_models(folder: str | Path) -> list[Path]:
    """The models of the stages of a run, first stage first; of anything else the one model that it is."""
    folder = Path(folder)
    if not (is_run_folder(folder) and (folder / STAGES).is_file()):
        return [model_in(folder, quiet=True)]
    found = [run_model(part) for part in reversed(list(_parts(folder))) if part != folder]
    models = [model for model in found if model is not None]
    return models or [model_in(folder, quiet=True)]


def _parts(folder: Path) -> Iterator[Path]:
    """Folders of the stages that have begun, newest first, then the run's own."""
    if (folder / STAGES).is_file():
        stages = read_json(folder / STAGES, way_out="restore it, or name a model folder")["stages"]
        for stage in reversed(list(stages.rows(MAX_STAGES))):
            if stage["state"].text() != "waiting":
                yield folder / Path(stage["folder"].text()).name
    yield folder
