"""`chain.json` of a run with stages: which are done, which one runs, why each ended; and its drawing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from sgxl_t.files.config_json import config_from_value
from sgxl_t.files.whole import whole_file
from sgxl_t.networks.weights.stored import read_json
from sgxl_t.training.callbacks.stats_file import read_stats
from sgxl_t.training.checkpoint.run_folder import STAGES
from sgxl_t.training.progressive.planner import Stage

FORMAT = 1
MAX_STAGES = 1000
RESTORE = "restore the file, or use a new --run-dir"
BAR = 20
"""Characters of a stage's progress bar."""


@dataclass
class StageState:
    """Where one stage stands."""

    resolution: int
    folder: str
    """Name of the stage's folder inside the run."""
    layers: int = 0
    """Layers of the whole generator, ToRGB counted."""
    new_layers: int = 0
    """Layers of the generator that this stage trains."""
    planned_kimg: float = 0.0
    kimg: float = 0.0
    """Thousand images shown; of a stage that runs, when it was last written."""
    state: Literal["waiting", "running", "finished"] = "waiting"
    ended_by: str | None = None
    """kimg, plateau or diverged; none while the stage is not finished."""
    started_from: str | None = None
    """Model folder whose layers the stage keeps; none for a stem."""
    minutes: float = 0.0
    """Time spent in training, over all starts."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Numbers of the stage's best model."""

    @property
    def label(self) -> str:
        """Name of the stage as people call it."""
        return self.folder.removeprefix("stage_").lstrip("0")

    @property
    def title(self) -> str:
        """Name and side for people."""
        side = f"{self.resolution} px"
        return side if self.label == str(self.resolution) else f"{self.label}, {side}"


@dataclass
class StagesState:
    """All stages of a run, low to high."""

    stages: list[StageState]

    def write(self, root: Path) -> None:
        """chain.json, whole or not at all."""
        content = {"format": FORMAT, "stages": [asdict(stage) for stage in self.stages]}
        with whole_file(root / STAGES) as aside:
            aside.write_text(json.dumps(content, indent=1) + "\n")

    def of(self, stage: Stage) -> StageState:
        """The state of a planned stage."""
        return next(state for state in self.stages if state.folder == stage.folder.name)

    def finished(self) -> list[StageState]:
        """Stages that are done, low to high."""
        return [stage for stage in self.stages if stage.state == "finished"]


def read_stages(root: Path) -> StagesState:
    """The state in a run folder; ValueError when the file is broken."""
    data = read_json(root / STAGES, way_out=RESTORE)
    if (stated := data["format"].integer(0, 10**6)) != FORMAT:
        raise data["format"].error(f"is {stated} instead of {FORMAT}")
    names = {item.name for item in fields(StageState)}
    stages = []
    for entry in data["stages"].rows(MAX_STAGES):
        if missing := sorted(names - set(entry.keys())):
            raise entry.error(f'has no "{missing[0]}"')
        stages.append(config_from_value(StageState, entry))
        if Path(stages[-1].folder).name != stages[-1].folder:
            raise entry["folder"].error("is no name of a folder inside the run")
    return StagesState(stages)


def open_stages(root: Path, planned: Sequence[Stage]) -> StagesState:
    """The state of a run that these stages belong to, new where the folder has none.

    Stages may be added above those that have begun. ValueError when the folder holds another run.
    """
    fresh = [
        StageState(
            resolution=stage.resolution,
            folder=stage.folder.name,
            layers=stage.layers,
            new_layers=stage.new_layers,
            planned_kimg=stage.config.schedule.kimg,
            started_from=str(stage.below[0]) if stage.below else None,
        )
        for stage in planned
    ]
    if not (root / STAGES).is_file():
        if (root / "checkpoints").is_dir():
            raise ValueError(f"{root} holds a run without stages: choose another folder with --run-dir")
        return StagesState(fresh)
    begun = [stage for stage in read_stages(root).stages if stage.state != "waiting"]
    known = {stage.folder: stage for stage in fresh}
    for old in begun:
        if old.folder not in known:
            raise ValueError(
                f"{root} has trained stage {old.title}, which the configuration does not list: "
                "use the run's own config.yaml, or a new --run-dir"
            )
        new = known[old.folder]
        new.state, new.kimg, new.ended_by = old.state, old.kimg, old.ended_by
        new.minutes, new.metrics = old.minutes, old.metrics
    return StagesState(fresh)


def current_kimg(root: Path, stage: StageState) -> float:
    """Thousand images of a stage by its own numbers, which are newer than chain.json while it runs."""
    if stage.state != "running":
        return stage.kimg
    stats = read_stats(root / stage.folder / "stats.jsonl")
    return max(stage.kimg, stats[-1].get("images", 0) / 1000 if stats else 0.0)


def draw_stages(root: Path, state: StagesState) -> list[str]:
    """The stages as text, lowest stage first: one line a stage, and what is kept between them."""
    lines: list[str] = []
    for number, stage in enumerate(state.stages):
        kept = stage.layers - stage.new_layers
        if number or kept:
            lines.append(f"          |   {kept} layers rest, {stage.new_layers} train")
        done = current_kimg(root, stage)
        share = 1.0 if stage.state == "finished" else min(done / max(stage.planned_kimg, 1e-9), 1.0)
        bar = "#" * round(share * BAR)
        words = [f"{stage.title:>8}   [{bar:.<{BAR}}] {stage.state:8}"]
        words.append(f"{done:g} of {stage.planned_kimg:g} kimg, {stage.layers} layers")
        if stage.ended_by:
            words.append(f"ended by {stage.ended_by}")
        words += [f"{name} {value:.4g}" for name, value in stage.metrics.items()]
        lines.append(", ".join([" ".join(words[:2]), *words[2:]]))
    return lines
