"""The interface through which the rest of the framework uses class, text and no condition alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.networks.configs import ConditionKind, ConditionSpec

Guidance = Literal["classifier", "clip"]
Phase = Literal["generator", "text_encoder"]


class Condition(nn.Module, ABC):
    """Encodes what a user or a data set says (labels, captions, nothing) as the networks' `Conditioning`.

    spec: what enters the networks; the discriminator projects its features on the same kind of vectors.
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
        self.register_buffer("_device_marker", torch.zeros(0), persistent=False)
        self._device_marker: Tensor

    @property
    def kind(self) -> ConditionKind:
        """class, text or none."""
        return self.spec.kind

    @property
    def device(self) -> torch.device:
        """Where `encode` puts its result."""
        return self._device_marker.device

    @abstractmethod
    def resolve(self, request: Any) -> list[Any]:
        """What a user asks for (one prompt, a class by name, a range) as a list of conditions for `encode`.

        Raises ValueError for a request that does not fit this condition.
        """

    @abstractmethod
    def label(self, condition: Any) -> str:
        """Short readable name of one resolved condition, for file names and grids."""

    def reading_notes(self, conditions: Sequence[Any]) -> list[str]:
        """Sentences for people about parts of resolved conditions that change no image; [] for most."""
        return []

    @property
    def learns(self) -> bool:
        """Whether its own weights learn, so that what the generator takes changes with every update."""
        return "text_encoder" in self.phases

    @abstractmethod
    def from_batch(self, batch: Any) -> Any:
        """Labels or captions of a data batch, as `encode` takes them; ValueError when the data has none."""

    @abstractmethod
    def encode_frozen(self, conditions: Any) -> Conditioning:
        """What never moves in training and has no graph: target, guide and labels; c equals target."""

    def encode(self, conditions: Any, frozen: Conditioning | None = None) -> Conditioning:
        """All that the generator takes of N conditions, with a graph where a text encoder learns.

        frozen: what `encode_frozen` has made of the same conditions, to be completed by c and tokens. Without
        it, target, guide and labels are left out where a text encoder of the generator's own makes c.
        """
        return self.encode_frozen(conditions) if frozen is None else frozen

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

    def from_batch(self, batch: Any) -> list[None]:
        """One empty condition per image."""
        return [None] * len(batch.images)

    def encode_frozen(self, conditions: Any) -> Conditioning:
        """Nothing, whatever comes in."""
        return Conditioning()


def _short(value: Any, limit: int = 60) -> str:
    text = (
        value
        if isinstance(value, str)
        else ", ".join(map(str, value))
        if isinstance(value, Sequence)
        else str(value)
    )
    return text if len(text) <= limit else text[: limit - 3] + "..."
