# `make demo`, `make test`, `make check` and `make ui` need Python 3.11 and nothing else; the first one that runs
# makes .venv and installs exactly what requirements.lock names.

VENV ?= .venv
PYTHON ?= python3.11
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Artefacts, the demo's documents and Dagster's storage; absolute, since Dagster's processes start anywhere.
export SAP_VISION_HOME ?= $(CURDIR)/.sap_vision
DATA := $(SAP_VISION_HOME)/data

# The demo's documents: enough for the floors of the evaluation report on two CPU cores (docs/results.md).
DEMO_TRAIN ?= 6000
DEMO_VAL ?= 300
DEMO_TEST ?= 600

.PHONY: install demo test check ui

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

demo: $(INSTALLED)
	$(BIN)/sap-vision synth --out $(DATA) --split train --num-samples $(DEMO_TRAIN) --seed 1
	$(BIN)/sap-vision synth --out $(DATA) --split val --num-samples $(DEMO_VAL) --seed 1
	$(BIN)/sap-vision synth --out $(DATA) --split test --num-samples $(DEMO_TEST) --seed 1
	$(BIN)/sap-vision run --data $(DATA)
	$(BIN)/sap-vision report

# Dagster's SQLite syncs the disk at every event: in memory the tests wait for nothing.
test: export PYTEST_DEBUG_TEMPROOT ?= $(shell test -w /dev/shm && echo /dev/shm || echo /tmp)
test: $(INSTALLED)
	$(BIN)/python -m pytest

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: $(INSTALLED)
	$(BIN)/sap-vision ui
