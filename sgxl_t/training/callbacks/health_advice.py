"""What a warning tells people to change: only settings that have an effect in the run that is warned."""

from __future__ import annotations

from sgxl_t.networks.backbones.references import split_references
from sgxl_t.training.config.config_words import either
from sgxl_t.training.config.settings import HealthSettings

CONDITION_SHARE = {
    "stylegan3": "generator.stylegan3.embed_proj_dim",
    "stylegan_t": "generator.stylegan_t.text_scale",
}
OTHER_SHARE = "the share of the condition in the generator's styles"
"""How much of the generator's styles is the condition, by family, and for registered families."""


def for_strong_discriminator(settings: HealthSettings) -> str:
    """Where the discriminator tells nearly all images apart."""
    objective, changes = settings.objective, [f"raise {_generator_rate(settings)} or lower optimizer.d_lr"]
    if objective.blur_init_sigma > 0:
        changes.append("blur longer (objective.blur_init_sigma, objective.blur_fade_kimg)")
    else:
        changes.append("blur at first (objective.blur_init_sigma)")
    if not settings.diff_augment:
        changes.append("set discriminator.diff_augment")
    changes.append("add data" if settings.mirror else "add data (data.mirror)")
    return (
        "It tells nearly all pictures apart and teaches little: see to other warnings first, then "
        f"{either(changes)}."
    )


def for_saturated_scores(settings: HealthSettings) -> str:
    """Where the heads run away."""
    return (
        "Its heads run away from the data: go back to best/, lower optimizer.d_lr and "
        f"{_generator_rate(settings)}."
    )


def for_standing_average(settings: HealthSettings) -> str:
    """Where the average of the generator does not move."""
    ramp = ", or set ema.rampup" if settings.ema.rampup is None else ""
    return (
        "Samples, best/ and last/ show the average: lower ema.half_life_kimg, which is "
        f"{settings.ema.half_life_kimg:g} (thousand images){ramp}."
    )


def for_alike_samples(settings: HealthSettings) -> str:
    """Where images of one condition hardly differ."""
    objective, lower = settings.objective, []
    if settings.cond != "none" and settings.mapping_learns:
        lower.append(CONDITION_SHARE.get(settings.family, OTHER_SHARE))
    if settings.cond == "class" and objective.cls_weight > 0:
        lower.append("objective.cls_weight")
    if settings.cond == "text" and objective.clip_weight > 0:
        lower.append("objective.clip_weight")
    if settings.cond == "none":
        lower.append("optimizer.g_lr")
    lower.append("optimizer.d_lr")
    wider = ", raise generator.z_dim" if settings.mapping_learns and not settings.started else ""
    return f"The latent hardly counts: lower {either(lower)}{wider}."


def for_grain(settings: HealthSettings) -> str:
    """Where flat places of images are covered with fine noise."""
    changes = ["lower optimizer.d_lr"]
    if not settings.diff_augment:
        changes.append("set discriminator.diff_augment")
    changes.append("raise ema.half_life_kimg")
    return f"The generator covers pictures with noise to please the discriminator: {either(changes)}."


def for_blur(settings: HealthSettings) -> str:
    """Where images have no sharp edges late in a run."""
    changes = [f"train longer or raise {_generator_rate(settings)}"]
    changes.append("lower ema.half_life_kimg, as an average over very different weights is blurred")
    return f"The generator has learnt coarse shapes alone: {either(changes)}."


def for_repeated_pictures(settings: HealthSettings) -> str:
    """Where a few images come again and again."""
    rate = _generator_rate(settings)
    changes = [f"go back to best/ and lower {rate} or optimizer.d_lr"]
    if not settings.diff_augment:
        changes.append("set discriminator.diff_augment")
    if settings.mapping_learns and not settings.started:
        changes.append("raise generator.z_dim")
    return f"The generator makes few different pictures: {either(changes)}."


def for_ignored_condition(settings: HealthSettings) -> str:
    """Where images are the same whatever is asked for; settings.cond is not none."""
    what = {"class": "labels", "text": "captions"}.get(settings.cond, "conditions")
    higher = ["objective.cls_weight"] if settings.cond == "class" else []
    if settings.cond == "text" and _has_guide(settings):
        higher.append("objective.clip_weight")
    if settings.cond == "text":
        higher += ["objective.mismatch_weight", "discriminator.text_scale"]
    if settings.mapping_learns:
        higher.append(CONDITION_SHARE.get(settings.family, OTHER_SHARE))
    return (
        f"Pictures are the same whatever is asked for: check that {what} fit their pictures, "
        f"raise {either(higher)}."
    )


def _generator_rate(settings: HealthSettings) -> str:
    return "optimizer.text_lr" if settings.freeze_generator else "optimizer.g_lr"


def _has_guide(settings: HealthSettings) -> bool:
    """Whether one of the text encoders is a CLIP, which alone can guide."""
    return any(not name.startswith("transformers:") for name in split_references(settings.text_encoder))
