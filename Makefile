# Set-up and every check, from a clean clone with Python 3.11+, make and PyPI alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test check lint types contracts tests slow clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("defsurvey needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/defsurvey run examples/demo.yaml --workers 2

test: check

check: lint types contracts tests

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

contracts: install
	$(BIN)/lint-imports

tests: install
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not slow and not chaos and not browser and not compose and not gpu"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

slow: install
	$(BIN)/pytest -m slow --timeout 1200

clean:
	rm -rf $(VENV) build *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
