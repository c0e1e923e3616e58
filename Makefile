# The front door: `make demo` to try it, `make check test` before a commit. `make help` lists the rest.
# PYTHON names the interpreter that .venv is made with (3.11, 3.12 or 3.13); an existing .venv keeps its own.

.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
DEV_LOCK := requirements-dev.txt
LOCK := $(DEV_LOCK)
# What builds the project itself: never in the lock of production, taken from the other with its hashes.
BUILD_TOOLS := editables|hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers
# A copy of the lock that .venv was filled from; while it is the same, nothing is installed again.
DONE := $(VENV)/installed.txt
# More than two cores need: half of the time a test waits for a process to start or to stop.
TEST_WORKERS ?= 3
COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --quiet

.PHONY: help setup production demo test check fuzz bench lock docs clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: ## .venv with everything, exactly as locked
	@cmp -s $(LOCK) $(DONE) || $(MAKE) --no-print-directory install

production: ## .venv with only what the processes need, exactly as locked
	@$(MAKE) --no-print-directory setup LOCK=requirements.txt

demo: setup ## Sentinel with all it needs and a stub model API, until Ctrl-C
	@exec $(BIN)/sentinel up --demo

test: setup ## all tests (TEST_WORKERS=n processes at once)
	$(BIN)/pytest -n $(TEST_WORKERS)

check: setup ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

SECONDS ?= 60
fuzz: setup ## try changed requests on the parsers for SECONDS; what breaks a promise is kept in tests/corpus
	$(BIN)/python -m tests.support.fuzzing $(SECONDS)

bench: setup ## measure beside nginx on this machine (needs nginx and wrk)
	$(BIN)/python -m benchmarks

lock: ## compile both locks anew from pyproject.toml (needs uv; UPGRADE=--upgrade for newer versions)
	$(COMPILE) $(UPGRADE) --output-file requirements.txt
	$(COMPILE) $(UPGRADE) --group dev --output-file $(DEV_LOCK)

docs: setup ## write the settings into both READMEs and .env.example
	$(BIN)/python -m tests.support.settings_docs

clean: ## remove .venv and caches; the data in .sentinel stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

define build_tools
awk '/^[a-z]/ {wanted = /^($(BUILD_TOOLS))==/} wanted' $(DEV_LOCK) > $(VENV)/build-tools.txt
endef

# uv where it works, else the interpreter's own venv and pip. --no-deps and no build isolation for the project itself:
# everything it needs was in the lock, hashed.
.PHONY: install
install:
	@set -eu; \
	python="$(PYTHON)"; \
	if [ -z "$$python" ]; then \
		for name in python3.13 python3.12 python3.11 python3; do \
			if "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
				python="$$name"; break; \
			fi; \
		done; \
	fi; \
	rm -f $(DONE); \
	if uv --version >/dev/null 2>&1; then \
		[ -x $(BIN)/python ] && $(BIN)/python -c '' 2>/dev/null \
			|| uv venv --quiet --clear --python "$${python:->=3.11,<3.14}" $(VENV); \
		uv pip sync --quiet --python $(BIN)/python --require-hashes $(LOCK); \
		$(build_tools); \
		uv pip install --quiet --python $(BIN)/python --require-hashes --requirement $(VENV)/build-tools.txt; \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
		if [ -z "$$python" ]; then \
			echo "error: Python 3.11, 3.12 or 3.13 is needed, and none was found; name one: make setup PYTHON=…" >&2; \
			exit 1; \
		fi; \
		"$$python" -m venv --clear $(VENV); \
		$(build_tools); \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(LOCK) \
			--requirement $(VENV)/build-tools.txt; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	fi; \
	cp $(LOCK) $(DONE); \
	echo "$(VENV) is ready ($$($(BIN)/python --version))" >&2
