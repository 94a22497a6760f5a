# make study and make test work on a fresh clone: each makes the environment that it needs.
#
#   VENV     the environment (default .venv; an existing one is used as it is)
#   PYTHON   the interpreter to make it with (default: the first Python >= 3.11 found)
#   STUDY    which study `make study` runs (default robustness)
#   ARGS     passed on: make study ARGS="--preset smoke", make test ARGS="tests/solvers -x"
#   WORKERS  processes for the tests, one thread each (default 2; 0: in this process, for a debugger)

VENV ?= .venv
STUDY ?= robustness
ARGS ?=
WORKERS ?= 2

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: help install data study test test-slow bench lint lab docs clean

help:
	@echo "make study      install, get Fashion-MNIST, run the robustness study"
	@echo "make test       install, get Fashion-MNIST, run the tests"
	@echo "make test-slow  the tests that take minutes"
	@echo "make bench      the benchmarks"
	@echo "make lint       style, types and import layers"
	@echo "make lab        install, get Fashion-MNIST, JupyterLab in notebooks/"
	@echo "make docs       every setting of every kind, and the API, as pages below runs/docs"
	@echo "make clean      remove caches and .venv; runs/ and data/ stay"

install: $(INSTALLED)

# -q -q: errors only. pip's warnings, one a package on some machines, would bury them.
$(INSTALLED): pyproject.toml
	@$(RUN) -m pip --version >/dev/null 2>&1 || test -n "$(PYTHON)" || \
		{ echo "no Python >= 3.11 with venv found: install one (Debian: python3 and python3-venv) or name it, make ... PYTHON=/path/to/python3"; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): once, some minutes, about 7 GB with PyTorch for CUDA (see README for the smaller CPU build)"
	@$(RUN) -m pip install -q -q -e ".[dev]"
	@touch $@

data: install
	@$(RUN) -m workbench data fetch fashion_mnist

study: data
	@$(RUN) -m workbench study $(STUDY) $(ARGS)

test: data
	$(RUN) -m pytest --typecheck -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: data
	$(RUN) -m pytest -m slow $(ARGS)

bench: data
	$(RUN) -m pytest tests/benchmarks -m benchmark $(ARGS)

lint: install
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-logo

lab: data
	$(RUN) -m jupyter lab --notebook-dir=notebooks $(ARGS)

docs: data
	@$(RUN) -m workbench.docs $(ARGS)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks build dist *.egg-info
	find workbench studies tests -name __pycache__ -type d -prune -exec rm -rf {} +
