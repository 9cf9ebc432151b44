"""TensorFlow and tf2onnx warn about themselves while they are imported: that is not ours to fix."""

import importlib.util
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_BACKEND = os.environ.setdefault("KERAS_BACKEND", "tensorflow")

if importlib.util.find_spec("keras") is None or importlib.util.find_spec(_BACKEND) is None:
    collect_ignore_glob = ["test_*.py"]  # without the extra [train] there is nothing to test here
else:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras  # noqa: F401

        if _BACKEND == "tensorflow":
            import tensorflow  # noqa: F401
            import tf2onnx  # noqa: F401

_SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def samples_dir():
    """The folder of real imagery beside the repository."""
    if not _SAMPLES.is_dir():
        pytest.skip(f"the real imagery is not at {_SAMPLES}")
    return _SAMPLES


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def fields():
    """Chequered farmland in green, red, nir: reflectance, 300 x 280 pixels."""
    rng = np.random.default_rng(1)
    colours = rng.uniform((0.05, 0.03, 0.2), (0.15, 0.16, 0.5), (8, 8, 3))
    return np.kron(colours, np.ones((40, 40, 1)))[:300, :280].astype(np.float32)
