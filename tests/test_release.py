"""What a release says of itself agrees: one version, and metadata that is true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import cloudgan

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_has_one_home_and_the_citation_has_the_same():
    assert "version" not in PROJECT
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == cloudgan.__version__
    assert cloudgan.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_the_classifiers_name_the_versions_that_are_supported_and_tested():
    lowest, beyond = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups())
    versions = [f"3.{minor}" for minor in range(lowest, beyond)]
    prefix = "Programming Language :: Python :: 3."
    assert [one.split(" :: ")[-1] for one in PROJECT["classifiers"] if one.startswith(prefix)] == versions
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == versions


def test_both_runs_of_ci_call_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for path in (ROOT / ".ci" / "run", ROOT / ".github" / "workflows" / "ci.yml"):
        called = set(re.findall(r"\bmake ([a-z]+)", path.read_text()))
        assert called, path
        assert called <= targets, path
