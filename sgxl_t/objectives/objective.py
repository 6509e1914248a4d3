"""The losses of one training round, put together from their parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgxl_t.networks.text.tokens import TextTokens, rows
from sgxl_t.objectives.adversarial import (
    hinge_d_loss,
    hinge_g_loss,
    mean_logit,
    mean_sign,
    relativistic_loss,
    wide,
)
from sgxl_t.objectives.config import ObjectiveConfig
from sgxl_t.objectives.guidance import Classifier, ImageTower, Stem
from sgxl_t.objectives.guides import Guides
from sgxl_t.objectives.path_length import PathLength, path_noise
from sgxl_t.objectives.penalty import read_with_slopes
from sgxl_t.ops.images import as_rgb
from sgxl_t.ops.resample.blur import blur_sigma, gaussian_blur

__all__ = ["Objective", "ObjectiveConfig", "Phase", "Stats"]

Phase = Literal["g", "pl", "d"]
Stats = dict[str, Tensor]
Features = Callable[..., Any]
"""Frozen: images [N, 3, R, R] in [-1, 1] and rng to nested lists of tensors [N, ...]."""


class Objective:
    """What generator and discriminator minimise in each phase (section 3 of both papers).

    The methods compute; they neither step nor freeze. Each takes one round's share of the batch and returns
    a scalar loss (a mean over these images) and detached float32 scalars to report. The network being trained
    is handed in as its engine, the other one raw and frozen (gradients reach the images through it).

    classifier: frozen, needed when cls_weight is set. clip: frozen, needed when clip_weight is set. stem:
    frozen generator below the one being trained, needed when stem_weight is set.
    device: of the running mean of path lengths.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        *,
        classifier: Classifier | None = None,
        clip: ImageTower | None = None,
        stem: Stem | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.guides = Guides(config, classifier=classifier, clip=clip, stem=stem)
        self.path_length = PathLength(config.pl_decay, device)

    def phases(self, iteration: int, images_seen: int) -> tuple[Phase, ...]:
        """Updates of this iteration in order; each ends in one optimiser step. `pl` updates the generator."""
        config = self.config
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
        heads: nn.Module,
        features: Features,
        generator: nn.Module,
        real: Tensor,
        c: Tensor | None,
        z: Tensor,
        images_seen: int,
        rng: torch.Generator | None = None,
        *,
        c_fake: Tensor | None = None,
        c_generator: Tensor | None = None,
        text: TextTokens | None = None,
        fake_features: Any = None,
    ) -> tuple[Tensor, Stats]:
        """Loss of the heads. No gradient reaches the generator or the real images.

        real: [N, 3, R, R] in [-1, 1] with its condition c. z: [M, z_dim]; the generated images take c_fake
        where given, else c (then M = N). One pass of the frozen features serves both sides; the heads see
        first generated, then real images, so batch statistics never mix. c_generator: what the generator
        takes where it is not c_fake (a trained text encoder). text: tokens that it attends to. fake_features:
        in place of its images, kept by `g_loss` (share_fakes). The relativistic loss needs M = N, ValueError.
        """
        c_fake = c if c_fake is None else c_fake
        neighbours = c.roll(1, dims=0) if self.config.mismatch_weight > 0 and c is not None else None
        # One pass of the heads reads real images beside their own condition and beside a neighbour's.
        c_real = c if c is None or neighbours is None else torch.cat([c, neighbours])
        images = real
        if fake_features is None:
            c_drawn = c_fake if c_generator is None else c_generator
            with torch.no_grad():
                fake = as_rgb(generator(z, c_drawn, update_averages=True, rng=rng, **_attended(text)))
            images = torch.cat([fake.to(real.dtype), real])
        generated, slopes = len(images) - len(real), None
        look = partial(self._look, features, images_seen, rng)
        if self.config.gradient_penalty > 0:
            assert fake_features is None, "the configuration refuses shared features beside the penalty"
            sides = images[:generated], images[generated:]
            fake_logits, read, slopes = read_with_slopes(heads, look, sides, (c_fake, c_real))
        else:
            with torch.no_grad():
                seen = look(images)
            seen_fake = fake_features if fake_features is not None else _slice(seen, 0, generated)
            fake_logits = heads(seen_fake, c_fake)
            read = heads(_slice(seen, generated, len(images)), c_real)
        real_logits = [logits[: len(real)] for logits in read]
        relativistic = self.config.loss == "relativistic"
        loss = (relativistic_loss if relativistic else hinge_d_loss)(real_logits, fake_logits)
        stats = _d_stats(loss, real_logits, fake_logits)
        if slopes is not None:
            r2, r1 = slopes[:generated].mean(), slopes[generated:].mean()
            loss = loss + self.config.gradient_penalty / 2 * (r1 + r2)
            stats |= {"loss/r1": r1.detach(), "loss/r2": r2.detach()}
        if c is not None and neighbours is not None:
            beside = [logits[len(real) :] for logits in read]
            mismatch = _mismatch_loss(beside, c, neighbours, real_logits if relativistic else None)
            loss = loss + self.config.mismatch_weight * mismatch
            stats["loss/mismatch"] = mismatch.detach()
        return loss, stats

    def _look(self, features: Features, images_seen: int, rng: torch.Generator | None, images: Tensor) -> Any:
        """Frozen features of blurred images."""
        return features(self.blur(images, images_seen), rng)

    def g_loss(
        self,
        generator: nn.Module,
        heads: nn.Module,
        features: Features,
        c: Tensor | None,
        z: Tensor,
        images_seen: int,
        rng: torch.Generator | None = None,
        *,
        text: TextTokens | None = None,
        labels: Tensor | None = None,
        text_features: Tensor | None = None,
        c_heads: Tensor | None = None,
        kept_features: list[Any] | None = None,
        real: Tensor | None = None,
    ) -> tuple[Tensor, Stats]:
        """Adversarial loss of the generator plus guidance on the raw (unblurred, not augmented) images.

        z: [N, z_dim]. text: tokens of c's captions, for a generator that attends to them. labels: int64 [N],
        needed for cls_weight. text_features: [N, dim] of the frozen CLIP,
        needed for clip_weight. c_heads: what the heads project on where it is not c (a trained text encoder
        conditions the generator, the frozen original the heads). kept_features: the images' features, cut
        off the graph, are appended to it for `d_loss`. real: [N, 3, R, R] in [-1, 1] of the same conditions,
        needed for the relativistic loss.
        """
        averages = self._averages_move or kept_features is not None
        images = as_rgb(generator(z, c, update_averages=averages, rng=rng, **_attended(text)))
        seen = self._look(features, images_seen, rng, images)
        if kept_features is not None:
            kept_features.append(_detached(seen))
        c_heads = c if c_heads is None else c_heads
        logits = heads(seen, c_heads)
        if self.config.loss == "relativistic":
            assert real is not None, "the relativistic loss needs real images"
            with torch.no_grad():
                real_logits = heads(self._look(features, images_seen, rng, real), c_heads)
            loss = relativistic_loss(logits, real_logits)
        else:
            loss = hinge_g_loss(logits)
        stats = {
            "loss/g_adversarial": loss.detach(),
            "scores/g": mean_logit(logits),
            "signs/g": mean_sign(logits),
        }
        guided, guidance = self.guides(images, labels=labels, text_features=text_features, rng=rng)
        loss = loss + guided
        stats |= guidance
        stats["loss/g"] = loss.detach()
        return loss, stats

    def pl_loss(
        self,
        generator: nn.Module,
        c: Tensor | None,
        z: Tensor,
        rng: torch.Generator | None = None,
        *,
        text: TextTokens | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Stats]:
        """Weighted path length penalty on the first 1/pl_batch_shrink of the latents z [N, z_dim].

        text: tokens of all captions. noise: the probing image [n, 3, R, R], already divided by sqrt(R * R);
        drawn from rng unless given.
        """
        count = max(len(z) // self.config.pl_batch_shrink, 1)
        network: Any = getattr(generator, "module", generator)  # DistributedDataParallel holds it in `module`
        if noise is None:
            side = network.img_resolution
            noise = path_noise((count, network.config.img_channels, side, side), rng, z.device)
        images, lengths = generator(
            z[:count],
            None if c is None else c[:count],
            update_averages=self._averages_move,
            rng=rng,
            pl_noise=noise,
            **_attended(rows(text, slice(count))),
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


def _d_stats(loss: Tensor, real: list[Tensor], fake: list[Tensor]) -> Stats:
    """What is reported of a discriminator's round, of the logits of both sides."""
    return {
        "loss/d": loss.detach(),
        "scores/real": mean_logit(real),
        "scores/fake": mean_logit(fake),
        "signs/real": mean_sign(real),
        "signs/fake": mean_sign(fake),
    }


def _mismatch_loss(logits: list[Tensor], c: Tensor, neighbours: Tensor, own: list[Tensor] | None) -> Tensor:
    """Loss of real images beside their neighbours' conditions (GigaGAN 2023, "matching-aware" loss).

    logits: of the images beside `neighbours`, which are c of other images; equal conditions do not count.
    own: of the images beside c, to pair with in a relativistic loss, which knows no absolute level; none
    takes the hinge.
    """
    differs = (neighbours != c).reshape(len(c), -1).any(1).float()
    count = differs.sum().clamp(min=1)
    if own is None:
        terms = [F.relu(1 + wide(values)).mean(1) for values in logits]
    else:
        terms = [F.softplus(wide(b) - wide(a)).mean(1) for a, b in zip(own, logits, strict=True)]
    return torch.stack([(term * differs).sum() / count for term in terms]).sum()


def _attended(text: TextTokens | None) -> dict[str, TextTokens]:
    """What a generator that attends to tokens takes besides; others know of none."""
    return {} if text is None else {"text": text}


def _detached(features: Any) -> Any:
    """Nested lists of feature tensors without their graph."""
    if isinstance(features, Tensor):
        return features.detach()
    return [_detached(entry) for entry in features]


def _slice(features: Any, start: int, stop: int) -> Any:
    """The images start:stop of nested lists of feature tensors [N, ...]."""
    if isinstance(features, Tensor):
        return features[start:stop]
    return [_slice(entry, start, stop) for entry in features]
