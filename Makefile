# One word per job. Each target does its own set-up: Python 3.11 or newer and make are all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.runtime
DEV_STAMP := $(VENV)/.dev
JUNIT ?=

.PHONY: lab test lint bench fuzz lock clean

lab: $(RUN_STAMP)  ## A fleet enrolls, rekeys and sends signed messages, on this machine
	$(BIN)/trillium lab

test: $(DEV_STAMP)  ## Every test; those that need an outside program skip where it is missing
	$(BIN)/python -m pytest -q

lint: $(DEV_STAMP)  ## Formatting, linting, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(DEV_STAMP)  ## Benchmarks; each prints its ratios and their spread
	$(BIN)/python -m bench

fuzz: $(DEV_STAMP)  ## The same properties and crash tests, for as long as it takes
	TRILLIUM_CRASHES=1000 HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -q --timeout 7200 tests/property tests/fuzz

LOCK := uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --no-annotate -p 3.11

lock: $(DEV_STAMP)  ## Pin the dependencies anew, with hashes, for every Python and platform
	$(BIN)/$(LOCK) requirements/build.in -o requirements/build.txt
	$(BIN)/$(LOCK) pyproject.toml -o requirements/runtime.txt
	$(BIN)/$(LOCK) pyproject.toml --group dev -o requirements/dev.txt
	for judge in requirements/judge-*.in; do $(BIN)/$(LOCK) $$judge -o $${judge%.in}.txt; done

$(RUN_STAMP): requirements/runtime.txt requirements/build.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

$(DEV_STAMP): requirements/dev.txt $(RUN_STAMP)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
