"""What a walk passes: prompts or classes with their seeds, and rows of latents, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sgxl_t.sampling.asked_numbers import spread_psi
from sgxl_t.sampling.given import Source
from sgxl_t.sampling.latents import Latents, latent_specs
from sgxl_t.sampling.sample_spec import Drawable, SampleSpec


def walk_keys(
    source: Source,
    parts: Sequence[Latents | Sequence[Any]],
    seeds: Sequence[int],
    psi: float | Sequence[float],
) -> list[Drawable]:
    """The keys of a walk, in order.

    parts: latents, each row of which is a key, and resolved conditions. seeds: one for all conditions, or one
    each; of one condition alone every seed is a key. psi: one for all conditions (or seeds), or one each.
    ValueError where the numbers do not fit, and for latents of another model.
    """
    plain = sum(len(part) for part in parts if not isinstance(part, Latents))
    if plain == 1 and len(parts) == 1:
        own = zip(seeds, spread_psi(psi, len(seeds), "seeds"), strict=True)
        return [SampleSpec(parts[0][0], *one) for one in own]
    if len(seeds) not in (1, plain):
        raise ValueError(f"{len(seeds)} seeds came with {plain} prompts or classes: give one, or one each")
    each = seeds if len(seeds) == plain else [*seeds] * plain
    own = iter(zip(each, spread_psi(psi, plain), strict=True))
    found: list[Drawable] = []
    for part in parts:
        if isinstance(part, Latents):
            part.check_fits(source.generator, source.model)
            found += latent_specs(part)
        else:
            found += [SampleSpec(condition, *next(own)) for condition in part]
    return found
