"""Training batches: draw ground, put a sky over it, turn and jitter it; and fixed tiles to validate on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import keras
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from cloudgan.errors import InputError
from cloudgan.training import simulation
from cloudgan.training.augmentation import random_gain, random_transform
from cloudgan.training.data import BANDS, Floats, Imagery, Mask, Pair, Scene, enlarged
from cloudgan.training.networks import TILE

Batch = tuple[Floats, Floats, Floats]
"""Cloudy, clear and weight."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One tile with its truth."""

    cloudy: Floats
    """Reflectance, shape (256, 256, bands)."""
    clear: Floats
    """The truth under the clouds and the cloudy image itself elsewhere, same shape."""
    hidden: Mask
    """Pixels under cloud or shadow whose truth is known, shape (256, 256)."""
    observed: Mask
    """Pixels in clear view, shape (256, 256)."""

    def weight(self, observed: float) -> Floats:
        """Weight in the loss: 1 where hidden, `observed` where observed, 0 without truth; (256, 256, 1)."""
        return np.where(self.hidden, np.float32(1), np.float32(observed) * self.observed)[..., None]


class Sampler:
    """Draws samples from imagery; what it draws depends on the imagery and the generator given alone."""

    def __init__(self, imagery: Imagery, bands: tuple[str, ...] = BANDS, jitter: float = 0.1) -> None:
        """Prepare to draw.

        Args:
            imagery: Ground, pairs and skies.
            bands: Their bands.
            jitter: Spread of the random gain on clear ground.

        Raises:
            InputError: There is no clear ground.
        """
        if not imagery.clear:
            raise InputError("no clear scenes to train on or to validate on")
        self.bands, self.jitter = bands, jitter
        self._clear = [enlarged(scene, TILE) for scene in imagery.clear]
        # A region with many dates or pixels counts for more, but not in proportion.
        counts = dict.fromkeys(imagery.regions(), 0.0)
        for scene in self._clear:
            counts[scene.region] += scene.valid.mean() * min(scene.valid.size / TILE**2, 8)
        share = np.array(
            [min(scene.valid.size / TILE**2, 8) / np.sqrt(counts[scene.region]) for scene in self._clear]
        )
        self._shares = share / share.sum()
        self._pairs = [pair for pair in imagery.pairs if min(pair.hidden.shape) >= TILE]
        self._skies = [scene for scene in imagery.skies if min(scene.valid.shape) >= TILE]

    def draw(self, rng: Generator, real: float = 0.15) -> Sample:
        """One sample: a real pair with probability `real`, where there are any, else a simulated sky."""
        if self._pairs and rng.random() < real:
            return self.of_pair(self._pairs[rng.integers(len(self._pairs))], rng)
        return self.of_clear(self._clear[rng.choice(len(self._clear), p=self._shares)], rng, self.jitter)

    def of_clear(self, scene: Scene, rng: Generator, jitter: float = 0.0) -> Sample:
        """A tile of clear ground under a simulated or transplanted sky."""
        cut = random_transform(rng, cast("tuple[int, int]", scene.valid.shape), TILE)
        ground, valid = cast("Floats", cut(scene.image)), cast("Mask", cut(scene.valid))
        ground = (ground * random_gain(rng, ground.shape[-1], jitter)).astype(np.float32)
        made = self._under_sky(ground, rng)
        return Sample(made.cloudy, ground, made.mask & valid, valid & ~made.mask)

    def of_pair(self, pair: Pair, rng: Generator) -> Sample:
        """A tile of a real pair, with the cloudy look itself as truth where it sees the ground."""
        cut = random_transform(rng, cast("tuple[int, int]", pair.hidden.shape), TILE)
        cloudy, clear = cast("Floats", cut(pair.cloudy)), cast("Floats", cut(pair.clear))
        hidden, valid = cast("Mask", cut(pair.hidden)), cast("Mask", cut(pair.valid))
        truth = np.where(hidden[..., None], clear, cloudy)
        return Sample(cloudy.copy(), truth, hidden & valid, valid & ~hidden)

    def _under_sky(self, ground: Floats, rng: Generator) -> simulation.Clouded:
        shape = cast("tuple[int, int]", ground.shape[:2])
        if not self._skies or rng.random() < 0.65:
            return simulation.clouded(ground, self.bands, simulation.random_sky(rng, shape))
        scene = self._skies[rng.integers(len(self._skies))]
        cut = random_transform(rng, cast("tuple[int, int]", scene.valid.shape), TILE)
        cloud, shadow, look = (
            cut(np.zeros_like(scene.valid) if layer is None else layer)
            for layer in (scene.cloud, scene.shadow, scene.image)
        )
        sky = simulation.transplanted(rng, cast("Mask", cloud), cast("Mask", shadow))
        # Half the time with the real cloud's own pixels where it is thick enough to show nothing else.
        own = rng.random() < 0.5
        real = _cloud_look(cast("Floats", look), cast("Mask", cloud)) if own else None
        return simulation.clouded(ground, self.bands, sky, real)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Training batches; batch number i of a seed is always the same."""

    def __init__(self, sampler: Sampler, batch: int, steps: range, seed: int, observed: float) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=8)
        self._sampler, self._batch, self._steps = sampler, batch, steps
        self._seed, self._observed = seed, observed

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng((self._seed, self._steps[index]))
        return stacked([self._sampler.draw(rng) for _ in range(self._batch)], self._observed)


def stacked(samples: list[Sample], observed: float) -> Batch:
    """Samples as one batch: cloudy, clear, weight, each with a leading batch axis."""
    return (
        np.stack([sample.cloudy for sample in samples]),
        np.stack([sample.clear for sample in samples]),
        np.stack([sample.weight(observed) for sample in samples]),
    )


def validation_tiles(imagery: Imagery, seed: int = 0, each: int = 6) -> dict[str, list[Sample]]:
    """Fixed tiles to judge on, `each` per group: "REGION simulated" and "REGION real"."""
    sampler = Sampler(imagery)
    groups: dict[str, list[Sample]] = {}
    for region in imagery.regions():
        rng = np.random.default_rng((seed, *region.encode()))
        scenes = [enlarged(scene, TILE) for scene in imagery.clear if scene.region == region]
        if scenes:
            drawn = [_covered(sampler, scenes[i % len(scenes)], rng) for i in range(each)]
            groups[f"{region} simulated"] = drawn
        pairs = [pair for pair in imagery.pairs if pair.region == region and min(pair.hidden.shape) >= TILE]
        if pairs:
            tiles = [sampler.of_pair(pairs[i % len(pairs)], rng) for i in range(each)]
            groups[f"{region} real"] = [tile for tile in tiles if tile.hidden.any()]
    return groups


def _covered(sampler: Sampler, scene: Scene, rng: Generator) -> Sample:
    """A tile with some cloud and some sight: nothing is learnt from judging the others."""
    for _ in range(50):
        sample = sampler.of_clear(scene, rng)
        if 0.05 < sample.hidden.mean() < 0.7:
            return sample
    return sample


def _cloud_look(look: Floats, cloud: NDArray[np.bool_]) -> Floats:
    """Real cloud everywhere: its own pixels inside, the mean of the cloud around its edge."""
    if not cloud.any():
        return look
    return np.where(cloud[..., None], look, look[cloud].mean(axis=0)).astype(np.float32)
