"""Makes a class model of a text model, to begin a run of classes with: `--start`.

    python scripts/class_from_text.py --model M --data emoji-worlds:24x8 --out things

A class begins as the mean of what the model's text encoder reads in the captions of its images. What captions
of one class say beside its name (where a thing stands, its colour) is left to the latent: z, brought to the
covariance that captions have within their classes, is added where the condition is read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import torch
from torch import Tensor
from tqdm import tqdm

from sgxl_t.conditioning import ClassCondition, TextCondition
from sgxl_t.datasets.open import open_source
from sgxl_t.files.terminal import say
from sgxl_t.model_io.model_folder import load_model, save_model
from sgxl_t.model_io.named_model import named_folder
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.mapping_t import MappingT
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.training.start.carry import OF_THE_CONDITION, add_within_classes

CAPTIONS = 10_000
BATCH = 256


@click.command()
@click.option("--model", required=True, help="A text model of stylegan_t: its folder, demo_text or a Hub id.")
@click.option("--data", required=True, help="Images with labels and captions.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The class model's folder.")
def main(model: str, data: str, out: Path) -> None:
    """Writes the class model folder OUT."""
    theirs, condition, _ = load_model(named_folder(model))
    if not isinstance(condition, TextCondition) or theirs.config.family != "stylegan_t":
        raise click.UsageError(f"--model {model} is no text model of the family stylegan_t: name one")
    names, labels, vectors = read(data, condition)
    vectors = seen(theirs, vectors)
    table = torch.stack([vectors[labels == label].mean(dim=0) for label in range(len(names))])
    classes = ClassCondition(names, table)
    ours = class_generator(theirs, classes, vectors - table[labels])
    save_model(out, ours, classes, {"data": data, "started_from": model})
    say(f"{out}: {len(names)} classes")


@torch.no_grad()
def seen(theirs: Generator, vectors: Tensor) -> Tensor:
    """What layers read beside z, before it is scaled, [N, D]: captions' features, and with a memory
    deviations of drawn pictures."""
    assert isinstance(theirs.mapping, MappingT)
    z = torch.randn(len(vectors), theirs.z_dim, generator=torch.Generator().manual_seed(0))
    pairs = zip(z.split(BATCH), vectors.split(BATCH), strict=True)
    parts = [theirs.mapping.drawn_part(*pair) for pair in pairs]
    return torch.cat([part for part in parts if part is not None]) / theirs.mapping.text_scale


def class_generator(theirs: Generator, classes: ClassCondition, residuals: Tensor) -> Generator:
    """The text generator, reading the vectors of classes. residuals: [N, D], what layers read less the
    mean of its class."""
    sizes = replace(theirs.config.stylegan_t, instances=0, exaggeration=0.0)
    ours = build_generator(replace(theirs.config, stylegan_t=sizes), classes.spec)
    assert classes.table is not None
    assert isinstance(ours, Generator)
    tensors = theirs.state_dict().items()
    kept = {name: value for name, value in tensors if not name.startswith(OF_THE_CONDITION)}
    ours.load_state_dict({**kept, "mapping.embed.weight": classes.table})
    add_within_classes(ours, theirs.config.stylegan_t.text_scale * residuals)
    return ours


def read(data: str, condition: TextCondition) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Names of the classes; labels int64 [N] and text features [N, dim] of images spread over the data."""
    source = open_source(data, resolution=8)
    source.require(labels=True, captions=True)
    step = max(1, len(source) // CAPTIONS)
    samples = [source[index] for index in tqdm(range(0, len(source), step), desc="captions", leave=False)]
    captions = [str(sample.caption) for sample in samples]
    with torch.no_grad():
        parts = [condition.encode(captions[i : i + BATCH]).c for i in range(0, len(captions), BATCH)]
    vectors = [part for part in parts if part is not None]
    return source.class_names or (), torch.tensor([sample.label for sample in samples]), torch.cat(vectors)


if __name__ == "__main__":
    main()
