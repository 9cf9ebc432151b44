"""What all tests share: small generators, the demonstration catalogue, and the real scenes where they are."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from networks import TIME_CHANNELS, write_network
from numpy.typing import NDArray

from cloudgan.demonstration.catalogue import Demo, write_catalog
from cloudgan.model.generator import Generator

settings.register_profile("full", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("brief", settings.get_profile("full"), max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "full"))

# Nor does a test read the configuration file of whoever runs it.
os.environ["XDG_CONFIG_HOME"] = os.devnull

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """The folder of real imagery beside the repository."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real imagery is not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture
def rng() -> np.random.Generator:
    """A source of chance, the same for every test."""
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def fields() -> NDArray[np.float32]:
    """Chequered farmland in green, red, nir: reflectance, 300 x 280 pixels."""
    rng = np.random.default_rng(1)
    colours = rng.uniform((0.05, 0.03, 0.2), (0.15, 0.16, 0.5), (8, 8, 3))
    return np.kron(colours, np.ones((40, 40, 1)))[:300, :280].astype(np.float32)


@pytest.fixture(scope="session")
def real_scenes() -> Path:
    """The static catalogue of five real items of MGRS tile 33TWM at 120 m."""
    catalog = REAL_DATA / "s2-l2a-33TWM-120m" / "catalog.json"
    if not catalog.exists():
        pytest.skip(f"the real scenes are not there: {catalog}")
    return catalog


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Four dates of the demonstration catalogue, May 5, 10, 15 and 20."""
    dates = [dt.date(2020, 5, day) for day in (5, 10, 15, 20)]
    return write_catalog(tmp_path_factory.mktemp("demo"), dates=dates)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file: the mean of the target's bands around a pixel, tiles of 32 pixels."""
    return write_network(tmp_path_factory.mktemp("network") / "mean.onnx")


@pytest.fixture(scope="session")
def generator(network: Path) -> Generator:
    """The same file, loaded."""
    return Generator.load(network)


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    """A generator of other dates, with a kernel so wide that the edge of a tile changes what it gives."""
    path = tmp_path_factory.mktemp("temporal") / "temporal.onnx"
    return Generator.load(write_network(path, channels=TIME_CHANNELS, bands=["green"], radius=12))
