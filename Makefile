# Two commands do everything: `make demo` runs the main job, `make test` runs the tests.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check lint types imports clean

demo: $(READY) ## Compress a real data set, end to end; ends with the report's path
	$(BIN)/edgedistill compress --data GunPoint --out demo

test: $(READY) ## Tests, doctests, and the README's commands
	$(BIN)/python -m pytest

check: lint types imports test ## The whole truth

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo runs build dist
