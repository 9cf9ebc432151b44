# Everything a fresh machine needs is Python 3.11 to 3.13, make and a package registry.
PYTHON ?= python3
BIN := .venv/bin
UV := UV_PYTHON_DOWNLOADS=never .tools/bin/uv
SYNC := $(UV) sync --quiet --frozen --inexact --python $(PYTHON)

.PHONY: demo test lint clean

demo: .venv/.cpu ## A season of simulated farmland, declouded
	$(BIN)/cloudgan demo --out demo
	$(BIN)/cloudgan-batch --job pipelines/demonstration.toml
	$(BIN)/python pipelines/picture.py pipelines/demonstration.toml demo/before-after.png
	@echo "store:   demo/out.zarr (xarray: xr.open_zarr('demo/out.zarr'))"
	@echo "picture: demo/before-after.png (above as seen, below declouded; near infrared, red, green)"

test: .venv/.all ## All tests
	$(BIN)/python -m pytest

lint: .venv/.all ## Style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf .venv .tools demo

# uv lives beside the environment it fills: a sync must not remove the tool that does it.
.tools/bin/uv:
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet "uv>=0.9"

.venv/.cpu: pyproject.toml uv.lock | .tools/bin/uv
	$(SYNC) --no-dev --extra cpu
	touch $@

.venv/.all: pyproject.toml uv.lock | .tools/bin/uv
	$(SYNC) --extra cpu --extra train --extra planetary --extra s3
	touch $@ .venv/.cpu
