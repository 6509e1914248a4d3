"""Where a configuration says `auto:KIND`, and published networks put in these places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sgxl_t.networks.backbones.references import split_references
from sgxl_t.training.config.stage_config import flat_settings

FeaturesMode = Literal["auto", "local", "pretrained"]
AUTO = "auto:"
FEATURES, CLASS, TEXT = "discriminator.features", "conditioning.class_features", "conditioning.text_encoder"
"""Settings in which a published network may take the place of `auto:KIND`. A classifier that guides has to
know the classes of the run's own data, so that `auto:` among classifiers is always trained."""


@dataclass(frozen=True, order=True)
class Use:
    """What a run needs a network for.

    role: class and text for condition encoders, the discriminator's family for its networks. kind: cnn, vit
    or clip.
    """

    role: str
    kind: str


@dataclass(frozen=True)
class Place:
    """References in a configuration: where they stand, in which role, and what they are."""

    where: str
    role: str
    references: str

    def parts(self) -> list[tuple[str, Use | None]]:
        """The references one by one, each with its use where it is an `auto:KIND`."""
        return [
            (name, Use(self.role, name.removeprefix(AUTO)) if name.startswith(AUTO) else None)
            for name in split_references(self.references)
        ]


@dataclass(frozen=True)
class AutoNetworks:
    """Published networks for uses of `auto:KIND`; all other uses are for networks that the run trains.

    side: of the images that the discriminator's published networks see, where the configuration leaves that
    open; None for the images' own, or what the network was trained on. features: the setting that gives the
    same once these networks are named; None where there is no use.
    """

    named: Mapping[Use, str] = field(default_factory=dict)
    side: int | None = None
    features: Literal["local", "pretrained"] | None = None

    def in_place(self, role: str, references: str) -> str:
        """The references with published networks for `auto:KIND`."""
        parts = [
            self.named.get(Use(role, name.removeprefix(AUTO)), name) if name.startswith(AUTO) else name
            for name in split_references(references)
        ]
        return "+".join(parts)

    def in_overrides(self, overrides: dict[str, Any], family: str) -> dict[str, Any]:
        """A stage's overrides with published networks; the same object where nothing changes."""
        flat = dict(flat_settings(overrides))
        changed = {}
        for key, role in _roles(flat, family).items():
            if key in flat:
                value = flat[key]
                put = (
                    self.in_place(role, value)
                    if isinstance(value, str)
                    else [self.in_place(role, one) for one in value]
                )
                changed[key] = put
        return {**flat, **changed} if any(flat[key] != value for key, value in changed.items()) else overrides

    def side_for(self, heads: str, family: str, asked: Any) -> int | None:
        """The `input_size` of a family's heads. family: the one that is used. asked: as configured."""
        if asked not in (None, "auto"):
            return int(asked)
        if heads != family or (heads == "projected" and asked is None):
            return None
        return self.side


def places(written: Mapping[str, Any]) -> Iterator[Place]:
    """All places where networks stand, in what `TrainConfig.to_dict` or a stored config.yaml holds."""
    family = str(written["discriminator"]["family"])
    yield from _places("", flat_settings(written), family)
    for number, stage in enumerate(written.get("stages") or ()):
        yield from _places(f"stages.{number}.", flat_settings(stage.get("overrides") or {}), family)


def _places(prefix: str, flat: list[tuple[str, Any]], family: str) -> Iterator[Place]:
    values = dict(flat)
    for key, role in _roles(values, family).items():
        found = values.get(key)
        for number, references in enumerate([found] if isinstance(found, str) else found or ()):
            yield Place(f"{prefix}{key}.{number}", role, str(references))


def _roles(flat: Mapping[str, Any], family: str) -> dict[str, str]:
    return {FEATURES: str(flat.get("discriminator.family", family)), CLASS: "class", TEXT: "text"}
