"""The page that a model folder carries: what the model is, what it saw, how it was measured."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sgxl_t.files.terminal import visible
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig

FAMILIES = {"stylegan3": "StyleGAN-XL (alias-free)", "stylegan_t": "StyleGAN-T (residual)"}


def model_card(
    name: str,
    config: GeneratorConfig,
    spec: ConditionSpec,
    parameters: int,
    provenance: Mapping[str, Any],
    metrics: Mapping[str, Any] | None,
    class_names: Sequence[str] = (),
) -> str:
    """Markdown with the Hub's front matter.

    provenance: facts by name; `data`, `features`, `seed` and `licence` get a line of their own even when they
    are not known, since a reader would look for them. metrics: numbers with their protocol, nested as wished.
    class_names: of a class model; the first plain one stands in the examples.
    """
    licence = str(provenance.get("licence", "other"))
    front = [
        "---",
        "library_name: sgxl_t",
        f"license: {_yaml(licence)}",
        "tags:",
        f"- {_task(spec)}",
        "- gan",
        "---",
    ]
    size, gray = config.img_resolution, " in gray" if config.img_channels == 1 else ""
    family = FAMILIES.get(config.family, config.family)
    facts = {
        "Generator": f"{family}, {size} x {size} pixels{gray}, {parameters:,} parameters",
        "Condition": _condition(spec),
        "Data": provenance.get("data", "not stated"),
        "Feature networks": provenance.get("features", "not stated"),
        "Seed": provenance.get("seed", "not stated"),
        "Licence of the weights": provenance.get("licence", "not stated; check the licence of the data"),
    }
    lines = [*front, "", f"# {_plain(name)}", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {_cell(value)} |" for key, value in facts.items()]
    rest = {
        key: value for key, value in provenance.items() if key not in ("data", "features", "seed", "licence")
    }
    if rest:
        lines += ["", "## Training", "", "| | |", "|---|---|"]
        lines += [f"| {_plain(key)} | {_cell(value)} |" for key, value in _leaves(rest)]
    lines += ["", "## Numbers", ""]
    if metrics:
        lines += ["Numbers compare only with others of the same protocol.", "", "| | |", "|---|---|"]
        lines += [f"| {_plain(key)} | {_cell(value)} |" for key, value in _leaves(metrics)]
    else:
        lines.append("None were measured.")
    return "\n".join([*lines, "", *_usage(spec, class_names)]) + "\n"


def _usage(spec: ConditionSpec, class_names: Sequence[str]) -> list[str]:
    # Names come from elsewhere: only one that means nothing to a shell is written into a command.
    name = next((name for name in class_names if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name)), "0")
    call = {"text": '"a red fox in snow", ', "class": f'"{name}", ', "none": ""}[spec.kind]
    option = {"text": ' "a red fox in snow"', "class": f" --class {name}", "none": ""}[spec.kind]
    return [
        "## Use",
        "",
        "```python",
        "import sgxl_t",
        "",
        'pipe = sgxl_t.Pipeline.from_pretrained("THIS_FOLDER_OR_HUB_ID")',
        f"pipe({call}seed=1, psi=0.7).images[0]",
        "```",
        "",
        "```",
        f"sgxl-t sample{option} --model THIS_FOLDER_OR_HUB_ID --seeds 0-7 --grid grid.png",
        "```",
    ]


def _task(spec: ConditionSpec) -> str:
    return "text-to-image" if spec.kind == "text" else "unconditional-image-generation"


def _condition(spec: ConditionSpec) -> str:
    return {
        "text": f"text, features of {spec.dim} numbers"
        + (f" and tokens of {spec.token_dim}" if spec.token_dim else ""),
        "class": f"{spec.num_classes} classes, vectors of {spec.dim} numbers",
        "none": "none",
    }[spec.kind]


def _leaves(group: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in group.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item) for item in value)
    return _plain(value)


def _plain(text: object) -> str:
    """Text from elsewhere on one line that stays text in Markdown and in the HTML made of it: no tags, links,
    images or code, and nothing that ends a cell."""
    shown = visible(" ".join(str(text).replace("|", "/").split()))
    return re.sub(r"[\\`\[\]*]", r"\\\g<0>", html.escape(shown, quote=False))


def _yaml(text: str) -> str:
    plain = text.lower()
    return plain if plain.replace("-", "").replace(".", "").isalnum() and plain.isascii() else "other"
