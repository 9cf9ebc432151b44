"""Arithmetic on tensors that the layers of the temporal generator share.

Inside the generator the axes are (batch, channel, y, x), or (batch, date, channel, y, x): ONNX Runtime is
fastest with channels first.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

BANDS = 3
"""Spectral bands that the temporal generator works on: green, red and near infrared."""
CELL = 8
"""Edge of a cell of the alignment, in pixels of the full resolution."""
HALF = CELL // 2
"""The same in pixels of half the resolution."""
_NEAR, _WIDE = 1.5, 5.0  # standard deviations of the averages, in cells: 12 and 40 pixels


def register(cls: type) -> type:
    """Let Keras find the class in a file."""
    registered: type = keras.saving.register_keras_serializable(package="cloudgan")(cls)
    return registered


def channels_first(x: Any) -> Any:
    """From (batch, y, x, channel) to (batch, channel, y, x)."""
    return ops.transpose(x, (0, 3, 1, 2))


def channels_last(x: Any) -> Any:
    """From (batch, channel, y, x) to (batch, y, x, channel)."""
    return ops.transpose(x, (0, 2, 3, 1))


def split_dates(x: Any, dates: int) -> Any:
    """From (batch, date * channel, y, x) to (batch, date, channel, y, x)."""
    return ops.reshape(x, (-1, dates, x.shape[1] // dates, *ops.shape(x)[2:]))


def join_dates(x: Any) -> Any:
    """From (batch, date, channel, y, x) to (batch, date * channel, y, x)."""
    return ops.reshape(x, (-1, x.shape[1] * x.shape[2], *ops.shape(x)[3:]))


def average_around(parts: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Channels averaged in cells, then around each cell: nearby, widely, and over the whole tile."""
    cuts = cut_points(parts)
    cells = channels_first(
        ops.average_pool(channels_last(ops.concatenate(parts, axis=1)), HALF, padding="same")
    )
    whole = ops.mean(cells, axis=(2, 3), keepdims=True)
    near, wide = (blur(cells, sigma) for sigma in (_NEAR, _WIDE))
    return tuple(ops.split(means, cuts, axis=1) for means in (near, wide, whole))


def cut_points(parts: list[Any]) -> list[int]:
    """Where to split a concatenation along axis 1 to have its parts again."""
    return [int(at) for at in np.cumsum([part.shape[1] for part in parts])[:-1]]


def mean_image(p: dict[str, Any]) -> Any:
    """The clear observations as they are, averaged, the nearer in time the heavier."""
    return ops.sum(p["weight"] * p["images"], axis=1) / (ops.sum(p["weight"], axis=1) + 1e-6)


def constant_image(*bands: float) -> Any:
    """One value per band, to compute with images, (1, band, 1, 1)."""
    return ops.reshape(ops.convert_to_tensor(np.array(bands, np.float32)), (1, BANDS, 1, 1))


def blur(cells: Any, sigma: float) -> Any:
    """Gaussian mean, nothing beyond the edge: two matrix products, which train faster than convolutions."""
    rows, cols = (_gaussian(size, sigma) for size in ops.shape(cells)[2:])
    return ops.matmul(ops.matmul(rows, cells), cols)


def _gaussian(size: Any, sigma: float) -> Any:
    at = ops.cast(ops.arange(size), "float32")
    distance = (at[:, None] - at[None]) / sigma
    return ops.exp(-0.5 * distance * distance) / (sigma * float(np.sqrt(2 * np.pi)))


def enlarge(x: Any, factor: int) -> Any:
    """Linear interpolation between the centres of pixels, as two matrix products."""
    rows, cols = (_interpolation(size, factor) for size in ops.shape(x)[2:])
    return ops.matmul(ops.matmul(rows, x), ops.transpose(cols))


def _interpolation(size: Any, factor: int) -> Any:
    fine = (ops.cast(ops.arange(size * factor), "float32") + 0.5) / factor - 0.5
    fine = ops.clip(fine, 0.0, ops.cast(size - 1, "float32"))
    return ops.relu(1 - ops.abs(fine[:, None] - ops.cast(ops.arange(size), "float32")[None]))
