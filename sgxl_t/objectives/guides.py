"""All that guides a generator beside its discriminator, weighed and summed."""

from __future__ import annotations

import torch
from torch import Tensor

from sgxl_t.objectives.config import ObjectiveConfig
from sgxl_t.objectives.guidance import (
    Classifier,
    ImageTower,
    Stem,
    classifier_guidance,
    clip_guidance,
    stem_guidance,
)
from sgxl_t.ops.images import as_rgb


def check_guide(config: ObjectiveConfig, clip: ImageTower | None) -> None:
    """ValueError where clip_weight has no CLIP to act through."""
    if clip is None:
        raise ValueError(
            f"objective.clip_weight={config.clip_weight} needs a CLIP with an image tower: name one in "
            "conditioning.text_encoder, or set objective.clip_weight to 0"
        )


class Guides:
    """Frozen networks that judge generated images, each by the weight that the configuration gives it.

    classifier is needed for cls_weight, clip for clip_weight, stem (what the generator below makes) for
    stem_weight: ValueError without.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        *,
        classifier: Classifier | None = None,
        clip: ImageTower | None = None,
        stem: Stem | None = None,
    ) -> None:
        if config.cls_weight > 0 and classifier is None:
            raise ValueError(
                f"objective.cls_weight={config.cls_weight} needs a classifier: name one in "
                "conditioning.classifier, or set objective.cls_weight to 0"
            )
        if config.clip_weight > 0:
            check_guide(config, clip)
        if config.stem_weight > 0 and stem is None:
            raise ValueError(
                f"objective.stem_weight={config.stem_weight} needs a generator to grow on: name one in stem, "
                "list stages, or set objective.stem_weight to 0"
            )
        self.config = config
        self.classifier, self.clip, self.stem = classifier, clip, stem

    def __call__(
        self,
        images: Tensor,
        *,
        labels: Tensor | None = None,
        text_features: Tensor | None = None,
        rng: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each part unweighted and detached under the name it is reported by.

        images: [N, 3, R, R] in about [-1, 1], neither blurred nor augmented, of the generator's last pass.
        labels: int64 [N]. text_features: [N, dim] of the frozen CLIP.
        """
        config, parts = self.config, dict[str, tuple[float, Tensor]]()
        if config.cls_weight > 0:
            assert self.classifier is not None
            assert labels is not None, "classifier guidance needs labels"
            entropy = classifier_guidance(self.classifier, images, labels)
            parts["loss/classifier"] = config.cls_weight, entropy
        if config.clip_weight > 0:
            assert self.clip is not None
            assert text_features is not None, "CLIP guidance needs text features"
            distance = clip_guidance(self.clip, images, text_features, crop=config.clip_crop, rng=rng)
            parts["loss/clip"] = config.clip_weight, distance
        if config.stem_weight > 0:
            assert self.stem is not None
            parts["loss/stem"] = config.stem_weight, stem_guidance(images, as_rgb(self.stem.images()))
        total = sum(
            (weight * value for weight, value in parts.values()), torch.zeros((), device=images.device)
        )
        return total, {name: value.detach() for name, (_, value) in parts.items()}
