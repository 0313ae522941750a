# `make help` lists what there is. Everything runs in .venv, which is made on first use
# and brought up to date when pyproject.toml or constraints.txt changes.

PYTHON ?= python3
PIP := .venv/bin/python -m pip install --quiet --no-warn-script-location --disable-pip-version-check -c constraints.txt
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup repro figures report test test-browser setup-browser app mlflow lint bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

setup: .venv/.ready ## make .venv with all that the targets here need

repro: .venv/.ready ## data, shards, ablation grid, tables and reports: `dvc repro`
	@.venv/bin/dvc repro

figures: .venv/.ready ## the paper's figures at the scale of params.yaml, and the runs that they show
	@.venv/bin/dvc repro pipelines/study/dvc.yaml

report: .venv/.ready ## reports/<scale>/index.html anew, from the results that are there
	@.venv/bin/dvc repro --single-item --force report

test: .venv/.ready ## the test suite
	@.venv/bin/python -m pytest -n logical --maxprocesses 4 --dist worksteal

test-browser: .venv/.ready ## the app in a real browser
	@command -v chromium >/dev/null || $(MAKE) --no-print-directory setup-browser
	@.venv/bin/python -m pytest -m browser

setup-browser: ## install Debian's Chromium, for test-browser
	@root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	$$root apt-get update --quiet && $$root apt-get install --yes --quiet --no-install-recommends chromium

app: .venv/.ready ## the web app, on the shipped demo model
	@.venv/bin/python -m src.app

mlflow: .venv/.ready ## the dashboards over what was run
	@.venv/bin/mlflow ui --backend-store-uri sqlite:///mlruns.db --host 127.0.0.1

lint: .venv/.ready ## ruff, mypy and the import contracts
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/lint-imports

bench: .venv/.ready ## every benchmark, one after the other
	@for file in benchmarks/[!_]*.py; do \
		[ -e "$$file" ] || { echo "There are no benchmarks."; exit 0; }; \
		name=$$(basename "$$file" .py); \
		echo "== $$name"; \
		.venv/bin/python -m "benchmarks.$$name" || exit 1; \
	done

clean: ## remove caches; data, runs, models and .venv stay
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build *.egg-info
	@find src pipelines tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# `.installing` marks a .venv whose installation is under way: one that is found with it was cut off, and is made anew.
# It becomes the stamp when all is installed, so the stamp is as old as the start of the installation.
.venv/.ready: pyproject.toml constraints.txt
	@if [ -e .venv/.installing ]; then rm -rf .venv; fi
	@[ -x .venv/bin/python ] || "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null || { \
		echo "This project needs Python 3.11 or 3.12, and $(PYTHON) is $$("$(PYTHON)" --version 2>/dev/null || echo not there); name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@echo "Installing into .venv, once: about 3 minutes and 7 GB."
	@mkdir -p .venv && rm -f .venv/.ready && touch .venv/.installing
	@[ -x .venv/bin/python ] || "$(PYTHON)" -m venv .venv
	@$(PIP) -e '.[app,baselines,dev,ray]'
	@mv .venv/.installing .venv/.ready
