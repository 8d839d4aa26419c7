# Each target makes .venv by itself; it takes Python >= 3.11 with venv, and nothing else.
.PHONY: run local test soak lint bench zip
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

run: $(VENV)/tools
	$(BIN)/python lambda_function.py

# The whole chain on this machine: make local ARGS="--rate 1000 --output objects"
local: $(VENV)/tools
	@$(BIN)/python -m local_run $(ARGS)

test: $(VENV)/tools
	$(BIN)/python -m pytest

# What takes longer than a test may: each write of the chain interrupted alone, many more schedules of delivery,
# a hundred kills, an hour that is larger than memory.
soak: $(VENV)/tools
	SOAK=1 DELIVERY_SCHEDULES=30000 $(BIN)/python -m pytest --dist=load tests/test_chain.py tests/test_delivery.py
	SOAK=1 $(BIN)/python -m pytest -n0 -rP tests/test_local_run.py tests/test_local_chain.py -k 'whatever_is_killed or anew or another_emulator'
	SOAK=1 COMPACT_HISTORIES=500 PARQUET_HISTORIES=100 $(BIN)/python -m pytest --dist=load tests/test_lake_compact.py tests/test_lake_parquet_types.py tests/test_lake_evolution.py

lint: $(VENV)/tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

zip: $(VENV)/tools
	PYTHON=$(BIN)/python ./deploy.sh --build-only

bench: $(VENV)/peers $(VENV)/ministack
	$(BIN)/python -m benchmarks.handler
	$(BIN)/python -m benchmarks.chain
	$(BIN)/python -m benchmarks.lake
	$(BIN)/python -m benchmarks.compaction --large

$(VENV)/tools: requirements.txt requirements-lambda.txt | $(VENV)/made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/peers: requirements-bench.txt $(VENV)/tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@touch $@

$(VENV)/ministack: benchmarks/requirements-ministack.txt | $(VENV)/made
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements-ministack.txt
	@touch $@

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "error: it takes Python 3.11 or newer, found: $$($(PYTHON) --version 2>&1); try make PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "error: $(PYTHON) comes without venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
