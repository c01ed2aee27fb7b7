# The two commands: `make demo` explains a phantom and names its report; `make test` passes the tests. Both need Python and pip only.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
JOBS ?= 2

.PHONY: demo test lint bench docs zoo studies clean
.DEFAULT_GOAL := demo

$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

# these would bring a build of torch for GPUs: they come alone, and only for the tests (zennit: LGPL, TorchRay: CC BY-NC; oracles, never shipped)
$(VENV)/.test: $(VENV)/.core
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test,lint]"
	$(BIN)/python -m pip install -q --no-deps -c constraints.txt torchvision grad-cam zennit torchray quantus
	$(BIN)/python -m pip install -q -c constraints.txt opencv-python-headless ttach tqdm
	touch $@

demo: $(VENV)/.core
	$(BIN)/pellucid demo --out out/demo --open

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test
	$(BIN)/python benchmarks/speed.py

docs: $(VENV)/.test
	$(BIN)/python docs/make.py

# every method on every public network: docs/zoo.md, hours; what was measured before is kept as long as its code is the same
zoo: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python studies/zoo.py

# the tables and the pictures in docs/ that are older than their code, hours in all; weights of the phantoms are made by studies/train_phantom_nets.py NAME
studies: $(VENV)/.test
	$(BIN)/python studies/anew.py

clean:
	rm -rf $(VENV) out build dist
