"""Simulated change of time series: of the surface, of each date's radiometry, undetected haze and cloud.

Images have the bands green, red and near infrared, in that order.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cloudgan.sentinel2.classification import PixelClass

Floats = NDArray[np.float32]


def add_undetected_cloud(rng: Generator, image: Floats, cloud: NDArray[np.bool_], texture: Floats) -> Floats:
    """Add faint cloud or shadow that the classification misses.

    Args:
        rng: Source of chance.
        image: Reflectance, shape (height, width, bands).
        cloud: Where a cloud lies, shape (height, width).
        texture: Reflectance of the cloud, shape of the image.
    """
    cloud = gaussian_filter(cloud.astype(np.float32), rng.uniform(0.5, 3))[..., None]
    if rng.random() < 0.4:
        changed = image * (1 - np.float32(rng.uniform(0.2, 0.6)) * cloud)
    else:
        share = np.float32(rng.uniform(0.05, 0.6)) * cloud
        changed = (1 - share) * image + share * np.maximum(texture, 0.2)
    return np.where(image > 0, changed, 0).astype(np.float32)


def change_surface(rng: Generator, images: Floats, days: NDArray[np.int64], *, strong: bool) -> Floats:
    """Simulate change: surfaces of one colour change alike, and blocks a little each on their own.

    Args:
        rng: Source of chance.
        images: Shape (time, height, width, bands).
        days: Shape (time,).
        strong: As much as crops change over weeks.
    """
    base = images.max(axis=0)
    ndvi = (base[..., 2] - base[..., 1]) / (base[..., 2] + base[..., 1] + 1e-3)
    features = np.stack([3 * ndvi, 8 * base[..., 2], 15 * base[..., 0]], axis=-1)
    size = rng.uniform(0.05, 0.35) if strong else rng.uniform(0.02, 0.12)
    change = np.zeros(images.shape, np.float32)
    for _ in range(3):
        wave = np.sin(features @ rng.normal(0, 0.6, 3).astype(np.float32) + np.float32(rng.uniform(0, 6.28)))
        course = np.sin(days / rng.uniform(8, 40) + rng.uniform(0, 6.28)) * size / 2
        bands = rng.normal(0, 1, 3) * np.array([0.6, 0.8, 1.0])
        change += wave[None, ..., None] * (course[:, None] * bands).astype(np.float32)[:, None, None]
    if rng.random() < 0.5:  # unpredictable change in blocks, as of single fields
        cells = rng.integers(3, 9)
        blocks = rng.normal(0, size / 3, (len(images), cells, cells, 3)).astype(np.float32)
        index = (np.arange(images.shape[1]) * cells) // images.shape[1]
        change += blocks[:, index][:, :, index]
    result = images * np.exp(np.clip(change, -1, 1))
    return np.where(images > 0, np.maximum(result, 1e-4), 0).astype(np.float32)


def add_undetected_haze(rng: Generator, cloudy: Floats, pixel_classes: NDArray[np.uint8]) -> Floats:
    """Add haze around the clouds that the classification misses, over pixels that count as clear.

    Args:
        rng: Source of chance.
        cloudy: Reflectance, shape (height, width, bands).
        pixel_classes: Values of `PixelClass`, shape (height, width).
    """
    cloud = (pixel_classes == PixelClass.CLOUDY).astype(np.float32)
    near = gaussian_filter(cloud, rng.uniform(2, 12))
    wide = gaussian_filter(cloud, 25)
    haze = rng.uniform(0, 0.08) * near + rng.uniform(0, 0.08) * wide * (rng.random() < 0.5)
    colour = np.array([1.0, 0.9, 0.6]) * rng.uniform(0.8, 1.2, 3)
    if rng.random() < 0.3:  # haze over the whole image, of varying thickness
        noise = gaussian_filter(rng.standard_normal(cloud.shape), rng.uniform(10, 40))
        haze = haze + rng.uniform(0, 0.05) * np.clip(1 + 0.5 * noise / (noise.std() + 1e-6), 0, 2)
    thick = (haze[..., None] * colour).astype(np.float32)
    hazy = cloudy * (1 - 1.5 * thick) + thick
    if rng.random() < 0.3:
        # Among many clouds Sen2Cor overestimates the aerosol, and the surface comes out brighter: near
        # infrared by a third on a real date with three quarters of cloud.
        hazy *= 1 + np.float32(rng.uniform(0, 0.4) * cloud.mean()) * np.array([0.3, 0.3, 1], np.float32)
    return np.where((pixel_classes == PixelClass.CLEAR)[..., None] & (cloudy > 0), hazy, cloudy).astype(
        np.float32
    )


def vary_radiometry(rng: Generator, images: Floats, *, strong: bool) -> Floats:
    """Give each date its own radiometry: gain and offset by band, varying smoothly over the image.

    Args:
        rng: Source of chance.
        images: Shape (time, height, width, bands).
        strong: For every series, and with noise; else for about half of them, and less.
    """
    if not strong and rng.random() < 0.5:
        return images
    times, height, width, bands = images.shape
    size = rng.uniform(0.01, 0.10 if strong else 0.07)
    gain = rng.normal(0, size, (times, 1, 1, 1)) + rng.normal(0, size / 2, (times, 1, 1, bands))
    coarse = rng.normal(0, size / 4, (times, 3, 3, 1)) + rng.normal(0, size / 8, (times, 3, 3, bands))
    across = np.matmul(_interpolation_matrix(width, 3), coarse.astype(np.float32))  # (time, 3, width, bands)
    smooth = np.tensordot(_interpolation_matrix(height, 3), across, (1, 1)).swapaxes(0, 1)
    offset = rng.normal(0, 0.06 * size, (times, 1, 1, bands))
    noisy = images * np.exp(gain.astype(np.float32) + smooth) + offset.astype(np.float32)
    if strong:
        noisy += 0.004 * rng.standard_normal(images.shape, np.float32)
    return np.where(images > 0, np.maximum(noisy, 1e-4), 0).astype(np.float32)


def _interpolation_matrix(size: int, knots: int) -> Floats:
    """Matrix of linear interpolation between so many knots, shape (size, knots)."""
    at = np.linspace(0, knots - 1, size)
    lines: Floats = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(knots))).astype(np.float32)
    return lines
