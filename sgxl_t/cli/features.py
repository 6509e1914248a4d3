"""`sgxl-t features`: small local feature networks on own images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sgxl_t.cli.group import Group
from sgxl_t.cli.pipes import allow_pipe_option, shard_options
from sgxl_t.files.lock import lock_in, locked
from sgxl_t.files.streams import forgiving_streams
from sgxl_t.files.terminal import say, say_json

EXAMPLES = """\b
Examples:
  sgxl-t features train --data photos --out photos-features
  sgxl-t features train --data digits --out digits-features --kinds cnn,vit
  sgxl-t features list photos-features"""
NAMED = ("steps", "seconds", "images_per_second", "accuracy", "retrieval_at_1", "view_match_at_1")


@click.group(cls=Group)
def features() -> None:
    """Train, list and inspect small feature networks of your own images.

    They are named local:FOLDER wherever a feature network, classifier or CLIP is asked for.
    """


@features.command(epilog=EXAMPLES)
@click.option("--data", required=True, metavar="D", help="Folder, .zip, shards, digits, emoji-scenes:24x8.")
@allow_pipe_option
@click.option("--out", required=True, metavar="DIR", help="Folder that gets cnn/, vit/, clip/, report.json.")
@click.option("--kinds", metavar="LIST", help="Of cnn,vit,clip.  [default: all that the data allow]")
@click.option("--seconds", type=float, metavar="N", help="Wall time limit of each network.")
@click.option("--steps", type=int, metavar="N", help="Steps of each network.  [default: by kind]")
@click.option(
    "--resolution",
    type=int,
    default=32,
    show_default=True,
    metavar="R",
    help="Side of the pictures in pixels.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights, order and changes.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def train(
    data: str,
    allow_pipe: bool,
    out: str,
    kinds: str | None,
    seconds: float | None,
    steps: int | None,
    resolution: int,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Train networks on D: classifiers from labels, a CLIP from captions, or from images alone."""
    from sgxl_t.datasets import open_source
    from sgxl_t.ops.device import choose_device
    from sgxl_t.training.local_features.config import FeaturesConfig
    from sgxl_t.training.local_features.train import train_features

    source = open_source(data, resolution=resolution, shards=shard_options(allow_pipe))
    held = locked(lock_in(Path(out)), f"{out} is being written", "wait, stop it, or name another --out")
    with held, forgiving_streams():
        report = train_features(
            source,
            out,
            kinds=[kind.strip() for kind in kinds.split(",")] if kinds is not None else None,
            seconds=seconds,
            config=FeaturesConfig(steps=steps),
            seed=seed,
            device=choose_device(device),
        )
    if as_json:
        say_json(report)
        return
    say(f"{report['pictures']} pictures, learnt from {report['learnt_from']}")
    for kind in ("cnn", "clip", "vit"):
        if kind in report:
            say(f"local:{Path(out) / kind}  {_figures(report[kind])}")


@features.command("list")
@click.argument("folder")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def list_networks(folder: str, as_json: bool) -> None:
    """List the local networks in FOLDER and one level below it."""
    from sgxl_t.networks.weights.stored import CONFIG, read_json

    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder: name one that `sgxl-t features train --out` has written")
    found = []
    for path in sorted([*root.glob(CONFIG), *root.glob(f"*/{CONFIG}"), *root.glob(f"*/*/{CONFIG}")]):
        config = read_json(path).group()
        if config.get("kind") in ("cnn", "vit", "clip", "text"):
            found.append({"reference": f"local:{path.parent}", **_summary(config)})
    if as_json:
        say_json(found)
        return
    for entry in found:
        say(f"{entry['reference']}  {entry['kind']}  {entry['pixels'] or '-'} px  {_figures(entry)}")
    if not found:
        say(f"{root} holds no local networks")


@features.command()
@click.argument("folder")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def inspect(folder: str, as_json: bool) -> None:
    """Load the network in FOLDER and say what it is, how large, and how it was trained."""
    found = describe(Path(folder))
    if as_json:
        say_json(found)
        return
    for name, value in found.items():
        if value is not None and value != []:
            shown = (
                ", ".join(map(str, value[:12])) + (" ..." if len(value) > 12 else "")
                if isinstance(value, list)
                else value
            )
            say(f"{name.replace('_', ' '):20} {shown}")


def describe(folder: Path) -> dict[str, Any]:
    """What the network in a folder is, with all its tensors checked."""
    from sgxl_t.networks.backbones.local_networks import load_local
    from sgxl_t.networks.frozen import load_clip
    from sgxl_t.networks.weights.stored import read_config

    config = read_config(folder).group()
    found: dict[str, Any] = {"reference": f"local:{folder}", **_summary(config)}
    if config["kind"] in ("clip", "text"):
        clip = load_clip(f"local:{folder}", text_only=config["kind"] == "text")
        text = clip.text_config
        assert text is not None
        found |= {"embedding": clip.dim, "tokens": text.vocab_size, "caption_tokens": text.context_length}
        network: Any = clip
    else:
        network, _ = load_local(folder)
        found |= {"channels": list(network.channels), "pooled": network.embed_dim}
    meta = config.get("meta")
    found["parameters"] = sum(parameter.numel() for parameter in network.parameters())
    found["classes"] = meta.get("classes", []) if isinstance(meta, dict) else []
    return found


def _summary(config: dict[str, Any]) -> dict[str, Any]:
    stored = config.get("meta")
    meta: dict[str, Any] = stored if isinstance(stored, dict) else {}
    image = config.get("image") if config["kind"] == "clip" else config
    sizes = image.get("config") if isinstance(image, dict) else None
    pixels = sizes.get("image_size") if isinstance(sizes, dict) else None
    figures = {name: meta[name] for name in NAMED if name in meta}
    return {"kind": config["kind"], "pixels": pixels, "learnt_from": meta.get("learnt_from"), **figures}


def _figures(entry: dict[str, Any]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {entry[name]}" for name in NAMED if name in entry)
