# `make demo` and `make test` are all that a fresh machine needs. Another interpreter: `make test PYTHON=python3.12`.
SHELL := bash
.DEFAULT_GOAL := help

runs = $(shell $(1) -c 'print(1)' 2>/dev/null)

ifeq ($(origin PYTHON),undefined)
  PYTHON := $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(if $(call runs,$(p)),$(p))))
  VENV ?= .venv
endif
# A pyenv shim runs only versions that are switched on: switch on the one that was asked for.
ifneq ($(call runs,$(PYTHON)),1)
ifneq ($(filter python3.%,$(PYTHON)),)
  override PYTHON := env PYENV_VERSION=$(patsubst python%,%,$(PYTHON)) $(PYTHON)
endif
endif
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV ?= .venv-$(VERSION)
BIN := $(VENV)/bin

# Two test workers on two cores; one thread each, or they fight over the cores.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/python -m pytest -n $(WORKERS)

# $(call install,WHAT,ARGUMENTS OF PIP): a dot per package; everything pip said is in the log, whose end is shown on failure.
define install
	@set -o pipefail; printf 'Installing %s ' '$(1)'; \
	  $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(2) 2>&1 | tee -a $(VENV)/install.log \
	  | awk '/^(Collecting|Processing) / { printf "."; fflush() } /^Installing collected/ { printf " unpacking"; fflush() } END { print "" }' \
	  || { tail -n 30 $(VENV)/install.log; echo 'Installation failed: see above and $(VENV)/install.log'; exit 1; }
endef

.PHONY: help demo test test-all nightly matrix check lint docs bench clean

help: ## show this list
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo 'Options: PYTHON=python3.12 (its own environment, .venv-3.12), WORKERS=2 (test processes)'

demo: $(VENV)/.smalti ## integrate a real PBMC mosaic; results land in demo/
	$(BIN)/smalti demo

test: lint ## lint, types and all quick tests
	$(PYTEST) -m 'not slow and not gpu and not nightly'

test-all: lint ## the same with the slow learning tests
	$(PYTEST)

nightly: $(VENV)/.dev ## heavy trials: thousands of generated cases, pairs of options, faults at any moment
	SMALTI_CASES=2000 $(PYTEST) -m nightly

matrix: ## the tests on Python 3.11 (scvi-tools 1.4), 3.12 and 3.13 (newest), and once with scanpy's coming preset
	$(MAKE) test PYTHON=python3.11
	$(MAKE) test PYTHON=python3.12
	$(MAKE) test PYTHON=python3.13
	SMALTI_SCANPY_PRESET=scanpy-v2-preview $(MAKE) test PYTHON=python3.12

check: lint ## lint, and security: bandit, licences and pins of all that is installed
	$(BIN)/bandit -q -r src -c pyproject.toml
	$(BIN)/python scripts/check_dependencies.py

lint: $(VENV)/.dev ## ruff, and mypy on Python 3.11
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(if $(filter 3.11,$(VERSION)),$(BIN)/mypy,@echo 'No types: they are checked on Python 3.11, against one set of libraries with their stubs.')

docs: $(VENV)/.doc ## build the documentation; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html
	@echo 'Open docs/_build/html/index.html'

bench: $(VENV)/.smalti ## score the models on the real data sets in SMALTI_DATA_DIR
	for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script; done

clean: ## remove environments, caches and builds
	rm -rf .venv .venv-* build dist docs/_build docs/api/generated .pytest_cache .ruff_cache .mypy_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment without this stamp was never finished: it is made anew. With an old stamp it is brought up to date.
$(VENV)/.smalti: pyproject.toml constraints.txt
	@[ -n '$(VERSION)' ] || { echo 'No Python 3.11 or newer found ($(PYTHON)). Install one or pass PYTHON=/path/to/python.'; exit 1; }
	@[ -e $@ ] || { echo 'Making $(VENV) with Python $(VERSION)'; $(PYTHON) -m venv --clear $(VENV); }
	$(call install,pip,--upgrade pip)
	$(call install,smalti and what it needs,-e .)
	@touch $@

$(VENV)/.dev: $(VENV)/.smalti
	$(call install,the tools for tests,--group dev)
	@touch $@

$(VENV)/.doc: $(VENV)/.smalti
	$(call install,the tools for the documentation,--group doc)
	@touch $@
