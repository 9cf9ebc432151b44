"""The regions of the sample imagery that the experiments evaluate on, and their cases.

Regions are the parts of the recipe of the temporal generator with a time series. `truths.toml` lists the
dates that are the truth. At 120 m every clear date is put under the clouds of every cloudy one. At 10 m every
clear date (of the forest every third) is put under those of two others, and every third of them is fully
masked.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cloudgan.evaluation.cases import (
    Case,
    CloudySource,
    composite_clouds,
    dates_around,
    format_date,
    known_truth,
    mask_fully,
    withhold_truth,
)
from cloudgan.observations import Site
from cloudgan.sentinel2.classification import PixelClass
from cloudgan.training.data.paths import read_sites_of

BANDS = ("green", "red", "nir")
REGIONS = (
    "33TWM-east", "33TWM-west", "flanders-a", "flanders-b", "romania-east", "romania-west", "hesbaye",
)  # fmt: skip
"""All regions with a time series."""
LENDER = "flanders-b"
"""The region whose clouds lie over one that has none: composites of months."""
RECIPE = Path(__file__).parents[1] / "pipelines" / "train-temporal.toml"
TRUTHS = Path(__file__).parent / "truths.toml"


def read_regions(data: Path, regions: Sequence[str] = REGIONS) -> list[Site]:
    """The sites of some regions of the sample imagery, as the recipe of the temporal generator reads them."""
    return [trust(site) for site in read_sites_of(RECIPE, BANDS, data) if site.region in regions]


def trust(site: Site) -> Site:
    """A site that trusts the dates of the list alone, without its overcast dates; others as they are."""
    lists = tomllib.loads(TRUTHS.read_text())
    listed = lists.get(site.region.removesuffix("-east").removesuffix("-west"))
    if listed is None:
        return site
    trusted = np.isin(site.observations.days, number_days(listed["truths"]))
    site = replace(site, trusted=trusted)
    return site.select_dates(~np.isin(site.observations.days, number_days(listed.get("overcast", ()))))


def number_days(dates: Sequence[str]) -> np.ndarray:
    """Days since 1970-01-01."""
    return np.array(dates, "datetime64[D]").astype(np.int64)


def draw_cases(
    sites: Sequence[Site], lenders: Sequence[Site], *, quick: bool = False, fields: int = 2
) -> Iterator[Case]:
    """All cases of some sites, in series as dense as they are.

    Args:
        sites: Where.
        lenders: Sites of which `LENDER` is one.
        quick: A quarter of the cases at 10 m.
        fields: Under the clouds of how many other dates each date at 10 m is put, two at most.
    """
    (lender,) = (site for site in lenders if site.region == LENDER)
    for site in sites:
        if site.region.startswith("33TWM"):
            yield from _at_120_m(site)
        else:
            yield from _at_10_m(site, lender, quick, fields)


def _cloudy(site: Site) -> np.ndarray:
    return np.mean(site.observations.pixel_classes == PixelClass.CLOUDY, axis=(1, 2))


def _list_sources(site: Site) -> list[tuple[str, CloudySource]]:
    """The dates that lend their clouds."""
    empty = np.mean(site.observations.pixel_classes == PixelClass.NO_DATA, axis=(1, 2))
    cloudy = _cloudy(site)
    return [
        (format_date(site, at), CloudySource.of_date(site.observations, at))
        for at in np.flatnonzero((cloudy > 0.1) & (cloudy < 0.8) & (empty < 0.3))
    ]


def _extend(source: CloudySource, shape: tuple[int, int]) -> CloudySource:
    """Clouds mirrored at the lower and right edge until they cover a larger site."""
    rows, cols = (max(0, want - have) for want, have in zip(shape, source.pixel_classes.shape, strict=True))
    around = ((0, rows), (0, cols))
    return CloudySource(
        np.pad(source.image, ((0, 0), *around), mode="reflect"),
        np.pad(source.pixel_classes, around, mode="reflect"),
    )


def _at_10_m(site: Site, lender: Site, quick: bool, fields: int) -> Iterator[Case]:
    shape = site.observations.window.shape
    sources = _list_sources(site) or [(day, _extend(one, shape)) for day, one in _list_sources(lender)]
    unclear = np.mean(site.observations.pixel_classes != PixelClass.CLEAR, axis=(1, 2))
    clear = [
        int(at)
        for at in np.flatnonzero(site.trusted & (unclear < 0.02))
        if known_truth(site, int(at)).mean() > 0.95
    ]
    rng = np.random.default_rng(11)
    for number, at in enumerate(clear[:: 3 if site.region.startswith("romania") else 1]):
        if quick and number % 4:
            continue
        near, here = dates_around(site, at)
        for chosen in rng.choice(len(sources), 2, replace=False)[:fields]:
            day, source = sources[chosen]
            yield composite_clouds(near, here, source, f"{format_date(site, at)} under {day}")
        if number % 3 == 0:
            yield mask_fully(near, here, f"{format_date(site, at)} fully masked")
    yield from _under_real_clouds(site, np.flatnonzero((_cloudy(site) > 0.3) & (_cloudy(site) < 0.9)), clear)


def _at_120_m(site: Site) -> Iterator[Case]:
    cloudy, clear = np.flatnonzero(_cloudy(site) > 0.3), np.flatnonzero(site.trusted)
    for at in clear:
        for lender in cloudy:
            source = CloudySource.of_date(site.observations, lender)
            name = f"{format_date(site, at)} under {format_date(site, lender)}"
            yield composite_clouds(site, at, source, name)
        yield mask_fully(site, at, f"{format_date(site, at)} fully masked")
    yield from _under_real_clouds(site, cloudy, clear)


def _under_real_clouds(site: Site, cloudy: Sequence[int], clear: Sequence[int]) -> Iterator[Case]:
    days = site.observations.days
    for at in cloudy:
        near, here = dates_around(site, int(at))
        for truth_at in np.flatnonzero(np.isin(near.observations.days, days[list(clear)])):
            if 0 < abs(int(near.observations.days[truth_at] - days[at])) <= 3:
                name = f"{format_date(site, at)} against {format_date(near, truth_at)}"
                yield withhold_truth(near, here, truth_at, name)
