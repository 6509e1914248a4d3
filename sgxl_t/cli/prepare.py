"""`sgxl-t prepare`: pictures of any layout to a StyleGAN zip or webdataset shards."""

from __future__ import annotations

import click

EXAMPLES = """\b
Examples:
  sgxl-t prepare photos photos64.zip --resolution 64
  sgxl-t prepare coco/val2014 coco256.zip --resolution 256 --captions captions_val2014.json
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
@click.option("--max-images", type=int, metavar="N", help="At most N pictures, a seeded choice.")
@click.option(
    "--captions", metavar="FILE", help="Table (jsonl, csv, tsv, parquet) or COCO file for a folder."
)
@click.option("--split", default="train", show_default=True, metavar="NAME", help="Split of SRC.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of --max-images.")
@click.option(
    "--min-side", type=int, default=8, show_default=True, metavar="PX", help="Reject smaller pictures."
)
@click.option(
    "--reject-limit",
    type=float,
    default=0.1,
    show_default=True,
    help="Stop above this share of rejects, 0 to 1.",
)
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
    seed: int,
    min_side: int,
    reject_limit: float,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Turn SRC into DEST: a .zip, or a folder of .tar shards.

    SRC is a folder of pictures (flat, one folder per class, or with captions beside them or in a table), a
    zip, shards, or an embedded set such as emoji-scenes:24x8. Pictures are turned upright, put on white,
    cropped to the centre square and resized. What cannot be used is left out, counted and listed in a file.
    """
    from sgxl_t.datasets.base import open_source
    from sgxl_t.datasets.prepare import write_dataset

    source = open_source(
        src,
        resolution=resolution,
        split=split,
        reject_limit=reject_limit,
        captions=captions,
        min_side=min_side,
    )
    report = write_dataset(
        source,
        dest,
        format=format_name or ("zip" if dest.lower().endswith(".zip") else "shards"),
        max_images=max_images,
        seed=seed,
        overwrite=overwrite,
    )
    if as_json:
        click.echo(report.as_json())
        return
    what = [f"{report.images} pictures of {resolution} x {resolution}"]
    what += [f"{report.classes} classes"] if report.classes else []
    what += ["captions"] if report.captions else []
    click.echo(f"{report.destination}: {', '.join(what)}")
    for note, count in report.notes.items():
        click.echo(f"  {count} x {note}")
    if report.rejected:
        click.echo(f"  {report.rejected} rejected, listed in {report.rejects_file}:")
        for reason, count in report.reasons.items():
            click.echo(f"    {count} x {reason}")
