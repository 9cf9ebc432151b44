"""TensorFlow and tf2onnx warn about themselves while they are imported: that is not ours to fix."""

import importlib.util
import os
import warnings

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
