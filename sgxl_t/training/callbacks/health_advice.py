"""What a warning tells people to change: only settings that have an effect in the run that is warned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgxl_t.networks.backbones.references import split_references
from sgxl_t.training.config.config_words import either

if TYPE_CHECKING:
    from sgxl_t.training.config.config import TrainConfig

CONDITION_SHARE = {
    "stylegan3": "generator.stylegan3.embed_proj_dim",
    "stylegan_t": "generator.stylegan_t.text_scale",
}
OTHER_SHARE = "the share of the condition in the generator's styles"
"""How much of the generator's styles is the condition, by family, and for registered families."""


def for_strong_discriminator(config: TrainConfig) -> str:
    """Where the discriminator tells nearly all images apart."""
    objective, changes = config.objective, [f"raise {_generator_rate(config)} or lower optimizer.d_lr"]
    if objective.blur_init_sigma > 0:
        changes.append("blur longer (objective.blur_init_sigma, objective.blur_fade_kimg)")
    else:
        changes.append("blur at first (objective.blur_init_sigma)")
    if not config.discriminator.diff_augment:
        changes.append("set discriminator.diff_augment")
    changes.append("add data" if config.data.mirror else "add data (data.mirror)")
    return (
        "It tells nearly all pictures apart and teaches little: see to other warnings first, then "
        f"{either(changes)}."
    )


def for_saturated_scores(config: TrainConfig) -> str:
    """Where the heads run away."""
    return (
        "Its heads run away from the data: go back to best/, lower optimizer.d_lr and "
        f"{_generator_rate(config)}."
    )


def for_standing_average(config: TrainConfig) -> str:
    """Where the average of the generator does not move."""
    ramp = ", or set ema.rampup" if config.ema.rampup is None else ""
    return (
        "Samples, best/ and last/ show the average: lower ema.half_life_kimg, which is "
        f"{config.ema.half_life_kimg:g} (thousand images){ramp}."
    )


def for_alike_samples(config: TrainConfig) -> str:
    """Where images of one condition hardly differ."""
    objective, lower = config.objective, []
    if config.cond != "none" and _sizes_are_free(config):
        lower.append(CONDITION_SHARE.get(config.generator.family, OTHER_SHARE))
    if config.cond == "class" and objective.cls_weight > 0:
        lower.append("objective.cls_weight")
    if config.cond == "text" and objective.clip_weight > 0:
        lower.append("objective.clip_weight")
    if config.cond == "none":
        lower.append("optimizer.g_lr")
    lower.append("optimizer.d_lr")
    wider = ", raise generator.z_dim" if _sizes_are_free(config) and not config.start else ""
    return f"The latent hardly counts: lower {either(lower)}{wider}."


def for_ignored_condition(config: TrainConfig) -> str:
    """Where images are the same whatever is asked for; config.cond is not none."""
    what = {"class": "labels", "text": "captions"}.get(config.cond, "conditions")
    higher = ["objective.cls_weight"] if config.cond == "class" else []
    if config.cond == "text" and _has_guide(config):
        higher.append("objective.clip_weight")
    if config.cond == "text":
        higher += ["objective.mismatch_weight", "discriminator.text_scale"]
    if _sizes_are_free(config):
        higher.append(CONDITION_SHARE.get(config.generator.family, OTHER_SHARE))
    return (
        f"Pictures are the same whatever is asked for: check that {what} fit their pictures, "
        f"raise {either(higher)}."
    )


def _sizes_are_free(config: TrainConfig) -> bool:
    """Whether the mapping learns here; beside a stem, or where lower blocks rest, it is another run's."""
    return config.stem is None and config.freeze_below is None and not config.freeze_generator


def _generator_rate(config: TrainConfig) -> str:
    return "optimizer.text_lr" if config.freeze_generator else "optimizer.g_lr"


def _has_guide(config: TrainConfig) -> bool:
    """Whether one of the text encoders is a CLIP, which alone can guide."""
    return any(
        not name.startswith("transformers:") for name in split_references(config.conditioning.text_encoder)
    )
