"""A sample as it is stored: its image as PNG beside label and captions."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

from PIL import Image

from sgxl_t.datasets.base import Sample


@dataclass(frozen=True)
class EncodedSample:
    """png: the file of a square image. side: its width and height in pixels."""

    png: bytes
    side: int
    label: int | None
    captions: tuple[str, ...]

    @classmethod
    def of(cls, sample: Sample) -> EncodedSample:
        """Encodes the image without loss, fast rather than small."""
        buffer = io.BytesIO()
        Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(buffer, "png", compress_level=1)
        return cls(buffer.getvalue(), sample.image.shape[-1], sample.label, sample.captions)

    def without_picture(self) -> EncodedSample:
        """The same without the bytes of the image."""
        return replace(self, png=b"")

    def with_picture(self, png: bytes) -> EncodedSample:
        """The same with these bytes."""
        return replace(self, png=png)
