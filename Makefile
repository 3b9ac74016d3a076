# The verbs of this house. `make` lists them.
SHELL := bash
TORTURE_ROUNDS ?= 300
FAULTS_ROUNDS ?= 1
export CARGO_INCREMENTAL ?= 0

# Lints and code in one compilation: cargo runs clippy-driver in place of rustc for our own crates. What is measured is
# never built this way.
LINTED = RUSTC_WORKSPACE_WRAPPER="$$(rustup which clippy-driver 2>/dev/null || command -v clippy-driver)" CLIPPY_ARGS=-Dwarnings

.PHONY: help test tests lint servers servers-down fmt fmt-check deny bench bench-stores bench-cluster torture faults model sim run run-on-servers cluster cluster-down smoke clean-up

help:           ## what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' Makefile

test: lint      ## units, properties, conformance on every store, end-to-end, lints; starts and stops real servers
	@.ci/needs servers
	loadtest/servers/with $(MAKE) tests

# What a node does must not depend on its stores: these run on both sets. A full disk is SQLite's own affair.
ON_BOTH = --test e2e --test http --test operator --test socket --test torture

tests:          # what `test` runs while the servers are up
	@failed=0; set -x; \
	$(LINTED) cargo test --workspace --locked --no-fail-fast || failed=1; \
	STARLING_TEST_STORES=real $(LINTED) cargo test --workspace --locked --no-fail-fast $(ON_BOTH) -- --skip disk:: || failed=1; \
	BINARIES=$${CARGO_TARGET_DIR:-target}/debug loadtest/scripts/smoke || failed=1; \
	STARLING_TEST_STORES=real BINARIES=$${CARGO_TARGET_DIR:-target}/debug loadtest/scripts/smoke || failed=1; \
	exit $$failed

servers:        ## starts the Cassandra and the Redis that tests need; they stay (loadtest/servers)
	@.ci/needs servers
	@loadtest/servers/up stay
	@echo "up; for tests by hand: . target/servers/env"

servers-down:   ## ends them
	loadtest/servers/down

lint:           ## what `test` compiles, without running it
	@.ci/needs
	$(LINTED) cargo test --workspace --locked --no-run

fmt:            ## formats the code
	cargo fmt --all

fmt-check:
	cargo fmt --all --check

deny:           ## licences, banned crates, sources
	@.ci/needs deny
	cargo fetch --locked
	PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo deny --offline --log-level error check bans licenses sources

bench:          ## the figures, each beside its baseline: the store alone, then nodes under load
	cargo bench --locked -p starling-storage --bench store
	loadtest/scripts/bench

bench-stores:   ## the same on a real Cassandra and Redis, which it starts and stops
	@.ci/needs servers
	loadtest/scripts/bench-stores

bench-cluster:  ## what several nodes cost and how fast they are whole again, on the same; about a quarter of an hour
	@.ci/needs servers
	loadtest/scripts/bench-cluster

torture:        ## kills the node under load, TORTURE_ROUNDS times (300), and judges what everybody saw
	@.ci/needs
	TORTURE_ROUNDS=$(TORTURE_ROUNDS) $(LINTED) cargo test --locked -p starling-node --test torture -- --nocapture

faults:         ## every fault there is for three nodes, FAULTS_ROUNDS times (1): killed, frozen, cut, without their stores
	@.ci/needs servers
	for ((round = 1; round <= $(FAULTS_ROUNDS); round++)); do \
		FAULTS=long $(LINTED) loadtest/servers/with cargo test --locked -p starling-node --test faults -- --nocapture || exit; \
	done

sim:            ## lives SEEDS (2000) lives of whole nodes under random faults; SEED=n tells one
	SIM_SEEDS=$(or $(SEEDS),2000) $(if $(SEED),SIM_SEED=$(SEED)) \
		cargo test --locked --release -p starling-actors --lib -- tests::sim::after --nocapture

model:          ## explores more orders of two owners of one log than `test` does (more than an hour on two cores)
	cargo test --locked --release -p starling-actors --lib -- tests::model --nocapture --test-threads 2

run:            ## a node with nothing beside it
	cargo run --release --locked

run-on-servers: ## a node on a Cassandra and a Redis of this clone's own, to try it out; they stay until servers-down
	@.ci/needs servers
	loadtest/servers/node

cluster:        ## three nodes that are one Starling, on the same servers, and how to look at and load them; they stay
	@.ci/needs servers
	@loadtest/servers/cluster up

cluster-down:   ## drains and ends the three; `servers-down` ends what they kept things in
	loadtest/servers/cluster down

smoke:          ## drives every verb once: of the server at URL, or of a node that it starts and ends
	loadtest/scripts/smoke $(URL)

clean-up:       ## throws away what `make run` and the tools left, not the build
	rm -rf starling-data target/tools
