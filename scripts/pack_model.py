"""Makes a small model folder of a run, to be shared and to begin runs with: `--start`.

    python scripts/pack_model.py runs/demo --out demo_text --kimg 1650 --heads
    python scripts/pack_model.py runs/demo --out demo_text --toward demo_text --share 0.65

Weights are stored in float16. `--heads` adds the discriminator's heads of the newest checkpoint, so that a
run that goes on with the model, on the same data and through the same frozen networks, need not learn them
anew. `--toward` takes the weights a share of the way to those of another model, such as the one that the run
began with: the mean of both may be better than either (Wortsman et al. 2022, "Model soups").
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import torch

from sgxl_t.cli.errors import run as run_command
from sgxl_t.conditioning import Condition, TextCondition
from sgxl_t.files.terminal import say
from sgxl_t.model_io.model_folder import load_model, save_model
from sgxl_t.model_io.named_model import named_folder
from sgxl_t.networks.frozen import load_text_encoder
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.training.checkpoint.checkpoint import load_newest
from sgxl_t.training.start.heads import view_of, write_heads


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The model folder.")
@click.option("--of", type=click.Choice(["last", "best"]), default="last", show_default=True)
@click.option("--kimg", type=float, help="Thousand images in all, with those before the run.")
@click.option("--licence", default="Apache-2.0", show_default=True, help="Of the weights.")
@click.option("--note", help="What else the card says.")
@click.option("--heads", is_flag=True, help="Add the discriminator's heads.")
@click.option("--toward", help="Another model of the same sizes: its folder, demo_text or a Hub id.")
@click.option(
    "--share", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of the way there."
)
@click.option("--metrics", type=click.Path(path_type=Path, exists=True), help="JSON of numbers for the card; "
              "those of the run where nothing is mixed.")  # fmt: skip
def pack(
    run: Path,
    out: Path,
    of: str,
    heads: bool,
    toward: str | None,
    share: float,
    metrics: Path | None,
    **about: Any,
) -> None:
    """Writes the model folder OUT from RUN's last model, or its best."""
    generator, condition, info = load_model(run / of)
    numbers = info.metrics
    if toward is not None:
        move(generator, toward, share)
        numbers = None
    if metrics is not None:
        numbers = json.loads(metrics.read_text())
    provenance = dict(info.provenance) | {name: value for name, value in about.items() if value is not None}
    save_model(out, generator, condition, provenance, numbers, dtype="float16")
    if heads:
        add_heads(run, out, condition)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 2**20
    say(f"{out}: {size:.1f} MiB")


@torch.no_grad()
def move(generator: Generator, toward: str, share: float) -> None:
    """Takes weights and averages a share of the way to those of another model; remembered pictures stay."""
    own, other = generator.state_dict(), load_model(named_folder(toward))[0].state_dict()
    if {name: value.shape for name, value in own.items()} != {n: v.shape for n, v in other.items()}:
        raise click.UsageError(
            f"--toward {toward} has other sizes than the run's model: name one of its kind"
        )
    for name, value in own.items():
        if value.is_floating_point() and not name.startswith("mapping.memory."):
            value.lerp_(other[name], share)


def add_heads(run: Path, out: Path, condition: Condition) -> None:
    """Those of the run's newest checkpoint."""
    found = load_newest(run / "checkpoints")
    if found is None:
        raise click.UsageError(f"{run} holds no checkpoint, where heads are: leave --heads out")
    _, tensors, saved = found
    config = saved["config"]
    if isinstance(condition, TextCondition):  # heads project on what the run's frozen encoder says
        named = config["conditioning"]["text_encoder"]
        condition = TextCondition(load_text_encoder(named), own=condition.encoder)
    view = view_of(config["discriminator"]["features"], run, condition, saved["data_fingerprint"])
    write_heads(out, tensors["network_d"], tensors["projection"], view)


if __name__ == "__main__":
    raise SystemExit(run_command(lambda: pack.main(standalone_mode=False)))
