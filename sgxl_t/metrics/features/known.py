"""The named extractors: what each gives, how it reads images, and which weights it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
VGG16_FILE = "vgg16-397923af.pth"
CONTRAST_SCALES, CONTRAST_MAPS, CONTRAST_OCTAVES, CONTRAST_LAYOUT = 6, 4, 7, 4
"""Sizes of the extractor `contrast`: scales, maps of each, octaves of each map, side of its thumbnail."""


@dataclass(frozen=True, kw_only=True)
class KnownExtractor:
    """Facts about a named extractor that need none of its weights."""

    outputs: Mapping[str, int]
    """Name of each output to its width."""
    preprocessing: str
    """Id of how bytes become the network's input."""
    file: str = ""
    """Name of its weights file in the weights folder of the cache; empty where it needs none."""
    origin: str = ""
    """Where the file comes from, for messages."""
    sha256: str = ""
    """Of the file, where it is published as one; checked when the file is found by its name."""
    reference: str = ""
    """Its name in timm or open_clip, where these can fetch it."""


_INCEPTION = {"pool3": 2048, "spatial": 2023, "logits": 1008}
_INCEPTION_ORIGIN = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
_INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

KNOWN: dict[str, KnownExtractor] = {
    "contrast": KnownExtractor(
        outputs={"shares": CONTRAST_SCALES * CONTRAST_MAPS * CONTRAST_OCTAVES + 3 * (CONTRAST_LAYOUT**2 + 1)},
        preprocessing="own-side",
    ),
    "inception": KnownExtractor(
        outputs=_INCEPTION,
        preprocessing="tf1-bilinear-299",
        file=INCEPTION_FILE,
        origin=_INCEPTION_ORIGIN,
        sha256=_INCEPTION_SHA256,
    ),
    "inception_clean": KnownExtractor(
        outputs=_INCEPTION,
        preprocessing="pil-bicubic-float-299",
        file=INCEPTION_FILE,
        origin=_INCEPTION_ORIGIN,
        sha256=_INCEPTION_SHA256,
    ),
    "rinception": KnownExtractor(
        outputs={"pool3": 2048},
        preprocessing="tf1-bilinear-299",
        file="rinception.safetensors",
        origin="the randomly initialised Inception released with StyleGAN-XL, as a plain state dict",
    ),
    "inception_hash": KnownExtractor(outputs=_INCEPTION, preprocessing="tf1-bilinear-299"),
    "vgg16": KnownExtractor(
        outputs={"fc2": 4096},
        preprocessing="tf1-bilinear-224-imagenet",
        file=VGG16_FILE,
        origin=f"https://download.pytorch.org/models/{VGG16_FILE}",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    "clip_vit_b32": KnownExtractor(
        outputs={"projected": 512},
        preprocessing="pil-bicubic-uint8-224-clip",
        file="clip_vit_b32.safetensors",
        origin="open_clip_model.safetensors of the hub's timm/vit_base_patch32_clip_224.openai",
        reference="ViT-B-32-quickgelu/openai",
    ),
    "clip_vit_l14_datacomp": KnownExtractor(
        outputs={"class_token": 1024},
        preprocessing="pil-bicubic-uint8-224-clip",
        file="clip_vit_l14_datacomp.safetensors",
        origin="open_clip_model.safetensors of the hub's laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        reference="ViT-L-14/datacomp_xl_s13b_b90k",
    ),
    "clip_vit_l14_336": KnownExtractor(
        outputs={"unit": 768},
        preprocessing="bicubic-antialias-336-clip",
        file="clip_vit_l14_336.safetensors",
        origin="open_clip_model.safetensors of the hub's timm/vit_large_patch14_clip_336.openai",
        reference="ViT-L-14-336-quickgelu/openai",
    ),
    "dinov2": KnownExtractor(
        outputs={"class_token": 1024},
        preprocessing="bicubic-antialias-224-imagenet",
        file="dinov2_vitl14_pretrain.pth",
        origin="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        reference="vit_large_patch14_dinov2.lvd142m",
    ),
}
REFERENCE_SCHEMES = ("timm", "open_clip", "local", "random")
"""Any network by reference is an extractor too; its output is `pooled`."""
