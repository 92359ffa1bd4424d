# Two commands do everything: `make demo` runs the main job, `make test` runs the tests.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check lint types imports gpu-sim gpu-test gpu-bench clean

demo: $(READY) ## Compress a real data set, end to end; ends with the report's path
	$(BIN)/edgedistill compress --data ItalyPowerDemand --out demo

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

gpu-sim: $(READY) ## The CUDA kernels in Numba's simulator
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest tests/kernels -k "not simulator"

gpu-test: $(READY) ## The CUDA kernels against the reference; needs a GPU, else exit 5
	$(BIN)/python benchmarks/kernels_gpu.py test

gpu-bench: $(READY) ## Their speed against torch; needs a GPU, else exit 5
	$(BIN)/python benchmarks/kernels_gpu.py bench

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo runs build dist
