"""Fits a small text tower to a large sentence encoder, by WordNet's words and captions of the embedded sets.

The folder it writes is a text encoder for `conditioning.text_encoder: local:FOLDER`, needs no other library
at sampling time and understands words that no caption of a run has. Interrupted, it goes on where it was.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import torch

from sgxl_t.cli.errors import run
from sgxl_t.files.whole import whole_folder
from sgxl_t.networks.frozen import load_text_encoder
from sgxl_t.networks.text.word_tower import WordTowerConfig
from sgxl_t.networks.weights.packaged import WORDS
from sgxl_t.networks.weights.stored import CONFIG
from sgxl_t.training.words.distil import Examples, fit_tower, principal_axes
from sgxl_t.training.words.phrases import make_phrases
from sgxl_t.training.words.report import figures, names_of
from sgxl_t.training.words.teacher import features_of
from sgxl_t.training.words.vocabulary import embedded_vocabulary
from sgxl_t.training.words.wordnet import read_wordnet


@click.command()
@click.option("--words", type=click.Path(path_type=Path), required=True, help="WordNet's database files.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the tower.")
@click.option("--teacher", default=f"package:{WORDS}", show_default=True, help="A text encoder by reference.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("runs/words"), show_default=True,
              help="Where the teacher's features are kept.")  # fmt: skip
@click.option("--captions", type=click.IntRange(100), default=60_000, show_default=True)
@click.option("--dim", type=click.IntRange(2, 1024), default=96, show_default=True, help="Width of vectors.")
@click.option("--steps", type=click.IntRange(1), default=4000, show_default=True, help="Updates.")
@click.option("--seed", type=int, default=0, show_default=True)
def distil(
    words: Path, out: Path, teacher: str, cache: Path, captions: int, dim: int, steps: int, seed: int
) -> None:
    """Fits the tower and prints what it is worth."""
    began = time.monotonic()
    vocabulary = embedded_vocabulary()
    phrases = make_phrases(read_wordnet(words), vocabulary, captions, seed)
    encoder = load_text_encoder(teacher)
    features = features_of(encoder, phrases.lists(), cache)
    read = time.monotonic() - began
    some = torch.randperm(len(phrases.words), generator=torch.Generator().manual_seed(seed))
    # Half as many words as captions: pictures are asked for in captions.
    axes = principal_axes(
        torch.cat([features["captions"], features["words"][some[: len(phrases.captions) // 2]]]), dim
    )
    examples = {name: Examples(texts, axes(features[name])) for name, texts in phrases.lists().items()}
    tower = fit_tower(
        WordTowerConfig(dim=dim), examples["captions"], examples["words"], steps=steps, seed=seed
    )
    tower.vocabulary = names_of(vocabulary, tower)
    tower.meta = {
        "teacher": teacher,
        "teacher_weights": encoder.weights_hash(),
        "phrases": len(phrases.words) + len(phrases.captions),
        "variance_kept": round(axes.share, 4),
        "steps": steps,
        "seed": seed,
        **figures(tower, encoder, axes, examples, vocabulary),
        "seconds": {"teacher": round(read), "fit": round(time.monotonic() - began - read)},
    }
    with whole_folder(out, mark=CONFIG) as aside:
        tower.save_text(aside)
    click.echo(json.dumps(tower.meta, indent=1))


if __name__ == "__main__":
    raise SystemExit(run(lambda: distil.main(standalone_mode=False)))
