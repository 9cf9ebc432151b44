"""Which module may know which: the arrows of the architecture, read from the sources themselves."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cloudgan

ROOT = Path(cloudgan.__file__).parent

# A module may import the modules of the lines above its own, and none beside it. A new one is entered here.
LAYERS = """
errors
grid dates radiometry signing storage identity scores
tiling clouds aoi items lease normalisation
stac
catalog
cube generator
overviews removal
baselines cases
evaluation
units
plan
planning store attempts
job run zones
selfscore
demo training
cli_quality
cli
"""
RANK = {name: rank for rank, line in enumerate(LAYERS.split("\n")) for name in line.split()}
SOURCES = sorted(
    path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"
)  # it only names the rest
OUTSIDE_TRAINING = [path for path in SOURCES if path.parent.name != "training"]


def name_of(path):
    """The module or package directly below `cloudgan` that a source belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Absolute names that a source imports anywhere, also within functions and for types alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path):
    """The modules or packages directly below `cloudgan` that a source imports."""
    names = {name.split(".")[1] for name in imports(path) if name.startswith("cloudgan.")}
    return {name for name in names if (ROOT / name).is_dir() or (ROOT / f"{name}.py").exists()}


def by_name(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


def test_every_module_has_its_place():
    assert {name_of(path) for path in SOURCES} <= set(RANK), "enter the new module in LAYERS"


@by_name(SOURCES)
def test_imports_point_one_way(path):
    name = name_of(path)
    backward = {other for other in own_imports(path) - {name} if RANK[other] >= RANK[name]}
    assert not backward, f"{name} may not know {backward}"


def test_the_walk_sees_the_arrows():
    assert {"grid", "clouds", "generator", "tiling", "cube", "errors"} <= own_imports(ROOT / "removal.py")
    assert own_imports(ROOT / "errors.py") == set()


@by_name(OUTSIDE_TRAINING)
def test_what_trains_is_imported_in_training_alone(path):
    assert not {name.split(".")[0] for name in imports(path)} & {"tensorflow", "keras", "onnx", "tf2onnx"}
    assert path.stem.startswith("cli") or "training" not in own_imports(path)


@by_name([path for path in SOURCES if not path.stem.startswith("cli")])
def test_only_the_commands_print(path):
    called = [
        node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    assert not {"print", "pprint", "echo", "secho", "Console"} & set(called)
    assert not {name.split(".")[0] for name in imports(path)} & {"rich", "typer"}


HEAVY = ["tensorflow", "keras", "distributed", "dask", "rasterio", "onnxruntime", "xarray", "zarr", "pystac"]


def test_importing_cloudgan_is_cheap():
    code = f"import sys, cloudgan; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_help_of_the_command_is_cheap():
    code = f"import sys, cloudgan.cli.app; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", cloudgan.__all__)
def test_every_public_name_is_there(name):
    value = getattr(cloudgan, name)
    assert name == "__version__" or value.__name__ == name
    assert name in dir(cloudgan)


def test_a_name_that_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'cloudgan' has no attribute 'CloudGAN'"):
        _ = cloudgan.CloudGAN
