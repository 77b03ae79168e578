# What a developer types. `make` alone lists it; what takes more than a few lines is in scripts/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# A target directory in the user's cache outlives the clone: DataFusion and RocksDB take most of an hour of two cores.
# It is used once it exists, and in CI. Set CARGO_TARGET_DIR for another.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/quire
ifndef CARGO_TARGET_DIR
CARGO_TARGET_DIR := $(if $(filter true,$(CI))$(wildcard $(CACHE)/target),$(CACHE)/target,$(CURDIR)/target)
endif
export CARGO_TARGET_DIR

# Where rustup puts cargo, also when `make setup` has only just called it.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# One profile and, by --workspace, one set of features everywhere: whatever is built twice is built in vain.
LOCKED := $(if $(filter true,$(CI)),--locked)
BUILD := --release --workspace $(LOCKED)
BIN := $(CARGO_TARGET_DIR)/release/quire
TIMED := scripts/timed.sh

.PHONY: help setup setup-tests checkout release demo cluster-demo dev test check fmt clippy deny build tests chaos bench bench-tpch bench-cold bench-delta bench-floors bench-tpch-tests bench-commits bench-pgbench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

# --- use ------------------------------------------------------------------------------------------------------------

setup: ## install what is missing: compiler, clang, Rust, psql (apt and rustup)
	@scripts/setup.sh

setup-tests: ## the same, and what only tests need: pgbench (it comes with a PostgreSQL server)
	@scripts/setup.sh tests

demo: setup release ## build, start a cluster, load TPC-H (SCALE=1 is about 1 GB), run and check the 22 queries, draw a report; KEEP=1 keeps the data
	@scripts/demo.sh $(BIN)

cluster-demo: setup release ## the same with a process per node (3 storage, 2 compute) and an S3 server
	@scripts/cluster.sh $(BIN)

dev: setup release ## run a cluster in one process on quire-data/ until Ctrl-C; ARGS= passes flags to `quire dev`
	@$(BIN) dev $(ARGS)

release: checkout ## build the program
	@cargo build $(BUILD) --bin quire

# --- check ----------------------------------------------------------------------------------------------------------

test: setup-tests fmt clippy deny build tests ## all checks: what CI runs

check: test ## the same

fmt:
	@$(TIMED) fmt cargo fmt --all --check

clippy: checkout
	@$(TIMED) clippy cargo clippy $(BUILD) --all-targets -- -D warnings

# Not advisories: they come from a database on the network, which changes without a commit.
deny:
	@if command -v cargo-deny >/dev/null; then $(TIMED) deny cargo deny check bans licenses sources; \
	else echo "== deny: skipped, cargo-deny is not installed"; fi

build: checkout
	@$(TIMED) build cargo build $(BUILD) --all-targets

tests: checkout
	@$(TIMED) tests scripts/test.sh $(BUILD)

chaos: setup build ## kill nodes under load for QUIRE_CHAOS_SECONDS=600
	@QUIRE_CHAOS_SECONDS=$${QUIRE_CHAOS_SECONDS:-600} cargo test --release -p quire-tests $(LOCKED) --test chaos -- --nocapture

# --- measure --------------------------------------------------------------------------------------------------------

bench: setup release ## TPC-H beside DuckDB and DataFusion on the same files, then commits at 1, 8 and 64 clients
	@scripts/bench.sh $(BIN) tpch commits

bench-tpch: setup-tests release ## TPC-H (SCALE=1) in turn on Quire, DuckDB, DataFusion and PostgreSQL; options and how to read it: docs/benchmarks/README.md
	@scripts/bench-tpch.sh $(BIN)

bench-cold: setup release ## TPC-H (SCALE=1) with empty caches and an object store behind a slow proxy
	@scripts/bench-nodes.sh $(BIN) cold

bench-delta: setup release ## TPC-H (SCALE=1) with 1 % of the rows in unsealed deltas and 10 % updated, beside none
	@scripts/bench-nodes.sh $(BIN) delta

bench-floors: setup release ## where the costliest queries of TPC-H (SCALE=1) spend their time, and their floor: bytes over memory's rate; URL= for a running server
	@scripts/floors.sh $(BIN)

bench-tpch-tests: ## tests of the parts of these four, and of benches/layers.py, in two seconds
	@cd benches && PYTHONDONTWRITEBYTECODE=1 python3 -m unittest -b test_layers
	@for part in tpch cold delta floors; do PYTHONDONTWRITEBYTECODE=1 python3 -m unittest discover -b -s benches/$$part -t benches || exit 1; done

bench-commits: setup release ## only commits
	@scripts/bench.sh $(BIN) commits

bench-pgbench: setup-tests release ## pgbench (SCALE=10, DURATION=10, ROUNDS=1) in turn on PostgreSQL with two synchronous standbys and on Quire
	@scripts/pgbench.sh $(BIN)

# --- tidy up --------------------------------------------------------------------------------------------------------

clean: ## remove what was built and measured (the target directory too), not quire-data/
	@cargo clean
	@rm -rf reports

# Cargo trusts modification times, which mean nothing between two clones that share a target directory.
checkout:
	@scripts/checkout.sh
