# Everything that this project does, by name. Each target does its own set-up, with pip.
#
#   make demo        one honest provider and six that cheat, judged before your eyes
#   make test        the tests that a change must pass, in minutes
#   make check       all that CI asks for: lint, types, contracts, docs, tests
#
# ARGS is handed on:  make demo ARGS=--json   make test ARGS=tests/sampling

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp-dev
NPM_TOOLS := drand-client@1.4.2 @sigstore/verify@4.1.3
GO_TOOLS := golang-go golang-golang-x-mod-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup tools demo example gateway-demo test test-all check lint format types contracts docs campaign clean

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20
	@echo "  make bench-NAME   measure, with a peer on the same work: $(BENCHES)"
	@echo "ARGS is handed on: make demo ARGS=--json, make example ARGS=--cheat, make test ARGS=tests/cli"

setup: $(STAMP) ## a virtual environment with all that the targets below need

# constraints.txt fixes every version (torch==2.13.0 among them), so that a fresh machine gets what
# the committed results were made with. With an index of torch's CPU builds the set-up is 2 GB
# smaller:  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup
$(STAMP): pyproject.toml requirements-dev.txt constraints.txt scripts/install_system.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "lydite: error: $(PYTHON) is older than Python 3.11" >&2; \
	  echo "lydite: hint: name a newer one, as in: make setup PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "lydite: error: $(PYTHON) cannot make virtual environments" >&2; \
	  echo "lydite: hint: on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV); the first time takes minutes" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -r requirements-dev.txt -e '.[demo]'
	@$(BIN)/python scripts/install_system.py
	@touch $@

demo: $(STAMP) ## one honest provider and six that cheat; exit 0 if every verdict is right
	@$(BIN)/lydite demo $(ARGS)

example: $(STAMP) ## a whole deployment: client, nginx, gateways, two model servers, recomputer
	@$(BIN)/lydite example $(ARGS)

gateway-demo: $(STAMP) ## a governed gateway, attacked before your eyes
	@$(BIN)/lydite gateway demo $(ARGS)

test: $(STAMP) ## the tests, less those marked slow
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --reruns 1 -rR $(ARGS)

tools: .tools/.stamp .tools/.stamp-engine ## other people's verifiers and engines, for test-all

.tools/.stamp: Makefile
	@mkdir -p .tools
	@if command -v npm >/dev/null; then \
	  npm install --silent --no-fund --no-audit --prefix .tools $(NPM_TOOLS); \
	else echo "npm is not installed: tests that need it are skipped by name"; fi
	@if command -v go >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends $(GO_TOOLS); \
	else echo "go is not installed (on Debian: apt-get install $(GO_TOOLS)):" \
	  "tests that need it are skipped by name"; fi
	@touch $@

# vLLM (3 GB) where pip finds a CPU build of torch, as with the index named above, else llama.cpp.
.tools/.stamp-engine: scripts/install_outside_engine.py | $(STAMP)
	@mkdir -p .tools
	@if $(BIN)/python scripts/install_outside_engine.py .tools; then touch $@; \
	else echo "no engine of others is installed: tests that need one are skipped by name"; fi

test-all: $(STAMP) tools ## every test, with those that need outside tools (named skips where absent)
	$(BIN)/python -m pytest -ra $(ARGS)

check: lint types contracts docs test ## everything that CI runs

lint: $(STAMP) ## ruff: rules, complexity, format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## let ruff rewrite what lint would complain about
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

contracts: $(STAMP) ## who may import whom
	$(BIN)/lint-imports

docs: $(STAMP) ## the documentation, without a warning, in docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

BENCHES := $(patsubst bench/bench_%.py,%,$(wildcard bench/bench_*.py))

bench-%: $(STAMP)
	@test -f bench/bench_$*.py || { \
	  echo "lydite: error: there is no benchmark $*" >&2; \
	  echo "lydite: hint: there are: $(BENCHES)" >&2; exit 2; }
	$(BIN)/python bench/bench_$*.py $(ARGS)

# A machine with a GPU may have all that these need and no network, so they make no environment.
bench-gpu: ## digits, sketches and speed on a GPU; ARGS=--rehearse: a tiny shape on the processor
	@PYTHONPATH=src $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) bench/bench_gpu.py $(ARGS)

campaign: ## measure labelled workloads on one NVIDIA GPU: make campaign ARGS="--lease A --out a0"
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) campaign/campaign.py $(ARGS)

clean: ## forget what was built and what demos left, not what was installed
	rm -rf build dist out docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache
