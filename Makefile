# Everything a fresh machine needs is Python 3.11 to 3.13, make and a package registry.
PYTHON ?= python3
BIN := .venv/bin
UV := UV_PYTHON_DOWNLOADS=never .tools/bin/uv
SYNC := $(UV) sync --quiet --frozen --inexact --python $(PYTHON)

.PHONY: demo test lint audit clean

demo: .venv/.cpu ## A season of simulated farmland, declouded
	$(BIN)/cloudgan demo --out demo
	$(BIN)/cloudgan-batch --job pipelines/demonstration.toml
	$(BIN)/python pipelines/picture.py pipelines/demonstration.toml demo/before-after.png
	@echo "store:   demo/out.zarr (xarray: xr.open_zarr('demo/out.zarr'))"
	@echo "picture: demo/before-after.png (above as seen, below declouded; near infrared, red, green)"

test: .venv/.all .tools/stac-api/.done .tools/azurite/.done ## All tests
	$(BIN)/python -m pytest

lint: .venv/.all ## Style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

audit: .venv/.all ## Known vulnerabilities of what is installed for users, asked of PyPI
	$(UV) export --quiet --frozen --no-dev --no-emit-project --extra cpu --extra planetary --extra s3 \
		--output-file .tools/audited.txt
	$(UV) tool run pip-audit --strict --disable-pip --require-hashes --requirement .tools/audited.txt

clean:
	rm -rf .venv .tools demo

# uv lives beside the environment it fills: a sync must not remove the tool that does it.
.tools/bin/uv:
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet "uv>=0.9"

# A STAC API for the tests to ask; its dependencies are not ours, so it has an environment of its own.
.tools/stac-api/.done: tests/integration/stac-api.txt | .tools/bin/uv
	$(UV) venv --quiet --clear --python $(PYTHON) .tools/stac-api
	$(UV) pip sync --quiet --python .tools/stac-api/bin/python $<
	touch $@

# Azure's own emulator; where there is no npm, the tests that need it are skipped and say so.
.tools/azurite/.done: Makefile
	mkdir -p $(@D)
	if command -v npm > /dev/null; then \
		npm install --silent --no-audit --no-fund --prefix $(@D) azurite@3.35.0 && touch $@ || \
			echo "Azurite cannot be installed"; \
	fi

.venv/.cpu: pyproject.toml uv.lock | .tools/bin/uv
	$(SYNC) --no-dev --extra cpu
	touch $@

.venv/.all: pyproject.toml uv.lock | .tools/bin/uv
	$(SYNC) --extra cpu --extra train --extra planetary --extra s3
	touch $@ .venv/.cpu
