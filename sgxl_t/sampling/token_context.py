"""What a generator that attends to tokens reads: one prompt, two mixed, or the way between two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sgxl_t.conditioning.condition import Condition
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.synthesis_t import SynthesisT
from sgxl_t.networks.text.tokens import Text, TextBlend, TextTokens
from sgxl_t.sampling.prompts import Prompts
from sgxl_t.sampling.sample_spec import Shot, Step


def attended_text(
    generator: Generator, condition: Condition | Prompts, shots: Sequence[Shot] | Sequence[Step]
) -> Text | None:
    """Tokens for N shots, or N pictures on the way between two; none for a generator that attends to none.

    Between two prompts there is no sentence, so both are read, and what is read of the second weighs as much
    as the share of the way. A mix reads its second prompt in the blocks whose last layer takes its style.
    Truncation leaves what is read alone.
    """
    synthesis = generator.synthesis
    if not isinstance(synthesis, SynthesisT) or not synthesis.attends:
        return None
    layers = synthesis.last_layers()
    firsts, lasts, shares = [], list[Any](), list[list[float]]()
    for shot in shots:
        if isinstance(shot, Step):
            firsts.append(shot.first.condition)
            lasts.append(shot.last.condition)
            shares.append([shot.share] * len(layers))
        else:
            firsts.append(shot.condition)
            lasts.append(shot.condition if shot.mix is None else shot.mix.condition)
            taken = () if shot.mix is None else shot.mix.layers
            shares.append([float(layer in taken) for layer in layers])
    first = condition.encode(firsts).tokens
    if first is None or firsts == lasts:
        return first
    last = condition.encode(lasts).tokens
    assert isinstance(first, TextTokens)
    assert isinstance(last, TextTokens)
    return TextBlend(first, last, torch.tensor(shares, device=first.values.device))
