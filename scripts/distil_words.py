"""Fits a small text tower to a large sentence encoder, by WordNet's words and captions of the embedded sets.

The folder it writes is a text encoder for `conditioning.text_encoder: local:FOLDER`, needs no other library
at sampling time and understands words that no caption of a run has. Then free phrases ("my poodle dozing in
deep snow") are brought to what the tower says of plain captions ("a dog in snow"), and the folder gets a list
of words that are read as a thing's name. With `--start` these two alone are done, to the tower of a model
that goes on reading captions as before; `--free-steps 0` leaves the list. Interrupted, it asks the teacher
nothing twice.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import click
import torch

from sgxl_t.cli.errors import run
from sgxl_t.files.whole import whole_folder
from sgxl_t.networks.frozen import load_text_encoder
from sgxl_t.networks.text.text_encoder import TextEncoder
from sgxl_t.networks.text.word_tower import WordTower, WordTowerConfig
from sgxl_t.networks.weights.packaged import WORDS
from sgxl_t.networks.weights.stored import CONFIG
from sgxl_t.training.words.distil import (
    Examples,
    encode_many,
    fit_paraphrases,
    fit_tower,
    mean_cosine,
    principal_axes,
)
from sgxl_t.training.words.kin import read_as, read_kin
from sgxl_t.training.words.paraphrases import make_pairs, texts_of
from sgxl_t.training.words.phrases import Phrases, make_phrases
from sgxl_t.training.words.report import MEASURED, figures, names_of
from sgxl_t.training.words.teacher import features_of, teacher_features
from sgxl_t.training.words.vocabulary import Vocabulary, embedded_vocabulary, taken_words
from sgxl_t.training.words.wordnet import Lexicon, in_plurals, other_words, read_lexicon, read_wordnet


@click.command()
@click.option("--words", type=click.Path(path_type=Path), required=True, help="WordNet's database files.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the tower.")
@click.option("--start", type=click.Path(path_type=Path), help="A tower, such as MODEL/text_encoder, that "
              "learns free phrases and other words alone.")  # fmt: skip
@click.option("--teacher", default=f"package:{WORDS}", show_default=True, help="A text encoder by reference.")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("runs/words"), show_default=True,
              help="Where the teacher's features are kept.")  # fmt: skip
@click.option("--captions", type=click.IntRange(100), default=60_000, show_default=True)
@click.option("--dim", type=click.IntRange(2, 1024), default=96, show_default=True, help="Width of vectors.")
@click.option("--steps", type=click.IntRange(1), default=4000, show_default=True, help="Updates of the fit.")
@click.option("--free-steps", type=click.IntRange(0), default=4000, show_default=True,
              help="Updates with free phrases, 0 for none.")  # fmt: skip
@click.option("--pairs", type=click.IntRange(10), default=80_000, show_default=True, help="Free phrases.")
@click.option("--seed", type=int, default=0, show_default=True)
def distil(out: Path, start: Path | None, **asked: Any) -> None:
    """Fits the tower and prints what it is worth."""
    making = Distillation(**asked)
    tower = making.fitted() if start is None else load_text_encoder(f"local:{start}")
    if not isinstance(tower, WordTower):
        raise click.UsageError(f"--start {start} is no word tower: name the folder of one")
    if making.free_steps:
        tower = making.freed(tower)
    tower.vocabulary = replace(names_of(making.vocabulary, tower), means=making.other_words())
    with whole_folder(out, mark=CONFIG) as aside:
        tower.save_text(aside)
    click.echo(json.dumps(tower.meta, indent=1))


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How a tower is made; the values are explained by the command's help."""

    words: Path
    teacher: str
    cache: Path
    captions: int
    dim: int
    steps: int
    free_steps: int
    pairs: int
    seed: int

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Of the embedded data sets."""
        return embedded_vocabulary()

    @cached_property
    def phrases(self) -> Phrases:
        """Words and captions to fit."""
        return make_phrases(read_wordnet(self.words), self.vocabulary, self.captions, self.seed)

    @cached_property
    def encoder(self) -> TextEncoder:
        """The teacher."""
        return load_text_encoder(self.teacher)

    @cached_property
    def lexicon(self) -> Lexicon:
        """What people say around and in place of the names of things."""
        names = list(chain(*self.vocabulary.things))
        return read_lexicon(self.words, names, taken_words(self.vocabulary))

    def other_words(self) -> dict[str, str]:
        """Words for what WordNet knows as the same or a kind of it, and for what the teacher finds alike."""
        things = self.vocabulary.things
        kin = read_kin(self.words, things, taken_words(self.vocabulary))
        alike = read_as(kin, things, lambda texts: teacher_features(self.encoder, texts, self.cache))
        return in_plurals((word, things[number][0]) for word, number in alike.items()) | other_words(
            self.lexicon
        )

    def fitted(self) -> WordTower:
        """A tower that says what the teacher does."""
        began = time.monotonic()
        phrases, encoder = self.phrases, self.encoder
        features = features_of(encoder, phrases.lists(), self.cache)
        read = time.monotonic() - began
        some = torch.randperm(len(phrases.words), generator=torch.Generator().manual_seed(self.seed))
        # Half as many words as captions: pictures are asked for in captions.
        axes = principal_axes(
            torch.cat([features["captions"], features["words"][some[: len(phrases.captions) // 2]]]), self.dim
        )
        examples = {name: Examples(texts, axes(features[name])) for name, texts in phrases.lists().items()}
        tower = fit_tower(
            WordTowerConfig(dim=self.dim),
            examples["captions"],
            examples["words"],
            steps=self.steps,
            seed=self.seed,
        )
        tower.vocabulary = names_of(self.vocabulary, tower)  # the figures are of it
        tower.meta = {
            "teacher": self.teacher,
            "teacher_weights": encoder.weights_hash(),
            "phrases": len(phrases.words) + len(phrases.captions),
            "variance_kept": round(axes.share, 4),
            "steps": self.steps,
            "seed": self.seed,
            **figures(tower, encoder, axes, examples, self.vocabulary),
            "seconds": {"teacher": round(read), "fit": round(time.monotonic() - began - read)},
        }
        return tower

    def freed(self, tower: WordTower) -> WordTower:
        """The tower with free phrases brought to what it says of plain captions."""
        free, plain = texts_of(make_pairs(self.vocabulary, self.lexicon, self.pairs, self.seed))
        examples = Examples(free, encode_many(tower, plain))
        kept = [*self.phrases.captions, *self.phrases.words[:: len(self.phrases.words) // 5000 + 1]]
        freed = fit_paraphrases(tower, examples, kept, steps=self.free_steps, seed=self.seed)
        told = Examples(free[:MEASURED], examples.targets[:MEASURED])
        same = Examples(kept[:MEASURED], encode_many(tower, kept[:MEASURED]))
        freed.meta = {
            **tower.meta,
            "free_phrases": {
                "pairs": self.pairs,
                "steps": self.free_steps,
                "cosine": round(mean_cosine(freed, told), 4),
                "cosine_before": round(mean_cosine(tower, told), 4),
                "captions_kept": round(mean_cosine(freed, same), 4),
            },
        }
        return freed


if __name__ == "__main__":
    raise SystemExit(run(lambda: distil.main(standalone_mode=False)))
