"""The regions of the sample imagery that the experiments evaluate on, with the dates that are the truth.

`truths.toml` lists them. Regions are the parts of the recipe of the temporal generator with a time series.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cloudgan.observations import Site
from cloudgan.training.data.paths import read_sites_of

BANDS = ("green", "red", "nir")
HELD_OUT = ("33TWM-east", "flanders-b", "romania-east", "summer_102")
"""Regions on which no weight of the shipped generators was fitted."""
SERIES = (
    "33TWM-east", "33TWM-west", "flanders-a", "flanders-b", "romania-east", "romania-west", "hesbaye",
)  # fmt: skip
"""All regions with a time series."""
RECIPE = Path(__file__).parents[1] / "pipelines" / "train-temporal.toml"
TRUTHS = Path(__file__).parent / "truths.toml"


def read_regions(data: Path, regions: Sequence[str] = HELD_OUT) -> list[Site]:
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
