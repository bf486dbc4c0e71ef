# make demo       set up, project the quick starts, show sentences and tables
# make check      style, types, import contracts and the quick tests, without Ray (4 minutes of CPU time)
# make test       what a developer runs before a commit (24 minutes of CPU time)
# make test-long  kills, clusters, browsers, long properties, real trainings (30 minutes of CPU time)
# make chaos      30 kills of drivers, 30 of workers, and of nodes of a fake cluster (half an hour)
# make damage     500 random damages to runs of four kinds, each mended or named (half an hour)
# make fuzz       1,000,000 damaged lines and records of every format, each row accounted for (an hour of CPU time)
# make bench      benchmarks; each prints a ratio against a named baseline
# make gpu        on a machine with a GPU: published models and whole runs, one report, an hour at most (docs/gpu.md)
#                 MODELS=folder has OWNER/NAME for each model; without it they come from the hub
# make gpu-short  on a machine with a GPU: the packages of PYTHON, random weights, one report, 8 minutes at most

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: setup demo check test test-long lint doctests chaos damage fuzz bench gpu gpu-short apertium chromium

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "xner_ray needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	# torch first: a range that it satisfies then installs no other build of it
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/xner-ray project jobs/quickstart.yaml runs/quickstart --show 5
	$(BIN)/xner-ray project jobs/quickstart_nllb.yaml runs/quickstart_nllb --show 5

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

# Two files of tests at a time, in the order of tests/conftest.py: a file's tests share their runs and clusters
PYTEST = $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 40

check: export HYPOTHESIS_PROFILE = quick
check: lint doctests
	$(PYTEST) -m "not slow and not ray"

test: lint doctests apertium
	$(PYTEST) -m "not long and not chaos"

test-long: setup chromium
	$(PYTEST) -m "long and not chaos"

# Tests of the engine apertium skip where it is neither installed nor can be
apertium:
	@command -v apertium > /dev/null || { sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	  $$sudo apt-get update -qq && $$sudo apt-get install -qq -y --no-install-recommends apertium apertium-eng-spa; } \
	  > /dev/null 2>&1 || echo "apertium is not installed: its tests will skip"

# And tests of report.html in a browser (100 MB, half a minute)
chromium:
	@command -v chromium > /dev/null || { sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	  $$sudo apt-get update -qq && $$sudo apt-get install -qq -y --no-install-recommends chromium; } \
	  > /dev/null 2>&1 || echo "chromium is not installed: its tests will skip"

doctests: setup
	$(BIN)/pytest --quiet --doctest-modules xner_ray

chaos: setup
	$(BIN)/pytest -m chaos -s

damage: setup
	XNER_DAMAGES=500 $(BIN)/pytest -n 2 --dist load -rP --timeout 0 -m long tests/engine/test_damage.py

fuzz: setup
	XNER_FUZZ=1000000 $(BIN)/pytest -n 2 --dist load -rP --timeout 0 -m long tests/read/test_fuzz.py

bench: setup
	for file in tests/bench/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

gpu: setup
	$(PIP) --editable '.[dev,ctranslate2-cuda]'
	$(BIN)/python tests/gpu hour --out runs/gpu $(if $(MODELS),--models '$(MODELS)')

gpu-short:
	$(PYTHON) tests/gpu short --out runs/gpu-short
