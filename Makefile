# Two commands do everything: `make demo` runs the main job, `make test` runs the tests.
VENV ?= .venv
PYTHON ?= python3
WORKERS ?= auto
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A worker takes tests in their order, so what a module's tests share is mostly made once.
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
INT8_TESTS := tests/teachers/test_exact_session.py tests/optimize/qat/test_model.py \
	tests/optimize/quantization/test_symmetric.py tests/optimize/quantization/test_int8.py

.PHONY: demo quick test coverage no-vnni check lint types imports lowest gpu-sim gpu-test gpu-bench clean

demo: $(READY) ## Compress a real data set, end to end; ends with the report's path
	$(BIN)/edgedistill compress --data ItalyPowerDemand --out demo

quick: lint imports ## What one runs while working: no types, no slow tests
	$(PYTEST) -m "not slow"

test: $(READY) ## Tests, doctests, and the README's commands
	$(PYTEST) --durations 20

coverage: $(READY) ## The same, and which lines no test reaches
	$(PYTEST) --durations 20 --cov edgedistill --cov edgedistill_kernels

# INT8 of ONNX Runtime saturates on such a CPU unless a session is told to be exact. The emulator crashes
# in what oneDNN, torch's library, compiles for AVX2.
no-vnni: $(READY) ## The tests of INT8 on an emulated CPU without VNNI; needs qemu-user-static
	ONEDNN_MAX_CPU_ISA=SSE41 qemu-x86_64-static -cpu Haswell $(BIN)/python -m pytest --durations 5 $(INT8_TESTS)

lowest: ## Lint, import rules and tests with the oldest versions that pyproject.toml allows; needs uv
	uv venv --clear --python 3.10 .venv-lowest
	uv pip install --python .venv-lowest --resolution lowest-direct --editable '.[dev]'
	touch .venv-lowest/.ready
	$(MAKE) lint imports VENV=.venv-lowest
	.venv-lowest/bin/python -m pytest -W default --numprocesses $(WORKERS) --dist worksteal

check: lint types imports test ## The whole truth

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

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
	rm -rf $(VENV) .venv-lowest demo runs build dist
