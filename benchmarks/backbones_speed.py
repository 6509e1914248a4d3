"""Times a discriminator's frozen networks: precision, layout, stopping at the last tap, gradients of weights.

    taskset -c 1 env OMP_NUM_THREADS=1 python benchmarks/backbones_speed.py [--json FILE] [--markdown FILE]

Networks of timm with random weights, images of 224 pixels or --side. All forms of a network take turns in one
process, A B C A B C, and every time is compared with that of the plain float32 form in the same turn: medians
and quartiles of these ratios. One thread reads the CPU time of the process, which other programs move little;
a GPU is waited for. An update is what a training step asks of a network: a pass of real and generated images
without gradients, one of generated images and back to them. Beside the times stands the error of every form
against float32, in the Euclidean norm: of its worst map, and of the images' gradient.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgxl_t.bench.timing import clock_name, timed
from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.frozen import load_feature_network

NETWORKS = {
    "DeiT-base distilled": "deit_base_distilled_patch16_224",
    "EfficientNet-lite0": "tf_efficientnet_lite0",
    "DINO ViT-S/16": "vit_small_patch16_224",
    "MobileNetV3-small": "mobilenetv3_small_100",
}
REFERENCE = "float32"
Read = Callable[[Tensor], list[Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="images in a pass")
    parser.add_argument("--side", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--turns", type=int, default=7, help="turns of every form")
    parser.add_argument("--only", default="", help="part of a network's name")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--markdown", type=Path, help="file to write")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for label, name in NETWORKS.items():
        if options.only in label:
            forms = forms_of(name, options.device)
            for batch in options.batch:
                shape, rng = (batch, 3, options.side, options.side), torch.Generator().manual_seed(0)
                images = torch.rand(shape, generator=rng).to(options.device)
                rows += compare(label, forms, images, options.turns)
    table = as_markdown(rows)
    print(table)
    if options.markdown:
        options.markdown.write_text(table + "\n")
    if options.json:
        machine = {"machine": platform.machine(), "torch": torch.__version__, "device": options.device}
        result = {**machine, "threads": torch.get_num_threads(), "rows": rows}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def forms_of(name: str, device: str) -> dict[str, Read]:
    """The network as a discriminator holds it in float32, and the other forms of it."""
    whole = load_feature_network(f"random:{name}").to(device)
    plain, half, learning = (copy.deepcopy(whole) for _ in range(3))
    for network in (plain, half, learning):
        network.trim()
    half.precision = "bf16"
    for parameter in learning.backbone.parameters():
        parameter.requires_grad_(True)
    forms: dict[str, Read] = {REFERENCE: plain.maps, "bfloat16": half.maps}
    if plain.kind == "cnn":
        forms["float32, NCHW"] = channels_first(plain)
    return {**forms, "float32, whole": to_the_end(whole), "float32, weights learn": learning.maps}


def channels_first(network: FeatureNetwork) -> Read:
    """The same network in torch's usual layout."""
    twin = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    return lambda images: twin.backbone.maps((images - twin.mean) / twin.std)


def to_the_end(network: FeatureNetwork) -> Read:
    """The same maps from a network that runs on to its class scores."""
    model: Any = network.backbone.model
    taps = list(getattr(network.backbone, "levels", network.backbone.default_taps))

    def read(images: Tensor) -> list[Tensor]:
        last, maps = model.forward_intermediates(network.normalise(images), indices=taps)
        model.forward_head(last)
        return maps

    return read


def forward(read: Read, images: Tensor) -> None:
    """Real images of the discriminator's phase."""
    with torch.no_grad():
        read(images)


def there_and_back(read: Read, images: Tensor) -> Tensor:
    """Generated images of the generator's phase; returns their gradient."""
    images = images.clone().requires_grad_()
    torch.stack([x.float().square().mean().sqrt() for x in read(images)]).sum().backward()
    assert images.grad is not None
    return images.grad


def update(read: Read, images: Tensor) -> None:
    """Both phases of a training step."""
    there_and_back(read, images)
    forward(read, torch.cat([images, images]))


MODES: dict[str, Callable[[Read, Tensor], object]] = {
    "forward": forward,
    "forward + backward": there_and_back,
    "update": update,
}


def compare(label: str, forms: dict[str, Read], images: Tensor, turns: int) -> list[dict[str, Any]]:
    """One row for every form and mode."""
    errors = {name: error(read, forms[REFERENCE], images) for name, read in forms.items()}
    clock = clock_name(images.device, torch.get_num_threads())
    rows = []
    for mode, work in MODES.items():
        times: dict[str, list[float]] = {name: [] for name in forms}
        for turn in range(turns + 1):  # the first one warms up
            for name, read in forms.items():
                milliseconds = timed(partial(work, read, images), clock)
                if turn:
                    times[name].append(milliseconds)
        rows += [
            {"network": label, "batch": len(images), "mode": mode, "form": name, **errors[name], **figures}
            for name, figures in ((name, ratios(times, name)) for name in forms)
        ]
        print(label, len(images), mode, {row["form"]: row["ratio"] for row in rows if row["mode"] == mode})
    return rows


def error(read: Read, reference: Read, images: Tensor) -> dict[str, float]:
    """Relative, of the worst map and of the images' gradient."""
    with torch.no_grad():
        pairs = list(zip(read(images), reference(images), strict=True))
    pairs = [(x.double(), y.double()) for x, y in pairs]
    slopes = [there_and_back(form, images).double() for form in (read, reference)]
    return {
        "map_error": max(((x - y).norm() / y.norm()).item() for x, y in pairs),
        "gradient_error": ((slopes[0] - slopes[1]).norm() / slopes[1].norm()).item(),
    }


def ratios(times: dict[str, list[float]], name: str) -> dict[str, float]:
    """Median milliseconds; how many times as fast as the reference, with quartiles over turns."""
    speeds = [a / b for a, b in zip(times[REFERENCE], times[name], strict=True)]
    low, middle, high = statistics.quantiles(speeds, n=4)
    return {
        "ms": round(statistics.median(times[name]), 2),
        "ratio": round(middle, 3),
        "ratio_low": round(low, 3),
        "ratio_high": round(high, 3),
    }


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """A line for every form of a network and batch, a column for every mode."""
    lines = ["| network | batch | form | " + " | ".join(MODES) + " | error of maps, gradient |"]
    lines.append("|---|--:|---|" + "--:|" * (len(MODES) + 1))
    kinds = dict.fromkeys((row["network"], row["batch"], row["form"]) for row in rows)
    for kind in kinds:
        found = [row for row in rows if (row["network"], row["batch"], row["form"]) == kind]
        if kind[2] == REFERENCE:
            cells = [f"{row['ms']:.0f} ms" for row in found]
        else:
            cells = [f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})" for row in found]
        errors = f"{found[0]['map_error']:.0e}, {found[0]['gradient_error']:.0e}"
        lines.append(f"| {kind[0]} | {kind[1]} | {kind[2]} | " + " | ".join([*cells, errors]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
