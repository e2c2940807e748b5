# Everything starts here: `make` lists the targets. The two that need nothing else first:
# `make demo` (from nothing to a live URL with verified integrations) and `make test` (every test).

# Version of Kubernetes of the local control plane: a file in tests/control-plane/versions.
KUBERNETES_VERSION ?= 1.36
# Name of the local world: several can run side by side.
WORLD ?= default
# How long things take at the simulated Fly.io: off, real, or a factor.
LATENCY ?= 0.1
# How many times faster the time of a watch runs from Go-Live on. In the demo 72 hours take 100 s.
TIME_SCALE ?= $(if $(filter demo,$(MAKECMDGOALS)),2592,1)

# Tests that run at a time: most of them wait for something, so more than there are cores.
TEST_THREADS ?= 8

# How long `make fuzz` runs each target, in seconds.
FUZZ_SECONDS ?= 300

# What `make test-chaos` does: for how many seconds, from which seed on, at how many percent of faulty
# calls (0: at 5, 10 and 20 in turn), and with how many Activations.
DURATION ?= 3600
SEED ?= 11
PERCENT ?= 0
OBJECTS ?= 50

# What `make bench` measures: dev, which is built already, or release.
BENCH_PROFILE ?= dev

export KUBERNETES_VERSION

CONTROL_PLANE_DIR := tests/control-plane
CONTROL_PLANE := $(CONTROL_PLANE_DIR)/bin/$(KUBERNETES_VERSION)/control-plane
MODFILE := versions/$(KUBERNETES_VERSION).mod
PUBLISHED_DIR := tests/published
PUBLISHED := $(PUBLISHED_DIR)/bin/published
PEER_GO_DIR := benches/peer-go
PEER_GO := $(PEER_GO_DIR)/bin/peer-go
BIN := target/debug

# `make demo KUBECONFIG=...` is the reader's own cluster. A KUBECONFIG that is merely set in the
# shell is not meant: nobody's cluster is touched by accident.
ifeq ($(origin KUBECONFIG),command line)
WORLD_FLAGS := --kubeconfig $(KUBECONFIG)
endif
unexport KUBECONFIG

.DEFAULT_GOAL := help
.PHONY: help prereqs control-plane published build binaries parts up down status demo day test test-crash test-stale \
  test-chaos test-planted mutants bench house test-alone reproducible lint lint-rust lint-go licences supply fuzz generate

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  WORLD=name                another world beside the first (now: $(WORLD))"
	@echo "  KUBERNETES_VERSION=1.37   another control plane ($(shell cd $(CONTROL_PLANE_DIR)/versions && ls *.mod | sed 's/.mod//' | paste -sd' '))"
	@echo "  LATENCY=real              how long things take at the simulated Fly.io: off, real, or a factor (now: $(LATENCY))"
	@echo "  TIME_SCALE=2592           how many times faster a watch runs: 72 hours in 100 s, as in the demo (now: $(TIME_SCALE))"
	@echo "  BENCH_PROFILE=release     measure the release build; BENCH_REAL=0: not with Fly's real latencies"
	@echo "  DURATION=600 SEED=7       how long test-chaos runs, and what it draws (also PERCENT, OBJECTS)"
	@echo "  demo KUBECONFIG=file      your own cluster instead of the local one"

prereqs: ## check Rust, Go, git and kubectl; install PostgreSQL, Redis, Prometheus, Chromium and faketime (as root)
	@sh tests/checks/prereqs.sh

control-plane: $(CONTROL_PLANE) ## build the local kube-apiserver (minutes once, then reused)

$(CONTROL_PLANE): $(wildcard $(CONTROL_PLANE_DIR)/*.go) $(CONTROL_PLANE_DIR)/$(MODFILE)
	@echo "building the control plane of Kubernetes $(KUBERNETES_VERSION): this takes minutes, once"
	cd $(CONTROL_PLANE_DIR) && sh build.sh $(KUBERNETES_VERSION)

published: $(PUBLISHED) ## build Helm, kstatus, and the interpreters of Flux and Argo CD, for tests

# After the control plane, with which it shares most packages.
$(PUBLISHED): $(wildcard $(PUBLISHED_DIR)/*.go) $(PUBLISHED_DIR)/go.mod | $(CONTROL_PLANE)
	@echo "building Helm and the judges of states: this takes a minute, once"
	sh $(PUBLISHED_DIR)/build.sh

build: ## build all Rust code with its tests
	cargo build --locked --workspace --all-targets

binaries:
	cargo build --locked --workspace --bins

# Both builds at once: Go and Rust do not wait for each other.
parts: prereqs
	@$(MAKE) --no-print-directory -j2 control-plane binaries

up: parts ## start a world in the background; then: . .golive/env
	@$(BIN)/world up --name $(WORLD) $(WORLD_FLAGS) --latency $(LATENCY) --time-scale $(TIME_SCALE)

down: ## end that world and remove all of it
	@if [ -x $(BIN)/world ]; then $(BIN)/world down --name $(WORLD); else echo "no world was ever built here"; fi

status: ## say what runs in that world
	@if [ -x $(BIN)/world ]; then $(BIN)/world status --name $(WORLD); else echo "no world was ever built here"; fi

demo: parts ## take the example from nothing to live, verified, and watched for 72 hours at scale
	@$(BIN)/world demo --name $(WORLD) $(WORLD_FLAGS) --latency $(LATENCY) --time-scale $(TIME_SCALE)

day: parts ## write docs/tasks/a-day-with-golive.md and its pictures anew, in a world of its own
	@$(BIN)/world up --name day --latency 0.1
	@$(BIN)/day --env .golive/day/env; ended=$$?; $(BIN)/world down --name day; exit $$ended

test: prereqs ## run every test, from nothing
	@$(MAKE) --no-print-directory -j2 control-plane published build
	cargo test --locked --workspace -- --test-threads=$(TEST_THREADS)

test-crash: prereqs ## kill the operator at every single external write (long)
	@$(MAKE) --no-print-directory -j2 control-plane build
	GOLIVE_CRASH_TEST=full cargo test --locked --workspace --test it -- trouble::crash trouble::lost life::watch told::watch

fuzz: ## run every fuzz target longer (FUZZ_SECONDS each, now: $(FUZZ_SECONDS))
	GOLIVE_FUZZ_MS=$(FUZZ_SECONDS)000 cargo test --locked --workspace --exclude reading --lib fuzz:: -- --test-threads=2

test-planted: ## plant known bugs one after the other; a test must catch each (long)
	cargo run -q --locked -p planted

# The tool is built once, into target/.
MUTANTS_VERSION := 27.1.0
# Which part of the mutants, such as 0/4; 0/1 are all.
SHARD ?= 0/1

mutants: ## change the deciding code in every small way; a unit test must fail (hours)
	@test -x target/tools/bin/cargo-mutants || \
	  cargo install --locked --root target/tools --version $(MUTANTS_VERSION) cargo-mutants
	target/tools/bin/cargo-mutants mutants --output target --sharding round-robin --shard $(SHARD)

test-stale: prereqs ## let every single look at Fly.io be wrong once (long)
	@$(MAKE) --no-print-directory -j2 control-plane build
	GOLIVE_STALE_TEST=full cargo test --locked --workspace --test it trouble::stale

test-chaos: prereqs ## fleets under seeded faults and kills, and every fault at every step (an hour)
	@$(MAKE) --no-print-directory -j2 control-plane build
	GOLIVE_CHAOS=full cargo test --locked --workspace --exclude reading --lib observe::rehearsal
	GOLIVE_CHAOS=full GOLIVE_CHAOS_SECONDS=$(DURATION) GOLIVE_CHAOS_SEED=$(SEED) GOLIVE_CHAOS_PERCENT=$(PERCENT) \
	  GOLIVE_CHAOS_OBJECTS=$(OBJECTS) cargo test --locked --workspace --test it chaos:: -- --nocapture --test-threads=1

# Where the static and the repeated builds are, and for which machine.
STATIC_DIR := target/static
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
# No folder of this machine is in the program.
REMAP = --remap-path-prefix=$(CURDIR)=/src --remap-path-prefix=$(HOME)/.cargo=/cargo

test-alone: prereqs ## run a static build alone in an empty root (builds everything anew)
	@$(MAKE) --no-print-directory control-plane binaries
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --target $(HOST) --target-dir $(STATIC_DIR) --bin golive
	GOLIVE_STATIC_BINARY=$(CURDIR)/$(STATIC_DIR)/$(HOST)/debug/golive cargo test --locked --workspace --test it install::alone

reproducible: ## build the operator twice, in two folders, and compare (long)
	RUSTFLAGS='$(REMAP)' cargo build --release --locked --bin golive --target-dir target/first
	RUSTFLAGS='$(REMAP)' cargo build --release --locked --bin golive --target-dir target/second
	cmp target/first/release/golive target/second/release/golive
	@sha256sum target/first/release/golive

# The operator in Go that the benches compare with. Nothing else needs it.
$(PEER_GO): $(wildcard $(PEER_GO_DIR)/*.go) $(PEER_GO_DIR)/go.mod $(PEER_GO_DIR)/go.sum
	@echo "building the operator to compare with: this takes a minute, once"
	sh $(PEER_GO_DIR)/build.sh
	cd $(PEER_GO_DIR) && go vet .

bench: prereqs ## measure: reading in MB/s; time to live, calls, writes, memory; beside peers (BENCH_ONLY=fleet: one part)
	$(if $(BENCH_ONLY),,cargo bench --locked -p reading)
	@$(MAKE) --no-print-directory control-plane $(PEER_GO)
	cargo build --locked --workspace --bins --profile $(BENCH_PROFILE)
	cargo bench --locked --workspace --profile $(BENCH_PROFILE) --bench go_live

house: ## measure the structure of src/: circles, arrows up, long functions, wide types
	@cargo run -q --locked -p house

lint: lint-rust lint-go licences ## formats, lints, licences

lint-rust:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

GO_DIRS := $(CONTROL_PLANE_DIR) $(PUBLISHED_DIR) $(PEER_GO_DIR)

lint-go:
	@test -z "$$(gofmt -l $(GO_DIRS))" || { gofmt -d $(GO_DIRS); exit 1; }
	cd $(CONTROL_PLANE_DIR) && go vet -modfile=$(MODFILE) .
	cd $(PUBLISHED_DIR) && go vet .
	@# Its packages are compiled for the benches only; without them this would take minutes.
	@if [ -x $(PEER_GO) ]; then cd $(PEER_GO_DIR) && go vet .; fi

licences: ## check the licences of all dependencies, and that banned crates are absent
	@sh tests/checks/licences.sh

supply: ## known vulnerabilities, banned packages, licences, sources (builds cargo-deny once)
	@sh tests/checks/supply.sh

generate: ## write crds/ and what else is made from the code
	cargo build -q --locked --workspace --example generate
	target/debug/examples/generate
