"""Model folders: a generator with what its condition needs, as tensors and JSON, never as code."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import sgxl_t
from sgxl_t.conditioning.build import CONDITIONS
from sgxl_t.conditioning.class_condition import ClassCondition
from sgxl_t.conditioning.condition import Condition, NoCondition
from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.files.config_json import config_from_value, config_to_dict
from sgxl_t.files.memory import is_out_of_memory, taking_memory
from sgxl_t.files.tensors import write_tensors
from sgxl_t.files.terminal import visible
from sgxl_t.files.whole import whole_folder
from sgxl_t.model_io.model_card import model_card
from sgxl_t.networks.condition_input import check_condition
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.weights.modest import is_modest
from sgxl_t.networks.weights.stored import read_json, write_json
from sgxl_t.networks.weights.stored_tensors import LARGER_MACHINE, read_fitting, stored_shapes

FORMAT = 1
CONFIG, WEIGHTS, LABELS, TEXT_ENCODER = "config.json", "generator.safetensors", "labels.json", "text_encoder"
CARD, METRICS = "README.md", "metrics.json"
DTYPES = {"float32": torch.float32, "float16": torch.float16}
RESTORE = "restore it, or name another folder"


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a model folder says about itself."""

    folder: Path
    """Where it lies."""
    generator: GeneratorConfig
    """Sizes of the generator."""
    condition: ConditionSpec
    """What conditions it."""
    class_names: tuple[str, ...] = ()
    """Names by label; empty unless the condition is a class."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data, features, seed and licence as the run wrote them."""
    metrics: Mapping[str, Any] | None = None
    """Measured numbers with their protocol."""
    version: str = ""
    """Version of sgxl_t that wrote the folder."""


def save_model(
    folder: str | Path,
    generator: nn.Module,
    condition: Condition,
    provenance: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    parents: bool = True,
) -> Path:
    """Writes a model folder aside and moves it into place; returns its path.

    generator: normally the moving average. provenance: JSON values; the card shows `data`, `features`, `seed`
    and `licence`. dtype float16 halves the file; a weight beyond its range is a ValueError.
    parents: make the folders above that are missing.
    """
    assert isinstance(generator, Generator)
    folder = Path(folder)
    tensors = _storable(generator.state_dict(), DTYPES[dtype])
    count = sum(parameter.numel() for parameter in generator.parameters())
    config = {
        "format": FORMAT,
        "library": "sgxl_t",
        "version": sgxl_t.__version__,
        "generator": config_to_dict(generator.config),
        "condition": config_to_dict(condition.spec),
        "provenance": dict(provenance),
    }
    with whole_folder(folder, mark=CONFIG, parents=parents) as aside:
        write_tensors(aside / WEIGHTS, tensors, {"format": "pt"})
        write_json(aside / CONFIG, config)
        if isinstance(condition, ClassCondition):
            write_json(aside / LABELS, {"names": list(condition.names)})
        if isinstance(condition, TextCondition):
            condition.encoder.save_text(aside / TEXT_ENCODER)
        condition.save(aside)
        if metrics is not None:
            write_json(aside / METRICS, dict(metrics))
        names = condition.names if isinstance(condition, ClassCondition) else ()
        card = model_card(
            folder.resolve().name, generator.config, condition.spec, count, provenance, metrics, names
        )
        (aside / CARD).write_text(card, encoding="utf-8")
    return folder


def load_model(folder: str | Path) -> tuple[Generator, Condition, ModelInfo]:
    """Generator (float32, eval mode, on the CPU), its condition, and what the folder says.

    Raises ValueError of one sentence for anything missing, unknown, truncated or differently shaped.
    """
    folder = Path(folder)
    info = read_info(folder)
    modest = _is_modest(info)
    # Without memory first, so that sizes cannot exhaust it, unless they are too small to.
    with taking_memory(f"the model in {folder}", LARGER_MACHINE):
        with nullcontext() if modest else torch.device("meta"):
            generator = _fresh(info)
        tensors = read_fitting(folder / WEIGHTS, generator.state_dict(), way_out=RESTORE)
        if not modest:
            generator = _fresh(info)
        generator.load_state_dict(tensors, strict=True)
    generator.eval().requires_grad_(False)
    return generator, _load_condition(info), info


def read_info(folder: str | Path) -> ModelInfo:
    """The JSON files of a model folder, checked; no weights are read."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: name a model folder, such as RUN/best")
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder} holds no {CONFIG}: name a model folder, such as RUN/best")
    data = read_json(folder / CONFIG, way_out=RESTORE)
    if (stated := data["format"].integer(0, 10**6)) != FORMAT:
        raise data["format"].error(
            f"is {stated} and this version reads format {FORMAT}; another version of sgxl-t may read it"
        )
    spec = config_from_value(ConditionSpec, data["condition"])
    try:
        check_condition(spec)
    except ValueError as error:
        raise data["condition"].error(f"describes no condition ({error})") from None
    metrics = read_json(folder / METRICS, way_out=RESTORE) if (folder / METRICS).exists() else None
    version = data.get("version")
    return ModelInfo(
        folder=folder,
        generator=config_from_value(GeneratorConfig, data["generator"]),
        condition=spec,
        class_names=_read_labels(folder, spec) if spec.kind == "class" else (),
        provenance=data["provenance"].group(),
        metrics=None if metrics is None else metrics.group(),
        version="" if version is None else version.text(),
    )


def weight_shapes(folder: str | Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored tensors by name, from the file's header."""
    return stored_shapes(Path(folder) / WEIGHTS, RESTORE)


def _storable(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    tensors = {}
    for name, tensor in state.items():
        stored = tensor.detach().cpu()
        if stored.is_floating_point():
            stored = stored.to(dtype)
            if not bool(torch.isfinite(stored).all()):
                raise ValueError(
                    f"tensor {name} holds numbers that are not finite as {str(dtype)[6:]}: "
                    "store float32, or go back to an earlier checkpoint"
                )
        tensors[name] = stored
    return tensors


def _fresh(info: ModelInfo) -> Generator:
    """What the configuration describes. Every start value is going to be overwritten; the seed keeps the
    caller's random state untouched."""
    try:
        return build_generator(info.generator, info.condition, seed=0)
    except (ArithmeticError, RuntimeError, LookupError, TypeError, ValueError, MemoryError) as error:
        if is_out_of_memory(error):
            raise
        reason = visible(" ".join(str(error).split()))[:200]
        raise ValueError(
            f"{info.folder / CONFIG} describes a generator that cannot be built ({reason})"
        ) from None


def _is_modest(info: ModelInfo) -> bool:
    """See `modest.py`; alias-free generators have further sizes that follow from their frequencies."""
    if info.generator.family != "stylegan_t":
        return False
    described = asdict(info.generator) | asdict(info.condition)
    del described["stylegan3"]  # sizes of the other family, which nothing is built from
    return is_modest(described)


def _read_labels(folder: Path, spec: ConditionSpec) -> tuple[str, ...]:
    stored = read_json(folder / LABELS, way_out=RESTORE)["names"]
    names = tuple(name.text() for name in stored.rows())
    if len(names) != spec.num_classes:
        raise stored.error(f"has {len(names)} entries and {CONFIG} speaks of {spec.num_classes} classes")
    return names


def _load_condition(info: ModelInfo) -> Condition:
    if info.condition.registered:
        if info.condition.registered not in CONDITIONS:
            raise ValueError(
                f"{info.folder} has the condition {visible(info.condition.registered)!r}, which is not "
                "registered here: import the module that registers it first"
            )
        return CONDITIONS[info.condition.registered](None, info.folder)
    if info.condition.kind == "none":
        return NoCondition()
    if info.condition.kind == "class":
        return ClassCondition(info.class_names, dim=info.condition.dim)
    from sgxl_t.networks.frozen import load_stored_text

    folder = info.folder / TEXT_ENCODER
    if not folder.is_dir():
        raise ValueError(f"{folder} is missing, which a text model needs: restore it, or name another folder")
    encoder = load_stored_text(folder)
    if encoder.dim != info.condition.dim:
        raise ValueError(
            f"{folder} gives features of {encoder.dim} numbers and the generator takes {info.condition.dim}: "
            "restore the folder"
        )
    tokens = info.condition.token_dim
    if tokens and encoder.token_dim != tokens:
        raise ValueError(
            f"{folder} gives tokens of {encoder.token_dim} numbers and the generator takes {tokens}: "
            "restore the folder"
        )
    return TextCondition(encoder, tokens=tokens > 0, picture_dim=info.condition.picture_dim)
