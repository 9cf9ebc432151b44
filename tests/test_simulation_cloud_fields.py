"""Clouds by optical depth: spectrum, opacity, shadows and parallax; clouds of real shapes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cloudgan.errors import InputError
from cloudgan.simulation import cloud_fields, clouds
from cloudgan.simulation.cloud_fields import View

BANDS = ("green", "red", "nir")

kinds = pytest.mark.parametrize("kind", cloud_fields.KINDS)


def seeded(seed):
    return np.random.default_rng(seed)


def measured_offset(shadow, cloud):
    """By how many rows and columns a shadow lies beside its cloud, by correlation, without borders."""
    product = np.fft.ifft2(
        np.fft.fft2(shadow - shadow.mean()) * np.conj(np.fft.fft2(cloud - cloud.mean()))
    ).real
    at = np.array(np.unravel_index(product.argmax(), product.shape))
    return (at + np.array(product.shape) // 2) % product.shape - np.array(product.shape) // 2


@kinds
def test_the_same_seed_gives_the_same_clouds(kind, fields):
    one, same, other = (
        clouds.add_clouds(
            fields, BANDS, cloud_fields.draw_cloud_field(seeded(seed), fields.shape[:2], kind, 0.5)
        )
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.cloudy, same.cloudy)
    np.testing.assert_array_equal(one.mask, same.mask)
    assert not np.array_equal(one.cloudy, other.cloudy)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), resolution=st.sampled_from([10.0, 20.0, 120.0]))
def test_clear_pixels_and_no_data_stay_as_they_are(seed, resolution):
    clear = seeded(seed).uniform(0.02, 0.6, (64, 96, 3)).astype(np.float32)
    clear[:9, :30] = 0
    made = clouds.add_clouds(
        clear, BANDS, cloud_fields.draw_random_cloud_field(seeded(seed), (64, 96), resolution)
    )
    assert made.cloudy.dtype == np.float32
    assert np.isfinite(made.cloudy).all()
    np.testing.assert_array_equal(made.cloudy[~made.mask], clear[~made.mask])
    assert not made.cloudy[:9, :30].any()
    assert (made.cloudy[9:] > 0).all(), "cloud must not read as no data"
    assert ((made.opacity >= 0) & (made.opacity <= 1)).all()
    assert made.mask[made.opacity > 0].all()


@settings(max_examples=20)
@given(
    seed=st.integers(0, 999),
    azimuth=st.floats(100, 260),
    elevation=st.floats(30, 70),
    height=st.floats(150, 350),
)
def test_shadows_fall_opposite_the_sun_at_the_height_of_the_cloud(seed, azimuth, elevation, height):
    view = View(azimuth, elevation)
    depth = 5 * np.maximum(cloud_fields.draw_spectral_noise(seeded(seed), (128, 128), 20) - 0.8, 0)
    shadow = cloud_fields._shade(depth, height, view)
    # Sun in the south: north, up the image; sun in the east: west. One metre of height per tangent.
    length = height / np.tan(np.radians(elevation)) / 10
    wanted = length * np.cos(np.radians(azimuth)), -length * np.sin(np.radians(azimuth))
    np.testing.assert_allclose(clouds.shadow_offset(height, view.sun, 10), wanted)
    np.testing.assert_allclose(measured_offset(shadow, 1 - np.exp(-0.7 * depth)), wanted, atol=1.1)


def test_the_offset_of_a_shadow_follows_from_height_sun_and_resolution():
    assert clouds.shadow_offset(1000, (180, 45), 10) == pytest.approx((-100, 0))
    assert clouds.shadow_offset(1000, (90, 45), 10) == pytest.approx((0, -100))
    assert clouds.shadow_offset(1000, (180, 45), 20) == pytest.approx((-50, 0))
    assert clouds.shadow_offset(0, (140, 30)) == pytest.approx((0, 0))


@kinds
def test_more_cover_gives_more_opacity(kind):
    opacity = [
        np.mean(
            [
                cloud_fields.draw_cloud_field(seeded(seed), (96, 96), kind, cover).cloud.mean()
                for seed in range(6)
            ]
        )
        for cover in (0.0, 0.3, 0.9)
    ]
    assert opacity[0] < opacity[1] < opacity[2]


@pytest.mark.parametrize("kind", ["thick", "cumulus"])
def test_edges_are_soft_and_cores_are_opaque(kind):
    drawn = [cloud_fields.draw_cloud_field(seeded(seed), (192, 192), kind, 0.5) for seed in range(8)]
    cloud = np.concatenate([cloud_field.cloud.ravel() for cloud_field in drawn])
    assert np.mean((cloud > 0.05) & (cloud < 0.7)) > 0.1, "the surface shows through a fringe"
    assert np.mean(cloud > 0.9) > 0.05, "it does not through a core"
    # Thick cloud is brighter than its thin fringe.
    bright = np.concatenate([cloud_field.brightness.ravel() for cloud_field in drawn])
    assert bright[cloud > 0.9].mean() > 1.1 * bright[(cloud > 0.05) & (cloud < 0.3)].mean()


def test_haze_is_stronger_in_short_waves_and_cirrus_is_displaced_between_bands():
    surface = np.full((96, 96, 4), 0.05, np.float32)
    bands = ("blue", "green", "red", "nir")
    haze = cloud_fields.draw_cloud_field(seeded(1), (96, 96), "haze", 0.8)
    added = (clouds.add_clouds(surface, bands, haze).cloudy - surface).mean(axis=(0, 1))
    assert (np.diff(added[:3]) < 0).all()
    assert haze.slope > 0.8
    cirrus = cloud_fields.draw_cloud_field(seeded(2), (96, 96), "cirrus", 0.5)
    assert cirrus.slope < 0.2
    # Between green and red, high clouds move by the parallax of half a second, and low clouds by less.
    made = clouds.add_clouds(surface, bands, cirrus).cloudy - surface
    rows, cols = measured_offset(made[..., 2], made[..., 1])
    np.testing.assert_allclose((rows, cols), np.array(cirrus.drift) * 0.478, atol=1.5)
    assert np.hypot(rows, cols) > 2
    low = cloud_fields.draw_cloud_field(seeded(2), (96, 96), "cumulus", 0.5)
    assert np.hypot(*low.drift) < 0.35 * np.hypot(*cirrus.drift)


@pytest.mark.parametrize("slope", [2.0, 11 / 3])
def test_noise_has_the_power_law_asked_for_and_no_border(slope):
    power = np.zeros((256, 129))
    for seed in range(8):
        noise = cloud_fields.draw_spectral_noise(seeded(seed), (256, 256), 128, slope)
        power += np.abs(np.fft.rfft2(noise)) ** 2
        across = np.abs(noise[:, 0] - noise[:, -1]).mean()
        assert across < 2 * np.abs(np.diff(noise, axis=1)).mean()
    wave = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    inner = (wave > 0.03) & (wave < 0.4)
    found = np.polyfit(np.log(wave[inner]), np.log(power[inner]), 1)[0]
    assert found == pytest.approx(-slope, abs=0.15)


def test_wind_stretches_the_pattern():
    noise = cloud_fields.draw_spectral_noise(seeded(1), (128, 128), 20, 3.5, (0, 6))
    assert np.abs(np.diff(noise, axis=1)).mean() < 0.5 * np.abs(np.diff(noise, axis=0)).mean()


def test_clouds_of_real_shapes_keep_their_place_and_get_an_opacity():
    cloud = np.zeros((120, 120), bool)
    cloud[30:80, 30:80] = True
    shadow = np.roll(cloud, (-20, 15), (0, 1)) & ~cloud
    cloud_field = cloud_fields.make_cloud_field(seeded(4), cloud, shadow)
    assert (cloud_field.cloud[40:70, 40:70] > 0.8).mean() > 0.95
    assert not cloud_field.cloud[:15].any()
    assert ((cloud_field.cloud > 0.05) & (cloud_field.cloud < 0.7)).any()
    core = np.roll(cloud, (-20, 15), (0, 1))[:25].nonzero()
    assert cloud_field.shadow[core].mean() > 0.3
    assert not cloud_field.shadow[100:].any()
    none = np.zeros_like(cloud)
    assert not cloud_fields.make_cloud_field(seeded(4), none, none).mask.any()


def test_clouds_of_real_shapes_cover_the_classified_pixels(samples_dir):
    from cloudgan.training.data.textures import read_texture

    real = read_texture(samples_dir / "cloud-texture-512.npz", "texture", BANDS)
    cloud_field = cloud_fields.make_cloud_field(seeded(1), real.cloud, real.shadow)
    assert cloud_field.cloud[real.cloud].mean() > 0.6
    assert (cloud_field.cloud > 0.3).mean() == pytest.approx(real.cloud.mean(), abs=0.08)
    extended = clouds.extend_cloud(real.reflectance, real.cloud)
    assert (extended[..., 0] > 0.2).mean() > 0.95, "cloud everywhere, without its rim and the surface"


def test_the_gallery_in_the_docs_is_what_the_library_draws(samples_dir, tmp_path):
    root = Path(__file__).parents[1]
    drawn = tmp_path / "clouds.png"
    subprocess.run(
        [sys.executable, root / "research" / "clouds_gallery.py", samples_dir, drawn],
        check=True,
        timeout=120,
    )
    one, other = (
        np.asarray(Image.open(path).convert("RGB"), float)
        for path in (drawn, root / "docs" / "images" / "clouds.png")
    )
    assert one.shape == other.shape
    assert np.abs(one - other).mean() < 2, "draw it again, see research/clouds_gallery.py"


def test_invalid_arguments_are_refused_by_name():
    with pytest.raises(InputError, match="fog"):
        cloud_fields.draw_cloud_field(seeded(0), (64, 64), "fog", 0.5)
    with pytest.raises(InputError, match="cover lies in"):
        cloud_fields.draw_cloud_field(seeded(0), (64, 64), "thick", 1.5)
    with pytest.raises(InputError, match="above the horizon"):
        View(elevation=0)
    with pytest.raises(InputError, match="differ in shape"):
        cloud_fields.make_cloud_field(seeded(0), np.zeros((4, 4), bool), np.zeros((5, 4), bool))
