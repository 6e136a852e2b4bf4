# The study from a fresh machine: `make study`, `make test`; `make help` lists the rest.

PYTHON ?= python3
PROFILE ?= laptop
UV := 0.13.8

# Modules compiled once: without, each of the study's processes takes seconds longer to start.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.DEFAULT_GOAL := help
.PHONY: help study book test test-slow test-floor faults bench lab serve lock clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile
	@echo "  PROFILE=laptop and SEEDS=0-2 choose the runs of study and book; PYTHON=python3 is what .venv is made with"

study: .venv/.installed ## set up, train some networks of PROFILE, then make the book
	@echo "make study trains what is missing, executes the notebooks and builds the book: 3 to 7 minutes on 2 cores, the first time"
	@$(BIN)/python -m sparsity_lib.study run $(PROFILE) $(SEEDS:%=--seeds %)
	@$(MAKE) --no-print-directory book

book: .venv/.installed ## set up, execute the notebooks on published runs and those that are there, build the book
	@$(BIN)/python scripts/notebooks.py -p profile $(PROFILE) $(SEEDS:%=-p seeds %)
	@$(BIN)/python scripts/book.py

test: .venv/.installed ## set up, check style and types, run the quick tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(PYTEST) -m "not slow"

test-slow: .venv/.installed ## run the slow tests
	$(PYTEST) -m slow --durations 20

test-floor: .venv/.installed ## run the library's tests under the oldest torch it takes (5 GB in .cache)
	$(BIN)/uv venv --quiet --allow-existing --python 3.11 .cache/floor
	$(BIN)/uv pip install --quiet --python .cache/floor/bin/python -r pyproject.toml --extra study --extra dev \
		"torch==2.4.*" "torchvision==0.19.*"
	PYTHONPATH=. .cache/floor/bin/python -m pytest -m "not slow" -W ignore::FutureWarning tests/library

faults: .venv/.installed ## run the tests that inject faults (docs/faults.md)
	$(PYTEST) -m fault

bench: .venv/.installed ## measure what training costs, for the book's page; needs a quiet machine
	$(BIN)/python -m benchmarks

lab: .venv/.installed ## open JupyterLab on this machine alone (127.0.0.1)
	$(BIN)/jupyter-lab --ip=127.0.0.1

serve: .venv/.installed ## show the book on http://127.0.0.1:8000
	@test -f _build/html/index.html || { echo "error: there is no book yet: make study" >&2; exit 1; }
	@echo "the book is on http://127.0.0.1:8000 (stop with Ctrl-C)"
	@$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

lock: .venv/.installed ## bring requirements.lock in line with pyproject.toml
	$(COMPILE) --quiet pyproject.toml $(foreach extra,study book cluster dev,--extra $(extra)) --output-file requirements.lock
	echo uv==$(UV) | $(COMPILE) --quiet - --no-annotate --output-file scripts/installer.lock

clean: ## remove the book and the executed notebooks
	rm -rf _build book/experiments
	@echo "kept: .venv, data, the published results, and runs, which took the time"

# Where everything is installed already this needs no network; the project is built with the lock's setuptools.
.venv/.installed: requirements.lock scripts/installer.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "error: $(PYTHON) is not Python 3.11 or newer; name one that is: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "error: $(PYTHON) lacks venv; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up .venv (minutes and 8 GB where nothing is cached)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r scripts/installer.lock
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
