"""`sgxl-t info`: what a model folder, feature network, run folder or data set holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sgxl_t.cli.pipes import allow_pipe_option, shard_options
from sgxl_t.files.regular import read_regular
from sgxl_t.files.terminal import say, say_json
from sgxl_t.files.untrusted import Value

if TYPE_CHECKING:
    from PIL import Image

    from sgxl_t.datasets.base import ImageSource

MAX_LISTED = 12
MAX_SETTINGS = 2**20
"""Bytes of a run's configuration that are read."""
SHEET_SIDE, SHEET_COLUMNS, SHEET_ROWS = 128, 8, 8
"""Pictures on a sheet: their side in pixels, and how many at most."""

EXAMPLES = """\b
Examples:
  sgxl-t info runs/a
  sgxl-t info laion --sheet laion.png
  sgxl-t info "laion/{00000..00099}.tar" --examine 20000 --json"""


@click.command(epilog=EXAMPLES)
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--sheet", metavar="FILE", help="Write a sheet of images of a data set.")
@click.option(
    "--examine",
    type=click.IntRange(1),
    default=2000,
    show_default=True,
    metavar="N",
    help="Samples of shards to decode, or pictures to take the sizes of, evenly spaced.",
)
@allow_pipe_option
def info(path: str, as_json: bool, sheet: str | None, examine: int, allow_pipe: bool) -> None:
    """Says what PATH holds: a model, feature network, run, run with stages or data set (also digits).

    For shards, all samples are counted and some are decoded for sizes, lengths of captions and reasons of
    rejection. At the end stands what was rejected, repaired, or found and not used.
    """
    found = describe(path, sheet=sheet, examine=examine, allow_pipe=allow_pipe)
    if as_json:
        say_json(found)
        return
    for line in found.pop("drawing", ()):
        say(line)
    if found["holds"] == "chain":  # drawn already
        del found["stages"]
    left_out = found.pop("left_out", ())
    for name, value in _lines(found):
        say(f"{name:28} {value}")
    for line in left_out:
        say(line)


def describe(
    path: str, *, sheet: str | None = None, examine: int = 2000, allow_pipe: bool = False
) -> dict[str, Any]:
    """Everything the command prints, as JSON values; ValueError when the path holds none of these.

    sheet: file for images of a data set. examine: samples of shards to decode. allow_pipe: run the commands
    that a list of shards names.
    """
    other = _not_data(Path(path))
    if other is None:
        return _data(path, sheet, examine, allow_pipe)
    if sheet is not None:
        raise ValueError(
            f"--sheet {sheet} needs a data set, and {path} holds a {other['holds']}: leave it out"
        )
    return other


def _not_data(folder: Path) -> dict[str, Any] | None:
    if (folder / "generator.safetensors").is_file() or _config_has(folder, "generator"):
        return _model(folder)
    if _config_has(folder, "kind"):
        return _feature_network(folder)
    if (folder / "chain.json").is_file():
        return _chain(folder)
    if (folder / "config.yaml").is_file():
        return _run(folder)
    return None


def _config_has(folder: Path, key: str) -> bool:
    if not (folder / "config.json").is_file():
        return False
    from sgxl_t.networks.weights.stored import read_json

    config = read_json(folder / "config.json", way_out="restore it, or name another folder")
    return isinstance(config.raw, dict) and key in config.raw


def _model(folder: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from sgxl_t.model_io.model_folder import read_info, weight_shapes

    about, shapes = read_info(folder), weight_shapes(folder)
    config = asdict(about.generator)
    return {
        "holds": "model",
        "path": str(folder),
        "family": about.generator.family,
        "resolution": about.generator.img_resolution,
        "channels": about.generator.img_channels,
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
    from sgxl_t.networks.weights.stored import read_config

    return {
        "holds": "feature network",
        "path": str(folder),
        "reference": f"local:{folder}",
        **read_config(folder).group(),
    }


def _run(folder: Path) -> dict[str, Any]:
    from sgxl_t.training.callbacks.health import read_health, warnings_on
    from sgxl_t.training.callbacks.stats_file import newest_numbers, read_stats

    config = _settings(folder / "config.yaml")
    condition, data, schedule = (config.get(key) for key in ("cond", "data", "schedule"))
    source = None if data is None else data.get("source")
    planned = None if schedule is None else schedule.get("kimg")
    stats = read_stats(folder / "stats.jsonl")
    checkpoints = sorted(path.name for path in folder.glob("checkpoints/kimg_*"))
    models = [name for name in ("best", "last") if (folder / name / "config.json").is_file()]
    return {
        "holds": "run",
        "path": str(folder),
        "condition": None if condition is None else condition.text(),
        "data": None if source is None else source.text(),
        "planned_kimg": None if planned is None else planned.number(0),
        "trained_kimg": stats[-1].get("images", 0) / 1000 if stats else 0.0,
        "checkpoints": checkpoints,
        "models": models,
        "model": _taken(folder),
        "newest_numbers": newest_numbers(stats),
        "warnings": [entry["text"] for entry in warnings_on(read_health(folder) or [])],
    }


def _taken(folder: Path) -> str | None:
    """The model that commands take which are given the run."""
    from sgxl_t.model_io.run_model import run_model

    model = run_model(folder)
    return None if model is None else str(model)


def _settings(path: Path) -> Value:
    """The configuration of a run, as far as it can be read without what checks it."""
    import yaml

    try:
        config = yaml.safe_load(read_regular(path, MAX_SETTINGS))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not the configuration of a run: restore the file")
    return Value(config, str(path), way_out="restore the file")


def _chain(folder: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from sgxl_t.training.progressive.stages_state import draw_stages, read_stages

    stages = read_stages(folder)
    going = next((stage for stage in stages.stages if stage.state != "finished"), None)
    return {
        "holds": "chain",
        "path": str(folder),
        "drawing": draw_stages(folder, stages),
        "next_stage": "none, all are finished" if going is None else going.title,
        "models": ["best"] if (folder / "best" / "config.json").is_file() else [],
        "model": _taken(folder),
        "stages": {stage.folder: asdict(stage) for stage in stages.stages},
    }


def _data(path: str, sheet: str | None, examine: int, allow_pipe: bool) -> dict[str, Any]:
    from sgxl_t.datasets.images.listed import ListedSource
    from sgxl_t.datasets.open import is_embedded, open_source
    from sgxl_t.datasets.shards.source import ShardSource
    from sgxl_t.datasets.shards.survey import range_of, survey
    from sgxl_t.datasets.shards.tar.opening import is_local

    known = is_embedded(path) or any(sign in path for sign in "{*") or not is_local(path)
    if not known and not Path(path).exists():
        raise ValueError(f"{path} does not exist: name a model folder, a run folder or a data set")
    # Captions and labels are the same at every size; a small one keeps the look at the images cheap. Broken
    # samples are to be shown here, however many there are.
    source = open_source(
        path, resolution=SHEET_SIDE if sheet else 32, reject_limit=1.0, shards=shard_options(allow_pipe)
    )
    count = SHEET_COLUMNS * SHEET_ROWS if sheet else 0
    found: dict[str, Any] = {"holds": "data set", "path": path}
    about = {"classes": list(source.class_names or ()), "captions": source.has_captions}
    if isinstance(source, ShardSource):
        seen = survey(source, examine=examine, images=count)
        found |= {**about, **seen.findings}
        images = seen.images
    else:
        found |= {"pictures": len(source), **about, "first_caption": source[0].caption}
        if isinstance(source, ListedSource):
            sides = list(source.sizes.elements()) or source.image_sizes(examine)
            found |= {"width": range_of([width for width, _ in sides])}
            found |= {"height": range_of([height for _, height in sides])}
        images = _some_images(source, count)
    if sheet is not None:
        found["sheet"] = _write_sheet(images, sheet)
    return {**found, "fingerprint": source.fingerprint(), "left_out": source.rejects.summary()}


def _some_images(source: ImageSource, count: int) -> list[tuple[Image.Image, str]]:
    """At most `count` images, evenly spaced, with their captions."""
    from PIL import Image

    from sgxl_t.datasets.base import evenly_spaced

    samples = (source[number] for number in evenly_spaced(len(source), count))
    return [
        (Image.fromarray(sample.image.permute(1, 2, 0).numpy()), sample.caption or "") for sample in samples
    ]


def _write_sheet(images: list[tuple[Image.Image, str]], file: str) -> str:
    from sgxl_t.cli.contact_sheet import contact_sheet
    from sgxl_t.sampling.output.image_files import save_png

    if not images:
        raise ValueError(f"--sheet {file}: none of the samples can be shown, so leave it out to see why")
    return str(save_png(contact_sheet(images, columns=SHEET_COLUMNS), file))


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
                f"{len(value)}: " + ", ".join(map(_short, value[:MAX_LISTED])) + more if value else "none",
            )
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif value is not None:
            yield name, f"{value:.6g}" if isinstance(value, float) else str(value)


def _short(item: Any) -> str:
    """One of a list; of several findings, those that are known."""
    if not isinstance(item, dict):
        return str(item)
    return " ".join(f"{key}={value}" for key, value in item.items() if value is not None)


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
