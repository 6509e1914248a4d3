"""Classes: a trainable vector per class, started from the images themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sgxl_t.conditioning.class_names import ClassNames
from sgxl_t.conditioning.condition import Condition
from sgxl_t.networks.condition_input import set_class_table
from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.configs import ConditionSpec


class ClassCondition(Condition):
    """Classes by label (StyleGAN-XL, section 3.2, "pretrained class embeddings").

    class_names: one name per class.
    table: float32 [num_classes, dim] start values of every class table, for instance from `class_table`;
        None leaves the networks' random start.
    dim: width of one row; needed only without a table.
    """

    guidance = "classifier"

    def __init__(self, class_names: Sequence[str], table: Tensor | None = None, *, dim: int = 64) -> None:
        if not class_names:
            raise ValueError("a class condition needs at least one class: the data names none")
        if table is not None and (table.ndim != 2 or len(table) != len(class_names)):
            raise ValueError(
                f"the class table has shape {tuple(table.shape)} but there are {len(class_names)} classes: "
                "give one row per class"
            )
        width = dim if table is None else table.shape[1]
        super().__init__(ConditionSpec(kind="class", dim=width, num_classes=len(class_names)))
        self.names = tuple(class_names)
        self.lookup = ClassNames(self.names)
        self.register_buffer(
            "table", None if table is None else table.detach().float().clone(), persistent=False
        )
        self.table: Tensor | None

    def resolve(self, request: Any) -> list[int]:
        """Labels for names, numbers and ranges; ValueError with suggestions for anything else."""
        if request is None or (isinstance(request, Sequence) and not request):
            raise ValueError(
                f"the model makes classes, and none is named: choose from {self.lookup.summary()}"
            )
        return self.lookup.resolve(request.tolist() if isinstance(request, Tensor) else request)

    def label(self, condition: Any) -> str:
        """The class's first name; the number stands before it where two classes share one."""
        index = int(condition)
        name = self.names[index].split(",")[0].strip() or str(index)
        shared = sum(other.split(",")[0].strip().casefold() == name.casefold() for other in self.names) > 1
        return f"{index} {name}" if shared else name

    def from_batch(self, batch: Any) -> Tensor:
        """Labels [N] of the batch."""
        if batch.labels is None:
            raise ValueError(
                "the data has no labels: sort the pictures into one folder per class, or use --cond text"
            )
        return batch.labels

    def encode_frozen(self, conditions: Any) -> Conditioning:
        """int64 labels [N] from labels or names: one tensor for generator, heads and classifier."""
        if not isinstance(conditions, Tensor):
            conditions = torch.tensor(self.lookup.resolve(conditions), dtype=torch.int64)
        labels = conditions.to(self.device, torch.int64)
        return Conditioning(c=labels, target=labels, labels=labels)

    def init_tables(self, *networks: nn.Module) -> int:
        """Copies the pretrained table into every class table of the networks; each copy trains on its own.

        Returns the number of tables filled, 0 without a pretrained table. ValueError when shapes differ.
        """
        if self.table is None:
            return 0
        return sum(set_class_table(network, self.table) for network in networks)
