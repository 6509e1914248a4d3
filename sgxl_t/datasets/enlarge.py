"""Images smaller than the archive they go into: enlarged by Lanczos, or by a super-resolution network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

MAX_PASSES = 4
LANCZOS = "Lanczos"


class Enlarger:
    """Enlarges square RGB images to a resolution by Lanczos. count: how many there were."""

    name = LANCZOS

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, square: Image.Image, resolution: int) -> Image.Image:
        """A smaller square image enlarged to exactly `resolution` pixels a side."""
        self.count += 1
        return self._enlarged(square, resolution).resize((resolution, resolution), Image.Resampling.LANCZOS)

    def _enlarged(self, square: Image.Image, resolution: int) -> Image.Image:
        return square


class ModelEnlarger(Enlarger):
    """Enlarges with an image-to-image network of transformers, such as Swin2SR, then by Lanczos to size.

    The network is applied until the image is at least as large as asked for; what is too much is taken off
    by antialiased Lanczos. Its images are ImageNet's usual 0 to 1 unless its own image processor says more.
    """

    def __init__(self, name: str, *, device: str | None = None) -> None:
        """name: folder or Hub id. device: torch's name; None takes CUDA where there is one.

        Raises ValueError when there is no such network.
        """
        super().__init__()
        self.name = name
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        from transformers import AutoImageProcessor, AutoModelForImageToImage

        try:
            self.model = AutoModelForImageToImage.from_pretrained(name).eval().to(self.device)
        except Exception as error:  # missing files, other architectures, no network: many kinds of errors
            reason = " ".join(str(error).split())[:160]
            raise ValueError(
                f"the upscaling model {name!r} could not be loaded ({type(error).__name__}: {reason}): name "
                "a folder or Hub id of an image-to-image model, such as caidas/swin2SR-classical-sr-x2-64"
            ) from None
        try:
            self.processor: Any = AutoImageProcessor.from_pretrained(name)
        except (OSError, ValueError):
            self.processor = None  # without one images go in as numbers from 0 to 1

    def _enlarged(self, square: Image.Image, resolution: int) -> Image.Image:
        for _ in range(MAX_PASSES):
            if square.width >= resolution:
                break
            square = self._once(square)
        return square

    @torch.no_grad()
    def _once(self, square: Image.Image) -> Image.Image:
        if self.processor is not None:
            pixels = self.processor(square, return_tensors="pt")["pixel_values"].float()
        else:
            pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255
        pixels = self._whole_windows(pixels)
        answer = self.model(pixel_values=pixels.to(self.device))
        image = getattr(answer, "reconstruction", None)
        if image is None or image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"the upscaling model {self.name!r} gives no colour picture: name another")
        factor = image.shape[-1] / pixels.shape[-1]
        if not factor > 1:
            raise ValueError(
                f"the upscaling model {self.name!r} gives pictures {factor:g} times as large: "
                "name one that enlarges, such as caidas/swin2SR-classical-sr-x2-64"
            )
        # The padding below and at the right is cut off again.
        resolution = round(square.width * factor)
        whole = (image[0, :, :resolution, :resolution].float().clamp(0, 1) * 255).round().to(torch.uint8)
        return Image.fromarray(whole.permute(1, 2, 0).cpu().numpy())

    def _whole_windows(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images [1, 3, H, W] whose sides are multiples of the network's attention windows."""
        window = int(getattr(self.model.config, "window_size", 1))
        below, right = -pixels.shape[-2] % window, -pixels.shape[-1] % window
        return torch.nn.functional.pad(pixels, (0, right, 0, below), mode="replicate")
