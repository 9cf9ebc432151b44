"""What differs between the generators that one trainer trains: data, batches, networks, and what is shown.

A U-Net learns from single images (`Imagery`), the temporal generator from time series (`Site`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from cloudgan.errors import InputError
from cloudgan.model.contract import Channel, Contract, Source
from cloudgan.model.generator import Generator
from cloudgan.observations import Site
from cloudgan.training import scores, single_image, time_series
from cloudgan.training.card import describe_imagery, describe_sites
from cloudgan.training.data import sources
from cloudgan.training.data.imagery import Imagery
from cloudgan.training.models import networks, temporal
from cloudgan.training.models.gan import ConditionalGan
from cloudgan.training.models.losses import LogError, MeanAbsoluteError
from cloudgan.training.models.scaling import give_reflectance, take_reflectance
from cloudgan.training.recipe import (
    TILE,
    Discriminator,
    LogErrorLoss,
    MaeLoss,
    Series,
    Stack,
    Temporal,
    TrainConfig,
    UNet,
)
from cloudgan.training.samples import Batch, Sample

_TRAIN_SAMPLES = 6
_HELD_OUT_SAMPLES = 10  # of each region and size of patch


class Task(ABC):
    """One recipe on its data."""

    recipe: TrainConfig
    """What to do."""
    input_channels: tuple[Channel, ...]
    """What the generator asks for."""
    training: list[Sample]
    """Fixed samples of the training regions, to evaluate on."""
    held_out: dict[str, list[Sample]]
    """Fixed samples of the regions held out, by group."""
    study: Sample | None = None
    """The pair of a documented recipe, for the study's own measure."""

    @abstractmethod
    def draw(self, step: int) -> Batch:
        """The batch of a step, always the same."""

    @abstractmethod
    def build(self) -> ConditionalGan:
        """The networks and their losses, in the recipe's precision."""

    @abstractmethod
    def build_product(self, size: int | None = None) -> keras.Model:
        """The generator to evaluate and to ship, in float32: input channels to reflectance, NHWC."""

    @abstractmethod
    def describe_data(self) -> dict[str, Any]:
        """The data of both sides of the split by region, for the model card."""

    @abstractmethod
    def score(self, generator: Generator) -> dict[str, dict[str, float]]:
        """Scores of the exported file on what is held out, by region or group, for the model card."""

    def contract(self, card: Mapping[str, Any]) -> Contract:
        """The contract of the exported file."""
        return Contract(
            self.recipe.name,
            self.recipe.version,
            self.input_channels,
            self.recipe.bands,
            TILE,
            predicts_uncertainty=isinstance(self.recipe.generator, Temporal),
            training=dict(card),
        )


class SingleImageTask(Task):
    """A U-Net on single images, the study's way or our own."""

    def __init__(self, recipe: TrainConfig, imagery: Imagery) -> None:
        self.recipe = recipe
        self.input_channels = tuple(Channel(Source.TARGET, band) for band in recipe.bands)
        self._sides = imagery.split(recipe.held_out)
        training, held_out = self._sides
        self._draw = single_image.make_draw(recipe, training)
        self.held_out = single_image.sample_validation(held_out, recipe.seed, bands=recipe.bands)
        pair = None
        if recipe.study or recipe.stack is not None:
            pair = single_image.sample_stack(recipe, recipe.stack or Stack(), training)
        if recipe.study:
            self.study = pair
        if recipe.stack is not None and pair is not None:
            self.training = [pair]
        else:
            tiles = single_image.sample_validation(training, recipe.seed, 1, recipe.bands)
            self.training = [tile for group in tiles.values() for tile in group][:_TRAIN_SAMPLES]

    def draw(self, step: int) -> Batch:
        """See `Task`."""
        return self._draw(step)

    def build(self) -> ConditionalGan:
        """See `Task`."""
        how, loss = self._generator(), self.recipe.loss
        assert isinstance(loss, MaeLoss)  # noqa: S101 - the recipe is validated
        with _precision(how.precision):
            generator = take_reflectance(self._unet(how.size), how.scaling)
            discriminator = self._discriminator(how, self.recipe.discriminator)
            return ConditionalGan(
                generator,
                MeanAbsoluteError(loss.weight, how.scaling),
                self.recipe.optimizer,
                discriminator,
                self.recipe.ema_decay,
            )

    def build_product(self, size: int | None = None) -> keras.Model:
        """See `Task`."""
        scaling = self._generator().scaling
        return give_reflectance(take_reflectance(self._unet(size), scaling), scaling)

    def describe_data(self) -> dict[str, Any]:
        """See `Task`."""
        training, held_out = self._sides
        return {"train": describe_imagery(training), "validation": describe_imagery(held_out)}

    def score(self, generator: Generator) -> dict[str, dict[str, float]]:
        """See `Task`; on the fixed samples."""
        return scores.score_groups(self.held_out, scores.serve_with(generator))

    def _generator(self) -> UNet:
        assert isinstance(self.recipe.generator, UNet)  # noqa: S101 - the recipe is validated
        return self.recipe.generator

    def _unet(self, size: int | None) -> keras.Model:
        bands, how = len(self.recipe.bands), self._generator()
        return networks.generator(
            bands, bands, how.width, how.normalisation, how.upsampling, how.dropout, how.residual, size
        )

    def _discriminator(
        self, generator: UNet, how: Discriminator | None
    ) -> tuple[keras.Model, Discriminator] | None:
        if how is None:
            return None
        bands, width = len(self.recipe.bands), how.width or generator.width
        network = networks.discriminator(bands, bands, width, how.normalisation, generator.size)
        return take_reflectance(network, generator.scaling), how


class TimeSeriesTask(Task):
    """The temporal generator on time series."""

    def __init__(self, recipe: TrainConfig, sites: Sequence[Site]) -> None:
        self.recipe = recipe
        how = self._generator()
        self.input_channels = temporal.input_channels(recipe.bands, how.dates_each_side)
        self._sides = split_sites(sites, recipe.held_out)
        training, held_out = self._sides
        self._series = recipe.series or Series()
        self._sampler = self._make_sampler(training)
        rng = np.random.default_rng(recipe.seed)
        size = self._sampler.sizes[-1]
        self.training = [self._sampler.draw_unaugmented(rng, size) for _ in range(_TRAIN_SAMPLES)]
        self.held_out = {
            region: self._sample_region([site for site in held_out if site.region == region])
            for region in sorted({site.region for site in held_out})
        }

    def draw(self, step: int) -> Batch:
        """See `Task`."""
        rng, how = np.random.default_rng((self.recipe.seed, step)), self._series
        _, stage, _ = self.recipe.stage_at(step)
        return self._sampler.draw_batch(rng, how.pixels, stage.unaugmented_fraction, how.observed_weight)

    def build(self) -> ConditionalGan:
        """See `Task`."""
        how, loss = self._generator(), self.recipe.loss
        assert isinstance(loss, LogErrorLoss)  # noqa: S101 - the recipe is validated
        with _precision(how.precision):
            return ConditionalGan(
                temporal.generator(how.width, how.surface_classes, how.dates_each_side),
                LogError(loss),
                self.recipe.optimizer,
                self._discriminator(how, self.recipe.discriminator),
                self.recipe.ema_decay,
            )

    def build_product(self, size: int | None = None) -> keras.Model:
        """See `Task`."""
        how = self._generator()
        return temporal.generator(how.width, how.surface_classes, how.dates_each_side, size)

    def contract(self, card: Mapping[str, Any]) -> Contract:
        """See `Task`; the file gives the mean of the network and of the estimate."""
        estimate = (Channel(Source.ESTIMATE, band) for band in self.recipe.bands)
        return replace(super().contract(card), input_channels=(*self.input_channels, *estimate))

    def describe_data(self) -> dict[str, Any]:
        """See `Task`."""
        training, held_out = self._sides
        return {"train": describe_sites(training), "validation": describe_sites(held_out)}

    def score(self, generator: Generator) -> dict[str, dict[str, float]]:
        """See `Task`; on composited cases, as `cloudgan evaluate` measures."""
        return scores.score_cases(generator, self._sides[1])

    def _generator(self) -> Temporal:
        assert isinstance(self.recipe.generator, Temporal)  # noqa: S101 - the recipe is validated
        return self.recipe.generator

    def _make_sampler(self, sites: Sequence[Site], lenders: Sequence[Site] = ()) -> time_series.Sampler:
        return time_series.Sampler(
            sites, self.input_channels, self.recipe.bands, real=self._series.real, lenders=lenders
        )

    def _sample_region(self, sites: Sequence[Site]) -> list[Sample]:
        sampler = self._make_sampler(sites, lenders=self._sides[0])
        rng = np.random.default_rng(self.recipe.seed)
        return [
            sampler.draw_unaugmented(rng, size) for size in sampler.sizes for _ in range(_HELD_OUT_SAMPLES)
        ]

    def _discriminator(
        self, generator: Temporal, how: Discriminator | None
    ) -> tuple[keras.Model, Discriminator] | None:
        """A PatchGAN that sees the mask, the date before and the date after beside the image."""
        if how is None:
            return None
        bands = self.recipe.bands
        nearest = (Channel(side, band) for side in (Source.BEFORE, Source.AFTER) for band in bands)
        seen = [self.input_channels.index(channel) for channel in (Channel(Source.MASK), *nearest)]
        width = how.width or 2 * generator.width
        network = networks.discriminator(len(seen), len(bands), width, how.normalisation, None)
        return networks.select_channels(network, len(self.input_channels), seen), how


def make_task(recipe: TrainConfig, data: Imagery | Sequence[Site] | None = None) -> Task:
    """A recipe on its data.

    Args:
        recipe: What to do.
        data: Imagery or sites instead of what the recipe's sources name.

    Raises:
        InputError: The data cannot be read, or do not hold what the recipe asks for.
    """
    if isinstance(recipe.generator, Temporal):
        sites = sources.read_sites(recipe.data, recipe.bands) if data is None else data
        assert not isinstance(sites, Imagery)  # noqa: S101
        return TimeSeriesTask(recipe, sites)
    imagery = sources.read_imagery(recipe.data, recipe.bands) if data is None else data
    assert isinstance(imagery, Imagery)  # noqa: S101
    return SingleImageTask(recipe, imagery)


def split_sites(sites: Sequence[Site], held_out: Sequence[str]) -> tuple[list[Site], list[Site]]:
    """Training and held-out sites, by region.

    Raises:
        InputError: A name is no region, or nothing is left on one side.
    """
    regions = {site.region for site in sites}
    if unknown := set(held_out) - regions:
        raise InputError(f"no such regions to hold out: {sorted(unknown)}; there are {sorted(regions)}")
    if not held_out or not regions - set(held_out):
        raise InputError(f"hold out some of the regions {sorted(regions)} but not all")
    return (
        [site for site in sites if site.region not in held_out],
        [site for site in sites if site.region in held_out],
    )


@contextmanager
def _precision(name: str) -> Iterator[None]:
    """Keras's policy of arithmetic, for a while."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
