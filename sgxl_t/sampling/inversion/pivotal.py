"""Pivotal tuning: the generator learns to make photographs at the styles found for them.

Roich et al. 2021, "Pivotal Tuning for Latent-based Editing of Real Images", sections 3.1 and 3.2. All
photographs of a call share one tuned generator, so that there are images on the way from one to another.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.synthesis_t import SynthesisT
from sgxl_t.sampling.inversion.losses import noise_loss, pixel_loss
from sgxl_t.sampling.inversion.optimise import Goal, Step, adam_state, load_adam, ramp
from sgxl_t.sampling.inversion.style_pool import StylePool, synthesize

RATE = 2e-3
"""Largest rate of the weights, which have unit variance at their start in all generators here."""
COOL_DOWN = 0.5
"""Share of the steps in which the rate falls."""
LOCALITY_WEIGHT = 0.3
LOCALITY_SHARE = 0.25
"""How far from the pivot towards a random w the generator is held as it was. A share of the distance, where
the paper has a length of 30, which would mean something else for every width of w."""
LOCALITY_EVERY = 2
"""Steps from one locality term to the next, which then weighs as much more (lazy regularisation)."""
MOST_LOCAL = 4
"""Pivots that one locality term looks at."""
NOISE_WEIGHT = 1e-2


class PivotalTuning:
    """Adam on the synthesis network's weights at fixed styles, with the locality term.

    Noise images of generators that have them learn as well, held to being noise by `noise_loss`.
    """

    name = "pti"

    def __init__(
        self, generator: Generator, goal: Goal, pivots: Tensor, pool: StylePool, steps: int, seed: int
    ) -> None:
        """pivots: ws [N, 1 or num_ws, w_dim]. pool: random styles of the locality term."""
        self.original, self.goal, self.pivots, self.pool = generator, goal, pivots.detach(), pool
        self.steps, self.seed, self.step = steps, seed, 0
        self.tuned = copy.copy(generator)
        self.tuned._modules = dict(generator._modules)
        self.tuned.synthesis = copy.deepcopy(generator.synthesis)
        self.noises = _noises(self.tuned.synthesis)
        self.learning = [*self.tuned.synthesis.parameters(), *self.noises]
        for value in self.learning:
            value.requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.learning, lr=RATE)

    def advance(self) -> Step:
        """One step of the weights."""
        parts, count = [], len(self.pivots)
        self.optimizer.zero_grad()
        for part in self.goal.parts():
            images = synthesize(self.tuned, self.pivots[part], self.goal.tokens_of(part))
            loss = self.goal.loss(images, part)
            (loss.sum() / count).backward()
            parts.append(self.goal.step(images, loss, part))
        if self.step % LOCALITY_EVERY == 0:
            (LOCALITY_WEIGHT * LOCALITY_EVERY * self._locality()).backward()
        if self.noises:
            (NOISE_WEIGHT * noise_loss(self.noises)).backward()
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * ramp(self.step, self.steps, COOL_DOWN)
        self.optimizer.step()
        self.step += 1
        return Step.join(parts)

    def _locality(self) -> Tensor:
        """Mean loss between the images of the tuned and of the original generator near some pivots."""
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        chosen = torch.randperm(len(self.pivots), generator=rng)[:MOST_LOCAL]
        pivots = self.pivots[chosen.to(self.pivots.device)]
        drawn = self.pool.draw(len(chosen), rng)
        near = pivots.lerp(drawn.w[:, None].to(pivots), LOCALITY_SHARE)
        tokens = self.pool.conditioning(drawn.shown).tokens
        with torch.no_grad():
            before = synthesize(self.original, near, tokens)
            embedded = self.goal.features.embed(before)
        now = synthesize(self.tuned, near, tokens)
        loss = pixel_loss(now, before)
        return (loss + self.goal.weight * self.goal.features.distance(now, embedded)).mean()

    def changes(self) -> dict[str, Tensor]:
        """Differences from the original by the names that the whole generator has for its tensors."""
        before, after = _values(self.original.synthesis), _values(self.tuned.synthesis)
        changed = {f"synthesis.{name}": after[name] - value for name, value in before.items()}
        return {name: value.detach() for name, value in changed.items() if bool(value.any())}

    def state(self) -> dict[str, Tensor]:
        """All that another process needs to go on."""
        weights = {f"weight.{number}": value.detach() for number, value in enumerate(self.learning)}
        return {"pivots": self.pivots, **weights, **adam_state(self.optimizer, self.learning)}

    def load_state(self, tensors: dict[str, Tensor], step: int) -> None:
        """Goes on from what `state` gave after so many steps."""
        with torch.no_grad():
            for number, value in enumerate(self.learning):
                value.copy_(tensors[f"weight.{number}"])
        load_adam(self.optimizer, self.learning, tensors, step)
        self.step = step


def _noises(synthesis: nn.Module) -> list[Tensor]:
    """The noise images of a synthesis network; [] where it takes none."""
    if not isinstance(synthesis, SynthesisT) or not synthesis.config.stylegan_t.use_noise:
        return []
    return [layer.noise_const for layer in synthesis.noisy_layers()]


def _values(synthesis: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, in the shapes that they have in memory."""
    return {
        name: value.detach() for name, value in (*synthesis.named_parameters(), *synthesis.named_buffers())
    }
