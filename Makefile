# `make demo` and `make test` need only Python 3.11+ and pip; everything lands in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
FOLDERS := mechfourier tests examples benchmarks tools

.PHONY: setup demo test test-fast coverage lint format bench docs clean

setup: $(STAMP)

# torch first: with torch already there pip takes no other build of it (a CPU build is enough for everything here).
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$$(grep -m1 '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@# the browser tests need a Chromium; without one they are skipped, with the reason
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || $(BIN)/playwright install chromium || \
		echo "no Chromium: the browser tests will be skipped (Debian: apt-get install chromium)"
	touch $@

demo: setup
	$(BIN)/mechfourier probe calendar --domain months

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -q

# the lines of hooks and probes that their own tests run; apart, since measuring takes as long again
coverage: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -q tests/test_hooks_*.py tests/test_probes_*.py tests/test_cli_*.py \
		--cov=mechfourier/hooks --cov=mechfourier/probes --cov-report=term:skip-covered --cov-fail-under=90

test-fast: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -q -m "not slow"

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
