"""Samples of single images: clear surface under simulated clouds, turned and jittered, and real pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
from numpy.random import Generator

from cloudgan.errors import InputError
from cloudgan.simulation import cloud_fields, clouds
from cloudgan.training.augmentation import draw_gain, draw_transform, make_plain_stack, make_skewed_stack
from cloudgan.training.data.imagery import Image, Imagery, Pair, enlarge
from cloudgan.training.recipe import BANDS, TILE, Samples, Stack, TrainConfig, UNet
from cloudgan.training.samples import Batch, Draw, Floats, Mask, Sample, stack_batch


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
            imagery: Clear scenes, pairs and cloud fields.
            bands: Their bands.
            jitter: Standard deviation of the random gain on clear surface.
            size: Edge of a sample in pixels.
            glints: See `add_glints`.

        Raises:
            InputError: There is no clear scene.
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
        self._cloud_fields = [scene for scene in imagery.cloudy if min(scene.valid.shape) >= size]

    def draw(self, rng: Generator, real: float = 0.15) -> Sample:
        """One sample: a real pair with probability `real`, where there are any, else a simulated one."""
        if self._pairs and rng.random() < real:
            sample = self.sample_pair(self._pairs[rng.integers(len(self._pairs))], rng)
        else:
            scene = self._clear[rng.choice(len(self._clear), p=self._shares)]
            sample = self.sample_clear(scene, rng, self.jitter)
        return add_glints(sample, rng, self.glints) if self.glints else sample

    def sample_clear(self, scene: Image, rng: Generator, jitter: float = 0.0) -> Sample:
        """A tile of clear surface under simulated clouds, or under real ones composited from another date."""
        cut = draw_transform(rng, cast("tuple[int, int]", scene.valid.shape), self.size)
        surface, valid = cast("Floats", cut(scene.reflectance)), cast("Mask", cut(scene.valid))
        surface = (surface * draw_gain(rng, surface.shape[-1], jitter)).astype(np.float32)
        made = self._add_clouds(surface, rng)
        return Sample(made.cloudy, surface, made.mask & valid, valid & ~made.mask)

    def sample_pair(self, pair: Pair, rng: Generator) -> Sample:
        """A tile of a real pair; where the cloudy image shows the surface it is its own truth."""
        cut = draw_transform(rng, cast("tuple[int, int]", pair.masked.shape), self.size)
        cloudy, clear = cast("Floats", cut(pair.cloudy)), cast("Floats", cut(pair.clear))
        masked, valid = cast("Mask", cut(pair.masked)), cast("Mask", cut(pair.valid))
        truth = np.where(masked[..., None], clear, cloudy)
        return Sample(cloudy.copy(), truth, masked & valid, valid & ~masked)

    def _add_clouds(self, surface: Floats, rng: Generator) -> clouds.CloudyImage:
        shape = cast("tuple[int, int]", surface.shape[:2])
        if not self._cloud_fields or rng.random() < 0.65:
            return clouds.add_clouds(surface, self.bands, cloud_fields.draw_random_cloud_field(rng, shape))
        scene = self._cloud_fields[rng.integers(len(self._cloud_fields))]
        cut = draw_transform(rng, cast("tuple[int, int]", scene.valid.shape), self.size)
        cloud, shadow, image = (
            cut(np.zeros_like(scene.valid) if layer is None else layer)
            for layer in (scene.cloud, scene.shadow, scene.reflectance)
        )
        cloud_field = cloud_fields.make_cloud_field(rng, cast("Mask", cloud), cast("Mask", shadow))
        # Half the time with the real cloud's own pixels where it is thick enough to show nothing else.
        own = rng.random() < 0.5
        real = clouds.extend_cloud(cast("Floats", image), cast("Mask", cloud)) if own else None
        return clouds.add_clouds(surface, self.bands, cloud_field, real)


def add_glints(sample: Sample, rng: Generator, number: int) -> Sample:
    """A sample with glints on its observed surface: pixels as bright as cloud that are to stay.

    Roofs, greenhouses and water throw the sun back on some dates; real imagery has too few of them for a
    network to tell them from small clouds.

    Args:
        sample: Is left as it is.
        rng: Source of chance.
        number: Glints to draw, of one to four pixels; what falls on masked surface is left out.
    """
    cloudy, clear = sample.channels.copy(), sample.truth.copy()
    rows, cols = (rng.integers(0, edge, number) for edge in sample.observed.shape)
    bright = rng.uniform(0.4, 1.1, (number, 1)) * rng.uniform(0.9, 1.1, (number, clear.shape[-1]))
    heights, widths = rng.integers(1, 3, (2, number))
    for row, col, height, width, value in zip(rows, cols, heights, widths, bright, strict=True):
        area = np.s_[row : row + height, col : col + width]
        observed = sample.observed[area]
        cloudy[area][observed] = clear[area][observed] = value
    return replace(sample, channels=cloudy, truth=clear)


def make_draw(recipe: TrainConfig, imagery: Imagery) -> Draw:
    """How a recipe draws the batch of a step from training imagery.

    Raises:
        InputError: The imagery does not hold what the recipe asks for.
    """
    if recipe.stack is not None:
        return _stack_draw(recipe, recipe.stack, imagery)
    return _sample_draw(recipe, recipe.samples or Samples(), imagery)


def _sample_draw(recipe: TrainConfig, how: Samples, imagery: Imagery) -> Draw:
    sampler = Sampler(imagery, recipe.bands, how.jitter, _size(recipe), how.glints)

    def draw(step: int) -> Batch:
        rng = np.random.default_rng((recipe.seed, step))
        return stack_batch([sampler.draw(rng, how.real) for _ in range(recipe.batch)], how.observed_weight)

    return draw


def _stack_draw(recipe: TrainConfig, how: Stack, imagery: Imagery) -> Draw:
    sample = sample_stack(recipe, how, imagery)
    pair = sample.cloudy, sample.truth
    stack = make_skewed_stack(pair, *how.shear) if how.skewed else make_plain_stack(pair)

    def draw(step: int) -> Batch:
        chosen = [stack[(step * recipe.batch + i) % len(stack)] for i in range(recipe.batch)]
        cloudy, clear = (np.ascontiguousarray(np.stack(images)) for images in zip(*chosen, strict=True))
        # As documented every pixel counts alike; only where there is no data is there no truth.
        return cloudy, clear, np.all((cloudy > 0) & (clear > 0), axis=-1, keepdims=True).astype(np.float32)

    return draw


def sample_stack(recipe: TrainConfig, how: Stack, imagery: Imagery) -> Sample:
    """The one pair that a documented recipe trains on: its two images whole, and what is masked in the first.

    It is cut from the first real pair, or from the first clear scene under simulated clouds.

    Raises:
        InputError: There is neither, or the crop leaves the image.
    """
    size, (row, col) = _size(recipe), how.crop
    cut = np.s_[row : row + size, col : col + size]
    if imagery.pairs:
        pair = imagery.pairs[0]
        name, images = pair.name, (pair.cloudy[cut], pair.clear[cut])
        masked, valid = pair.masked[cut], pair.valid[cut]
    elif imagery.clear:
        scene = imagery.clear[0]
        name, surface, valid = scene.name, scene.reflectance[cut], scene.valid[cut]
        cloud_field = cloud_fields.draw_random_cloud_field(
            np.random.default_rng(recipe.seed), cast("tuple[int, int]", valid.shape)
        )
        made = clouds.add_clouds(surface, recipe.bands, cloud_field)
        images, masked = (made.cloudy, surface), made.mask
    else:
        raise InputError("a recipe with a [stack] trains on one pair or clear scene, and the data hold none")
    if valid.shape != (size, size):
        raise InputError(
            f"the crop of {size} x {size} pixels at row {row}, column {col} leaves {name}; move it"
        )
    return Sample(*images, masked & valid, valid & ~masked)


def sample_validation(
    imagery: Imagery, seed: int = 0, each: int = 6, bands: tuple[str, ...] = BANDS
) -> dict[str, list[Sample]]:
    """Fixed tiles to evaluate on, `each` per group: "REGION simulated" and "REGION real"."""
    sampler = Sampler(imagery, bands)
    groups: dict[str, list[Sample]] = {}
    for region in imagery.regions():
        rng = np.random.default_rng((seed, *region.encode()))
        scenes = [enlarge(scene, TILE) for scene in imagery.clear if scene.region == region]
        if scenes:
            tiles = [_covered(sampler, scenes[i % len(scenes)], rng) for i in range(each)]
            groups[f"{region} simulated"] = tiles
        pairs = [pair for pair in imagery.pairs if pair.region == region and min(pair.masked.shape) >= TILE]
        if pairs:
            tiles = [sampler.sample_pair(pairs[i % len(pairs)], rng) for i in range(each)]
            groups[f"{region} real"] = [tile for tile in tiles if tile.masked.any()]
    return groups


def _covered(sampler: Sampler, scene: Image, rng: Generator) -> Sample:
    """A tile with some cloud and some clear view: the others say nothing of a generator."""
    for _ in range(50):
        sample = sampler.sample_clear(scene, rng)
        if 0.05 < sample.masked.mean() < 0.7:
            return sample
    return sample


def _size(recipe: TrainConfig) -> int:
    return recipe.generator.size if isinstance(recipe.generator, UNet) else TILE
