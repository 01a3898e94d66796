# Each target does its own set-up: a virtual environment with the pinned versions, and the libraries of a Qt window.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DELETE_ON_ERROR:
.PHONY: demo test slow lint docs wheel ci clean

demo: $(READY)
	$(BIN)/napari-medseg demo

# Several tests at once, each on one thread. The tests of a class or a module run together and share their fixtures.
# numba, which napari's label colours start, sets OpenMP's threads anew for the whole process: it is told the same.
PYTEST := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadscope

test: $(READY)
	$(PYTEST)

# The tests that together take minutes. `make test` leaves them out.
slow: $(READY)
	$(PYTEST) -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/npe2 validate napari_medseg

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Build the wheel, install it in a fresh environment without napari, and run it from a folder outside the checkout.
wheel: $(READY)
	rm -rf dist build/wheel
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/pip install -qq -c constraints.txt dist/*.whl
	mkdir build/wheel/elsewhere
	cd build/wheel/elsewhere && ../venv/bin/napari-medseg demo --no-gui
	build/wheel/venv/bin/python -c "from importlib.resources import files; assert (files('napari_medseg') / 'napari.yaml').is_file()"

ci:
	.ci/run

clean:
	rm -rf $(VENV) build dist site napari-medseg-demo

$(READY): pyproject.toml constraints.txt .ci/system-packages
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
	  echo "napari-medseg needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.12 ..." >&2; exit 1; }
	@PYTHON=$(PYTHON) .ci/system-packages
	@echo "installing the pinned versions into $(VENV) (some minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -qq -c constraints.txt -e ".[dev]"
	@touch $@
