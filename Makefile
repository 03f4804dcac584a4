# Each target sets up the virtual environment from requirements.lock if necessary.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_CONSTRAINT := $(CURDIR)/requirements.lock
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# A worker without tests takes half of another worker's; the slowest tests are listed at the end.
PYTEST := pytest -q -n auto --dist worksteal --durations=20

# The compilers for TPUs and GPUs exist for one platform.
COMPILERS := $(if $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m)),$(VENV)/.ahead_of_time)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-whole lint types docs links compilers lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 12

demo: $(VENV)/.demo ## train IQL on a maze, evaluate it, draw its value function and episodes (runs/demo)
	$(BIN)/python -m experiments.demo

test: $(VENV)/.dev lint types ## linter, types and quick tests
	$(BIN)/$(PYTEST) -m "not slow"

test-slow: $(VENV)/.dev $(COMPILERS) ## the tests that train agents until they learn
	$(BIN)/$(PYTEST) -m "slow and not whole"

test-whole: $(VENV)/.dev ## the notebooks, and other tests that take minutes
	$(BIN)/$(PYTEST) -m whole

lint: $(VENV)/.dev ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## static types
	$(BIN)/mypy

docs: $(VENV)/.dev ## the site, in build/site; make test-slow builds it too, and checks its links
	$(BIN)/sphinx-build -W --keep-going -q -j auto docs build/site
	@echo "Open build/site/index.html."

links: $(VENV)/.dev ## check the links of the site to other sites; needs the network
	$(BIN)/sphinx-build -W --keep-going -q -b linkcheck docs build/links

compilers: $(VENV)/.ahead_of_time ## the compilers for TPUs and GPUs that are not here

lock: $(VENV)/.dev ## renew requirements.lock with the newest versions
	env -u PIP_CONSTRAINT $(BIN)/uv pip compile --quiet --upgrade --universal --all-extras \
	  --python-version 3.11 --no-header --no-annotate -o requirements.lock pyproject.toml

clean: ## remove the virtual environment, the site and the folder runs
	rm -rf $(VENV) build docs/reference/generated runs

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "valuelab needs Python 3.11 or newer; name one: make PYTHON=python3.11 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; rm -rf $(VENV); exit 2; }

$(VENV)/.demo: $(BIN)/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet -e '.[environments,plots]'
	@touch $@

# Apart from the other packages: with these beside it, JAX looks for TPUs and CUDA drivers whenever it starts.
$(VENV)/.ahead_of_time: $(BIN)/python requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target=$(VENV)/ahead_of_time \
	  libtpu jax-cuda12-plugin jax-cuda12-pjrt
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@
