"""The losses of one training round, put together from their parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from sgxl_t.networks.conditioning import Conditioning, rows
from sgxl_t.objectives.adversarial import (
    hinge_d_loss,
    hinge_g_loss,
    mean_logit,
    mean_sign,
    relativistic_loss,
    wide,
)
from sgxl_t.objectives.config import ObjectiveConfig
from sgxl_t.objectives.diversity import mode_seeking_features, mode_seeking_loss, more_latents
from sgxl_t.objectives.following import following_loss
from sgxl_t.objectives.guidance import Classifier, Guidance, ImageEncoder, Stem
from sgxl_t.objectives.micro_batch import MicroBatch
from sgxl_t.objectives.path_length import PathLength, path_noise
from sgxl_t.objectives.penalty import read_with_slopes
from sgxl_t.ops.images import as_rgb
from sgxl_t.ops.resample.blur import blur_sigma, gaussian_blur

__all__ = ["Networks", "Objective", "ObjectiveConfig", "Phase", "Stats"]

Phase = Literal["g", "pl", "d"]
Stats = dict[str, Tensor]
Features = Callable[..., Any]
"""Frozen: images [N, 3, R, R] in [-1, 1] and rng to nested lists of tensors [N, ...]."""


class Networks(NamedTuple):
    """The two players of a phase. The one being trained is given as its engine, the other one raw and frozen
    (gradients reach the images through it)."""

    generator: nn.Module
    heads: nn.Module
    features: Features


class Objective:
    """What generator and discriminator minimise in each phase (section 3 of both papers).

    The methods compute; they neither step nor freeze. Each takes one micro-batch and returns a scalar loss (a
    mean over its images) and detached float32 scalars to report. images_seen: by the run so far, which sets
    the blur. rng: the stream of noise, augmentation and crops.

    classifier, clip, stem: frozen networks for guidance (see `Guidance`). device: of the running mean of path
    lengths.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        *,
        classifier: Classifier | None = None,
        clip: ImageEncoder | None = None,
        stem: Stem | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.guidance = Guidance(config, classifier=classifier, clip=clip, stem=stem)
        self.path_length = PathLength(config.pl_decay, device)

    def phases(self, iteration: int, images_seen: int) -> tuple[Phase, ...]:
        """Updates of this iteration in order; each ends in one optimiser step. `pl` updates the generator.
        At first the discriminator may learn alone."""
        config = self.config
        if images_seen < config.d_alone_kimg * 1000:
            return ("d",)
        lengths_due = iteration % config.pl_interval == 0 and images_seen >= config.pl_start_kimg * 1000
        generator: tuple[Phase, ...] = ("g", "pl") if config.pl_weight > 0 and lengths_due else ("g",)
        return (*generator, "d") if config.order == "g_first" else ("d", *generator)

    def blur(self, images: Tensor, images_seen: int) -> Tensor:
        """Images as the discriminator sees them after so many images shown."""
        return gaussian_blur(images, self.sigma(images_seen))

    def sigma(self, images_seen: int) -> float:
        """Strength of the blur in pixels."""
        return blur_sigma(images_seen, self.config.blur_init_sigma, self.config.blur_fade_kimg)

    def d_loss(
        self,
        networks: Networks,
        batch: MicroBatch,
        z: Tensor,
        images_seen: int,
        rng: torch.Generator | None = None,
    ) -> tuple[Tensor, Stats]:
        """Loss of the heads. No gradient reaches the generator or the real images.

        z: [M, z_dim]. The relativistic loss and shared features need M = N, else ValueError. One pass of the
        frozen features serves both sides; the heads see first generated, then real images, so that batch
        statistics never mix.
        """
        heads, real, cond = networks.heads, batch.real, batch.cond.frozen
        mismatched = self.config.mismatch_weight > 0 and cond.target is not None
        # One pass of the heads reads real images beside their own condition and beside a neighbour's.
        conds = batch.generated_cond.frozen, cond.with_neighbours() if mismatched else cond
        look = partial(self._look, networks.features, images_seen, rng)
        slopes = None
        if batch.shared_fakes:  # none where the discriminator learns alone
            with torch.no_grad():
                sides = batch.shared_fakes.pop(), look(real)
            fake_logits, read = heads(sides[0], conds[0]), heads(sides[1], conds[1])
        else:
            with torch.no_grad():
                fake = as_rgb(networks.generator(z, batch.generated_cond, update_averages=True, rng=rng))
            images = fake.to(real.dtype), real
            if self.config.gradient_penalty > 0:
                fake_logits, read, slopes = read_with_slopes(heads, look, images, conds)
            else:
                fake_logits, read = _read(heads, look, images, conds)
        real_logits = [logits[: len(real)] for logits in read]
        relativistic = self.config.loss == "relativistic"
        loss = (relativistic_loss if relativistic else hinge_d_loss)(real_logits, fake_logits)
        stats = _d_stats(loss, real_logits, fake_logits)
        if slopes is not None:
            r2, r1 = slopes[: -len(real)].mean(), slopes[-len(real) :].mean()
            loss = loss + self.config.gradient_penalty / 2 * (r1 + r2)
            stats |= {"loss/r1": r1.detach(), "loss/r2": r2.detach()}
        if mismatched:
            beside = [logits[len(real) :] for logits in read]
            own = real_logits if relativistic else None
            mismatch = _mismatch_loss(beside, _differing_neighbours(cond), own)
            loss = loss + self.config.mismatch_weight * mismatch
            stats["loss/mismatch"] = mismatch.detach()
        return loss, stats

    def _look(self, features: Features, images_seen: int, rng: torch.Generator | None, images: Tensor) -> Any:
        """Frozen features of blurred images."""
        return features(self.blur(images, images_seen), rng)

    def g_loss(
        self,
        networks: Networks,
        batch: MicroBatch,
        z: Tensor,
        images_seen: int,
        rng: torch.Generator | None = None,
    ) -> tuple[Tensor, Stats]:
        """Adversarial loss of the generator plus guidance on the raw (unblurred, not augmented) images.

        z: [N, z_dim]. The heads project on the frozen target, also where a text encoder learns what the
        generator takes. The relativistic loss compares with the real images; else these are not read.
        """
        share = self.config.share_fakes
        cond = batch.generated_cond
        images, others, latents = self._generated(networks.generator, cond, z, rng)
        look = partial(self._look, networks.features, images_seen, rng)
        seen = look(images)
        if share:
            batch.shared_fakes.append(tree_map_only(Tensor, Tensor.detach, seen))
        logits = networks.heads(seen, cond.frozen)
        if self.config.loss == "relativistic":
            with torch.no_grad():
                real_logits = networks.heads(look(batch.real), batch.cond.frozen)
            loss = relativistic_loss(logits, real_logits)
        else:
            loss = hinge_g_loss(logits)
        stats = {
            "loss/g_adversarial": loss.detach(),
            "scores/g": mean_logit(logits),
            "signs/g": mean_sign(logits),
        }
        guidance, parts = self.guidance(images, cond, rng)
        loss = loss + guidance
        if self.config.following_weight > 0:
            assert batch.cond.own is not None, "only a generator that is told of pictures can follow them"
            with torch.no_grad():
                shown = look(batch.real)
            following = following_loss(seen, shown, batch.cond.own)
            loss = loss + self.config.following_weight * following
            parts["loss/following"] = following.detach()
        if len(others) > 0:
            if self.config.diversity_of == "features":
                diversity = mode_seeking_features(seen, look(others), *latents)
            else:
                diversity = mode_seeking_loss(images[: len(others)], others, *latents)
            loss = loss + self.config.diversity_weight * diversity
            parts["loss/diversity"] = diversity.detach()
        return loss, {**stats, **parts, "loss/g": loss.detach()}

    def _generated(
        self, generator: nn.Module, cond: Conditioning, z: Tensor, rng: torch.Generator | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """The generator's images [N, 3, R, R] of its own phase, second ones [n, 3, R, R] under the first n
        conditions for the diversity term, n = 0 where it has no weight, and the latents [n, z_dim] of both.

        One pass makes them all: wrappers of several processes hook every call.
        """
        moves = self._averages_move or self.config.share_fakes
        count = len(z)
        if self.config.diversity_weight > 0:
            z = torch.cat([z, more_latents(z, self.config.diversity_share, rng)])
            cond = cond.rows(torch.arange(len(z), device=z.device) % count)
        images = as_rgb(generator(z, cond, update_averages=moves, rng=rng))
        pairs = len(z) - count
        return images[:count], images[count:], (z[:pairs], z[count:])

    def pl_loss(
        self,
        generator: nn.Module,
        batch: MicroBatch,
        z: Tensor,
        rng: torch.Generator | None = None,
        *,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Stats]:
        """Weighted path length penalty on the first 1/pl_batch_shrink of the latents z [N, z_dim].

        noise: the probing image [n, C, R, R], already divided by sqrt(R * R); drawn from rng unless given.
        """
        count = max(len(z) // self.config.pl_batch_shrink, 1)
        network: Any = getattr(generator, "module", generator)  # DistributedDataParallel holds it in `module`
        if noise is None:
            size = network.img_resolution
            noise = path_noise((count, network.config.img_channels, size, size), rng, z.device)
        images, lengths = generator(
            z[:count],
            batch.generated_cond.rows(slice(count)),
            update_averages=self._averages_move,
            rng=rng,
            pl_noise=noise,
        )
        penalty = self.path_length.penalty(lengths)
        # Parameters that only shift the image (ToRGB biases) have no path length; the zero term lets them
        # take part in the backward pass, which gradient synchronisation waits for.
        loss = self.config.pl_weight * penalty + 0.0 * images.float().mean()
        stats = {"loss/path_length": penalty.detach(), "path_length/mean": self.path_length.mean.clone()}
        return loss, stats

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint must hold to continue: the running mean of path lengths."""
        return {f"path_length.{name}": value for name, value in self.path_length.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        prefix = "path_length."
        self.path_length.load_state_dict(
            {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        )

    @property
    def _averages_move(self) -> bool:
        return self.config.average_w == "all_phases"


def _read(
    heads: nn.Module,
    look: Callable[[Tensor], Any],
    images: tuple[Tensor, Tensor],
    conds: tuple[Conditioning, Conditioning],
) -> tuple[list[Tensor], list[Tensor]]:
    """Logits of generated and of real images. images, conds: of the generated and of the real side."""
    count = len(images[0])
    with torch.no_grad():
        seen = look(torch.cat(images))
    return heads(rows(seen, slice(count)), conds[0]), heads(rows(seen, slice(count, None)), conds[1])


def _d_stats(loss: Tensor, real: list[Tensor], fake: list[Tensor]) -> Stats:
    """What is reported of a discriminator's round, of the logits of both sides."""
    return {
        "loss/d": loss.detach(),
        "scores/real": mean_logit(real),
        "scores/fake": mean_logit(fake),
        "signs/real": mean_sign(real),
        "signs/fake": mean_sign(fake),
    }


def _differing_neighbours(cond: Conditioning) -> Tensor:
    """float32 [N]: 1 where the target of the image before differs from an image's own, else 0."""
    target = cond.target
    assert target is not None
    return (target.roll(1, dims=0) != target).reshape(len(target), -1).any(1).float()


def _mismatch_loss(logits: list[Tensor], differs: Tensor, own: list[Tensor] | None) -> Tensor:
    """Loss of real images beside their neighbours' conditions (GigaGAN 2023, "matching-aware" loss).

    logits: per network [N, P], of the images beside those conditions. differs: [N], 0 where a neighbour has
    the image's own condition, which does not count. own: logits beside the own conditions, to pair with in a
    relativistic loss, which knows no absolute level; none takes the hinge.
    """
    count = differs.sum().clamp(min=1)
    if own is None:
        terms = [F.relu(1 + wide(values)).mean(1) for values in logits]
    else:
        terms = [F.softplus(wide(b) - wide(a)).mean(1) for a, b in zip(own, logits, strict=True)]
    return torch.stack([(term * differs).sum() / count for term in terms]).sum()
