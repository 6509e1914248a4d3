"""Entrance of a condition into a network: labels become rows of a table, text features pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sgxl_t.networks.configs import ConditionSpec


class ClassTable(nn.Embedding):
    """Trainable class embeddings [num_classes, dim]; starts as N(0, 1) until pretrained rows are copied in.

    StyleGAN-XL, section 3.1: rows are the pooled features of a pretrained network, averaged over each class.
    """


def make_class_table(spec: ConditionSpec) -> ClassTable | None:
    """The table that a network owns under the name `embed`; None unless the condition is a class."""
    check_condition(spec)
    return ClassTable(spec.num_classes, spec.dim) if spec.kind == "class" else None


def set_class_table(network: nn.Module, rows: Tensor) -> int:
    """Copies rows [num_classes, dim] into every class table inside `network`; returns how many there were."""
    tables = [module for module in network.modules() if isinstance(module, ClassTable)]
    for table in tables:
        if table.weight.shape != rows.shape:
            raise ValueError(
                f"class embeddings of shape {tuple(rows.shape)} do not fit a table of "
                f"{tuple(table.weight.shape)}: compute them for the same classes and the same feature network"
            )
        with torch.no_grad():
            table.weight.copy_(rows)
    return len(tables)


def check_condition(spec: ConditionSpec) -> None:
    """Raises ValueError where the sizes do not belong to the kind of condition."""
    if spec.kind not in ("class", "text", "none"):
        raise ValueError(f"condition kind {spec.kind!r} is unknown: use class, text or none")
    if spec.kind != "none" and spec.dim < 1:
        raise ValueError(f"condition kind {spec.kind} with dim={spec.dim}: give a positive width")
    if spec.kind == "class" and spec.num_classes < 1:
        raise ValueError(f"condition kind class with num_classes={spec.num_classes}: give at least one class")
    if spec.token_dim < 0 or (spec.token_dim > 0 and spec.kind != "text"):
        raise ValueError(
            f"condition kind {spec.kind} with token_dim={spec.token_dim}: text alone has tokens, use 0"
        )
    if spec.picture_dim < 0 or (spec.picture_dim > 0 and spec.kind != "text"):
        raise ValueError(
            f"condition kind {spec.kind} with picture_dim={spec.picture_dim}: pictures stand beside captions "
            "alone, use 0"
        )


def condition_vectors(spec: ConditionSpec, table: ClassTable | None, c: Tensor | None) -> Tensor | None:
    """The float vectors [N, dim] that condition c stands for; None when unconditional.

    c: int64 labels [N] for class, float features [N, dim] for text, None for none (see ConditionSpec).
    """
    if spec.kind == "none":
        if c is not None:
            raise ValueError("an unconditional network was given a condition: pass None")
        return None
    if c is None:
        needed = "pass int64 labels [N]" if spec.kind == "class" else f"pass text features [N, {spec.dim}]"
        raise ValueError(f"a network conditioned on {spec.kind} was called without a condition: {needed}")
    if spec.kind == "class":
        assert table is not None
        if c.ndim != 1 or c.is_floating_point():
            raise ValueError(
                f"labels of shape {tuple(c.shape)} and type {c.dtype} were given: pass int64 [N]"
            )
        return table(c)
    if c.ndim != 2 or c.shape[1] != spec.dim:
        raise ValueError(f"text features of shape {tuple(c.shape)} were given: pass float [N, {spec.dim}]")
    return c if spec.scale == 1 else c * spec.scale


class ConditionInput(nn.Module):
    """Owns the class table (state name `embed`) and turns a condition into vectors [N, out_dim]."""

    def __init__(self, spec: ConditionSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embed = make_class_table(spec)

    @property
    def out_dim(self) -> int:
        """Width of the vectors; 0 when unconditional."""
        return 0 if self.spec.kind == "none" else self.spec.dim

    def forward(self, c: Tensor | None) -> Tensor | None:
        """c as in ConditionSpec -> float [N, out_dim], or None when unconditional."""
        return condition_vectors(self.spec, self.embed, c)
