"""The same latents at every stage of a chain of generators, each of which grew on the one before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from sgxl_t.model_io.named_model import named_folder
from sgxl_t.model_io.run_model import stage_models
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.sampling.sheets.sheet import Sheet
from sgxl_t.sampling.truncation.centroids import fingerprint


def chain_of(models: Sequence[str | Path]) -> list[Path]:
    """Model folders of a chain: those named, and of a run with stages all of them. ValueError below two."""
    found = [model for one in models for model in stage_models(named_folder(one))]
    if len(found) < 2:
        raise ValueError(
            f"{found[0]} is one model alone: name the folder of a run with stages, or one more model"
        )
    return found


def check_chain(generators: Sequence[Generator], models: Sequence[Path]) -> None:
    """ValueError unless all have the mapping of the first, without which one latent is many."""
    wanted = fingerprint(generators[0])
    for generator, model in zip(generators, models, strict=True):
        if fingerprint(generator) != wanted:
            raise ValueError(
                f"{model} maps latents otherwise than {models[0]}, so the same latent is another picture "
                "there: name stages of one chain"
            )


def stage_sheet(
    images: Sequence[Sequence[Image.Image]], rows: Sequence[str], generators: Sequence[Generator]
) -> Sheet:
    """A row per latent and a column per stage. images: of each stage, in the order of the rows."""
    titles = [f"{generator.img_resolution} px" for generator in generators]
    cells = [stage[row] for row in range(len(rows)) for stage in images]
    return Sheet(cells, rows, titles)
