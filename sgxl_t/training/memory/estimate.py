"""What one process holds and makes in an update, found by running it on shapes (see shapes.py)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sgxl_t.networks.conditioning import Conditioning
from sgxl_t.objectives.micro_batch import MicroBatch
from sgxl_t.objectives.objective import Networks, Objective, Phase
from sgxl_t.training.config.settings import NetworkSettings
from sgxl_t.training.memory.networks import Planned, Sketches, sketch_networks
from sgxl_t.training.memory.shapes import Shapes, bytes_of, tensors_of
from sgxl_t.training.parallel.runtime import LOW_PRECISION


@dataclass(frozen=True)
class NetworkBytes:
    """Bytes of one trained network: all parameters, those that learn, and buffers."""

    weights: int
    trained: int
    buffers: int


@dataclass(frozen=True)
class PhaseBytes:
    """Bytes that one round of a phase needs at its peak beside all that stays.

    alone: beside whole gradients; in an update of one round these grow while what the backward pass waits for
    shrinks, so it is less than `apart` then. apart: where gradients were there before, and are not counted.
    kept: a round's features that wait from the generator's phase for the discriminator's.
    """

    name: Phase
    alone: int
    apart: int
    kept: int

    def beside(self, rounds: int) -> int:
        """Beside whole gradients."""
        return self.alone + self.waiting(rounds)

    def waiting(self, rounds: int) -> int:
        """Features of other rounds, in the discriminator's phase of all of them."""
        return self.kept * (rounds if self.name == "d" else rounds - 1)


@dataclass(frozen=True)
class StepBytes:
    """Bytes of one process before a launch mode divides any of them.

    networks: by name, g, d, and text where the generator has a text encoder of its own. ema: the moving
    averages. frozen: networks that never learn, and class vectors, by name. batch: the images of one round,
    on a GPU beside those of the next update's round.
    images: of a round. parameters: of the generator.
    """

    networks: dict[str, NetworkBytes]
    ema: int
    frozen: dict[str, int]
    batch: int
    phases: tuple[PhaseBytes, ...]
    images: int
    parameters: int
    notes: tuple[str, ...]


def estimate_step(
    planned: Planned, images: int, *, one_round: bool = False, precision: str = "no", gpu: bool = False
) -> StepBytes:
    """A run without stages, or one stage, in rounds of so many images on a process.

    one_round: updates have one round; the estimate then is for these alone. precision: of autocast, as launch
    files write it: no, bf16 or fp16. gpu: working memory as there, else as on this machine's CPU. ValueError
    for sizes that do not fit or that cannot be told.
    """
    settings = planned.settings
    shapes = Shapes(gpu=gpu)
    sketches = sketch_networks(planned, shapes)
    generator = sketches.networks.generator
    rehearsal = _Rehearsal(settings, shapes, sketches, images, precision)
    networks: dict[str, nn.Module] = {"g": generator, "d": sketches.networks.discriminator.heads}
    averaged: list[nn.Module] = [generator]
    if sketches.own is not None:
        networks["text"] = sketches.own
        if settings.conditioning.train_text_encoder:
            averaged.append(sketches.own)
    sizes = {name: _network(network) for name, network in networks.items()}
    phases = tuple(rehearsal.phase(name, one_round) for name in rehearsal.phases())
    return StepBytes(
        networks=sizes,
        ema=bytes_of(tensor for network in averaged for tensor in tensors_of(network)),
        frozen=_frozen(settings, sketches),
        batch=bytes_of([rehearsal.pixels]) * (2 if gpu else 1),
        phases=phases,
        images=images,
        parameters=sum(parameter.numel() for parameter in generator.parameters()),
        notes=tuple(sketches.notes),
    )


def _network(network: nn.Module) -> NetworkBytes:
    parameters = list(network.parameters())
    return NetworkBytes(
        weights=bytes_of(parameters),
        trained=bytes_of(parameter for parameter in parameters if parameter.requires_grad),
        buffers=bytes_of(network.buffers()),
    )


def _frozen(settings: NetworkSettings, sketches: Sketches) -> dict[str, int]:
    features, stem = sketches.networks.discriminator.features, sketches.stem
    parts: dict[str, list[Tensor]] = {" and ".join(settings.discriminator.features): tensors_of(features)}
    if sketches.networks.classifier is not None:
        parts[f"classifier {settings.classifier}"] = tensors_of(sketches.networks.classifier)
    if sketches.encoder is not None:
        parts[settings.conditioning.text_encoder] = tensors_of(sketches.encoder)
    if stem is not None:
        parts["stem"] = tensors_of(stem.stem)
    if sketches.table is not None:
        parts["class vectors"] = [sketches.table]
    return {name: bytes_of(tensors) for name, tensors in parts.items()}


class _Rehearsal:
    """The phases of an update, run on shapes."""

    def __init__(
        self,
        settings: NetworkSettings,
        shapes: Shapes,
        sketches: Sketches,
        images: int,
        precision: str,
    ) -> None:
        self.settings, self.shapes, self.sketches = settings, shapes, sketches
        self.networks = sketches.networks
        self.images = images
        self.dtype = LOW_PRECISION.get(precision)
        self.objective = Objective(
            settings.objective,
            classifier=self.networks.classifier,
            clip=self.networks.clip,
            stem=sketches.stem,
        )
        if sketches.stem is not None:
            sketches.stem.watch(self.networks.generator)
        self._learning = {
            id(network): [p for p in network.parameters() if p.requires_grad] for network in self._learners()
        }
        side = settings.generator.img_resolution
        self.pixels = shapes.tensor((images, settings.generator.img_channels, side, side), torch.uint8)
        self.labels = torch.zeros(images, dtype=torch.int64) if settings.cond == "class" else None
        frozen = self._encode_frozen()
        with shapes, torch.no_grad():
            self.batch = MicroBatch(self.pixels, frozen if self._text_learns else self._encode(frozen))
        self.shared: list[Any] = []

    def phases(self) -> tuple[Phase, ...]:
        """All that occur, the generator's first: it leaves what the discriminator's may share."""
        return ("g", "pl", "d") if self.settings.objective.pl_weight > 0 else ("g", "d")

    def phase(self, name: Phase, one_round: bool) -> PhaseBytes:
        """Measured on shapes; leaves no gradients. one_round: updates have no other rounds."""
        trained = self._trained(name)
        for network in self._learners():
            network.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)
        self.shapes.overlook(self._standing())
        alone = self._round(name) - bytes_of(trained) if one_round else 0
        gradients = [self.shapes.like(parameter.detach(), anew=True) for parameter in trained]
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        self.shapes.overlook(gradients)
        apart = self._round(name)
        for parameter in trained:
            parameter.grad = None
        kept = 0 if name == "pl" else bytes_of(_leaves(self.shared))
        return PhaseBytes(name, alone if one_round else apart, apart, kept)

    def _round(self, name: Phase) -> int:
        """Forward and backward of one round; bytes at the peak above those at the begin."""
        start = self.shapes.live
        with self.shapes.running():
            with self._autocast():
                loss = self._loss(name)
            (loss / 2).backward()
            return self.shapes.peak - start

    def _loss(self, name: Phase) -> Tensor:
        """As `Trainer.loss`, with conditions of no meaning."""
        generator, discriminator = self.networks.generator, self.networks.discriminator
        rng = torch.Generator().manual_seed(0)
        z = torch.randn(self.images, self.settings.generator.z_dim, generator=rng)
        batch = self.batch
        if self._text_learns:
            with torch.set_grad_enabled(name != "d"):
                batch = replace(batch, cond=self._encode(batch.cond))
        if name == "pl":
            return self.objective.pl_loss(generator, batch, z, rng)[0]
        networks = Networks(generator, discriminator.heads, discriminator.features)
        if name == "d":
            batch = replace(batch, shared_fakes=list(self.shared))  # measured twice, so taken out twice
            return self.objective.d_loss(networks, batch, z, 0, rng)[0]
        self.shared = []
        return self.objective.g_loss(networks, replace(batch, shared_fakes=self.shared), z, 0, rng)[0]

    def _autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.dtype is None else torch.autocast("cpu", dtype=self.dtype)

    # Conditions ------------------------------------------------------------------------------------------

    def _encode_frozen(self) -> Conditioning:
        """See `Condition.encode_frozen`."""
        encoder = self.sketches.encoder
        if encoder is None:
            return Conditioning(c=self.labels, target=self.labels, labels=self.labels)
        target = torch.randn(self.images, encoder.dim)
        cond = Conditioning(c=target, target=target, guide=target[:, encoder.guide_columns])
        if not self.settings.generator.stylegan_t.instances:
            return cond
        pictures = torch.randn(self.images, encoder.picture_dim)
        own = torch.arange(self.images) % 2 == 0
        return cond._replace(target=torch.cat([target, pictures], dim=1), pictures=pictures, own=own)

    def _encode(self, frozen: Conditioning) -> Conditioning:
        """See `Condition.encode`."""
        encoder, captions = self.sketches.own or self.sketches.encoder, ["a picture"] * self.images
        if encoder is not None and self.networks.generator.attends:
            vectors, tokens = encoder.encode_with_tokens(captions)
            return frozen._replace(c=vectors.float(), tokens=tokens)
        if self.sketches.own is None:
            return frozen  # read once and kept
        return frozen._replace(c=self.sketches.own.encode_text(captions).float())

    @property
    def _text_learns(self) -> bool:
        return self.settings.conditioning.train_text_encoder

    # What learns -----------------------------------------------------------------------------------------

    def _learners(self) -> list[nn.Module]:
        own = [self.sketches.own] if self.sketches.own is not None else []
        return [self.networks.generator, self.networks.discriminator.heads, *own]

    def _trained(self, name: Phase) -> list[nn.Parameter]:
        """Parameters that take gradients in a phase."""
        generator, heads, *own = self._learners()
        networks = [heads] if name == "d" else [generator, *own]
        return [parameter for network in networks for parameter in self._learning[id(network)]]

    def _standing(self) -> list[Tensor]:
        """Everything that is there before a phase begins."""
        tensors = [tensor for network in self.sketches.modules() for tensor in tensors_of(network)]
        return [*tensors, self.pixels, *_leaves(self.shared)]


def _leaves(features: Sequence[Any]) -> list[Tensor]:
    """The tensors of nested lists."""
    found: list[Tensor] = []
    for entry in features:
        found += [entry] if isinstance(entry, Tensor) else _leaves(entry)
    return found
