"""The networks of a configuration without their weights: every size as in training, nothing downloaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import constants
from torch import Tensor, nn

from sgxl_t.conditioning.table_file import load_class_table
from sgxl_t.model_io.model_folder import read_info
from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
from sgxl_t.networks.backbones.local_networks import SmallCNN, SmallCNNConfig, SmallViT, SmallViTConfig
from sgxl_t.networks.backbones.references import split_references
from sgxl_t.networks.configs import ConditionSpec, GeneratorConfig
from sgxl_t.networks.discriminators.discriminator import Discriminator, build_discriminator
from sgxl_t.networks.frozen import load_feature_network, load_stored_text
from sgxl_t.networks.generators.frozen_t import rest, resting_names
from sgxl_t.networks.generators.generator import Generator
from sgxl_t.networks.generators.registry import build_generator
from sgxl_t.networks.generators.superres import StemView, freeze_for_stage
from sgxl_t.networks.text.clip import ClipModel, TextTowerConfig, local_clip, without_image
from sgxl_t.networks.text.open_clip_model import OpenClipModel, check_open_clip
from sgxl_t.networks.text.text_encoder import JoinedEncoders, TextEncoder
from sgxl_t.networks.text.transformers_text import FAMILIES, TransformersText
from sgxl_t.networks.weights.stored import read_config
from sgxl_t.training.config.config import TrainConfig
from sgxl_t.training.local_features.config import FeaturesConfig
from sgxl_t.training.loop.data import open_data
from sgxl_t.training.memory.shapes import Shapes

CLASSES = 1000
"""Classes of data that is not here."""
WORDS = 1000
"""Words of the vocabulary of a CLIP that a run is going to train; a few kilobytes more or less."""
CAPTION = 77
"""Tokens of a caption, where a tower takes any number."""


@dataclass
class Sketches:
    """The networks of a run as shapes alone.

    encoder: the frozen text encoder, with its image tower where that guides. own: the generator's own text
    tower, which learns or has learnt. table: class vectors that stay beside the networks. notes: sentences on
    what had to be assumed.
    """

    generator: Generator
    discriminator: Discriminator
    classifier: FeatureNetwork | None = None
    encoder: TextEncoder | None = None
    own: TextEncoder | None = None
    stem: StemView | None = None
    table: Tensor | None = None
    notes: list[str] = field(default_factory=list)


def sketch_networks(config: TrainConfig, shapes: Shapes, below: GeneratorConfig | None = None) -> Sketches:
    """All networks of a run or stage. below: generator that it grows on, where config.stem is not there yet.

    ValueError for references that no size can be told of without their files, and for sizes that do not fit.
    """
    with shapes.building():
        sketches = _Sketcher(config).sketch(below)
    stem = None if sketches.stem is None else sketches.stem.stem
    parts = (sketches.discriminator.features, sketches.discriminator.heads, sketches.classifier)
    for network in (sketches.generator, *parts, sketches.encoder, sketches.own, stem):
        if network is not None:
            shapes.hollow(network)
    if sketches.table is not None:
        sketches.table = shapes.like(sketches.table)
    return sketches


class _Sketcher:
    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.root = config.folder() / "features"
        self.notes: list[str] = []
        self.names: tuple[str, ...] | None = None

    def sketch(self, below: GeneratorConfig | None) -> Sketches:
        config = self.config
        if config.cond == "class":
            self.names = self._class_names()
        encoder = own = None
        if config.cond == "text":
            wanted = config.conditioning
            encoder = self.text_encoder(wanted.text_encoder, images=config.objective.clip_weight > 0)
            encoder.requires_grad_(False)
            if wanted.train_text_encoder or wanted.own_text_encoder:
                own = self._own_tower(wanted.own_text_encoder, wanted.text_encoder)
        if below is None and config.stem:
            below = read_info(config.stem).generator
        spec, table = self._condition(encoder, grows=below is not None)
        generator = build_generator(config.generator, spec)
        generator.recompute_from(config.compute.checkpoint_from)
        features = [self.feature_network(name) for name in config.discriminator.features]
        discriminator = build_discriminator(
            config.discriminator, spec, config.generator.img_resolution, networks=features
        )
        classified = config.cond == "class" and config.objective.cls_weight > 0
        classifier = self.feature_network(config.conditioning.classifier) if classified else None
        for guide in (classifier, None if encoder is None else encoder.guide):
            if guide is not None:
                guide.precision = config.discriminator.precision
        return Sketches(
            generator=generator,
            discriminator=discriminator,
            classifier=classifier,
            encoder=encoder,
            own=own,
            stem=self._stem(generator, spec, below),
            table=table,
            notes=self.notes,
        )

    def _stem(
        self, generator: Generator, spec: ConditionSpec, below: GeneratorConfig | None
    ) -> StemView | None:
        """Lets rest what rests in training; the stem itself where it guides."""
        config = self.config
        if below is not None or config.freeze_stem:
            freeze_for_stage(generator, train_input=not config.freeze_input)
        if config.freeze_below is not None:
            lowres = config.train_lowres_torgb
            rest(generator, resting_names(generator, config.freeze_below, train_lowres_torgb=lowres))
        if config.freeze_generator:
            generator.requires_grad_(False)
        if below is None or config.objective.stem_weight == 0:
            return None
        return StemView(build_generator(below, spec))

    # The condition ---------------------------------------------------------------------------------------

    def _class_names(self) -> tuple[str, ...]:
        source = self.config.data.source
        if not re.search(r"://|^pipe:", source):
            try:
                opened = open_data(self.config.data, self.config.generator)
            except (ValueError, OSError):
                pass
            else:
                return tuple(opened.class_names or ())
        self.notes.append(f"data.source={source} is not here: its classes are taken to be {CLASSES}")
        return tuple(map(str, range(CLASSES)))

    def _condition(self, encoder: TextEncoder | None, *, grows: bool) -> tuple[ConditionSpec, Tensor | None]:
        """What enters the networks, and the class vectors that their tables start from."""
        config = self.config
        if config.cond == "none":
            return ConditionSpec(), None
        if encoder is not None:
            tokens = encoder.token_dim if config.generator.stylegan_t.attention_resolutions else 0
            return ConditionSpec(kind="text", dim=encoder.dim, token_dim=tokens), None
        assert self.names is not None
        named = config.conditioning.class_features
        if config.conditioning.class_table is not None:
            width = load_class_table(config.conditioning.class_table, self.names).shape[1]
        elif grows and config.stem and Path(config.stem, "config.json").is_file():
            width = read_info(config.stem).condition.dim
        else:
            width = self.feature_network(named).embed_dim
        table = torch.empty(len(self.names), width)
        return ConditionSpec(kind="class", dim=width, num_classes=len(self.names)), table

    def _own_tower(self, stored: str | None, reference: str) -> TextEncoder:
        """The generator's own text tower; one that an earlier stage will leave has the frozen one's sizes."""
        there = stored is not None and Path(stored.removeprefix("local:"), "config.json").is_file()
        tower = self.text_encoder(stored if stored is not None and there else reference, images=False)
        for parameter in tower.text_parameters():
            parameter.requires_grad_(self.config.conditioning.train_text_encoder)
        return tower.float()

    # Pretrained and local networks -----------------------------------------------------------------------

    def feature_network(self, reference: str) -> FeatureNetwork:
        """A frozen feature network by reference; auto:KIND is read from the run folder or made as new."""
        kind = self._untrained(reference)
        if kind is not None:
            network = self._small(kind)
            return FeatureNetwork(reference, network, input_size=network.input_size)
        scheme, _, name = reference.partition(":")
        if scheme == "auto":
            return load_feature_network(f"local:{self.root / name}")
        if scheme == "timm":
            return load_feature_network(f"random:{name}")
        if scheme == "open_clip":
            clip = _open_clip(name)
            side = clip.visual.image_size
            return FeatureNetwork(
                reference, clip.visual, input_size=side if isinstance(side, int) else side[0]
            )
        return load_feature_network(reference)

    def _untrained(self, reference: str) -> str | None:
        """KIND of a small network that this run, or a stage before it, is going to train."""
        scheme, _, name = reference.partition(":")
        folder = self.root / name if scheme == "auto" else Path(name)
        awaited = scheme == "auto" or (scheme == "local" and folder.parent.name == "features")
        return folder.name if awaited and not (folder / "config.json").is_file() else None

    def _small(self, kind: str) -> SmallCNN | SmallViT:
        """What `train_features` would begin with (see features.py)."""
        sizes = FeaturesConfig()
        side = min(self.config.generator.img_resolution, sizes.max_side)
        contrastive = self.config.cond != "class"
        outputs: dict[str, Any] = {
            "image_size": side,
            "num_classes": len(self.names or ()),
            "projection": sizes.embed_dim if contrastive else 0,
        }
        if kind == "vit":
            return SmallViT(SmallViTConfig(patch=max(4, side // 8), **outputs))
        if kind != "cnn":
            raise ValueError(f"auto:{kind} is no feature network: use auto:cnn or auto:vit")
        channels = (16, 32, 64, 96) if side <= 16 else (16, 32, 48, 64)
        return SmallCNN(SmallCNNConfig(channels=channels, **outputs))

    def text_encoder(self, references: str, *, images: bool) -> TextEncoder:
        """A text encoder, or several joined by `+`; with the image tower of the first that has one."""
        parts: list[TextEncoder] = []
        for reference in split_references(references):
            guided = any(part.guide is not None for part in parts)
            parts.append(self._text_part(reference, images and not guided))
        return parts[0] if len(parts) == 1 else JoinedEncoders(parts)

    def _text_part(self, reference: str, images: bool) -> TextEncoder:
        if self._untrained(reference) == "clip":
            return self._small_clip(images)
        scheme, _, name = reference.partition(":")
        if scheme == "auto":
            return _padded(self._stored_text(self.root / name, images))
        if scheme == "local":
            return _padded(self._stored_text(Path(name), images))
        if scheme == "open_clip":
            model_name, _, tag = name.rpartition("/")
            _, quick = check_open_clip(model_name, tag)
            clip = _open_clip(name, force_quick_gelu=quick)
            size = clip.visual.image_size
            side = size if isinstance(size, int) else size[0]
            kept = clip if images else without_image(clip)
            length = getattr(clip, "context_length", CAPTION)
            return OpenClipModel(
                kept, _FullCaptions(length), model_name, quick_gelu=quick, image_size=side if images else 0
            )
        if scheme == "transformers":
            return _transformers(reference, name)
        raise ValueError(
            f"{reference!r} names no text encoder: write open_clip:MODEL/TAG, transformers:NAME_OR_FOLDER or "
            "local:FOLDER"
        )

    def _stored_text(self, folder: Path, images: bool) -> TextEncoder:
        stored = read_config(folder)
        if stored["kind"].raw == "reference":
            return self._text_part(stored["reference"].text(), images)
        return load_stored_text(folder, images=images)

    def _small_clip(self, images: bool) -> ClipModel:
        sizes = FeaturesConfig()
        text = TextTowerConfig(
            embed_dim=sizes.embed_dim,
            width=sizes.text_width,
            layers=sizes.text_layers,
            vocab_size=WORDS,
            context_length=CAPTION,
        )
        tower = self._small("cnn") if images else None
        return local_clip(text, _FullCaptions(CAPTION), tower)


class _FullCaptions:
    """Stands for a tokenizer: every caption fills its places."""

    def __init__(self, length: int) -> None:
        self.context_length = length

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        return torch.arange(context_length or self.context_length).repeat(len(texts), 1)


class _PaddedCaptions:
    """The same for a tower of transformers."""

    pad_token_id = -1

    def __call__(self, texts: Sequence[str], *, max_length: int, **_: Any) -> dict[str, Tensor]:
        ids = torch.arange(min(max_length, CAPTION)).repeat(len(texts), 1)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _padded(encoder: TextEncoder) -> TextEncoder:
    """Captions as long as the tower takes them, whatever the words are."""
    parts = encoder.encoders if isinstance(encoder, JoinedEncoders) else [encoder]
    for part in parts:
        if isinstance(part, ClipModel):
            length = getattr(part.model, "context_length", CAPTION)
            part.tokenizer = _FullCaptions(length)
    return encoder


@contextmanager
def _offline(reference: str) -> Iterator[None]:
    """Nothing is fetched inside; a file that is missing becomes a ValueError."""
    before, level = constants.HF_HUB_OFFLINE, logging.root.manager.disable
    constants.HF_HUB_OFFLINE = True
    logging.disable(logging.ERROR)  # the loaders warn of weights that nobody wants here
    try:
        yield
    except Exception as error:  # every loader has its own kinds
        raise ValueError(
            f"the sizes of {reference} are in its config.json, which is not here ({type(error).__name__}): "
            "start a run with it once, or place its files and name their folder"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before
        logging.disable(level)


def _open_clip(name: str, **options: Any) -> Any:
    """MODEL/TAG as open_clip builds it, with weights of no meaning."""
    model_name, _, tag = name.rpartition("/")
    check_open_clip(model_name, tag)
    with _offline(f"open_clip:{name}"):
        return open_clip.create_model(model_name, load_weights=False, pretrained_text=False, **options)


def _transformers(reference: str, name: str) -> TransformersText:
    """A tower of the transformers library from its config.json, which has to be here already."""
    import transformers

    common: dict[str, Any] = {"local_files_only": True}
    with _offline(reference):
        settings, _ = transformers.PretrainedConfig.get_config_dict(name, **common)
        family = FAMILIES[str(settings.get("model_type"))]
        network = getattr(transformers, family.network)
        config = network.config_class.from_pretrained(name, **common)
    model: nn.Module = network(config)
    if config.dtype is not None and config.dtype != torch.float16:
        model.to(config.dtype)
    tower = TransformersText(model, _PaddedCaptions(), family, lower=False, bare=False)
    tower.requires_grad_(False)
    return tower.eval()
