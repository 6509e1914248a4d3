"""`sgxl-t invert-train`: the encoder of a model, from pictures that the model makes and from real ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sgxl_t.cli.pipes import allow_pipe_option, shard_options
from sgxl_t.cli.sampling.sample_request import demo_model
from sgxl_t.files.terminal import say, say_json

if TYPE_CHECKING:
    from sgxl_t.datasets.base import ImageSource
    from sgxl_t.sampling.pipeline import Pipeline

EXAMPLES = """\b
Examples:
  sgxl-t invert-train --model runs/emoji/best
  sgxl-t invert-train --model runs/emoji/best --data emoji-scenes
  sgxl-t invert-train --model runs/emoji/best --data photos/ --images 100000"""


@click.command("invert-train", epilog=EXAMPLES)
@click.option("--model", metavar="PATH", help="Model folder or run folder [default: demo_text].")
@click.option(
    "--images",
    type=int,
    default=40_000,
    show_default=True,
    metavar="N",
    help="Pictures to learn from, real ones included.",
)
@click.option(
    "--data",
    metavar="SOURCE",
    help="Real pictures to learn from as well: what `train --data` takes, its training split.",
)
@allow_pipe_option
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps [default: cuda where there is one].")
@click.option("--overwrite", is_flag=True, help="Replace an encoder that fits the model.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
def invert_train(
    model: str | None,
    images: int,
    data: str | None,
    allow_pipe: bool,
    seed: int,
    device: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Trains a small network from pictures to w on what the model makes, and stores it in the model's folder.

    Real pictures (--data), such as those that the model was trained on, make it better at real ones.
    `sgxl-t invert` then starts from it. It fits these weights alone: train it again for another model.
    """
    if not 1 <= images <= 10**9:
        raise ValueError(f"images={images} is out of range: use 1 or more, such as 40000")

    from tqdm import tqdm

    from sgxl_t.sampling.inversion.encoder import save_encoder
    from sgxl_t.sampling.inversion.encoder_training import train_encoder
    from sgxl_t.sampling.inversion.style_pool import StylePool, all_conditions
    from sgxl_t.sampling.output.image_files import check_writable
    from sgxl_t.sampling.pipeline import Pipeline

    pipe = Pipeline.from_pretrained(model or demo_model(), device=device)
    assert pipe.info is not None
    assert pipe.model_hash is not None
    folder = check_writable(pipe.info.folder)
    if not overwrite:
        _check_free(folder, pipe)
    source = None if data is None else _open_data(data, pipe, allow_pipe)
    pool = StylePool(pipe.generator, pipe.condition, all_conditions(pipe.condition, pipe.info))
    began = time.monotonic()
    with tqdm(total=images, unit="image", delay=2, leave=False, disable=None) as bar:

        def show(seen: int, loss: float) -> None:
            bar.set_postfix_str(f"loss of w {loss:.3f}", refresh=False)
            bar.update(seen - bar.n)

        encoder, report = train_encoder(pool, images, data=source, seed=seed, progress=show)
    facts: dict[str, Any] = {
        "images": report.images,
        "real": report.real,
        "loss": round(report.loss, 4),
        "seed": seed,
    }
    if source is not None:
        facts |= {"data": data, "data_fingerprint": source.fingerprint()}
        for line in source.rejects.summary():
            say(f"{data}: {line}", err=True)
    path = save_encoder(folder, encoder, pipe.model_hash, facts)
    facts["seconds"] = round(time.monotonic() - began, 1)
    if as_json:
        say_json({"file": str(path), **facts})
        return
    seen = f"{report.images} pictures" + (f" and {report.real} real ones" if report.real else "")
    say(f"wrote {path}: {seen}, loss {report.loss:.3f} of the variance of w")


def _check_free(folder: Path, pipe: Pipeline) -> None:
    """ValueError where the folder's encoder fits the model."""
    from sgxl_t.sampling.inversion.encoder import FILE, load_encoder

    assert pipe.model_hash is not None
    try:
        there = load_encoder(folder, pipe.generator, pipe.model_hash)
    except ValueError:
        return  # of other weights, or broken: nobody can use it
    if there is not None:
        raise ValueError(f"{folder / FILE} fits the model already: add --overwrite to train it again")


def _open_data(data: str, pipe: Pipeline, allow_pipe: bool) -> ImageSource:
    """The real pictures, as the model draws: its side, its channels."""
    from sgxl_t.datasets.open import open_source

    source = open_source(data, resolution=pipe.generator.img_resolution, shards=shard_options(allow_pipe))
    source.gray = pipe.generator.config.img_channels == 1
    return source
