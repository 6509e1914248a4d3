"""The published networks that stand in for `auto:KIND`, by processor and by what they are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sgxl_t.training.config.auto_networks import Use

Processor = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class Published:
    """A network by reference. side: of the images that it sees in a discriminator, none for what it was
    trained on. guides: whether its image tower is affordable as a guide in every update."""

    reference: str
    side: int | None = None
    guides: bool = True


LITE0 = "timm:tf_efficientnet_lite0.in1k"
DEIT = "timm:deit_base_distilled_patch16_224.fb_in1k"
DINO = "timm:vit_small_patch16_224.dino"
MOBILENET = "timm:mobilenetv3_small_100.lamb_in1k"

# GPU: the networks of StyleGAN-XL and StyleGAN-T, as configs/class/imagenet.yaml and configs/text name them.
# CPU: by milliseconds of one core for one image of an update (docs/experiments/backbones.md), beside 2 of the
# local CNN at 32 px and some 8 of the rest of a small run. An hour on two cores then shows 300 thousand
# images through EfficientNet-lite0, 80 thousand through ViT-S, 30 thousand with guidance by CLIP, too few.
PUBLISHED: dict[Processor, dict[Use, Published]] = {
    "gpu": {
        Use("projected", "cnn"): Published(LITE0, 224),
        Use("projected", "vit"): Published(DEIT, 224),
        Use("dino", "vit"): Published(DINO),
        Use("class", "cnn"): Published(LITE0),
        Use("class", "vit"): Published(DEIT),
        Use("text", "clip"): Published("open_clip:ViT-L-14/openai"),
    },
    "cpu": {
        Use("projected", "cnn"): Published(LITE0, 64),  # 17 ms; 45 at 128 px, MobileNetV3 there 15
        Use("projected", "vit"): Published(DINO, 96),  # 80 ms; 446 at 224 px
        Use("dino", "vit"): Published(DINO, 96),
        Use("class", "cnn"): Published(MOBILENET),
        Use("class", "vit"): Published(DINO),
        Use("text", "clip"): Published(
            "open_clip:ViT-B-32/openai", guides=False
        ),  # 209 ms; a caption 95, once
    },
}
