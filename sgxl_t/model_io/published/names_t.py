"""Names of stored tensors: the published StyleGAN-T implementation beside ours.

Ours equal the published names except for three groups:

- `*.resample_filter` is the same 4x4 binomial filter in every place, so we build it and do not store it;
- `mapping.clip.*` is the text tower; here it belongs to the text condition, not to the generator;
- `dino.model.model.*` is the frozen backbone, which we keep apart from the heads under its timm names.

A class table (`mapping.embed.weight`, `embed.weight`) exists here only: the published code knows no labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from sgxl_t.networks.generators.layers_t import TAPS
from sgxl_t.ops.resample.filters import setup_filter

FILTER = "resample_filter"
TEXT_TOWER = "mapping.clip.model."
BACKBONE = "dino.model.model."
CLASS_TABLES = ("embed.weight", "mapping.embed.weight")


def generator_name_t(official: str) -> str | None:
    """Our name of a generator tensor; none for a constant filter and for the text tower."""
    if official.rsplit(".", 1)[-1] == FILTER or official.startswith(TEXT_TOWER):
        return None
    return official


def heads_name_t(official: str) -> str | None:
    """Our name, inside DinoHeads, of a discriminator tensor; none for the frozen backbone."""
    return None if official.startswith(BACKBONE) else official


def generator_state_from_official_t(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published generator's tensors under our names; ValueError where a stored filter is not ours."""
    expected = setup_filter(TAPS)
    ours = {}
    for official, value in state.items():
        if official.rsplit(".", 1)[-1] == FILTER and not value.float().cpu().allclose(expected, atol=1e-6):
            raise ValueError(
                f"{official} is not the filter {TAPS} that this network is built for: retrain it with that"
            )
        name = generator_name_t(official)
        if name is not None:
            ours[name] = value
    return ours


def text_tower_from_official_t(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text tower's tensors under open_clip names; empty for an unconditional generator."""
    return {
        name.removeprefix(TEXT_TOWER): value for name, value in state.items() if name.startswith(TEXT_TOWER)
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
