# Commands that do all their own set-up: `make demo`, `make test`, `make soak`, `make acceptance`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The machine may be shared: threads that wait must not burn the other core.
export OMP_WAIT_POLICY ?= passive

MINUTES ?= 30
PART ?= switches

.PHONY: demo test soak acceptance gpu lint clean

demo: $(VENV)/.export.stamp
	$(BIN)/python -m adapt.demo.run

# Two workers with one thread each; a file's tests share fixtures, so they stay together.
test: $(VENV)/.dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

soak: $(VENV)/.dev.stamp
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

# What takes too long for every test run; PART is a module of benchmarks. Needs `make demo`.
acceptance: $(VENV)/.dev.stamp
	$(BIN)/python -m benchmarks.$(PART) --json benchmarks/results/$(PART).json

# Installs nothing: a machine with a GPU may have no network. Packages that lie beside the
# repository are found through PYTHONPATH. Only files with tests for a GPU are read: others want
# packages that these do not. A test that fails keeps no number from being measured.
gpu:
	@python=$(BIN)/python; [ -x $$python ] || python=$(PYTHON); \
		files=$$(grep -rl --include='*.py' 'mark\.gpu' tests | sed 's,/conftest\.py$$,,'); \
		run() { echo "$$*"; "$$@"; }; \
		run $$python -m benchmarks.gpu_needs || exit; \
		run $$python -m pytest -m gpu $$files; tested=$$?; \
		run $$python -m benchmarks.gpu --json gpu.json && exit $$tested

# Once more for Python 3.10, a Jetson's.
lint: $(VENV)/.dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/words.py
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
