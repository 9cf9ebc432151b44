"""Pictures as bytes, each in the format that is the smallest, and within a weight."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloudgan.report.colours import Rgba

_QUALITIES = (82, 68, 52, 36)
_SHRINK = 0.75  # of the edges, where no quality fits
_FEW_PIXELS = 40_000  # of a picture whose lossless form may be the smallest; of others it takes long
_SMALLEST = 48  # edge in pixels that is never made smaller


def encode_picture(pixels: NDArray[np.uint8], limit: int) -> str:
    """A picture in colour as a data URI.

    Args:
        pixels: Shape (rows, columns, 4).
        limit: Bytes that it may have; a picture that cannot have so few has as few as it can.
    """
    image = Image.fromarray(pixels, "RGBA")
    has_gaps = bool((pixels[..., 3] < 255).any())
    best = "", b""
    for smaller in _shrink(image, Image.Resampling.BOX):
        for quality in _QUALITIES:
            best = min(_encode(smaller, quality, has_gaps), key=lambda one: len(one[1]))
            if len(best[1]) <= limit:
                return _to_uri(*best)
    return _to_uri(*best)


def encode_classes(numbers: NDArray[np.uint8], palette: Sequence[Rgba], limit: int) -> str:
    """A picture of few colours as a data URI; see `encode_picture`."""
    image = Image.fromarray(numbers, "P")
    image.putpalette(bytes(value for colour in palette for value in colour[:3]))
    opacity = bytes(colour[3] for colour in palette)
    body = b""
    for smaller in _shrink(image, Image.Resampling.NEAREST):
        body = _save(smaller, "PNG", compress_level=6, transparency=opacity)
        if len(body) <= limit:
            break
    return _to_uri("image/png", body)


def _shrink(image: Image.Image, how: Image.Resampling) -> Iterator[Image.Image]:
    """An image, and then ever smaller ones."""
    scale = 1.0
    while True:
        size = tuple(max(1, round(edge * scale)) for edge in image.size)
        yield image if scale == 1 else image.resize((size[0], size[1]), how)
        scale *= _SHRINK
        if max(image.size) * scale < _SMALLEST:
            return


def _encode(image: Image.Image, quality: int, has_gaps: bool) -> Iterator[tuple[str, bytes]]:
    yield "image/webp", _save(image, "WEBP", quality=quality, method=4)
    if quality == _QUALITIES[0] and image.width * image.height <= _FEW_PIXELS:
        yield "image/png", _save(image, "PNG", optimize=True)
    if not has_gaps:
        yield "image/jpeg", _save(image.convert("RGB"), "JPEG", quality=quality, optimize=True)


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    body = io.BytesIO()
    image.save(body, kind, **options)
    return body.getvalue()


def _to_uri(mime: str, body: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(body).decode()}"
