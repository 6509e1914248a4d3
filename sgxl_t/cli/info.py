"""`sgxl-t info`: what a model folder, feature network, run folder or data set holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

MAX_LISTED = 12


@click.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def info(path: str, as_json: bool) -> None:
    """Says what PATH holds: a model, feature network, run, chain of stages or data set (also digits)."""
    found = describe(path)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for line in found.pop("drawing", ()):
        click.echo(line)
    if found["holds"] == "chain":  # drawn already
        del found["stages"]
    for name, value in _lines(found):
        click.echo(f"{name:28} {value}")


def describe(path: str) -> dict[str, Any]:
    """Everything the command prints, as JSON values; ValueError when the path holds none of these."""
    folder = Path(path)
    if (folder / "generator.safetensors").is_file() or _config_has(folder, "generator"):
        return _model(folder)
    if _config_has(folder, "kind"):
        return _feature_network(folder)
    if (folder / "chain.json").is_file():
        return _chain(folder)
    if (folder / "config.yaml").is_file():
        return _run(folder)
    return _data(path)


def _config_has(folder: Path, key: str) -> bool:
    if not (folder / "config.json").is_file():
        return False
    from sgxl_t.networks.stored import read_json

    config = read_json(folder / "config.json", way_out="restore it, or name another folder")
    return isinstance(config, dict) and key in config


def _model(folder: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from sgxl_t.conditioning.model_folder import read_info, weight_shapes

    about, shapes = read_info(folder), weight_shapes(folder)
    config = asdict(about.generator)
    return {
        "holds": "model",
        "path": str(folder),
        "family": about.generator.family,
        "resolution": about.generator.img_resolution,
        "condition": asdict(about.condition),
        "classes": list(about.class_names),
        "tensors": len(shapes),
        "stored_numbers": sum(_product(shape) for shape in shapes.values()),
        "written_by": f"sgxl_t {about.version}",
        "provenance": dict(about.provenance),
        "metrics": about.metrics or {},
        "sizes": {key: value for key, value in config[about.generator.family].items() if value is not None},
    }


def _feature_network(folder: Path) -> dict[str, Any]:
    from sgxl_t.networks.stored import read_config

    return {
        "holds": "feature network",
        "path": str(folder),
        "reference": f"local:{folder}",
        **read_config(folder),
    }


def _run(folder: Path) -> dict[str, Any]:
    import yaml

    from sgxl_t.training.tracking import read_stats

    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'config.yaml'} is no configuration of a run: restore the file")
    stats = read_stats(folder / "stats.jsonl")
    checkpoints = sorted(path.name for path in folder.glob("checkpoints/kimg_*"))
    models = [name for name in ("best", "last") if (folder / name / "config.json").is_file()]
    return {
        "holds": "run",
        "path": str(folder),
        "condition": config.get("cond"),
        "data": (config.get("data") or {}).get("source"),
        "planned_kimg": (config.get("schedule") or {}).get("kimg"),
        "trained_kimg": stats[-1].get("images", 0) / 1000 if stats else 0.0,
        "checkpoints": checkpoints,
        "models": models,
        "newest_numbers": stats[-1] if stats else {},
    }


def _chain(folder: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from sgxl_t.training.chain_state import draw_chain, read_chain

    chain = read_chain(folder)
    going = next((stage for stage in chain.stages if stage.state != "finished"), None)
    return {
        "holds": "chain",
        "path": str(folder),
        "drawing": draw_chain(folder, chain),
        "next_stage": "none, all are finished" if going is None else going.title,
        "models": ["best"] if (folder / "best" / "config.json").is_file() else [],
        "stages": {stage.folder: asdict(stage) for stage in chain.stages},
    }


def _data(path: str) -> dict[str, Any]:
    from sgxl_t.datasets.base import open_source

    if not Path(path).exists() and not any(sign in path for sign in ("digits", "emoji-scenes", "{")):
        raise ValueError(f"{path} does not exist: name a model folder, a run folder or a data set")
    # Captions and labels are the same at every size; a small one keeps the look at the first picture cheap.
    source = open_source(path, resolution=32)
    first = source[0]
    return {
        "holds": "data set",
        "path": path,
        "pictures": len(source),
        "classes": list(source.class_names or ()),
        "captions": source.has_captions,
        "first_caption": first.caption,
        "fingerprint": source.fingerprint(),
    }


def _lines(found: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested findings as name and value, long lists shortened."""
    for key, value in found.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _lines(value, f"{name}.")
        elif isinstance(value, (list, tuple)):
            more = f" and {len(value) - MAX_LISTED} more" if len(value) > MAX_LISTED else ""
            yield (
                name,
                f"{len(value)}: " + ", ".join(map(str, value[:MAX_LISTED])) + more if value else "none",
            )
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif value is not None:
            yield name, f"{value:.6g}" if isinstance(value, float) else str(value)


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
