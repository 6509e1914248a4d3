"""The prompts of `sgxl-t evaluate`: drawn from COCO's captions, frozen in a list, or a text file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sgxl_t.cli.evaluation.evaluate_options import EvaluateOptions
from sgxl_t.metrics.coco import COUNT, FORMAT, PromptList, frozen_prompts
from sgxl_t.metrics.coco import read_prompts as read_frozen
from sgxl_t.metrics.processes import Processes
from sgxl_t.metrics.protocol import MetricSpec
from sgxl_t.sampling.prompt_file import read_prompts


@dataclass(frozen=True)
class Prompts:
    """One prompt per generated image, and the hash that results state."""

    texts: list[str]
    hash: str


def coco_list(options: EvaluateOptions, processes: Processes, at_least: int = 0) -> PromptList:
    """The prompts of --coco, from the file of --prompts or drawn and written there by the main process."""
    assert options.coco is not None
    return frozen_prompts(
        options.coco,
        options.prompts,
        count=max(COUNT, at_least),
        seed=options.coco_seed,
        write=processes.is_main,
    )


def prompts_of(
    options: EvaluateOptions, specs: Sequence[MetricSpec], processes: Processes, *, any_model: bool
) -> Prompts | None:
    """The prompts, one per image; None where captions of the data serve.

    any_model: whether images are made here. ValueError for lists that cannot serve, and where images are
    made for a metric of COCO without a list of its captions.
    """
    path = options.prompts
    if options.coco is not None:
        found = coco_list(options, processes, max((spec.n_fake for spec in specs), default=0))
        return Prompts(found.texts, found.hash)
    if options.coco_seed is not None:
        raise ValueError("--coco-seed draws nothing alone: name COCO's captions file with --coco")
    coco = next((spec.name for spec in specs if spec.is_coco), None)
    frozen = path is not None and Path(path).is_file() and FORMAT in _first_line(Path(path))
    if coco is not None and any_model and not frozen:
        raise ValueError(
            f"{coco} needs a frozen list of COCO captions: name COCO's captions_val2014.json with --coco, or "
            "a list that was drawn from it with --prompts"
        )
    if path is None:
        return None
    if frozen:
        found = read_frozen(path)
        return Prompts(found.texts, found.hash)
    lines = read_prompts(path)
    return Prompts(lines, hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16])


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(2048).decode("utf-8", "replace")
