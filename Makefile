# Everything a fresh machine needs is Python 3.11 to 3.13, make and a package registry.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV := UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=$(VENV) .tools/bin/uv
SYNC := $(UV) sync --quiet --frozen --inexact --python $(PYTHON)
# The way of measuring that costs little is there from Python 3.12 on.
COVER = env $$($(BIN)/python -c "import sys; print('COVERAGE_CORE=sysmon' * (sys.version_info >= (3, 12)))") \
	$(BIN)/python -m pytest --cov
UNIT := -q -m "not integration" --ignore=tests/training --ignore=tests/integration
PARALLEL := -n logical --dist worksteal
USERS := --extra cpu --extra planetary --extra s3 --extra stackstac --extra vector --extra dashboard --extra masks

.PHONY: help demo test unit lowest coverage lint audit docs notebooks wheel clean

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

demo: $(VENV)/.cpu ## A season of simulated farmland, declouded
	$(BIN)/cloudgan demo --out demo
	$(BIN)/cloudgan-batch --job pipelines/demonstration.toml --report
	$(BIN)/cloudgan quicklook demo/out.zarr --out demo/before-after.png
	@echo "store:   demo/out.zarr (xarray: xr.open_zarr('demo/out.zarr'))"
	@echo "report:  demo/out.html (open it in a browser)"
	@echo "picture: demo/before-after.png (above as observed, below declouded; true colour)"

test: $(VENV)/.all .tools/stac-api/.done .tools/azurite/.done .tools/axe/.done ## All tests
	$(BIN)/python -m pytest $(PARALLEL) --ignore=tests/integration
	$(BIN)/python -m pytest tests/integration

# VENV and PYTHON name another environment: make unit VENV=.tools/newest PYTHON=python3.13
unit: $(VENV)/.users ## The tests without servers and without training, with their coverage
	$(COVER) --cov-report= $(UNIT) $(PARALLEL)
	$(BIN)/python -m coverage report --omit="cloudgan/training/*"

lowest: .tools/bin/uv ## The same tests with the oldest dependencies that pyproject.toml allows
	$(UV) venv --quiet --clear --python $(PYTHON) .tools/lowest
	$(UV) pip install --quiet --python .tools/lowest --resolution lowest-direct --group test \
		--editable ".[cpu,planetary,s3,stackstac,vector,dashboard,masks]"
	.tools/lowest/bin/python -m pytest $(UNIT) $(PARALLEL) -W default

coverage: $(VENV)/.all .tools/stac-api/.done .tools/azurite/.done .tools/axe/.done ## All tests, with their coverage
	$(COVER) --cov-report=term --cov-report=html:.cache/coverage

lint: $(VENV)/.all ## Style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

audit: $(VENV)/.all ## Known vulnerabilities of what is installed for users, asked of PyPI
	$(UV) export --quiet --frozen --no-dev --no-emit-project $(USERS) --output-file .tools/audited.txt
	$(UV) tool run pip-audit --strict --disable-pip --require-hashes --requirement .tools/audited.txt

docs: $(VENV)/.docs ## The documentation as a site, in site/; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site: site/index.html"

notebooks: demo ## Run the notebooks of the documentation again, and save what they print and draw
	$(UV) run --quiet --frozen --no-dev --inexact --extra cpu \
		--with nbclient --with ipykernel --with matplotlib --with h5netcdf --with h5py python docs/run_notebooks.py
	rm -f season.csv months.nc

wheel: .tools/bin/uv ## The wheel and the source distribution in dist/, tried in an empty environment
	rm -rf dist .tools/wheel
	$(UV) build --quiet --python $(PYTHON)
	$(UV) venv --quiet --python $(PYTHON) .tools/wheel
	$(UV) pip install --quiet --python .tools/wheel "$$(ls dist/*.whl)[cpu]"
	cd .tools/wheel && \
		bin/cloudgan --version && \
		bin/cloudgan info temporal > /dev/null && \
		bin/cloudgan demo --out demo && \
		bin/cloudgan-batch --aoi demo/field.geojson --dates 2020-05-05 --context-days 5 \
			--stac demo/catalog.json --model documented --workers 1 --out demo/out.zarr && \
		bin/python -c "import xarray; print(xarray.open_zarr('demo/out.zarr').sizes)"

clean: ## Remove what the other targets made
	rm -rf .venv .tools .cache demo dist site

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

# What tells whether a page can be used by everybody; without npm, the test that needs it is skipped.
.tools/axe/.done: Makefile
	mkdir -p $(@D)
	if command -v npm > /dev/null; then \
		npm install --silent --no-audit --no-fund --prefix $(@D) axe-core@4.14.1 && touch $@ || \
			echo "axe-core cannot be installed"; \
	fi

$(VENV)/.cpu: pyproject.toml uv.lock | .tools/bin/uv
	$(SYNC) --no-dev --extra cpu
	touch $@

$(VENV)/.docs: pyproject.toml uv.lock | .tools/bin/uv
	$(SYNC) --no-dev --extra cpu --group docs
	touch $@

$(VENV)/.users: pyproject.toml uv.lock | .tools/bin/uv
	$(SYNC) --no-dev --group test $(USERS)
	touch $@

$(VENV)/.all: pyproject.toml uv.lock | .tools/bin/uv
	$(SYNC) --extra train $(USERS)
	touch $@ $(VENV)/.cpu $(VENV)/.docs $(VENV)/.users
