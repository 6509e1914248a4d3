"""The networks of a run without their weights: every size as in training, nothing downloaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from sgxl_t.conditioning.table_file import load_class_table
from sgxl_t.model_io.model_folder import read_info
from sgxl_t.networks.backbones.feature_networks import FeatureNetwork, from_local
from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallViT
from sgxl_t.networks.backbones.references import local_references, split_references
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig
from sgxl_t.networks.frozen import join_encoders, load_feature_network, load_text_encoder
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.generators.superres import StemView
from sgxl_t.networks.text.full_captions import CAPTION, FullCaptions
from sgxl_t.networks.text.text_encoder import TextEncoder
from sgxl_t.training.config.parts import DataConfig
from sgxl_t.training.config.settings import NetworkSettings
from sgxl_t.training.local_features.config import FeaturesConfig
from sgxl_t.training.local_features.networks import new_clip, new_network
from sgxl_t.training.loop.data import open_data
from sgxl_t.training.memory.shapes import Shapes
from sgxl_t.training.networks import Networks, build_networks
from sgxl_t.training.start.origin import class_rows

CLASSES = 1000
"""Classes of data that is not here."""
WORDS = 1000
"""Words in the vocabulary of a CLIP that a run is going to train; a few kilobytes more or less."""


@dataclass(frozen=True)
class Planned:
    """A run or stage before it starts.

    features: the folder in which it trains its own feature networks. below: the generator that it grows on,
    where settings.stem is not there yet.
    """

    settings: NetworkSettings
    data: DataConfig
    features: Path
    below: GeneratorConfig | None = None


@dataclass
class Sketches:
    """The networks of a run as shapes alone.

    encoder: the frozen text encoder, with its image tower where that guides. own: the generator's own text
    encoder, which learns or has learnt. table: class vectors that stay beside the networks. notes: sentences
    on what had to be assumed.
    """

    networks: Networks
    encoder: TextEncoder | None
    own: TextEncoder | None
    stem: StemView | None
    table: Tensor | None
    notes: list[str]

    def modules(self) -> list[nn.Module]:
        """All networks, the learning ones first."""
        made, stem = self.networks, None if self.stem is None else self.stem.stem
        parts = (made.generator, made.discriminator.heads, self.own, made.discriminator.features)
        return [one for one in (*parts, made.classifier, self.encoder, stem) if one is not None]


def sketch_networks(planned: Planned, shapes: Shapes) -> Sketches:
    """All networks of a run or stage.

    ValueError for references that no size can be told of without their files, and for sizes that do not fit.
    """
    with shapes.building():
        sketches = _Sketcher(planned).sketch()
    for network in sketches.modules():
        shapes.hollow(network)
    if sketches.table is not None:
        sketches.table = shapes.like(sketches.table)
    return sketches


@dataclass
class _Sketcher:
    planned: Planned
    notes: list[str] = field(default_factory=list)
    names: tuple[str, ...] = ()

    def sketch(self) -> Sketches:
        settings, below = self.planned.settings, self.planned.below
        if settings.cond == "class":
            self.names = self._class_names()
        encoder = own = None
        if settings.cond == "text":
            wanted = settings.conditioning
            encoder = self.text_encoder(wanted.text_encoder, images=settings.pictures_read)
            encoder.requires_grad_(False)
            if wanted.train_text_encoder or wanted.own_text_encoder:
                own = self._own_encoder(wanted.own_text_encoder, wanted.text_encoder)
        if below is None and settings.stem:
            below = read_info(settings.stem).generator
        spec, table = self._condition(own or encoder, encoder, grows=below is not None)
        networks = build_networks(settings, spec, encoder, self.feature_network)
        guided = below is not None and settings.objective.stem_weight > 0
        stem = StemView(build_generator(below, spec)) if below is not None and guided else None
        return Sketches(networks, encoder, own, stem, table, self.notes)

    def _class_names(self) -> tuple[str, ...]:
        data = self.planned.data
        if not re.search(r"://|^pipe:", data.source):
            try:
                return tuple(open_data(data, self.planned.settings.generator).class_names or ())
            except (ValueError, OSError):
                pass
        self.notes.append(f"data.source={data.source} is not here: its classes are taken to be {CLASSES}")
        return tuple(map(str, range(CLASSES)))

    def _condition(
        self, encoder: TextEncoder | None, frozen: TextEncoder | None, *, grows: bool
    ) -> tuple[ConditionSpec, Tensor | None]:
        """What enters the networks, and the class vectors that their tables start from. encoder: that the
        generator reads captions by; frozen: that the heads do, which also sees pictures."""
        settings = self.planned.settings
        if settings.cond == "none":
            return ConditionSpec(), None
        if encoder is not None and frozen is not None:
            tokens = encoder.token_dim if settings.generator.stylegan_t.attention_resolutions else 0
            pictures = frozen.picture_dim if settings.generator.stylegan_t.instances else 0
            spec = ConditionSpec(kind="text", dim=encoder.dim, token_dim=tokens, picture_dim=pictures)
            return spec, None
        file, started = settings.conditioning.class_table, class_rows(settings, self.names)
        if file is not None:
            width = load_class_table(file, self.names).shape[1]
        elif grows and settings.stem and Path(settings.stem, "config.json").is_file():
            width = read_info(settings.stem).condition.dim
        elif started is not None:
            width = started.shape[1]
        else:
            width = self.feature_network(settings.conditioning.class_features).embed_dim
        table = torch.empty(len(self.names), width)
        return ConditionSpec(kind="class", dim=width, num_classes=len(self.names)), table

    def _own_encoder(self, stored: str | None, reference: str) -> TextEncoder:
        """The generator's own text encoder; what an earlier stage will leave has the frozen one's sizes."""
        there = stored is not None and Path(stored.removeprefix("local:"), "config.json").is_file()
        encoder = self.text_encoder(stored if stored is not None and there else reference, images=False)
        for parameter in encoder.text_parameters():
            parameter.requires_grad_(self.planned.settings.conditioning.train_text_encoder)
        return encoder.float()

    # Networks by reference, also those that this run, or a stage before it, is going to train ------------

    def feature_network(self, reference: str) -> FeatureNetwork:
        """A frozen feature network by reference."""
        reference = local_references(reference, self.planned.features)
        kind = _untrained(reference)
        if kind is None:
            return load_feature_network(reference, weights="none")
        return from_local(reference, self._small(kind))

    def text_encoder(self, references: str, *, images: bool) -> TextEncoder:
        """A text encoder, or several joined by `+`; images: with the first image tower there is."""
        names = split_references(local_references(references, self.planned.features))
        return join_encoders(names, images, self._text_part)

    def _text_part(self, reference: str, images: bool) -> TextEncoder:
        if _untrained(reference) != "clip":
            return load_text_encoder(reference, images=images, weights="none")
        image = self._small("cnn") if images else None
        assert not isinstance(image, SmallViT)
        return new_clip(FullCaptions(CAPTION), WORDS, FeaturesConfig(), image)

    def _small(self, kind: str) -> SmallCNN | SmallViT:
        """What `train_features` would begin with."""
        if kind not in ("cnn", "vit"):
            raise ValueError(f"auto:{kind} is no feature network: use auto:cnn or auto:vit")
        settings, sizes = self.planned.settings, FeaturesConfig()
        return new_network(
            "cnn" if kind == "cnn" else "vit",
            sizes,
            resolution=min(settings.generator.img_resolution, sizes.max_side),
            classes=len(self.names),
            contrastive=settings.cond != "class",
        )


def _untrained(reference: str) -> str | None:
    """KIND of a local network among a run's features that is not there yet; None for all else."""
    scheme, _, name = reference.partition(":")
    awaited = scheme == "local" and Path(name).parent.name == "features"
    return Path(name).name if awaited and not Path(name, "config.json").is_file() else None
