"""Pictures as bytes, each in the format that is the smallest, and within a weight."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloudgan.report.colours import Rgba

_QUALITIES = (82, 68, 52, 36)
_SHRINK = 0.75  # of the edges, where no quality fits
_HOPELESS = 3  # times too heavy, so that a lower quality does not help
_FEW_PIXELS = 40_000  # of a picture whose lossless form may be the smallest; of others it takes long
_SMALLEST = 48  # edge in pixels that is never made smaller


def encode_picture(pixels: NDArray[np.uint8], limit: int) -> str:
    """A picture in colour as a data URI.

    Args:
        pixels: Shape (rows, columns, 4).
        limit: Bytes that it may have; a picture that cannot have so few has as few as it can.
    """
    image = Image.fromarray(pixels)
    kinds = _choose_kinds(image, has_gaps=bool((pixels[..., 3] < 255).any()))
    kind, body = "", b""
    scale = 1.0
    while True:
        smaller = _shrink(image, scale, Image.Resampling.BOX)
        for quality in _QUALITIES:
            kind, body = min(
                ((one, _encode(smaller, one, quality)) for one in kinds), key=lambda made: len(made[1])
            )
            kinds = (kind,)  # the one that is the smallest once is it at other qualities too
            if len(body) <= limit or len(body) > _HOPELESS * limit:
                break
        if len(body) <= limit or not (scale := _choose_scale(image, scale, len(body) / limit)):
            return _to_uri(f"image/{kind.lower()}", body)


def encode_classes(numbers: NDArray[np.uint8], palette: Sequence[Rgba], limit: int) -> str:
    """A picture of few colours as a data URI; see `encode_picture`."""
    image = Image.fromarray(numbers)
    image.putpalette(bytes(value for colour in palette for value in colour[:3]))
    opacity = bytes(colour[3] for colour in palette)
    scale = 1.0
    while True:
        smaller = _shrink(image, scale, Image.Resampling.NEAREST)
        body = _save(smaller, "PNG", compress_level=6, transparency=opacity)
        if len(body) <= limit or not (scale := _choose_scale(image, scale, len(body) / limit)):
            return _to_uri("image/png", body)


def _shrink(image: Image.Image, scale: float, how: Image.Resampling) -> Image.Image:
    width, height = (max(1, round(edge * scale)) for edge in image.size)
    return image if scale == 1 else image.resize((width, height), how)


def _choose_scale(image: Image.Image, scale: float, excess: float) -> float:
    """A smaller scale, by how many times too heavy a picture is; 0 where it would be too small."""
    smaller = scale * min(_SHRINK, max(_SHRINK**4, excess**-0.5))
    return smaller if max(image.size) * smaller >= _SMALLEST else 0.0


def _choose_kinds(image: Image.Image, *, has_gaps: bool) -> tuple[str, ...]:
    """The formats that a picture may have: JPEG has no transparency, and PNG of many pixels takes long."""
    small = ("PNG",) if image.width * image.height <= _FEW_PIXELS else ()
    return ("WEBP", *(() if has_gaps else ("JPEG",)), *small)


def _encode(image: Image.Image, kind: str, quality: int) -> bytes:
    if kind == "PNG":
        return _save(image, kind, optimize=True)
    if kind == "JPEG":
        return _save(image.convert("RGB"), kind, quality=quality, optimize=True)
    return _save(image, kind, quality=quality, method=4)


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    body = io.BytesIO()
    image.save(body, kind, **options)
    return body.getvalue()


def _to_uri(mime: str, body: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(body).decode()}"
