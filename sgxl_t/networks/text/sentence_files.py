"""How a sentence encoder turns its tokens into one vector: the files that sentence-transformers adds.

`modules.json` lists the steps, `1_Pooling/config.json` says how tokens become a vector, and
`sentence_bert_config.json` how many tokens are read (Reimers & Gurevych 2019, "Sentence-BERT").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sgxl_t.files.terminal import visible
from sgxl_t.networks.text.transformers_files import RESTORE
from sgxl_t.networks.weights.stored import read_json, write_json

MODULES, POOLING, LENGTH = "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"
STEPS = {"Transformer", "Pooling", "Normalize"}
"""The steps that are followed; `Dense` and others have weights of their own."""
MODES = {"mean": "pooling_mode_mean_tokens", "first": "pooling_mode_cls_token"}
MAX_TOKENS = 1 << 16

Pool = Literal["mean", "first"]


@dataclass(frozen=True)
class SentencePooling:
    """pool: mean of the caption's tokens, or the first of them. max_tokens: read of a caption, None where
    nothing is said."""

    pool: Pool = "mean"
    max_tokens: int | None = None


def read_pooling(reference: str, file: Callable[[str], str | None]) -> SentencePooling:
    """What the files beside a tower say; the mean, as most are trained, where they say nothing.

    file: path of one of them, None where there is none. ValueError, in one sentence, for steps and ways of
    pooling that are not followed.
    """
    modules = file(MODULES)
    if modules is not None:
        for step in read_json(Path(modules), way_out=RESTORE).rows(16):
            name = step["type"].text().rpartition(".")[2]
            if name not in STEPS:
                raise ValueError(
                    f"{reference} has the step {visible(name)[:40]!r} in {MODULES}, which is not followed: "
                    f"name a sentence encoder of {', '.join(sorted(STEPS))} alone"
                )
    length = file(LENGTH)
    about = None if length is None else read_json(Path(length), way_out=RESTORE).get("max_seq_length")
    most = None if about is None or about.raw is None else about.integer(4, MAX_TOKENS)
    return SentencePooling(_pool(reference, file(POOLING)), most)


def write_pooling(folder: Path, pooling: SentencePooling, dim: int) -> None:
    """Writes what `read_pooling` reads; the folder is then one that sentence-transformers opens as well."""
    (folder / POOLING).parent.mkdir(parents=True, exist_ok=True)
    modes = {key: mode == pooling.pool for mode, key in MODES.items()}
    write_json(folder / POOLING, {"word_embedding_dimension": dim, **modes})
    if pooling.max_tokens is not None:
        write_json(folder / LENGTH, {"max_seq_length": pooling.max_tokens, "do_lower_case": False})
    paths = {"Transformer": "", "Pooling": Path(POOLING).parent.name, "Normalize": "2_Normalize"}
    steps = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (name, path) in enumerate(paths.items())
    ]
    write_json(folder / MODULES, steps)


def _pool(reference: str, path: str | None) -> Pool:
    if path is None:
        return "mean"
    stored = read_json(Path(path), way_out=RESTORE)
    chosen = {key for key, raw in stored.group().items() if key.startswith("pooling_mode_") and raw is True}
    for pool in ("mean", "first"):
        if chosen == {MODES[pool]}:
            return pool
    raise ValueError(
        f"{reference} pools by {visible(', '.join(sorted(chosen)) or 'nothing')[:120]}: name a sentence "
        "encoder that takes the mean of its tokens or the first of them"
    )
