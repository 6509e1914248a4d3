"""The interface behind which class, text and no condition are one thing to the rest of the framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sgxl_t.networks.configs import ConditionKind, ConditionSpec
from sgxl_t.networks.text.tokens import TextTokens

Guidance = Literal["classifier", "clip"]
Phase = Literal["generator", "text_encoder"]


class Condition(nn.Module, ABC):
    """Turns what a user or a data set says (labels, captions, nothing) into the networks' input `c`.

    spec: what enters the networks; the discriminator projects its features on the same vectors.
    guidance: the auxiliary loss that fits the condition ("classifier", StyleGAN-XL section 3.4; "clip",
        StyleGAN-T section 3.3), None when there is nothing to guide towards.
    phases: what a run may train in turn; "text_encoder" only where the condition brings weights of its own.
    names: the classes by index, empty unless there are classes.
    """

    guidance: Guidance | None = None
    phases: tuple[Phase, ...] = ("generator",)
    names: tuple[str, ...] = ()

    def __init__(self, spec: ConditionSpec) -> None:
        super().__init__()
        self.spec = spec
        # Follows the module from device to device, for conditions that have no weights.
        self.register_buffer("_place", torch.zeros(0), persistent=False)
        self._place: Tensor

    @property
    def kind(self) -> ConditionKind:
        """class, text or none."""
        return self.spec.kind

    @property
    def device(self) -> torch.device:
        """Where `encode` puts its result."""
        return self._place.device

    @abstractmethod
    def resolve(self, request: Any) -> list[Any]:
        """What a user asks for (one prompt, a class by name, a range) as a list of conditions for `encode`.

        Raises ValueError for a request that does not fit this condition.
        """

    @abstractmethod
    def label(self, condition: Any) -> str:
        """Short readable name of one resolved condition, for file names and grids."""

    def reading_notes(self, conditions: Sequence[Any]) -> list[str]:
        """What of these resolved conditions changes no picture, in sentences for people; [] for most."""
        return []

    @abstractmethod
    def take(self, batch: Any) -> Any:
        """The conditions of a data batch, as `encode` takes them; ValueError when the data has none."""

    @abstractmethod
    def encode(self, conditions: Any) -> Tensor | None:
        """`c` for the generator: int64 [N] labels, float32 [N, dim] unit text features, or None."""

    def encode_tokens(self, conditions: Any) -> TextTokens | None:
        """Tokens that the generator attends to beside `c`; None unless spec.token_dim says that it does."""
        return None

    def encode_both(self, conditions: Any) -> tuple[Tensor | None, TextTokens | None]:
        """`encode` and `encode_tokens` for one batch."""
        return self.encode(conditions), self.encode_tokens(conditions)

    def encode_target(self, conditions: Any) -> Tensor | None:
        """`c` for the discriminator and for guidance: never carries a gradient, never moves in training."""
        return self.encode(conditions)

    def guide_target(self, c: Tensor | None) -> Tensor | None:
        """The part of `encode_target`'s result that a guiding CLIP compares pictures with; None without."""
        return None

    def save(self, folder: Path) -> None:
        """Writes what a registered condition needs into a model folder, to be built from it again."""

    def init_tables(self, *networks: nn.Module) -> int:
        """Copies pretrained vectors into every class table of the networks; returns how many were filled."""
        return 0

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The condition's own parameters that a run optimises; empty when it has none."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


class NoCondition(Condition):
    """Unconditional: the networks see no condition."""

    def __init__(self) -> None:
        super().__init__(ConditionSpec(kind="none"))

    def resolve(self, request: Any) -> list[Any]:
        """One entry; anything asked for is a mistake."""
        if request is None or (isinstance(request, Sequence) and not request):
            return [None]
        raise ValueError(
            f"the model is unconditional and cannot be asked for {_short(request)!r}: "
            "leave prompts and classes out"
        )

    def label(self, condition: Any) -> str:
        """Always `picture`."""
        return "picture"

    def take(self, batch: Any) -> list[None]:
        """One empty condition per image."""
        return [None] * len(batch.images)

    def encode(self, conditions: Any) -> None:
        """None, whatever comes in."""
        return None


def _short(value: Any, limit: int = 60) -> str:
    text = (
        value
        if isinstance(value, str)
        else ", ".join(map(str, value))
        if isinstance(value, Sequence)
        else str(value)
    )
    return text if len(text) <= limit else text[: limit - 3] + "..."
