"""What the synthesis makes of w: the affine layers that turn it into the styles of each layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.synthesis_t import SynthesisT
from sgxl_t.networks.generators.synthesis_xl import SynthesisXL


def style_affines(generator: Generator) -> list[tuple[int, nn.Module]]:
    """Every affine layer, [N, w_dim] -> [N, channels], with the number of the w that it reads."""
    synthesis = generator.synthesis
    if isinstance(synthesis, SynthesisXL):
        layers = enumerate(synthesis.layers(), start=1)
        return [(0, synthesis.input.affine), *((number, layer.affine) for number, layer in layers)]
    if not isinstance(synthesis, SynthesisT):
        raise ValueError(
            f"the affine layers of family {generator.config.family} are not known: take --pca or examples"
        )
    found: list[tuple[int, nn.Module]] = []
    start = 0
    for block in synthesis.blocks():
        first = block.input if block.conv0 is None else block.conv0
        assert first is not None
        for number, layer in enumerate([first, *block.convs1, block.torgb]):
            affine = layer.affine
            assert isinstance(affine, nn.Module)
            found.append((start + number, affine))
        start += block.num_layers
    return found


def sensitivity(generator: Generator, w: Tensor, layers: Sequence[int] | None) -> Tensor:
    """Sum over affine layers of J^T J / |J|^2, float64 [w_dim, w_dim]; J: slope of the styles at w [w_dim].

    The affine layers of stylegan3 are linear, so J is their weight, as SeFa has it (Shen & Zhou 2021,
    section 3); those of stylegan_t are polynomials of second order, which look linear close to w. Each layer
    counts the same, however wide it is. What no layer reads, whether a picture is mirrored, has slope 0.
    layers: numbers of the w that count; None for all.
    """
    synthesis = generator.synthesis
    read = synthesis.style_dim if isinstance(synthesis, SynthesisT) else generator.w_dim
    total = torch.zeros(generator.w_dim, generator.w_dim, dtype=torch.float64)
    for number, affine in style_affines(generator):
        if layers is not None and number not in layers:
            continue
        of_w = torch.func.jacrev(lambda one, affine=affine: affine(one[None, :read])[0])
        slope = of_w(w).detach().double().cpu()
        size = slope.square().sum()
        if size > 0:  # the Fourier input starts without any
            total += slope.T @ slope / size
    return total
