# Commands that do all their own set-up. Before a commit: `make check`; before a push: `make lint test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The machine may be shared: threads that wait must not burn the other core.
export OMP_WAIT_POLICY ?= passive

# Of `make fuzz` and `make soak`; `make acceptance PART=fuzz` reads 10^5 files, and PART=soak and
# PART=watch take half an hour.
MINUTES ?= 1

.PHONY: acceptance check clean constraints demo format fuzz gpu gpu-device imports lint \
	runtime-pythons soak test test-fast types

demo: $(VENV)/.export.stamp
	$(BIN)/python -m adapt.demo.run

# Two workers with one thread each; a file's tests share fixtures, so they stay together.
test: $(VENV)/.dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# What most often breaks, in a minute and a half on two quiet cores; also the commands of
# .pre-commit-config.yaml.
check: format imports types test-fast

format: $(VENV)/.dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python tests/words.py

imports: $(VENV)/.dev.stamp
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.dev.stamp
	$(BIN)/mypy

test-fast: $(VENV)/.dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile @tests/fast.txt

# The runtime's tests without torch, under every other Python of a device that this machine has;
# ARGUMENTS are pytest's, VERSIONS some of the versions.
runtime-pythons:
	$(PYTHON) tests/pythons.py $(VERSIONS) $(ARGUMENTS)

fuzz soak: $(VENV)/.dev.stamp
	$(BIN)/python -m benchmarks.$@ --minutes $(MINUTES)

# What takes too long for every test run; PART is a module of benchmarks. Needs `make demo`.
acceptance: PART ?= switches
acceptance: $(VENV)/.dev.stamp
	$(BIN)/python -m benchmarks.$(PART) --json benchmarks/results/$(PART).json

# On a machine with a GPU: PART=kernels, session, training, tensorrt or bench; all without PART.
# Installs nothing: such a machine may have no network. Packages that lie beside the repository are
# found through PYTHONPATH; what a part lacks is left out, and its gpu-PART.json says so.
gpu:
	@$(GPU_PYTHON) -m benchmarks.gpu.parts $(BUNDLE:%=--bundle %) $(PART)

# The same on a device, where PyTorch is not installed; BUNDLE is measured with `uda-runtime bench`.
gpu-device:
	@$(GPU_PYTHON) -m benchmarks.gpu.parts --without-torch $(BUNDLE:%=--bundle %) $(PART)

GPU_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

# Types once more for Python 3.10, a Jetson's.
lint: format imports types
	$(BIN)/mypy --python-version 3.10 --no-warn-unused-ignores --no-warn-return-any runtime examples

# The versions that `make` and CI install: those of the environment here, nothing of ours in it.
constraints: $(VENV)/.dev.stamp
	$(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==[^ ]+$$' > constraints.txt

clean:
	rm -rf $(VENV) demo build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: training needs Python 3.11 or later, found $$($(PYTHON) -V); run make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[$*]'
	touch $@
