"""Samples of time series: training and serving see the same channels, and the truth is what was masked."""

import dataclasses

import numpy as np
import pytest
from sites import BANDS, make_site

from cloudgan.errors import InputError
from cloudgan.geo.grid import Window
from cloudgan.geo.tiling import Tiling
from cloudgan.model.contract import Contract
from cloudgan.removal.core import decloud_dates
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.training.compositing import CloudField, composite
from cloudgan.training.models.temporal import input_channels
from cloudgan.training.recipe import Stage, TrainConfig
from cloudgan.training.tasks import split_sites
from cloudgan.training.time_series import Sampler, find_truth_pairs

SIZE = 64
CHANNELS = input_channels(BANDS, 4)


@dataclasses.dataclass(frozen=True)
class Recorder:
    """A generator that keeps what it is asked."""

    contract: Contract
    seen: list
    batch: int = 1

    def __call__(self, tiles):
        self.seen.append(tiles)
        return tiles[:, :3]


@pytest.fixture
def site(rng):
    return make_site(rng)


@pytest.mark.parametrize("at", range(5))
def test_training_sees_the_input_channels_of_serving(site, at):
    recorder = Recorder(Contract("x", "1", CHANNELS, BANDS, SIZE), [])
    window = Window(0, 0, SIZE, SIZE)
    tiling = Tiling(SIZE, SIZE)
    list(decloud_dates(site.observations, window, recorder, buffer=site.buffer, tiling=tiling, dates=[at]))
    sampler = Sampler([site], CHANNELS, BANDS)
    series, whole, dates = sampler._series[SIZE][0], np.s_[:, :], np.arange(5)
    masked = series.masked[at]
    images = series.images(dates, whole)
    ours = sampler._assemble(images, masked, series.clear.copy(), site.observations.days, at)
    assert bool(recorder.seen) == bool(masked.any())
    if recorder.seen:
        np.testing.assert_array_equal(recorder.seen[0][0], np.moveaxis(ours, -1, 0))


def test_composited_clouds_have_a_hazy_edge_that_is_called_clear(site):
    classes = site.observations.pixel_classes
    image = site.observations.reflectance([2])[0]
    field = CloudField(np.full((SIZE, SIZE, 3), 0.7, np.float32), classes[0])
    covered, covered_classes = composite(image, classes[2], field)
    changed = np.all(covered == np.float32(0.7), axis=-1)
    assert (changed & (covered_classes == PixelClass.CLEAR)).sum() > 50
    assert changed[covered_classes == PixelClass.CLOUDY].all()
    np.testing.assert_array_equal(covered[~changed], image[~changed])


@pytest.mark.parametrize("unaugmented", [0.0, 1.0])
def test_samples_mask_what_is_known(rng, site, unaugmented):
    sampler = Sampler([site], CHANNELS, BANDS, real=0.0)
    mask = list(map(str, CHANNELS)).index("mask")
    for _ in range(8):
        sample = sampler.draw(rng, SIZE, unaugmented)
        assert sample.channels.shape == (SIZE, SIZE, len(CHANNELS))
        assert np.isfinite(sample.channels).all()
        assert sample.masked.any()
        assert not (sample.masked & sample.observed).any()
        assert (sample.channels[sample.masked][:, mask] == 1).all()
        assert (sample.channels[sample.observed][:, mask] == 0).all()
        assert (sample.truth[sample.masked] > 0).all()
        np.testing.assert_array_equal(sample.cloudy[sample.observed], sample.truth[sample.observed])


def test_the_truth_is_not_that_of_the_clouds(rng, site):
    sampler = Sampler([site], CHANNELS, BANDS)
    samples = [sampler.draw_unaugmented(rng, SIZE) for _ in range(8)]
    assert any((sample.cloudy != sample.truth).any() for sample in samples)
    brightest = site.observations.reflectance([2]).max()
    assert all(sample.truth.max() <= brightest for sample in samples)


def test_reversed_time_swaps_the_sides_only(site):
    sampler = Sampler([site], CHANNELS, BANDS)
    swapped = [str(CHANNELS[index]) for index in sampler._reversed]
    assert swapped[:4] == [str(channel) for channel in CHANNELS[:4]]
    assert swapped[4] == "after-1:green"
    assert sorted(swapped) == sorted(map(str, CHANNELS))


def test_a_cloudy_date_has_its_truth_days_away(site):
    pairs = find_truth_pairs(site)
    assert pairs
    for at, truth in pairs:
        assert site.trusted[truth]
        assert 0 < abs(site.observations.days[at] - site.observations.days[truth]) <= 5
    assert find_truth_pairs(dataclasses.replace(site, repeated=True)) == []


def test_real_clouds_are_drawn_with_a_truth_that_is_withheld(rng, site):
    sampler = Sampler([site], CHANNELS, BANDS, real=1.0)
    sample = sampler.draw(rng, SIZE)
    assert not sample.observed.any()
    # The trusted date is two days from the one cloudy date that has a truth.
    days = [number for number, channel in enumerate(map(str, CHANNELS)) if channel.endswith("days")]
    assert find_truth_pairs(site) == [(3, 2)]
    assert not (sample.channels[..., days] == 2).any()


def test_small_sites_are_padded_without_data(rng):
    sampler = Sampler([make_site(rng, size=48), make_site(rng, size=128)], CHANNELS, BANDS)
    assert sampler.sizes == [64, 128]
    sample = sampler.draw_unaugmented(rng, 64)
    assert (sample.truth == 0).any()
    assert not sample.masked[(sample.truth == 0).all(axis=-1)].any()


def test_weights_decide_how_often_a_site_is_drawn(rng):
    often, never = make_site(rng), make_site(rng)
    never = dataclasses.replace(never, sampling_weight=1e-9)
    sampler = Sampler([often, never], CHANNELS, BANDS, real=0.0)
    brightest = often.observations.reflectance([2]).max(axis=(0, 1, 2))
    for _ in range(5):
        truth = sampler.draw_unaugmented(rng, SIZE).truth
        assert (truth.max(axis=(0, 1)) <= brightest + 1e-6).all()


def test_clouds_are_lent_where_a_site_has_none(rng):
    clear = make_site(rng, repeated=True)
    with pytest.raises(InputError, match="add a source with cloudy dates"):
        Sampler([clear], CHANNELS, BANDS)
    lent = Sampler([clear], CHANNELS, BANDS, lenders=[make_site(rng)])
    assert lent.draw(rng, SIZE).masked.any()


def test_a_batch_has_patches_of_one_size(rng):
    sampler = Sampler([make_site(rng), make_site(rng, size=96)], CHANNELS, BANDS)
    channels, truth, weight = sampler.draw_batch(rng, 2 * 96 * 96, 0.5, 0.05)
    edge = channels.shape[1]
    assert channels.shape == (max(1, 2 * 96 * 96 // edge**2), edge, edge, len(CHANNELS))
    assert truth.shape == (*channels.shape[:3], 3)
    assert set(np.unique(weight)) <= {np.float32(0), np.float32(0.05), np.float32(1)}
    assert {part.dtype for part in (channels, truth, weight)} == {np.dtype(np.float32)}


def test_regions_are_held_out_whole(rng):
    sites = [make_site(rng), make_site(rng, region="there")]
    training, held_out = split_sites(sites, ["there"])
    assert {site.region for site in training} == {"here"}
    assert {site.region for site in held_out} == {"there"}
    with pytest.raises(InputError, match="no such regions"):
        split_sites(sites, ["nowhere"])
    with pytest.raises(InputError, match="but not all"):
        split_sites(sites, ["here", "there"])


def test_a_stage_decides_how_much_is_unaugmented():
    stages = (Stage(steps=2, unaugmented_fraction=0.25), Stage(steps=2, unaugmented_fraction=1.0))
    recipe = TrainConfig(
        name="x", data=({"kind": "cube", "path": "-", "region": "-"},), held_out=("-",),
        generator={"kind": "temporal"}, stages=stages,
    )  # fmt: skip
    assert [recipe.stage_at(step)[1].unaugmented_fraction for step in range(4)] == [0.25, 0.25, 1.0, 1.0]
