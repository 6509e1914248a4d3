"""Parts of a StyleGAN-T generator that rest while others train (StyleGAN-T, section 3.3; its release)."""

from __future__ import annotations

from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.synthesis_t import FIRST_RESOLUTION, SynthesisT


def resting_names(generator: Generator, freeze_below: int, *, train_lowres_torgb: bool) -> list[str]:
    """Names of the parameters that rest when blocks below `freeze_below` pixels do.

    These are the blocks' layers, the mapping and the Fourier input; train_lowres_torgb leaves the blocks'
    image outputs trainable, as the release does. ValueError for a side that leaves nothing to one part.
    """
    synthesis = generator.synthesis
    if not isinstance(synthesis, SynthesisT):
        raise ValueError("freeze_below needs a stylegan_t generator: leave it out")
    if freeze_below not in synthesis.block_resolutions[1:]:
        raise ValueError(
            f"freeze_below={freeze_below} is no block above {FIRST_RESOLUTION} px of a generator of "
            f"{synthesis.img_resolution} px: use one of {list(synthesis.block_resolutions[1:])}"
        )
    low = [f"synthesis.b{side}." for side in synthesis.block_resolutions if side < freeze_below]
    names = [name for name, _ in generator.named_parameters() if name.startswith(("mapping.", *low))]
    return [name for name in names if not (train_lowres_torgb and ".torgb." in name)]


def rest(generator: Generator, names: list[str]) -> None:
    """Parameters of these names take no gradients from now on."""
    resting = set(names)
    for name, parameter in generator.named_parameters():
        if name in resting:
            parameter.requires_grad_(False)
