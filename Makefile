# Every developer command. Bare `make` prints them. Hooks, hand and CI call these and nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# A virtual environment or conda environment that is active elsewhere must not take the build.
unexport VIRTUAL_ENV CONDA_PREFIX
SUITE ?= full
OUT ?=
EXTRAS := cpu,gen,train,finetune,judges,api,parquet,analysis,ray,dev
RUST_SOURCES := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml

.PHONY: help setup build evaluate test test-rust test-py test-all fmt lint types docs embedded instructions \
	instructions-write bench wheel ci clean check-tools check-valgrind

help:  ## Print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

check-tools:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "make: Python 3.11 or newer is needed: install it and call make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: Python's venv module is needed: apt-get install python3-venv (Debian, Ubuntu)"; exit 2; }
	@command -v cargo >/dev/null || { echo "make: a Rust toolchain is needed: install it with rustup (rustup.rs)"; exit 2; }
	@command -v cc >/dev/null || { echo "make: a C compiler is needed: apt-get install build-essential (Debian, Ubuntu)"; exit 2; }
	@command -v nasm >/dev/null || echo "make: nasm is not installed: JPEG decoding will be about 2-3 times slower (apt-get install nasm)"

$(VENV)/.tools: pyproject.toml | check-tools
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip "maturin>=1.9,<2" "cmake>=3.20"
	@touch $@

$(VENV)/.built: $(VENV)/.tools $(RUST_SOURCES)
	@echo "building the Rust core and installing mllmrisk into $(VENV) (a few minutes the first time)"
	@$(BIN)/maturin develop --release --locked --quiet --extras $(EXTRAS)
	@touch $@

setup: $(VENV)/.built  ## Make .venv, build the core, install everything that development needs

build: setup  ## The same, under its other name

evaluate: setup  ## Run a suite: make evaluate [SUITE=full] [IMAGES=path/to/manifest.csv] [OUT=dir]
	@test -z "$(IMAGES)" || test -e "$(IMAGES)" || { echo "make: no such file or folder: $(IMAGES)"; exit 2; }
	@$(BIN)/mllmrisk evaluate --suite $(SUITE) $(if $(IMAGES),--images "$(IMAGES)") $(if $(OUT),--out "$(OUT)") || { code=$$?; [ $$code -eq 3 ] || exit $$code; }

test: test-rust test-py  ## The quick tests (under 10 minutes on 2 cores)

test-rust: $(VENV)/.tools  ## Rust tests and doctests
	cargo test --quiet --locked -p mllmrisk-core

test-py: setup  ## Python tests
	$(BIN)/python -m pytest -q

test-all: setup test-rust  ## All tests, the slow ones too
	$(BIN)/python -m pytest -q -m "not gpu"

fmt: setup  ## Format everything
	cargo fmt --all
	$(BIN)/ruff format
	$(BIN)/ruff check --fix --quiet

lint: setup  ## Formatting and lints, as errors
	cargo fmt --all --check
	cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports

types: setup  ## mypy strict, and the stub of the compiled module against the module
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest mllmrisk._core

docs: setup  ## Write docs/cli.md from the commands' own help
	$(BIN)/python tests/cli/write_cli_docs.py

embedded: setup  ## Train the embedded models anew, from their seeds (hours on 2 cores; needs the extras gen and train)
	$(BIN)/python -m mllmrisk.micro all

check-valgrind:
	@command -v valgrind >/dev/null || { echo "make: valgrind is needed: apt-get install valgrind (Debian, Ubuntu)"; exit 2; }

instructions: $(VENV)/.tools check-valgrind  ## Count the core's instructions; 3% more than benches/instructions.toml fails
	$(BIN)/python benches/instructions.py

instructions-write: $(VENV)/.tools check-valgrind  ## Keep the counts of now in benches/instructions.toml
	$(BIN)/python benches/instructions.py --write

bench: setup  ## Criterion benches [SAVE=name | AGAINST=name], then the table of ratios against what people use today
	cargo bench --locked -p mllmrisk-benches -- $(if $(SAVE),--save-baseline $(SAVE)) $(if $(AGAINST),--baseline $(AGAINST))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check opencv-python-headless simplejpeg webp
	$(BIN)/python benches/end_to_end.py

wheel: $(VENV)/.tools  ## Build a wheel into dist/
	$(BIN)/maturin build --profile dist --locked --out dist

ci: lint types test instructions  ## What CI runs

clean:  ## Remove what was built
	rm -rf target $(VENV) dist python/mllmrisk/_core*.so
