"""One scale for all losses, and the papers' weights on it.

Scale: every term is a mean over the images of the global batch (and over an image's logits); feature networks
add up. Accumulation rounds and processes are averaged. Weights therefore mean the same at any batch size.

The releases use other scales, in which a guidance weight depends on the micro-batch m (images of one round on
one device). Adam ignores a common factor, so only the ratio of guidance to adversarial loss counts:

StyleGAN-XL adds the hinge terms up over the micro-batch but averages the cross-entropy,
    m * L_G + lambda * L_cls  =  m * (L_G + lambda / m * L_cls),     ours = lambda / m.
    lambda = 8 at m = 8 is 1.0 here.
StyleGAN-T divides the averaged hinge terms by m once more, but not the CLIP loss,
    L_G / m + lambda * L_clip  =  (L_G + lambda * m * L_clip) / m,   ours = lambda * m.
    lambda = 0.2 at m = 8 is 1.6 here; lambda = 50 (text encoder phase) is 400.
Path length has its own update but shares Adam's moments with the adversarial loss, which the release adds up
over the micro-batch while it averages the penalty: ours = 2 / m, 0.25 at m = 8.
"""

from __future__ import annotations

from dataclasses import replace

from sgxl_t.objectives.config import ObjectiveConfig

REFERENCE_MICRO_BATCH = 8
"""Images per round and device at which the papers' weights are taken."""


def cls_weight_from_release(weight: float, micro_batch: int = REFERENCE_MICRO_BATCH) -> float:
    """StyleGAN-XL's classifier guidance weight at that micro-batch, on our scale."""
    return weight / micro_batch


def clip_weight_from_release(weight: float, micro_batch: int = REFERENCE_MICRO_BATCH) -> float:
    """StyleGAN-T's CLIP weight at that micro-batch, on our scale."""
    return weight * micro_batch


def pl_weight_from_release(weight: float, micro_batch: int = REFERENCE_MICRO_BATCH) -> float:
    """StyleGAN-XL's path length weight at that micro-batch, on our scale."""
    return weight / micro_batch


_XL = ObjectiveConfig(order="g_first", average_w="d_phase", blur_init_sigma=2.0, blur_fade_kimg=300.0)
_T = ObjectiveConfig(order="d_first", average_w="all_phases", blur_init_sigma=32.0, blur_fade_kimg=1000.0)
_PRESETS = {
    "xl-stem": replace(_XL, pl_weight=pl_weight_from_release(2.0), pl_start_kimg=1000.0),
    "xl-superres": replace(_XL, cls_weight=cls_weight_from_release(8.0)),
    "t": replace(_T, clip_weight=clip_weight_from_release(0.2)),
    "t-text-encoder": replace(_T, clip_weight=clip_weight_from_release(50.0)),
}


def objective_preset(name: str) -> ObjectiveConfig:
    """The papers' objective: xl-stem, xl-superres, t or t-text-encoder. Raises ValueError for other names."""
    if name not in _PRESETS:
        raise ValueError(
            f"there is no objective preset {name!r}: choose one of {', '.join(sorted(_PRESETS))}"
        )
    return _PRESETS[name]
