# Every target makes what it needs first, on a machine that has only Python >= 3.11 and make. Nothing is installed outside $(VENV).
# pip reads its own variables from the environment: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gets torch without CUDA.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= auto

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
SETTINGS := pyproject.toml setup.py constraints.txt

# Stamps, not the environment's own files: one that was interrupted half-way is made again.
CREATED := $(VENV)/.created
CORE := $(VENV)/.installed-core
TEST := $(VENV)/.installed-test
DEV := $(VENV)/.installed-dev
DOCS := $(VENV)/.installed-docs

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: leaderboard test lint format benchmark docs clean help

leaderboard: $(CORE)  ## Run the benchmark on the bundled zoos, print its table and write its page
	$(BIN)/zoobench run --n-jobs -1

test: $(TEST)  ## Run the whole test suite, doctests included
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal --doctest-modules tests zoobench

lint: $(DEV)  ## Check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(DEV)  ## Mend style and formatting where a machine can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

benchmark: $(TEST)  ## Time what must be fast against its baselines, and print all ratios
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks -o python_files='bench_*.py' --benchmark-columns=min,median,rounds

# -E: a page that did not change may refer to one that did.
docs: $(DOCS)  ## Build the site of the documentation, its examples and pictures included
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -E -W --keep-going -b html docs docs/_build/html
	@echo "The site: $(CURDIR)/docs/_build/html/index.html"

clean:  ## Remove the environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage htmlcov
	rm -rf docs/_build docs/generated docs/auto_examples zoobench_results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "zoobench needs Python 3.11 or later; name one: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(CORE): $(SETTINGS) | $(CREATED)
	$(INSTALL) --editable .
	@touch $@

$(TEST): $(SETTINGS) | $(CREATED)
	$(INSTALL) --editable '.[test]'
	@touch $@ $(CORE)

$(DEV): $(SETTINGS) | $(CREATED)
	$(INSTALL) --editable '.[dev]'
	@touch $@ $(CORE) $(TEST)

$(DOCS): $(SETTINGS) | $(CREATED)
	$(INSTALL) --editable '.[docs]'
	@touch $@ $(CORE)
