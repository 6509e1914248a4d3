"""Latents optimised until their images look like photographs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgxl_t.networks.conditioning import rows
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.text.tokens import Text
from sgxl_t.sampling.inversion.losses import Features, pixel_loss, psnr
from sgxl_t.sampling.inversion.style_pool import synthesize

RATES = {"w": 0.4, "encoded w": 0.3, "w+": 0.15}
"""Largest step of each coordinate of w, in standard deviations that it has over random latents. In units of
w itself no rate would fit both a mapped z and a text vector. W+ has many coordinates that move together; what
an encoder found is close already, and large steps would throw it away."""
WARM_UP, COOL_DOWN = 0.05, 0.25
"""Shares of the steps in which the rate rises and falls (Karras et al. 2020, appendix D)."""


@dataclass(frozen=True)
class Step:
    """One step: losses and PSNR [N] of the images [N, C, R, R] before it."""

    losses: Tensor
    psnr: Tensor
    images: Tensor

    @classmethod
    def join(cls, parts: Sequence[Step]) -> Step:
        """The photographs of all parts in order."""
        each = zip(*((part.losses, part.psnr, part.images) for part in parts), strict=True)
        return cls(*map(torch.cat, each))


@dataclass(frozen=True)
class Goal:
    """Photographs [N, C, R, R] in [-1, 1] and what their images are compared by.

    embedded: features [N, D] of the photographs. weight: of the feature loss. tokens: of N captions, for
    generators that attend to them. batch: images in one pass.
    """

    photos: Tensor
    features: Features
    embedded: Tensor
    weight: float
    tokens: Text | None
    batch: int

    @classmethod
    def of(cls, photos: Tensor, features: Features, weight: float, tokens: Text | None, batch: int) -> Goal:
        """The goal of these photographs, which features look at once."""
        with torch.no_grad():
            embedded = torch.cat([features.embed(part) for part in photos.split(batch)])
        return cls(photos, features, embedded, weight, tokens, batch)

    def step(self, images: Tensor, loss: Tensor, part: slice) -> Step:
        """What came out for the photographs of this part, without its history."""
        images = images.detach()
        return Step(loss.detach(), psnr(images, self.photos[part]), images)

    @torch.no_grad()
    def measured(self, generator: Generator, ws: Tensor) -> Step:
        """Where the images of ws [N, 1 or num_ws, w_dim] stand."""
        parts = []
        for part in self.parts():
            images = synthesize(generator, ws[part], self.tokens_of(part))
            parts.append(self.step(images, self.loss(images, part), part))
        return Step.join(parts)

    def loss(self, images: Tensor, part: slice) -> Tensor:
        """Losses of images for the photographs of this part."""
        loss = pixel_loss(images, self.photos[part])
        if self.weight:
            loss = loss + self.weight * self.features.distance(images, self.embedded[part])
        return loss

    def losses_of_many(self, images: Tensor, embedded: Tensor, row: int) -> Tensor:
        """Losses [M] of M images, embedded already, for the photograph of this row."""
        loss = pixel_loss(images, self.photos[row : row + 1])
        return loss + self.weight * (embedded - self.embedded[row]).square().sum(dim=1)

    def parts(self) -> Iterator[slice]:
        """Slices over all photographs, one for each pass."""
        for start in range(0, len(self.photos), self.batch):
            yield slice(start, min(start + self.batch, len(self.photos)))

    def tokens_of(self, part: slice) -> Text | None:
        """Tokens of the photographs of this part."""
        if self.tokens is None:
            return None
        return rows(self.tokens, torch.arange(len(self.photos))[part].to(self.photos.device))


class LatentSearch:
    """Adam on styles, every photograph for itself; the best ones so far are kept.

    The generator's weights take no gradients. steps: length of the schedule of the rate, see `ramp`.
    """

    def __init__(
        self,
        generator: Generator,
        goal: Goal,
        start: Tensor,
        axes: Tensor,
        name: str,
        steps: int,
        rate: float,
    ) -> None:
        """start: ws [N, 1 or num_ws, w_dim]; a single style serves all layers, and remains one.
        axes: [w_dim, w_dim], a row for each direction of steps, as long as a step of size 1. name: w or w+.
        rate: see `RATES`.
        """
        self.generator, self.goal, self.name, self.steps = generator, goal, name, steps
        self.step, self.axes, self.rate = 0, axes, rate
        self.start = start.detach().clone()
        self.moved = torch.zeros_like(self.start, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.moved], lr=self.rate)
        self.best = self.start.clone()
        self.lowest = torch.full((len(start),), torch.inf, device=start.device)

    @property
    def ws(self) -> Tensor:
        """Styles now, [N, 1 or num_ws, w_dim]."""
        return self.start + self.moved @ self.axes

    def advance(self) -> Step:
        """One step of all photographs."""
        parts, gradient = [], torch.zeros_like(self.moved)
        for part in self.goal.parts():
            moved = self.moved[part].detach().requires_grad_()
            ws = self.start[part] + moved @ self.axes
            images = synthesize(self.generator, ws, self.goal.tokens_of(part))
            loss = self.goal.loss(images, part)
            (gradient[part],) = torch.autograd.grad(loss.sum(), moved)
            parts.append(self.goal.step(images, loss, part))
        done = Step.join(parts)
        self._keep(done.losses)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * ramp(self.step, self.steps)
        self.moved.grad = gradient
        self.optimizer.step()
        self.step += 1
        return done

    def finish(self) -> Tensor:
        """The best styles [N, 1 or num_ws, w_dim], those after the last step included."""
        self._keep(self.goal.measured(self.generator, self.ws.detach()).losses)
        return self.best

    @torch.no_grad()
    def _keep(self, losses: Tensor) -> None:
        better = losses < self.lowest
        self.lowest = torch.where(better, losses, self.lowest)
        self.best = torch.where(better[:, None, None], self.ws, self.best)

    def state(self) -> dict[str, Tensor]:
        """All that another process needs to go on."""
        return {
            "start": self.start,
            "axes": self.axes,
            "moved": self.moved.detach(),
            "best": self.best,
            "lowest": self.lowest,
            **adam_state(self.optimizer, [self.moved]),
        }

    def load_state(self, tensors: dict[str, Tensor], step: int) -> None:
        """Goes on from what `state` gave after so many steps."""
        device = self.start.device
        self.start, self.best = tensors["start"].to(device), tensors["best"].to(device)
        self.lowest, self.axes = tensors["lowest"].to(device), tensors["axes"].to(device)
        with torch.no_grad():
            self.moved.copy_(tensors["moved"])
        load_adam(self.optimizer, [self.moved], tensors, step)
        self.step = step


def ramp(step: int, steps: int, cool_down: float = COOL_DOWN) -> float:
    """Factor of the rate at a step of so many: up in a line, even, down along a cosine; never quite 0."""
    share = (step + 1) / (steps + 1)
    falling = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - share) / cool_down))
    return falling * min(1.0, share / WARM_UP)


def adam_state(optimizer: torch.optim.Adam, parameters: list[Any]) -> dict[str, Tensor]:
    """Moments of Adam by name; zeros before its first step."""
    tensors = {}
    for number, parameter in enumerate(parameters):
        for moment in ("exp_avg", "exp_avg_sq"):
            held = optimizer.state[parameter].get(moment)
            tensors[f"{moment}.{number}"] = torch.zeros_like(parameter) if held is None else held
    return tensors


def load_adam(
    optimizer: torch.optim.Adam, parameters: list[Any], tensors: dict[str, Tensor], step: int
) -> None:
    """Gives Adam the moments that `adam_state` gave after so many steps."""
    for number, parameter in enumerate(parameters):
        if step:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(step)),
                **{m: tensors[f"{m}.{number}"].to(parameter).clone() for m in ("exp_avg", "exp_avg_sq")},
            }
