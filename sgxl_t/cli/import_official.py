"""`sgxl-t import`: a pickle of the StyleGAN-XL or StyleGAN-T release to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sgxl_t.files.terminal import say, say_json

if TYPE_CHECKING:
    from sgxl_t.networks.generators.generator import Generator

EXAMPLES = """\b
Examples:
  sgxl-t import imagenet256.pkl models/imagenet256
  sgxl-t import ffhq1024.pkl models/ffhq1024 --dtype float16
  sgxl-t import cifar10.pkl models/cifar10 --training-state"""

MAX_LABEL_BYTES = 4 * 2**20


@click.command(name="import", epilog=EXAMPLES)
@click.argument("file")
@click.argument("dest")
@click.option(
    "--training-state",
    is_flag=True,
    help="Also write DEST/training, a run folder that continues with the file's G, D and counters.",
)
@click.option("--labels", metavar="TXT", help="Class names, one a line, in the order of the labels.")
@click.option("--licence", metavar="NAME", help="Licence of the weights for the card, such as cc-by-4.0.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the stored numbers; float16 halves the folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was imported as JSON.")
def import_official(
    file: str,
    dest: str,
    training_state: bool,
    labels: str | None,
    licence: str | None,
    dtype: str,
    as_json: bool,
) -> None:
    """Turn FILE, a pickle of the StyleGAN-XL or StyleGAN-T release, into the model folder DEST.

    The pickle is read as data and nothing inside is ever run: tensors and plain values are taken, all else is
    ignored, and a file that lacks one the generator needs is refused. Kernels, filters, padding,
    clamps and names of layers come from the file.
    """
    from sgxl_t.files.regular import open_regular
    from sgxl_t.model_io.published.file import read_official

    names = None if labels is None else _names(Path(labels))
    with open_regular(file) as source:
        stored = read_official(file, source)
        # Imported here: a file of another kind is refused before all libraries are loaded.
        from sgxl_t.model_io.model_folder import save_model
        from sgxl_t.model_io.published.importer import (
            check_training_state,
            condition_for,
            import_discriminator,
            import_generator,
            import_text_encoder,
            provenance,
        )

        generator = import_generator(stored)
        encoder = import_text_encoder(stored)
        condition = condition_for(generator.condition, names, stored.data_name(), encoder)
        facts = provenance(stored, generator, licence)
        trained, discriminator = None, None
        if training_state:  # everything is read before anything is written
            progress = check_training_state(stored, generator)
            trained = import_generator(stored, which="G")
            discriminator = import_discriminator(stored, generator.condition)
        save_model(dest, generator, condition, facts, dtype="float16" if dtype == "float16" else "float32")
    notes: list[str] = []
    if trained is not None and discriminator is not None:
        from sgxl_t.training.checkpoint.official_state import write_training_state

        run = Path(dest) / "training"
        notes = write_training_state(run, trained, generator, discriminator, progress)
        notes.append(f"continue: scripts/train.py --config {run}/run.yaml --run-dir {run} --data.source DATA")
    _report(dest, generator, facts["licence"], notes, as_json=as_json)


def _report(dest: str, generator: Generator, licence: str, notes: list[str], *, as_json: bool) -> None:
    kind, classes = generator.condition.kind, generator.condition.num_classes
    report = {
        "model": dest,
        "resolution": generator.img_resolution,
        "layers": generator.num_ws - 1,
        "condition": kind,
        "classes": classes,
        "parameters": sum(parameter.numel() for parameter in generator.parameters()),
        "licence": licence,
        "notes": notes,
    }
    if as_json:
        say_json(report)
        return
    condition = {"class": f"{classes} classes", "text": "text"}.get(kind, "no condition")
    size = f"{generator.img_resolution} x {generator.img_resolution} pixels, {report['layers']} layers"
    say(f"{dest}: {size}, {report['parameters']:,} parameters, {condition}")
    for note in [f"licence of the weights: {licence}", *notes]:
        say(f"  {note}")


def _names(path: Path) -> list[str]:
    from sgxl_t.files.regular import read_regular

    try:
        lines = read_regular(path, MAX_LABEL_BYTES).decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: store the class names as such, one a line") from None
    return [line.strip() for line in lines if line.strip()]


globals()["import"] = import_official  # commands are found by their name, which is a keyword here
