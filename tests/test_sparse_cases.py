"""Cases: what surrounds a date, and the same case in a sparser series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudgan import defaults
from cloudgan.evaluation.cases import (
    CONTEXT_DAYS,
    DENSITIES,
    CloudySource,
    composite_clouds,
    dates_around,
    draw_cases,
    thin_dates,
)
from cloudgan.geo.grid import Window
from cloudgan.observations import MAX_AGE, Observations, Site
from cloudgan.sentinel2.classification import PixelClass

CLOUDY = PixelClass.CLOUDY


def site_of(days: list[int], cloudy: tuple[int, ...] = ()) -> Site:
    """Dates of which some are wholly cloudy; each has its index as its value."""
    shape = (len(days), 32, 32)
    values = np.broadcast_to(np.arange(1, len(days) + 1)[:, None, None] * 100, shape).astype(np.uint16)
    classes = np.full(shape, PixelClass.CLEAR, np.uint8)
    classes[list(cloudy)] = CLOUDY
    observations = Observations(Window(0, 0, 32, 32), {"red": values}, classes, np.array(days, np.int64))
    return Site("made by hand", "here", 10, 2, observations, np.ones(len(days), bool))


def test_a_case_sees_what_a_run_over_a_season_sees():
    assert max(defaults.CONTEXT_DAYS, MAX_AGE) == CONTEXT_DAYS
    site = site_of([0, 80, 200, 205, 320, 321])
    near, here = dates_around(site, 2)
    assert near.observations.days.tolist() == [80, 200, 205, 320]
    assert near.observations.days[here] == 200
    assert near.observations.bands["red"][here, 0, 0] == 300


@settings(max_examples=40, deadline=None)
@given(at=st.integers(0, 15), every=st.integers(1, 5), cloudy=st.sets(st.integers(0, 15), max_size=8))
def test_every_so_many_clear_dates_stay_on_either_side(at, every, cloudy):
    site = site_of(list(range(0, 80, 5)), tuple(cloudy - {at}))
    source = CloudySource(np.full((1, 32, 32), 9000, np.uint16), np.full((32, 32), CLOUDY, np.uint8))
    case = composite_clouds(site, at, source, "case")
    thin = thin_dates(case, every)
    days = case.site.observations.days
    clear = [time for time in range(16) if time not in cloudy and time != at]
    before, after = [time for time in clear if time < at][::-1], [time for time in clear if time > at]
    kept = {*before[every - 1 :: every], *after[every - 1 :: every], at, *cloudy}
    assert thin.site.observations.days.tolist() == days[sorted(kept)].tolist()
    assert thin.site.observations.days[thin.at] == days[at]
    np.testing.assert_array_equal(thin.site.observations.image(thin.at), case.site.observations.image(at))
    assert thin.truth is case.truth
    assert thin.evaluated is case.evaluated


def test_the_dense_series_is_the_whole_one():
    assert DENSITIES["dense"] == 1
    site = site_of(list(range(0, 60, 5)), cloudy=(3,))
    (case, *_) = draw_cases(site, ["fully masked"], dates=1)
    assert len(thin_dates(case, 1).site.observations.days) == len(site.observations.days)


def test_a_thinned_series_keeps_its_trusted_dates_beside_its_observations():
    site = site_of(list(range(0, 60, 5)))
    (case, *_) = draw_cases(site, ["fully masked"], dates=1)
    thin = thin_dates(case, DENSITIES["sparse4"]).site
    assert len(thin.trusted) == len(thin.observations.days) < len(case.site.trusted)


@pytest.mark.parametrize("at", [0, 11])
def test_the_ends_of_a_series_are_thinned_alike(at):
    site = site_of(list(range(0, 60, 5)))
    source = CloudySource(np.full((1, 32, 32), 9000, np.uint16), np.full((32, 32), CLOUDY, np.uint8))
    thin = thin_dates(composite_clouds(site, at, source, "end"), 4)
    assert np.abs(thin.site.observations.days - 5 * at).tolist() == sorted([0, 20, 40], reverse=at > 0)
