# Everything a person or a machine does with this checkout; needs python3 (3.11 or newer) and make only.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# The lock is the key: the environment is made anew when it changes, and only then.
STAMP := .venv/.installed

help:            ## say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: $(STAMP)  ## make .venv from requirements.lock, byte-compiled

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Volaris needs Python 3.11 or newer, was %d.%d; set PYTHON=/path/to/python3" % sys.version_info[:2])'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.uv
	$(BIN)/uv pip install --python $(BIN)/python --quiet --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q actors api bot scheduling sandbox
	@touch $@

up: $(STAMP)     ## start the tree and show it; Ctrl-C stops it
	@$(BIN)/volaris up

down: $(STAMP)   ## stop the tree of this home
	@$(BIN)/volaris down

test: $(STAMP)   ## run every test
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(STAMP)   ## ruff, mypy --strict, who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)  ## run every benchmark
	$(BIN)/python -m benchmarks.price_cycle
	$(BIN)/python -m benchmarks.tree_memory
	$(BIN)/python -m benchmarks.replacement
	$(BIN)/python -m benchmarks.overshoot
	$(BIN)/python -m benchmarks.backfill
	$(BIN)/python -m benchmarks.failover
	$(BIN)/python -m benchmarks.limits
	$(BIN)/python -m benchmarks.implied_vol

soak: $(STAMP)   ## 5,000 price cycles in an hour while every part is killed in turn
	$(BIN)/python -m benchmarks.soak

lock:            ## pin anew what `install` installs
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock

.PHONY: help install up down test lint bench soak lock
