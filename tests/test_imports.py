"""The structure of the package, read from its sources: which module may know which, and how long they are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cloudgan

ROOT = Path(cloudgan.__file__).parent

# A module may import what stands on the lines above its own, and of its own line what BESIDE allows. A new
# folder, or a new module directly below `cloudgan`, is entered here.
LAYERS = """
errors defaults
geo sentinel2 schema settings object_stores
stac observations simulation model masks
io removal estimation
planning evaluation demonstration products
distributed training report
config batch view
cli
""".strip()
BESIDE = {
    ("schema", "sentinel2"),
    ("geo", "object_stores"),
    ("io", "removal"),
    ("removal", "estimation"),
    ("batch", "config"),
    ("masks", "observations"),
    ("masks", "model"),
}
LEVELS = LAYERS.split("\n")
RANK = {name: rank for rank, line in enumerate(LEVELS) for name in line.split()}
# The package itself only names the rest.
SOURCES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60

by_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    """The module or folder directly below `cloudgan` that a source belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def imported_names(path: Path) -> set[str]:
    """Absolute names that a source imports anywhere, also within functions and for types alone."""
    names = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imported_modules(path: Path) -> set[str]:
    """The modules of this package that a source imports, without the folders on the way to them."""
    found = {name for name in imported_names(path) if name in MODULES}
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def test_every_module_has_its_place_on_few_levels():
    assert len(LEVELS) <= 8
    assert {name_of(path) for path in SOURCES} == set(RANK), "enter the new module in LAYERS"


@by_source
def test_imports_point_one_way(path):
    own = name_of(path)
    known = {name.split(".")[1] for name in imported_modules(path)} - {own}
    backward = {other for other in known if RANK[other] >= RANK[own] and (own, other) not in BESIDE}
    assert not backward, f"{own} may not know {backward}"


def test_modules_do_not_import_each_other_in_circles():
    graph = {name: imported_modules(path) - {name} for name, path in MODULES.items()}
    while free := {name for name, known in graph.items() if not known & graph.keys()}:
        graph = {name: known for name, known in graph.items() if name not in free}
    assert not graph


def test_the_walk_finds_the_imports():
    core = imported_modules(ROOT / "removal" / "core.py")
    assert {"cloudgan.geo.grid", "cloudgan.observations", "cloudgan.removal.blending"} <= core
    assert "cloudgan.removal" not in core
    assert imported_modules(ROOT / "errors.py") == set()


@by_source
def test_what_trains_is_imported_in_training_alone(path):
    if name_of(path) != "training":
        outer = {name.split(".")[0] for name in imported_names(path)}
        assert not outer & {"tensorflow", "keras", "onnx", "tf2onnx"}


@by_source
def test_only_the_commands_print(path):
    if name_of(path) == "cli":
        return
    called = {
        node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
    }
    assert not {"print", "pprint", "echo", "secho", "Console"} & called
    assert not {name.split(".")[0] for name in imported_names(path)} & {"rich", "typer"}


@by_source
def test_no_module_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@by_source
def test_no_function_is_long(path):
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION} == {}


HEAVY = ["tensorflow", "keras", "distributed", "dask", "rasterio", "onnxruntime", "xarray", "zarr", "pystac"]


@pytest.mark.parametrize("module", ["cloudgan", "cloudgan.settings", "cloudgan.config", "cloudgan.cli.app"])
def test_importing_is_cheap(module):
    """The help of the command waits for nothing that it does not need."""
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
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
