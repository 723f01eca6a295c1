# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= 2

.PHONY: help setup demo demo-ui dev test lint format types check clean benchmark

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(READY) ## Make the environment in .venv

$(READY): pyproject.toml constraints.txt
	@echo "Making the environment in $(VENV) (a minute the first time)"
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.12"'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[postgresql]' --group dev
	@touch $(READY)

demo: $(READY) ## Sync two customers' records from real apps, in Dagster
	@$(BIN)/membrane demo

demo-ui: $(READY) ## The same, then keep the apps running and open Dagster's UI
	@$(BIN)/membrane demo --ui

dev: $(READY) ## Dagster's UI and daemon on this project
	@$(BIN)/membrane dev

test: $(READY) ## The whole test suite
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --durations=15

lint: $(READY) ## Style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(READY) ## Format, and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(READY) ## Strict type check
	@$(BIN)/mypy

check: lint types ## What a commit must pass: style, types, declarations, definitions
	@$(BIN)/membrane check
	@DAGSTER_DISABLE_TELEMETRY=1 PYTHONWARNINGS=ignore $(BIN)/dagster definitions validate -w workspace.yaml

benchmark: $(READY) ## Measure against a peer and a floor
	@$(BIN)/python -m benchmarks.sync
	@$(BIN)/python -m benchmarks.mapping
	@$(BIN)/python -m benchmarks.reading
	@$(BIN)/python -m benchmarks.events

clean: ## Remove the environment and all local data
	rm -rf $(VENV) .membrane
