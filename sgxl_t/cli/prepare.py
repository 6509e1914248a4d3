"""`sgxl-t prepare`: images of any layout to a StyleGAN zip or webdataset shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sgxl_t.cli.pipes import allow_pipe_option, shard_options
from sgxl_t.files.terminal import say, say_lines

if TYPE_CHECKING:
    from sgxl_t.datasets.prepare import Report

EXAMPLES = """\b
Examples:
  sgxl-t prepare photos photos64.zip --resolution 64 --holdout 0.1
  sgxl-t prepare coco/val2014 coco256.zip --resolution 256 --captions captions_val2014.json
  sgxl-t prepare ILSVRC2012_img_train.tar imagenet256.zip --resolution 256
  sgxl-t prepare imagenet/train imagenet1024.zip --resolution 1024 \\
      --upscale-model caidas/swin2SR-classical-sr-x4-64
  sgxl-t prepare "laion/{00000..00099}.tar" laion64 --resolution 64 --format shards"""


@click.command(epilog=EXAMPLES)
@click.argument("src")
@click.argument("dest")
@click.option("--resolution", type=int, required=True, metavar="R", help="Side in pixels, a power of two.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["zip", "shards"]),
    help="[default: zip for a DEST that ends in .zip, shards otherwise]",
)
@click.option("--max-images", type=int, metavar="N", help="At most N images, a seeded choice.")
@click.option(
    "--captions",
    metavar="FILE",
    help="Table (jsonl, csv, tsv, parquet, json) or COCO file for a folder or zip.",
)
@click.option("--split", default="train", show_default=True, metavar="NAME", help="Split of SRC.")
@click.option(
    "--holdout",
    type=float,
    metavar="SHARE",
    help="Put a share of the pictures aside, such as 0.1, of every class alike: DEST then has the splits "
    "train and test. Training never sees test; `sgxl-t evaluate --split test` measures on it.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of --max-images and --holdout.")
@click.option(
    "--min-side", type=int, default=8, show_default=True, metavar="PX", help="Reject smaller images."
)
@click.option(
    "--reject-limit",
    type=float,
    default=0.1,
    show_default=True,
    help="Stop above this share of rejects, 0 to 1.",
)
@click.option(
    "--upscale-model",
    metavar="NAME",
    help="Folder or Hub id of an image-to-image model of transformers, such as Swin2SR, that enlarges "
    "images smaller than R [default: Lanczos].",
)
@allow_pipe_option
@click.option("--overwrite", is_flag=True, help="Replace an existing DEST.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def prepare(
    src: str,
    dest: str,
    resolution: int,
    format_name: str | None,
    max_images: int | None,
    captions: str | None,
    split: str,
    holdout: float | None,
    seed: int,
    min_side: int,
    reject_limit: float,
    upscale_model: str | None,
    allow_pipe: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Turn SRC into DEST: a .zip, or a folder of .tar shards.

    SRC is a folder of images (flat, one folder per class, or with captions beside them or in a table), a
    zip of one, shards, a tar of one tar per class (ImageNet's training set), or an embedded set such as
    emoji-scenes:24x8. Images are turned upright, put on white, cropped to the centre square and resized.
    What cannot be used is left out, counted and listed in a file. ImageNet's classes get their names.

    One DEST at the highest resolution serves all stages: opened at a lower power of two, its images are
    shrunk by antialiased Lanczos in one step.
    """
    from sgxl_t.datasets.enlarge import Enlarger, ModelEnlarger
    from sgxl_t.datasets.open import open_source
    from sgxl_t.datasets.prepare import Choice, write_dataset

    choice = Choice(max_images, holdout, seed)
    enlarger = Enlarger() if upscale_model is None else ModelEnlarger(upscale_model)
    source = open_source(
        src,
        resolution=resolution,
        split=split,
        reject_limit=reject_limit,
        captions=captions,
        min_side=min_side,
        shards=shard_options(allow_pipe),
    )
    report = write_dataset(
        source,
        dest,
        format=format_name or ("zip" if dest.lower().endswith(".zip") else "shards"),
        choice=choice,
        overwrite=overwrite,
        enlarger=enlarger,
    )
    if as_json:
        say_lines(report.as_json())
    else:
        _say(report)


def _say(report: Report) -> None:
    what = [f"{report.images} pictures of {report.resolution} x {report.resolution}"]
    what += [f"{report.classes} classes"] if report.classes else []
    what += ["captions"] if report.captions else []
    say(f"{report.destination}: {', '.join(what)}")
    if report.enlarged:
        say(f"  {report.enlarged} were smaller and enlarged by {report.enlarged_by}")
    if report.held_out:
        say(
            f"  {report.held_out} of them are put aside as the split test: training never sees them, and "
            f"sgxl-t evaluate MODEL --data {report.destination} --split test measures on them"
        )
    for line in report.summary:
        say(f"  {line}")
    if report.rejects_file is not None:
        say(f"  all {report.rejected} rejected are listed in {report.rejects_file}")
