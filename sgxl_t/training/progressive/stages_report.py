"""The page of a run with stages: the same latents at every stage, how each stage went and ended."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sgxl_t.conditioning.generate import generate
from sgxl_t.datasets.base import ImageSource
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.ops.random import training_rng
from sgxl_t.training.callbacks.pictures.shown import Shown, choose_rows
from sgxl_t.training.callbacks.pictures.timelapse import (
    MOST_FRAMES,
    TIMELAPSE,
    Frame,
    read_frames,
    spread,
    write_timelapse,
)
from sgxl_t.training.callbacks.report.page import folded, link, page, table, write_page
from sgxl_t.training.callbacks.report.picture_sections import beside_real, over_time
from sgxl_t.training.callbacks.report.run_report import (
    REPORT,
    curves,
    environment,
    files_of,
    health,
    summary,
)
from sgxl_t.training.callbacks.sample_grid import save_grid, save_rows
from sgxl_t.training.callbacks.stats_file import read_stats
from sgxl_t.training.progressive.stages_state import StagesState, StageState, draw_stages

ROWS, REAL = 8, 4
"""Latents that the report shows at every stage, and real images beside each, at most."""
SHEET = "fakes_stages.png"
"""Of samples/: the same latents in rows, stages in columns."""
PROTOCOL = (
    "judge_*: the packaged judge of the data, which trained nothing, on one picture without truncation per "
    "label or caption of the test split. Distances of 1,000 pictures to 1,000 training pictures of the "
    "stage's resolution, and of all pictures to up to 4,000 (_all; floor: of test pictures, below: of the "
    "stage below, enlarged); recall of all of them (real: of test pictures). Captions: judge_clip and "
    "judge_retrieval by a CLIP that trained nothing; held_out: pairs of object and scene that no training "
    "picture shows."
)
HEADER = ("stage", "layers", "new", "kimg", "ended by", "minutes")


def draw_sheet(
    root: Path, finished: Sequence[StageState], source: ImageSource, *, seed: int, device: torch.device
) -> None:
    """samples/fakes_stages.png of the best models of finished stages, and real images of the same rows.

    Latents depend on the seed alone, so all stages of a run show the same ones; without truncation.
    """
    batches: list[Tensor] = []
    shown: Shown | None = None
    for stage in finished:
        generator, condition, _ = load_model(root / stage.folder / "best")
        generator.to(device)
        condition.to(device)
        shown = shown or choose_rows(source, condition, ROWS, REAL, seed)
        z = torch.randn(len(shown.conditions), generator.z_dim, generator=training_rng(seed, "chain", 0))
        batches.append(generate(generator, condition, shown.conditions, z.to(device), batch_size=4))
    assert shown is not None, "there is a finished stage"
    save_grid(side_by_side(batches), root / "samples" / SHEET, columns=len(finished))
    save_rows(shown, root / "samples", columns=len(finished))


def side_by_side(images: Sequence[Tensor]) -> Tensor:
    """One entry per stage [N, 3, R_s, R_s] -> [N * stages, 3, R, R]: a row per latent."""
    side = max(batch.shape[-1] for batch in images)
    scaled = [
        batch.repeat_interleave(side // batch.shape[-1], 2).repeat_interleave(side // batch.shape[-1], 3)
        for batch in images
    ]
    return torch.stack(scaled, dim=1).flatten(0, 1)


def write_stages_report(
    root: Path,
    state: StagesState,
    source: ImageSource,
    *,
    finished_now: bool,
    seed: int,
    device: torch.device,
) -> Path:
    """report.html, timelapse.webp and samples/fakes_stages.png of a run, from what its stages have made.

    source: the data, whose images are shown beside. finished_now: whether a stage has just finished; else the
    sheet stays as it is, as a run that is stopped may have little time.
    """
    finished = state.finished()
    if finished_now:
        draw_sheet(root, finished, source, seed=seed, device=device)
    titled = [(stage, frame) for stage in state.stages for frame in read_frames(root / stage.folder)]
    frames: list[Frame] = spread([frame for _, frame in titled], MOST_FRAMES)
    if frames:
        write_timelapse(frames, root / TIMELAPSE)
    titles = {frame: f"{stage.title}: {frame.caption}" for stage, frame in titled}
    sections = [("Samples over time", over_time(frames, root, captions=[titles[frame] for frame in frames]))]
    if finished:
        sides = ", ".join(stage.title for stage in finished)
        note = f"<p>Stages from left to right: {html.escape(sides)}; the same latents and conditions.</p>"
        sections.append(("Stages side by side", note + beside_real(root)))
    sections.append(("Stages", _stages(root, state)))
    sections.append(("Figures", _figures(finished)))
    sections += [_section(root / stage.folder, stage) for stage in state.stages]
    sections.append(("In this folder", files_of(root) + environment(root)))
    write_page(root / REPORT, page(f"Run {root.name}", sections))
    return root / REPORT


def _stages(root: Path, state: StagesState) -> str:
    """How each went and ended, with a link to its own page."""
    rows = [
        (one.title, one.layers, one.new_layers, one.kimg, one.ended_by or one.state, one.minutes)
        for one in state.stages
    ]
    pages = [f"{one.folder}/{REPORT}" for one in state.stages if (root / one.folder / REPORT).exists()]
    links = ", ".join(link(target) for target in pages)
    drawing = html.escape("\n".join(draw_stages(root, state)))
    return f"{table(rows, HEADER)}<pre>{drawing}</pre>" + (f"<p>Of each stage: {links}.</p>" if links else "")


def _figures(finished: Sequence[StageState]) -> str:
    """Numbers of the best models, a column per stage; empty where there are none."""
    names = list(dict.fromkeys(name for stage in finished for name in stage.metrics))
    if not names:
        return ""
    rows = [(name, *(stage.metrics.get(name, "") for stage in finished)) for name in names]
    protocol = f"<p>{PROTOCOL}</p>" if any(name.startswith("judge_") for name in names) else ""
    return table(rows, ("best/ of", *(stage.title for stage in finished))) + protocol


def _section(folder: Path, stage: StageState) -> tuple[str, str]:
    """Facts, health and curves of one stage."""
    stats = read_stats(folder / "stats.jsonl")
    if not stats:
        return f"Stage {stage.title}", ""
    noticed = health(folder)
    words = f"<h3>Health of {html.escape(stage.title)}</h3>{noticed}" if noticed else ""
    return f"Stage {stage.title}", summary(folder, stats) + words + folded("Curves", curves(stats))
