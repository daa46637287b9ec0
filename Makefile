.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON := .venv/bin/python

# What .venv is made from, as a hash: a warm start costs a look at one file's name. What is installed for development
# is enough to run.
made = .venv/.made-$(1)-$(shell cat $(2) pyproject.toml tools/environment.sh requirements/build.txt | git hash-object --stdin)
DEV := $(call made,dev,requirements/dev.txt)
RUN := $(firstword $(wildcard $(DEV)) $(call made,run,requirements/run.txt))
BENCH := $(call made,bench,requirements/bench.txt)

# Tests start a hundred processes: none of them is to compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-sdk up test coverage faults bench check generate verify format lint release clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(RUN) ## the whole main job on a sample endpoint, from nothing to a checked result
	@.venv/bin/kongflow demo

demo-sdk: $(RUN) ## the same against a real @trigger.dev/sdk app (needs Node.js)
	@.venv/bin/kongflow demo --sdk

up: $(RUN) ## PostgreSQL, Redis and both services on this machine, until Ctrl-C
	@.venv/bin/kongflow up

test: $(DEV) ## every test, of the faults the bounded part
	@$(PYTHON) -m pytest -n auto --dist loadgroup --durations=20

coverage: $(DEV) ## every test and most faults, and how much of the branches they take
	@KONGFLOW_FAULTS=most $(PYTHON) -m pytest -n auto --dist loadgroup --durations=20 --cov --cov-report=term

# What compares times runs by itself: beside lanes that keep every processor busy it would measure those.
TIMED := tests/faults/test_production_neighbours.py tests/faults/test_herds.py

faults: $(DEV) ## every test that kills, cuts and freezes, most of them in parallel lanes (a quarter of an hour)
	@KONGFLOW_FAULTS=whole $(PYTHON) -m pytest $(TIMED)
	@KONGFLOW_FAULTS=whole $(PYTHON) -m pytest tests/faults $(TIMED:%=--ignore=%) -n 3 --dist loadgroup --no-loadscope-reorder

bench: $(BENCH) ## measure this machine, other queues beside it
	@$(PYTHON) -m benchmarks --chart docs/benchmarks.png

check: lint verify ## everything that can be checked without running the services

lint: $(DEV) ## style, types, import directions and the contract
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy .
	.venv/bin/lint-imports
	.venv/bin/buf lint
	.venv/bin/buf format --diff --exit-code
	.venv/bin/buf breaking --against protos/released.binpb
	$(PYTHON) -m pip check

verify: $(DEV) ## generated files are fresh
	$(PYTHON) -m tools.generate --check

generate: $(DEV) ## write everything that follows from the protos
	$(PYTHON) -m tools.generate

release: $(DEV) ## renew the image that later changes of the contract must stay compatible with
	$(PYTHON) -m tools.released

format: $(DEV) ## let the formatters decide
	.venv/bin/ruff check --fix-only --quiet .
	.venv/bin/ruff format .
	.venv/bin/buf format --write

clean: ## remove what make made, keep .kongflow and its data
	rm -rf .venv build dist .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEV):
	@tools/environment.sh dev $@

$(call made,run,requirements/run.txt):
	@tools/environment.sh run $@

$(BENCH):
	@tools/environment.sh bench $@
