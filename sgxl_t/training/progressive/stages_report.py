"""The page of a run with stages: the same latents at every stage, how each stage went and ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgxl_t.conditioning.generate import generate
from sgxl_t.model_io.model_folder import load_model
from sgxl_t.ops.random import training_rng
from sgxl_t.training.callbacks.report import curves, figure, health, page, table, write_page
from sgxl_t.training.callbacks.sample_grid import save_grid
from sgxl_t.training.callbacks.stats_file import read_stats
from sgxl_t.training.progressive.stages_state import StagesState, StageState, draw_stages

PROTOCOL = (
    "judge_*: the packaged judge of the data, which trained nothing, on one picture without truncation per "
    "label or caption of the test split. Distances of 1,000 pictures to 1,000 training pictures of the "
    "stage's resolution, and of all pictures to up to 4,000 (_all; floor: of test pictures, below: of the "
    "stage below, enlarged); recall of all of them (real: of test pictures). Captions: judge_clip and "
    "judge_retrieval by a CLIP that trained nothing; held_out: pairs of object and scene that no training "
    "picture shows."
)
HEADER = ("stage", "layers", "new", "kimg", "ended by", "minutes")


def stage_images(
    root: Path, stage: StageState, given: Sequence[Any], *, seed: int, device: torch.device
) -> Tensor:
    """Pictures of a stage's best model without truncation: uint8 [N, 3, R, R], one per condition given.

    Latents depend on the seed alone, so all stages of a run show the same ones.
    """
    generator, condition, _ = load_model(root / stage.folder / "best")
    generator.to(device)
    condition.to(device)
    z = torch.randn(len(given), generator.z_dim, generator=training_rng(seed, "chain", 0)).to(device)
    return generate(generator, condition, given, z, batch_size=4)


def side_by_side(images: Sequence[Tensor]) -> Tensor:
    """One entry per stage [N, 3, R_s, R_s] -> [N * stages, 3, R, R]: a row per latent."""
    side = max(batch.shape[-1] for batch in images)
    scaled = [
        batch.repeat_interleave(side // batch.shape[-1], 2).repeat_interleave(side // batch.shape[-1], 3)
        for batch in images
    ]
    return torch.stack(scaled, dim=1).flatten(0, 1)


def write_stages_report(
    root: Path, state: StagesState, given: Sequence[Any], *, seed: int, device: torch.device
) -> Path:
    """samples/chain.png and report.html of a run from its finished stages.

    given: one condition per row of images, as the condition encodes them.
    """
    finished = state.finished()
    sections = []
    if finished:
        batches = [stage_images(root, stage, given, seed=seed, device=device) for stage in finished]
        sheet = root / "samples" / "chain.png"
        save_grid(side_by_side(batches), sheet, columns=len(finished))
        sides = ", ".join(stage.title for stage in finished)
        caption = f"the same latents and conditions at {sides}, psi 1, enlarged without smoothing"
        sections.append(("Stages side by side", figure(sheet, caption)))
    rows = [
        (
            stage.title,
            stage.layers,
            stage.new_layers,
            stage.kimg,
            stage.ended_by or stage.state,
            stage.minutes,
        )
        for stage in state.stages
    ]
    drawing = "\n".join(draw_stages(root, state))
    sections.append(("Chain", f"<pre>{drawing}</pre>{table(rows, HEADER)}"))
    names = list(dict.fromkeys(name for stage in finished for name in stage.metrics))
    if names:
        figures = [(name, *(stage.metrics.get(name, "") for stage in finished)) for name in names]
        protocol = f"<p>{PROTOCOL}</p>" if any(name.startswith("judge_") for name in names) else ""
        header = ("best/ of", *(stage.title for stage in finished))
        sections.append(("Figures", table(figures, header) + protocol))
    for stage in state.stages:
        if noticed := health(root / stage.folder):
            sections.append((f"Health of {stage.title}", noticed))
        stats = read_stats(root / stage.folder / "stats.jsonl")
        if stats:
            sections.append((f"Curves of {stage.title}", curves(stats)))
    write_page(root / "report.html", page(f"Run {root.name}", sections))
    return root / "report.html"
