"""Resizing as the reference implementations of metrics do it; each has its own name because each counts."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

TargetSize = int | tuple[int, int]


def tf1_bilinear(images: Tensor, size: TargetSize) -> Tensor:
    """images [N, C, H, W], bytes or floats -> float32 [N, C, *size] by TensorFlow 1's ResizeBilinear.

    size: height and width, or one number for both. Output pixel i reads input position i * in / out, without
    half-pixel offset and without antialiasing, and the last pixel is repeated at the border. FID is defined
    with it (Heusel et al. 2017 through their TensorFlow graph). Input and output share one range.
    """
    height, width = _pair(size)
    images = images.float()
    if images.shape[-2:] == (height, width):
        return images
    low, high, weight = _positions(images.shape[-1], width, images.device)
    columns = torch.lerp(images[..., low], images[..., high], weight)
    low, high, weight = _positions(images.shape[-2], height, images.device)
    return torch.lerp(columns[..., low, :], columns[..., high, :], weight[:, None])


def _positions(length: int, count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Both neighbours of every output position along one axis, and the weight of the second."""
    # The product is rounded to float32 as in TensorFlow: the floor below depends on it.
    source = torch.arange(count, dtype=torch.float32, device=device) * torch.tensor(
        length / count, dtype=torch.float32, device=device
    )
    low = source.long().clamp_max(length - 1)
    return low, (low + 1).clamp_max(length - 1), source - low


def bicubic_antialias(images: Tensor, size: TargetSize) -> Tensor:
    """images [N, C, H, W], bytes or floats -> float32 [N, C, *size] by antialiased bicubic (a = -0.5).

    As Pillow's BICUBIC on float images, and JAX's. Nothing is rounded or clipped: values may overshoot the
    range of the input.
    """
    height, width = _pair(size)
    images = images.float()
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bicubic", align_corners=False, antialias=True)


def bicubic_uint8(images: Tensor, size: TargetSize) -> Tensor:
    """images uint8 [N, C, H, W] -> uint8 [N, C, *size], exactly Pillow's BICUBIC; on the CPU inside."""
    return _pillow(images, size, Image.Resampling.BICUBIC)


def lanczos_uint8(images: Tensor, size: TargetSize) -> Tensor:
    """images uint8 [N, C, H, W] -> uint8 [N, C, *size], exactly Pillow's LANCZOS; on the CPU inside.

    Data sets are prepared with it, and so are generated images that are measured at a smaller size.
    """
    return _pillow(images, size, Image.Resampling.LANCZOS)


def _pillow(images: Tensor, size: TargetSize, method: Image.Resampling) -> Tensor:
    height, width = _pair(size)
    if images.dtype != torch.uint8:
        raise ValueError(f"images of {images.dtype} were given: Pillow's resizing takes uint8 in [0, 255]")
    if images.shape[-2:] == (height, width):
        return images
    # Pillow works channel by channel, so planes give what colour images give, for any number of channels.
    planes = images.reshape(-1, *images.shape[-2:]).cpu().numpy()
    resized = [np.asarray(Image.fromarray(plane).resize((width, height), method)) for plane in planes]
    result = torch.from_numpy(np.stack(resized)) if resized else torch.empty(0, dtype=torch.uint8)
    return result.reshape(*images.shape[:-2], height, width).to(images.device)


def _pair(size: TargetSize) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
