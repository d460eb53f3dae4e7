# Commands that do all their own set-up: `make demo`, `make test`, `make soak`, `make acceptance`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The machine may be shared: threads that wait must not burn the other core.
export OMP_WAIT_POLICY ?= passive

MINUTES ?= 30

.PHONY: demo test soak acceptance gpu gpu-device lint clean

demo: $(VENV)/.export.stamp
	$(BIN)/python -m adapt.demo.run

# Two workers with one thread each; a file's tests share fixtures, so they stay together.
test: $(VENV)/.dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

soak: $(VENV)/.dev.stamp
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

# What takes too long for every test run; PART is a module of benchmarks. Needs `make demo`.
acceptance: PART ?= switches
acceptance: $(VENV)/.dev.stamp
	$(BIN)/python -m benchmarks.$(PART) --json benchmarks/results/$(PART).json

# On a machine with a GPU: PART=kernels, session, training, tensorrt or bench; all without PART.
# Installs nothing: such a machine may have no network. Packages that lie beside the repository are
# found through PYTHONPATH; what a part lacks is left out, and its gpu-PART.json says so.
gpu:
	@$(GPU_PYTHON) -m benchmarks.gpu_parts $(PART)

# The same on a device, where PyTorch is not installed.
gpu-device:
	@$(GPU_PYTHON) -m benchmarks.gpu_parts --without-torch $(PART)

GPU_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

# Once more for Python 3.10, a Jetson's.
lint: $(VENV)/.dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 --no-warn-unused-ignores --no-warn-return-any runtime examples

clean:
	rm -rf $(VENV) demo build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: training needs Python 3.11 or later, found $$($(PYTHON) -V); run make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@
