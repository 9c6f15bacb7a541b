# make run     set up and serve at http://127.0.0.1:8000
# make test    set up and run the tests
# Everything goes into .venv and data/ in this folder.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
# Where this is set, as in many containers, every process compiles its libraries anew: a server takes 12 s of computing
# to start instead of 5, and the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run demo test test-long test-vllm check setup setup-dev quality bench clean lock

help:
	@sed -n '1,3s/^# //p' Makefile; echo "make demo    two cited answers from the sample documents, then exit"; \
	echo "make check   format, lint, types, import rules";  echo "make quality the figures of docs/quality.md (needs ../shared/data)"; \
	echo "make bench   the figures of docs/performance.md"; echo "make test-long  thousands of broken files, and the largest ones (under an hour)"; echo "make test-vllm  the plugin on a real vLLM (an environment of 3.2 GB)"

run: setup
	@exec $(BIN)/zhinao serve $(ARGS)

demo: setup
	@$(BIN)/python -m app.demo

setup: $(VENV)/.core
setup-dev: $(VENV)/.dev

$(VENV)/.core: requirements.txt pyproject.toml bin/setup
	@bin/setup core
$(VENV)/.dev: requirements-dev.txt pyproject.toml bin/setup
	@bin/setup dev

check: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The tests' files are in memory where there is room for them: on a disk thousands of fsyncs wait, milliseconds each.
MEMORY = $(shell [ "$$(df -k --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 6000000 ] 2>/dev/null \
	&& awk '/^MemAvailable/ && $$2 > 10000000 {print "/dev/shm"}' /proc/meminfo)
test: export PYTEST_DEBUG_TEMPROOT ?= $(MEMORY)
test: setup-dev
	$(BIN)/pytest $(PYTEST_ARGS)

# Seeds in ranges and large files, under an hour a range of 500 seeds; what has passed on a commit is not run again:
# make test-long ARGS="--seeds 0:500"
test-long: setup-dev
	$(BIN)/pytest tests/long -rP $(ARGS)

# Not part of `make test`: it installs vLLM (3.5 GB) into .venv-vllm.
test-vllm: setup-dev
	@bin/test-vllm $(ARGS)

quality: setup-dev
	$(BIN)/python -m bench.quality $(ARGS)

# Small sizes; docs/performance.md tells how the large ones are run.
bench: setup-dev
	$(BIN)/python -m bench.embed .cache/models
	$(BIN)/python -m bench.index_legs
	$(BIN)/python -m bench.index --sizes 10000,100000
	$(BIN)/python -m bench.publishing --sizes 10000,100000
	$(BIN)/python -m bench.models
	$(BIN)/python -m bench.parse
	$(BIN)/python -m bench.jobs --files 1000

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache

# The exact versions that CI and users get; run it after a change of pyproject.toml's dependencies.
lock: setup
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --extra cpu pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --extra dev pyproject.toml -o requirements-dev.txt
