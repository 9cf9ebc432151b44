"""Training batches: draw ground, put a sky over it, turn and jitter it; and fixed tiles to validate on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import keras
import numpy as np
from numpy.random import Generator

from cloudgan.errors import InputError
from cloudgan.simulation import cloud_fields, clouds
from cloudgan.training.augmentation import plain_stack, random_gain, random_transform, skewed_stack
from cloudgan.training.data.imagery import BANDS, Floats, Image, Imagery, Mask, Pair, enlarge
from cloudgan.training.models.networks import TILE
from cloudgan.training.recipe import Recipe, Samples, Stack

Batch = tuple[Floats, Floats, Floats]
"""Cloudy, clear and weight."""
Draw = Callable[[int], Batch]
"""From the number of a step to its batch."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One tile with its truth."""

    cloudy: Floats
    """Reflectance, shape (size, size, bands)."""
    clear: Floats
    """The truth under the clouds and the cloudy image itself elsewhere, same shape."""
    masked: Mask
    """Pixels under cloud or shadow whose truth is known, shape (size, size)."""
    observed: Mask
    """Pixels in clear view, same shape."""

    def weight(self, observed: float) -> Floats:
        """Weight in the loss: 1 where hidden, `observed` where observed, 0 without truth; (size, size, 1)."""
        return np.where(self.masked, np.float32(1), np.float32(observed) * self.observed)[..., None]


class Sampler:
    """Draws samples from imagery; what it draws depends on the imagery and the generator given alone."""

    def __init__(
        self,
        imagery: Imagery,
        bands: tuple[str, ...] = BANDS,
        jitter: float = 0.1,
        size: int = TILE,
        glints: int = 0,
    ) -> None:
        """Prepare to draw.

        Args:
            imagery: Ground, pairs and skies.
            bands: Their bands.
            jitter: Spread of the random gain on clear ground.
            size: Edge of a sample in pixels.
            glints: See `glinting`.

        Raises:
            InputError: There is no clear ground.
        """
        if not imagery.clear:
            raise InputError("no clear scenes to train on or to validate on")
        self.bands, self.jitter, self.size, self.glints = bands, jitter, size, glints
        self._clear = [enlarge(scene, size) for scene in imagery.clear]
        # A region with many dates or pixels counts for more, but not in proportion.
        counts = dict.fromkeys(imagery.regions(), 0.0)
        for scene in self._clear:
            counts[scene.region] += scene.valid.mean() * min(scene.valid.size / TILE**2, 8)
        share = np.array(
            [min(scene.valid.size / TILE**2, 8) / np.sqrt(counts[scene.region]) for scene in self._clear]
        )
        self._shares = share / share.sum()
        self._pairs = [pair for pair in imagery.pairs if min(pair.masked.shape) >= size]
        self._skies = [scene for scene in imagery.cloudy if min(scene.valid.shape) >= size]

    def draw(self, rng: Generator, real: float = 0.15) -> Sample:
        """One sample: a real pair with probability `real`, where there are any, else a simulated sky."""
        if self._pairs and rng.random() < real:
            sample = self.of_pair(self._pairs[rng.integers(len(self._pairs))], rng)
        else:
            scene = self._clear[rng.choice(len(self._clear), p=self._shares)]
            sample = self.of_clear(scene, rng, self.jitter)
        return glinting(sample, rng, self.glints) if self.glints else sample

    def of_clear(self, scene: Image, rng: Generator, jitter: float = 0.0) -> Sample:
        """A tile of clear ground under a simulated or transplanted sky."""
        cut = random_transform(rng, cast("tuple[int, int]", scene.valid.shape), self.size)
        ground, valid = cast("Floats", cut(scene.reflectance)), cast("Mask", cut(scene.valid))
        ground = (ground * random_gain(rng, ground.shape[-1], jitter)).astype(np.float32)
        made = self._under_sky(ground, rng)
        return Sample(made.cloudy, ground, made.mask & valid, valid & ~made.mask)

    def of_pair(self, pair: Pair, rng: Generator) -> Sample:
        """A tile of a real pair, with the cloudy look itself as truth where it sees the ground."""
        cut = random_transform(rng, cast("tuple[int, int]", pair.masked.shape), self.size)
        cloudy, clear = cast("Floats", cut(pair.cloudy)), cast("Floats", cut(pair.clear))
        masked, valid = cast("Mask", cut(pair.masked)), cast("Mask", cut(pair.valid))
        truth = np.where(masked[..., None], clear, cloudy)
        return Sample(cloudy.copy(), truth, masked & valid, valid & ~masked)

    def _under_sky(self, ground: Floats, rng: Generator) -> clouds.CloudyImage:
        shape = cast("tuple[int, int]", ground.shape[:2])
        if not self._skies or rng.random() < 0.65:
            return clouds.add_clouds(ground, self.bands, cloud_fields.draw_random_cloud_field(rng, shape))
        scene = self._skies[rng.integers(len(self._skies))]
        cut = random_transform(rng, cast("tuple[int, int]", scene.valid.shape), self.size)
        cloud, shadow, look = (
            cut(np.zeros_like(scene.valid) if layer is None else layer)
            for layer in (scene.cloud, scene.shadow, scene.reflectance)
        )
        cloud_field = cloud_fields.make_cloud_field(rng, cast("Mask", cloud), cast("Mask", shadow))
        # Half the time with the real cloud's own pixels where it is thick enough to show nothing else.
        own = rng.random() < 0.5
        real = clouds.extend_cloud(cast("Floats", look), cast("Mask", cloud)) if own else None
        return clouds.add_clouds(ground, self.bands, cloud_field, real)


def glinting(sample: Sample, rng: Generator, number: int) -> Sample:
    """A sample whose observed ground glints: pixels as bright as cloud that are to stay.

    Roofs, greenhouses and water throw the sun back on some dates; real imagery has too few of them for a
    network to tell them from small clouds.

    Args:
        sample: Is left as it is.
        rng: Source of chance.
        number: Glints to draw, of one to four pixels; what falls on hidden ground is left out.
    """
    cloudy, clear = sample.cloudy.copy(), sample.clear.copy()
    rows, cols = (rng.integers(0, edge, number) for edge in sample.observed.shape)
    bright = rng.uniform(0.4, 1.1, (number, 1)) * rng.uniform(0.9, 1.1, (number, clear.shape[-1]))
    heights, widths = rng.integers(1, 3, (2, number))
    for row, col, height, width, value in zip(rows, cols, heights, widths, bright, strict=True):
        area = np.s_[row : row + height, col : col + width]
        seen = sample.observed[area]
        cloudy[area][seen] = clear[area][seen] = value
    return replace(sample, cloudy=cloudy, clear=clear)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Training batches; batch number i of a seed is always the same."""

    def __init__(self, draw: Draw, steps: range) -> None:
        """Prepare to draw.

        Args:
            draw: From the number of a step to its batch.
            steps: Numbers of the steps to come.
        """
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=8)
        self._draw, self._steps = draw, steps

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> Batch:
        return self._draw(self._steps[index])


def drawn(recipe: Recipe, imagery: Imagery) -> Draw:
    """How a recipe draws the batch of a step from training imagery.

    Raises:
        InputError: The imagery does not hold what the recipe asks for.
    """
    if recipe.stack is not None:
        return _stack_draw(recipe, recipe.stack, imagery)
    return _sample_draw(recipe, recipe.samples or Samples(), imagery)


def _sample_draw(recipe: Recipe, how: Samples, imagery: Imagery) -> Draw:
    sampler = Sampler(imagery, recipe.bands, how.jitter, recipe.networks.size, how.glints)

    def draw(step: int) -> Batch:
        rng = np.random.default_rng((recipe.seed, step))
        return stacked([sampler.draw(rng, how.real) for _ in range(recipe.batch)], how.observed_weight)

    return draw


def _stack_draw(recipe: Recipe, how: Stack, imagery: Imagery) -> Draw:
    sample = stack_sample(recipe, how, imagery)
    pair = sample.cloudy, sample.clear
    stack = skewed_stack(pair, *how.shear) if how.skewed else plain_stack(pair)

    def draw(step: int) -> Batch:
        chosen = [stack[(step * recipe.batch + i) % len(stack)] for i in range(recipe.batch)]
        cloudy, clear = (np.ascontiguousarray(np.stack(images)) for images in zip(*chosen, strict=True))
        # As documented every pixel counts alike; only where there is no data is there no truth.
        return cloudy, clear, np.all((cloudy > 0) & (clear > 0), axis=-1, keepdims=True).astype(np.float32)

    return draw


def stack_sample(recipe: Recipe, how: Stack, imagery: Imagery) -> Sample:
    """The one pair that a documented recipe trains on: its two whole looks, and what the first one hides.

    It is cut from the first real pair, or from the first clear scene under a simulated sky.

    Raises:
        InputError: There is neither, or the crop leaves the image.
    """
    size, (row, col) = recipe.networks.size, how.crop
    cut = np.s_[row : row + size, col : col + size]
    if imagery.pairs:
        pair = imagery.pairs[0]
        name, images = pair.name, (pair.cloudy[cut], pair.clear[cut])
        masked, valid = pair.masked[cut], pair.valid[cut]
    elif imagery.clear:
        scene = imagery.clear[0]
        name, ground, valid = scene.name, scene.reflectance[cut], scene.valid[cut]
        cloud_field = cloud_fields.draw_random_cloud_field(
            np.random.default_rng(recipe.seed), cast("tuple[int, int]", valid.shape)
        )
        made = clouds.add_clouds(ground, recipe.bands, cloud_field)
        images, masked = (made.cloudy, ground), made.mask
    else:
        raise InputError("a recipe with a [stack] trains on one pair or clear scene, and the data hold none")
    if valid.shape != (size, size):
        raise InputError(
            f"the crop of {size} x {size} pixels at row {row}, column {col} leaves {name}; move it"
        )
    return Sample(*images, masked & valid, valid & ~masked)


def stacked(samples: list[Sample], observed: float) -> Batch:
    """Samples as one batch: cloudy, clear, weight, each with a leading batch axis."""
    return (
        np.stack([sample.cloudy for sample in samples]),
        np.stack([sample.clear for sample in samples]),
        np.stack([sample.weight(observed) for sample in samples]),
    )


def validation_tiles(
    imagery: Imagery, seed: int = 0, each: int = 6, bands: tuple[str, ...] = BANDS
) -> dict[str, list[Sample]]:
    """Fixed tiles to judge on, `each` per group: "REGION simulated" and "REGION real"."""
    sampler = Sampler(imagery, bands)
    groups: dict[str, list[Sample]] = {}
    for region in imagery.regions():
        rng = np.random.default_rng((seed, *region.encode()))
        scenes = [enlarge(scene, TILE) for scene in imagery.clear if scene.region == region]
        if scenes:
            drawn = [_covered(sampler, scenes[i % len(scenes)], rng) for i in range(each)]
            groups[f"{region} simulated"] = drawn
        pairs = [pair for pair in imagery.pairs if pair.region == region and min(pair.masked.shape) >= TILE]
        if pairs:
            tiles = [sampler.of_pair(pairs[i % len(pairs)], rng) for i in range(each)]
            groups[f"{region} real"] = [tile for tile in tiles if tile.masked.any()]
    return groups


def _covered(sampler: Sampler, scene: Image, rng: Generator) -> Sample:
    """A tile with some cloud and some sight: nothing is learnt from judging the others."""
    for _ in range(50):
        sample = sampler.of_clear(scene, rng)
        if 0.05 < sample.masked.mean() < 0.7:
            return sample
    return sample
