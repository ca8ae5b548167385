# The commands of README, CONTRIBUTING and CI. `make quickstart` and `make test` need Python and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# How many tests run at once; each takes one core and about 1.5 GB.
WORKERS ?= 2

.PHONY: quickstart test test-slow test-gpu mutants lint docs

quickstart: $(VENV)/ready
	$(BIN)/srlvae quickstart --out runs/quickstart

# SRLVAE_SHAPES=1 also checks the shapes of all arguments and results, as CI does, in half as long again.
test: $(VENV)/ready lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=15

test-slow: export SRLVAE_SHAPES = 1
test-slow: $(VENV)/ready
	$(BIN)/python -m pytest -m slow -n $(WORKERS) --dist worksteal --durations=15

# Where there is no CUDA card, they are skipped.
test-gpu: $(VENV)/ready
	$(BIN)/python -m pytest tests/test_gpu.py -m 'slow or not slow' -rs --durations=15

# Mistakes that a careless change could make, applied one by one to a copy; the fast tests must notice each.
mutants: $(VENV)/ready
	$(BIN)/python tests/mutants/run.py --jobs $(WORKERS)

# The site of docs/, into build/site; a link that leads nowhere is an error.
docs: $(VENV)/ready
	$(PIP) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# The CPU build of torch: set PIP_EXTRA_INDEX_URL to PyTorch's own index for CPUs where pip would bring the CUDA build (Linux).
$(VENV)/ready: constraints.txt pyproject.toml Makefile
	$(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch and what else is needed, a few minutes …"
	$(PIP) torch
	$(PIP) -e '.[datasets,dev]'
	touch $@
