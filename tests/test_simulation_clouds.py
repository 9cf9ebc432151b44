"""Clouds drawn by threshold from Perlin noise: cover, opacity by band, shadows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudgan.errors import InputError
from cloudgan.simulation import clouds

BANDS = ("green", "red", "nir")
SUN = (150.0, 45.0)


def seeded(seed):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", clouds.KINDS)
def test_the_same_seed_gives_the_same_clouds(kind, fields):
    one, same, other = (
        clouds.add_clouds(
            fields, BANDS, clouds.draw_cloud_field(seeded(seed), fields.shape[:2], kind, 0.5, SUN)
        )
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.cloudy, same.cloudy)
    np.testing.assert_array_equal(one.mask, same.mask)
    assert not np.array_equal(one.cloudy, other.cloudy)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(clouds.KINDS))
def test_clear_pixels_and_no_data_stay_as_they_are(seed, kind):
    clear = seeded(seed).uniform(0.02, 0.6, (64, 96, 3)).astype(np.float32)
    clear[:9, :30] = 0
    made = clouds.add_clouds(clear, BANDS, clouds.draw_cloud_field(seeded(seed), (64, 96), kind, 0.5, SUN))
    assert made.cloudy.dtype == np.float32
    np.testing.assert_array_equal(made.cloudy[~made.mask], clear[~made.mask])
    assert not made.cloudy[:9, :30].any()
    assert (made.cloudy[9:] > 0).all(), "cloud must not read as no data"
    assert ((made.opacity >= 0) & (made.opacity <= 1)).all()
    assert made.mask[made.opacity > 0].all()


@pytest.mark.parametrize(("cover", "wanted"), [(0.0, 0.0), (0.4, 0.4), (1.0, 1.0)])
def test_cover_is_the_share_under_cloud(cover, wanted, rng):
    made = clouds.draw_cloud_field(rng, (128, 128), "thick", cover, SUN)
    assert np.mean(made.cloud > 0) == pytest.approx(wanted, abs=0.06)


def test_thin_cloud_covers_green_more_than_nir_and_thick_cloud_covers_all_alike(rng):
    clear = np.full((64, 64, 3), 0.1, np.float32)
    cloud, none, bright = (np.full((64, 64), value, np.float32) for value in (0.5, 0.0, 0.1))
    thin = clouds.add_clouds(clear * 5, BANDS, clouds.CloudField(cloud, none, bright, thin=True))
    lost = (clear * 5 - thin.cloudy)[0, 0]
    assert lost[0] > lost[1] > lost[2]
    thick = clouds.add_clouds(clear, BANDS, clouds.CloudField(cloud, none, np.ones_like(cloud), thin=False))
    assert np.ptp((thick.cloudy - 0.05)[0, 0]) < 0.06


def test_shadows_fall_away_from_the_sun():
    cloud = np.zeros((60, 60), np.float32)
    cloud[28:32, 28:32] = 1
    south = clouds.cast_shadow(cloud, 10, (180.0, 45.0))
    assert np.unravel_index(south.argmax(), south.shape)[0] == pytest.approx(29.5 - 10, abs=1.5)
    east = clouds.cast_shadow(cloud, 10, (90.0, 45.0))
    assert np.unravel_index(east.argmax(), east.shape)[1] == pytest.approx(29.5 - 10, abs=1.5)
    low = clouds.cast_shadow(cloud, 10, (180.0, 30.0))
    assert low.argmax() < south.argmax()


def test_noise_is_smooth_and_its_ranks_are_even(rng):
    noise = clouds.draw_fractal_noise(rng, (128, 160), 3)
    assert noise.shape == (128, 160)
    assert (noise.min(), noise.max()) == (0, 1)
    assert np.mean(noise > 0.7) == pytest.approx(0.3, abs=0.01)
    assert np.abs(np.diff(noise, axis=0)).max() < 0.5
    octave = clouds.draw_perlin_noise(rng, (128, 128), (4, 4))
    assert abs(octave.mean()) < 0.2
    assert np.abs(np.diff(octave, axis=1)).max() < 0.15


def test_invalid_arguments_are_refused_by_name(fields, rng):
    with pytest.raises(InputError, match="fog"):
        clouds.draw_cloud_field(rng, (64, 64), "fog", 0.5, SUN)
    with pytest.raises(InputError, match="cover"):
        clouds.draw_cloud_field(rng, (64, 64), "thin", 1.5, SUN)
    cloud_field = clouds.draw_cloud_field(rng, (64, 64), "thin", 0.5, SUN)
    with pytest.raises(InputError, match="swir"):
        clouds.add_clouds(fields[:64, :64], ("green", "red", "swir"), cloud_field)
    with pytest.raises(InputError, match="does not fit"):
        clouds.add_clouds(fields, BANDS, cloud_field)
