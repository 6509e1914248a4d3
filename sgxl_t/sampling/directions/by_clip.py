"""A direction from words by way of CLIP, for models of any condition (StyleMC, Kocasari et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.networks.frozen import load_clip
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.text.clip import ClipModel
from sgxl_t.networks.text.tokens import Text
from sgxl_t.ops.images import as_rgb
from sgxl_t.sampling.given import Source
from sgxl_t.sampling.sample_spec import SampleSpec
from sgxl_t.sampling.styles import spec_styles, token_context
from sgxl_t.sampling.truncation.truncation import Truncation

OWN = "own"
"""Names the CLIP that the model itself reads prompts with."""
RATE = 0.15
"""Of the first step, in deviations of a coordinate; falls to 0. A third of it, with half of the steps, brings
images a third of the way that CLIP shows."""
LENGTHS = (0.125, 0.25, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 2.0, 4.0)
"""Of what was learnt, among which the best for images that it was not learnt on becomes strength 1."""
ROUND = 0.1
"""Share of the size of w by which a coordinate moves beside its own deviation, which may be 0."""


@dataclass(frozen=True)
class ClipSettings:
    """How a direction is sought.

    images: that are looked at, `batch` in a step. keep: weight of the term that holds images where they were,
    the mean squared difference of pixels at a quarter of their side.
    """

    images: int = 768
    batch: int = 8
    keep: float = 0.05

    @property
    def steps(self) -> int:
        """Of the search."""
        return self.images // self.batch

    def __post_init__(self) -> None:
        if self.images < self.batch or self.batch < 1 or self.keep < 0:
            raise ValueError(
                f"images={self.images}, batch={self.batch} and keep={self.keep} do not fit: use at least one "
                "batch of images, such as 768, and a weight of 0 or more"
            )


def open_clip_of(source: Source, clip: ClipModel | str) -> ClipModel:
    """A loaded CLIP with both towers: itself, by reference, or the model's own; ValueError without."""
    condition = source.condition
    if clip == OWN:
        guide = condition.original.guide if isinstance(condition, TextCondition) else None
        if not isinstance(guide, ClipModel):
            raise ValueError(
                "the model has no CLIP with an image tower of its own: name one, such as "
                "open_clip:ViT-B-32/openai or local:FOLDER of `sgxl-t features train`, or leave --clip out"
            )
        clip = guide
    found = load_clip(clip) if isinstance(clip, str) else clip
    if not found.has_image_tower:
        raise ValueError(f"{clip} has no image tower, which words are compared with: name a whole CLIP")
    return found.to(next(source.generator.parameters()).device).eval().requires_grad_(False)


def clip_direction(
    source: Source,
    clip: ClipModel,
    texts: tuple[Sequence[str], Sequence[str]],
    conditions: Sequence[object],
    layers: Sequence[int] | None,
    settings: ClipSettings,
    stop: Callable[[], bool],
) -> tuple[Tensor, int]:
    """What leads images of these conditions from the first texts to the last, float32 [num_ws, w_dim].

    Also the number of steps that were made, at least one, which `stop` may end after any of them.

    Each image shall lie, in CLIP, where it was plus the difference of the texts; the distance is the squared
    angle. As in StyleMC one direction is learnt for all images; its length is then the best of several on
    two more batches. It moves w of each layer, not the styles behind it, so that it applies to latents like
    any other.
    Random numbers are those of the seeds. ValueError where no length brings images nearer.
    """
    # It brings along discriminators and their libraries, which take seconds to import.
    from sgxl_t.objectives.guidance import spherical_distance

    generator = source.generator
    seeds = range((settings.steps + 2) * settings.batch)
    specs = [SampleSpec(conditions[seed % len(conditions)], seed) for seed in seeds]
    with torch.no_grad():
        ws = spec_styles(generator, source.prompts, specs, Truncation())
        firsts, lasts = (F.normalize(clip.encode_text(list(part)).mean(dim=0), dim=0) for part in texts)
    unit = (ws[:, 0].var(dim=0) + (ROUND * ws[:, 0].square().mean().sqrt()).square()).sqrt()
    moving = torch.zeros(generator.num_ws, 1, device=ws.device)
    moving[list(range(generator.num_ws) if layers is None else layers)] = 1
    scale = moving * unit

    def loss(moved: Tensor, part: slice) -> Tensor:
        tokens = token_context(generator, source.prompts, specs[part])
        with torch.no_grad():
            old = _images(generator, ws[part], tokens)
            goal = F.normalize(_embedded(clip, old) + lasts - firsts, dim=1)
        new = _images(generator, ws[part] + moved, tokens)
        held = F.mse_loss(F.avg_pool2d(new, 4), F.avg_pool2d(old, 4))
        return spherical_distance(_embedded(clip, new), goal).mean() + settings.keep * held

    direction = torch.zeros_like(scale, requires_grad=True)
    optimizer = torch.optim.Adam([direction], lr=RATE)
    steps = settings.steps
    with tqdm(range(steps), unit="step", desc="direction", delay=2, leave=False, disable=None) as bar:
        for step in bar:
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
            value = loss(direction * scale, slice(step * settings.batch, (step + 1) * settings.batch))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            bar.set_postfix(loss=f"{value.item():.4f}")
            if stop():
                break
    learnt = (direction * scale).detach()
    others = slice(steps * settings.batch, None)
    return learnt.cpu() * _best_length(lambda length: loss(learnt * length, others)), step + 1


def _best_length(loss: Callable[[float], Tensor]) -> float:
    """Of `LENGTHS` that with the least loss; ValueError where none is better than staying."""
    with torch.no_grad():
        losses = {length: float(loss(length)) for length in (0.0, *LENGTHS)}
    best = min(losses, key=losses.__getitem__)
    if best == 0:
        raise ValueError("CLIP sees no way from the first words to the last ones here: look at more images")
    return best


def _images(generator: Generator, ws: Tensor, tokens: Text | None) -> Tensor:
    """Images [N, 3, R, R] in about [-1, 1]."""
    return as_rgb(generator.synthesis(ws, noise_mode="const", tokens=tokens))


def _embedded(clip: ClipModel, images: Tensor) -> Tensor:
    """Unit vectors [N, dim] of images [N, 3, R, R] in about [-1, 1]."""
    return clip.encode_image((images.float() * 0.5 + 0.5).clamp(0, 1))
