"""Names and shapes of tensors in the published StyleGAN-T implementation that only tests need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from sgxl_t.model_io.published.generator_t import FILTER, TEXT_ENCODER
from sgxl_t.networks.generators.layers_t import TAPS

BACKBONE = "dino.model.model."
"""The frozen backbone of a discriminator, which we keep apart from the heads under its timm names."""
CLASS_TABLES = ("embed.weight", "mapping.embed.weight")


def heads_name_t(official: str) -> str | None:
    """Our name, inside DinoHeads, of a discriminator tensor; none for the frozen backbone."""
    return None if official.startswith(BACKBONE) else official


def text_tower_from_official_t(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text tower's tensors under open_clip names; empty for an unconditional generator."""
    return {
        name.removeprefix(TEXT_ENCODER): value
        for name, value in state.items()
        if name.startswith(TEXT_ENCODER)
    }


def official_generator_shapes_t(generator: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes that the published code would store for this generator, without the text tower.

    generator: holds `mapping` (MappingT) and `synthesis` (SynthesisT). A class table is left out.
    """
    shapes = {
        name: tuple(value.shape) for name, value in generator.state_dict().items() if name not in CLASS_TABLES
    }
    for name in _filter_owners(shapes):
        shapes[f"{name}.{FILTER}"] = (len(TAPS), len(TAPS))
    return shapes


def _filter_owners(names: Iterable[str]) -> set[str]:
    """Modules that store a filter in the published code: every block, and every layer with noise."""
    owners = set()
    for name in names:
        if name.endswith(".noise_strength"):
            owners.add(name.removesuffix(".noise_strength"))
        elif name.startswith("synthesis.b"):
            owners.add(".".join(name.split(".")[:2]))
    return owners
