"""`sgxl-t centroids`: centres of styles, stored in the model folder for `sample --truncation centroid`."""

from __future__ import annotations

from typing import Any

import click

from sgxl_t.files.terminal import say, say_json

EXAMPLES = """\b
Examples:
  sgxl-t centroids runs/class-digits/best
  sgxl-t centroids imagenet256 --count 10000 --draws 600000
  sgxl-t centroids imagenet256 --by class --count 10"""


@click.command(epilog=EXAMPLES)
@click.argument("model")
@click.option(
    "--count",
    type=int,
    metavar="K",
    help="Centres in all, or per class with --by class [default: 10 per class; 10 without classes].",
)
@click.option(
    "--by",
    type=click.Choice(["all", "class"]),
    default="all",
    show_default=True,
    help="Group the styles of all classes together, or those of each class apart.",
)
@click.option(
    "--draws",
    type=int,
    metavar="N",
    help="Styles that are drawn, in all or per class [default: 60 per centre].",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draws and first centres.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps [default: cuda where there is one].")
@click.option("--overwrite", is_flag=True, help="Replace centres that were made with other settings.")
@click.option("--json", "as_json", is_flag=True, help="Print how they were made as JSON.")
def centroids(
    model: str,
    count: int | None,
    by: Any,
    draws: int | None,
    seed: int,
    device: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Finds the centres of the styles of MODEL, a model folder or a run folder, and stores them in it.

    `sgxl-t sample --psi 0.7 --truncation centroid` then pulls each image to the centre nearest to it, which
    makes it typical without making all images alike. The stages grown from one stem share their centres:
    copy centroids.safetensors from one model folder to the next. Centres of other settings are replaced only
    with --overwrite; centres that no longer fit the model always are.
    """
    from sgxl_t.model_io.model_folder import load_model
    from sgxl_t.model_io.run_model import model_in
    from sgxl_t.ops.device import choose_device
    from sgxl_t.sampling.asked_numbers import check_seeds
    from sgxl_t.sampling.output.image_files import check_writable
    from sgxl_t.sampling.truncation.centroids import check_replaceable, compute_centroids, save_centroids

    check_seeds(seed)
    generator, _, info = load_model(model_in(model))
    check_writable(info.folder)
    if not overwrite:
        check_replaceable(info.folder, generator, count, by=by, draws=draws, seed=seed)
    generator = generator.to(choose_device(device))
    found = compute_centroids(generator, count, by=by, draws=draws, seed=seed, progress=not as_json)
    path = save_centroids(info.folder, found, generator)
    if as_json:
        say_json({"file": str(path), "centres": len(found.vectors), **found.facts})
        return
    per = f" ({found.facts['count']} per class)" if by == "class" else ""
    say(f"wrote {path}: {len(found.vectors)} centres{per}")
    say(f"  mean squared distance of a style from its nearest: {found.facts['mean_square']:.4g}")
