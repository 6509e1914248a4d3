"""The condition of a run, from its data and the networks that encode it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sgxl_t.conditioning.class_condition import ClassCondition
from sgxl_t.conditioning.class_table import class_table
from sgxl_t.conditioning.condition import Condition, NoCondition
from sgxl_t.conditioning.table_file import load_class_table
from sgxl_t.conditioning.text_condition import TextCondition
from sgxl_t.files.choices import add_choice

if TYPE_CHECKING:
    from sgxl_t.datasets.base import ImageSource
    from sgxl_t.networks.backbones.feature_networks import FeatureNetwork
    from sgxl_t.networks.text.text_encoder import TextEncoder

Beside = Literal["tokens", "pictures"]
"""What a generator may take beside the vectors of captions: tokens that it attends to, and features of
pictures that it remembers, which need an image tower."""

BuildCondition = Callable[["ImageSource | None", Path | None], Condition]
CONDITIONS: dict[str, BuildCondition] = {}
"""Conditions that are registered beside class, text and none."""


def register_condition(name: str) -> Callable[[BuildCondition], BuildCondition]:
    """Decorator: a function of (source, folder) becomes the condition `name`, for `--cond`.

    It is given the data of a new run, or the model folder in which `Condition.save` left what it needs; the
    other is None. The spec of the condition that it returns says `registered=name`.
    """

    def register(build: BuildCondition) -> BuildCondition:
        add_choice("sgxl_t.networks.configs", "ConditionName", name)
        CONDITIONS[name] = build
        return build

    return register


def build_condition(
    kind: str,
    source: ImageSource,
    *,
    clip: TextEncoder | str | None = None,
    class_network: FeatureNetwork | str | None = None,
    trainable_text: bool = False,
    own_text: TextEncoder | str | None = None,
    beside: Collection[Beside] = (),
    table_file: str | Path | None = None,
) -> Condition:
    """The condition for `kind` (class, text, none or a registered one) on the data of a run.

    clip: a loaded text encoder or its reference (see `load_text_encoder`); needed for text. trainable_text:
        the generator's copy of it learns too. own_text: what that copy starts from, if it was trained before.
        beside: what the generator takes beside vectors of captions.
    class_network: a loaded feature network or its reference, whose pooled means start the class tables;
        without it they start at random with rows of 64 numbers.
    table_file: a file with the start values instead, such as ImageNet's published table (see
        `load_class_table`).
    Raises ValueError when the data lacks what the condition needs.
    """
    if kind == "none":
        return NoCondition()
    if kind == "class":
        return _class_condition(source, class_network, table_file)
    if kind == "text":
        source.require(captions=True)
        own = None if own_text is None else _encoder(own_text)
        encoder = _required(clip)
        return TextCondition(
            encoder,
            trainable=trainable_text,
            own=own,
            tokens="tokens" in beside,
            picture_dim=encoder.picture_dim if "pictures" in beside else 0,
        )
    if kind in CONDITIONS:
        return CONDITIONS[kind](source, None)
    raise ValueError(
        f"there is no condition {kind!r}: use {', '.join((*CONDITIONS, 'class', 'text'))} or none"
    )


def _class_condition(
    source: ImageSource, features: FeatureNetwork | str | None, table_file: str | Path | None
) -> ClassCondition:
    source.require(labels=True)
    names = source.class_names or tuple(str(index) for index in range(source.num_classes))
    if table_file is not None:
        return ClassCondition(names, load_class_table(table_file, names))
    if isinstance(features, str):
        from sgxl_t.networks.frozen import load_feature_network

        features = load_feature_network(features)
    return ClassCondition(names, None if features is None else class_table(source, features))


def _required(encoder: TextEncoder | str | None) -> TextEncoder:
    if encoder is None:
        raise ValueError(
            "--cond text needs a text encoder: name one, such as open_clip:ViT-B-32/openai or local:FOLDER"
        )
    return _encoder(encoder)


def _encoder(encoder: TextEncoder | str) -> TextEncoder:
    from sgxl_t.networks.frozen import load_text_encoder

    return load_text_encoder(encoder) if isinstance(encoder, str) else encoder
