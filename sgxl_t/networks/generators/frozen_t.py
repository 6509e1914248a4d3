"""Freezing parts of a StyleGAN-T generator while others train (StyleGAN-T, section 3.3; its release)."""

from __future__ import annotations

from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.synthesis_t import FIRST_RESOLUTION, SynthesisT


def frozen_names(generator: Generator, freeze_below: int, *, train_lowres_torgb: bool) -> list[str]:
    """Names of the parameters that are frozen when the blocks below `freeze_below` pixels are.

    These are the blocks' layers, the mapping and the Fourier input; train_lowres_torgb leaves the blocks'
    image outputs trainable, as the release does. ValueError for a resolution without blocks below or above.
    """
    synthesis = generator.synthesis
    if not isinstance(synthesis, SynthesisT):
        raise ValueError("freeze_below needs a stylegan_t generator: leave it out")
    if freeze_below not in synthesis.block_resolutions[1:]:
        raise ValueError(
            f"freeze_below={freeze_below} is no block above {FIRST_RESOLUTION} px of a generator of "
            f"{synthesis.img_resolution} px: use one of {list(synthesis.block_resolutions[1:])}"
        )
    low = [f"synthesis.b{size}." for size in synthesis.block_resolutions if size < freeze_below]
    names = [name for name, _ in generator.named_parameters() if name.startswith(("mapping.", *low))]
    return [name for name in names if not (train_lowres_torgb and ".torgb." in name)]


def freeze(generator: Generator, names: list[str]) -> None:
    """Parameters of these names take no gradients from now on."""
    for name in names:
        generator.get_parameter(name).requires_grad_(False)
