"""A generator of ours from the generator of a published file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sgxl_t.files.pickles.storages import StoredTensor
from sgxl_t.files.pickles.tree import Module, tensors_of
from sgxl_t.files.pickles.values import RefusedError
from sgxl_t.model_io.published.layers import fit_config, read_layers
from sgxl_t.model_io.published.names import generator_from_official
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.registry import build_generator

Shapes = dict[str, tuple[int, ...]]

CLASSES = ("Generator", "SuperresGenerator")


def read_generator(module: Module, *, limit: int) -> Generator:
    """The stored generator with its weights, float32, in eval mode, on the CPU.

    limit: bytes of the file, which its tensors cannot exceed. RefusedError where layers, sizes or tensors
    contradict each other.
    """
    if module.kind not in CLASSES:
        raise RefusedError(
            f"holds a {module.kind[:60]!r} as {module.where}, which is not a generator of either release"
        )
    synthesis, mapping = module.child("synthesis"), module.child("mapping")
    layers = read_layers(synthesis)
    condition = _condition(mapping)
    config = _with_mapping(fit_config(synthesis, layers), mapping, condition)
    _check_input(synthesis.child("input"), config, layers[0].spec.in_cutoff)
    stored = tensors_of(module, limit=limit)
    with torch.device("meta"):  # shapes alone, so that nothing is read to compare them
        empty = {name: torch.empty(tensor.shape) for name, tensor in stored.items()}
    named = shapes_of(generator_from_official(empty, condition))
    generator = build_fitting(config, condition, named, module.where)
    state = {name: tensor.read().float() for name, tensor in stored.items()}
    generator.load_state_dict(generator_from_official(state, condition), assign=True)
    return generator.eval().requires_grad_(False)


def build_fitting(config: GeneratorConfig, condition: ConditionSpec, stored: Shapes, where: str) -> Generator:
    """A generator without memory for its weights, whose tensors are exactly the stored ones."""
    try:
        with torch.device("meta"):
            generator = build_generator(config, condition)
    except (ValueError, RuntimeError, ArithmeticError) as error:
        raise RefusedError(f"describes a generator that cannot be built ({error})") from None
    check_shapes(shapes_of(generator.state_dict()), stored, where)
    return generator


def shapes_of(tensors: Mapping[str, Tensor | StoredTensor]) -> Shapes:
    """The shapes of tensors by name."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def check_shapes(wanted: Shapes, stored: Shapes, where: str) -> None:
    """Raises RefusedError with the first tensor that is missing, unknown or of another shape."""
    for name, shape in wanted.items():
        if name not in stored:
            raise RefusedError(f"lacks the tensor {where}.{name}")
        if stored[name] != shape:
            raise RefusedError(
                f"holds {where}.{name} with shape {list(stored[name])} where {list(shape)} belongs"
            )
    for name in stored:
        if name not in wanted:
            raise RefusedError(f"holds the unknown tensor {where}.{name[:120]}")


def _condition(mapping: Module) -> ConditionSpec:
    """Classes when the averages of w are kept per class; else none, whatever table lies unused beside it."""
    average = mapping.own_tensors().get("w_avg")
    if average is None or len(average.shape) not in (1, 2):
        raise RefusedError(f"holds no averages of w in {mapping.where}")
    if len(average.shape) == 1:
        return ConditionSpec()
    table = mapping.child("embed").own_tensors().get("weight")
    if table is None or len(table.shape) != 2:
        raise RefusedError(f"holds no class table in {mapping.where}")
    return ConditionSpec(kind="class", dim=table.shape[1], num_classes=average.shape[0])


def _with_mapping(config: GeneratorConfig, mapping: Module, condition: ConditionSpec) -> GeneratorConfig:
    weights = {
        name: mapping.child(name).own_tensors().get("weight")
        for name in mapping.children()
        if name == "embed_proj" or name.startswith("fc")
    }
    shapes = {name: value.shape for name, value in weights.items() if value is not None}
    if "fc0" not in shapes or any(len(shape) != 2 for shape in shapes.values()):
        raise RefusedError(f"holds no layers from z to w in {mapping.where}")
    projected = shapes["embed_proj"][0] if condition.kind == "class" and "embed_proj" in shapes else 0
    sizes = replace(
        config.stylegan3,
        w_dim=shapes["fc0"][0],
        mapping_layers=sum(name.startswith("fc") for name in shapes),
        embed_proj_dim=projected or config.stylegan3.embed_proj_dim,
    )
    return replace(config, z_dim=shapes["fc0"][1] - projected, stylegan3=sizes)


def _check_input(source: Module, config: GeneratorConfig, bandwidth: float) -> None:
    """The Fourier input stands where the first layer begins."""
    sizes = config.stylegan3
    side, rate = source.side("size"), source.number("sampling_rate")
    if side != rate + 2 * sizes.margin_size or abs(source.number("bandwidth") - bandwidth) > 1e-6 * bandwidth:
        raise RefusedError(f"stores a size or bandwidth in {source.where} that its first layer does not take")
