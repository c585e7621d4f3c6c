# What one does with this repository. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Go's own place for it is not on everybody's PATH, root's for one.
export PATH := $(PATH):/usr/local/go/bin
GO ?= go
# Git refuses to tell root about somebody else's checkout.
export GOFLAGS += -buildvcs=false
FUZZTIME ?= 30s
ENGINE ?= builtin
BENCHFLAGS ?=
ROUNDS ?= 3

.PHONY: help build test test-k3s chaos demo bench bench-scale bench-ports lint fuzz release clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

build: ## the program for this machine, as bin/dokku-expose
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/dokku-expose ./cmd/dokku-expose

# -count=1: many tests build the program that they run, of which Go's cache of test results does not know. With -race
# go vet compiles what the tests need anyway.
test: ## all tests with the race detector; as root it installs and starts what they need
	scripts/setup-machine test
	race=-race; cc=$$($(GO) env CC); \
	command -v "$${cc%% *}" >/dev/null || { race=; echo "No C compiler is installed, so the race detector is off"; }; \
	CGO_ENABLED=$${race:+1} $(GO) vet $$race ./...; \
	$(GO) build ./...; \
	CGO_ENABLED=$${race:+1} $(GO) test $$race -vet=off -count=1 -timeout 75m -json ./... | $(GO) run ./internal/testsummary

# CI=true: nothing is skipped. `make test` has the tests that need no nodes too, where Kubernetes has been built.
test-k3s: ## the tests with a real Kubernetes and nodes that run pods, as root; it is built once: 9 minutes of CPU time
	scripts/setup-machine test-k3s
	programs=$$($(GO) run ./internal/kubernetes/build); \
	CI=true DOKKU_EXPOSE_KUBERNETES=$$programs $(GO) test -count=1 -timeout 30m -run 'RealServer|RealNodes|WithoutAPIServer/killed' \
	  ./internal/kubernetes ./deploy/source/kube ./hooks/command ./hooks

chaos: ## all faults under load, ROUNDS (3) times each, and a table of what clients lost; as root it installs what is missing
	scripts/setup-machine test
	$(GO) test -v -timeout 2h ./internal/chaos -run '^TestFaults$$' -chaos.rounds $(ROUNDS)

demo: ## deploys under load and shows what clients see; ENGINE=haproxy shows it with HAProxy
	if [[ $(ENGINE) == haproxy ]]; then scripts/setup-machine demo; fi
	$(GO) run ./cmd/demo -engine $(ENGINE)

bench: ## the engines and their peers side by side, for BENCHFLAGS (-help; -tls; -udp); as root it installs what is missing
	scripts/setup-machine bench
	$(GO) run ./bench $(BENCHFLAGS)

bench-scale: ## how cost grows from 10 to 1,000 apps, for BENCHFLAGS (-help); needs root or user namespaces
	scripts/setup-machine bench-scale
	$(GO) run ./bench/scale $(BENCHFLAGS)

bench-ports: ## short connections by the thousand beside docker -p, for BENCHFLAGS (-help); needs root
	scripts/setup-machine bench-ports
	$(GO) run ./bench/ports $(BENCHFLAGS)

lint: ## golangci-lint (with the import rules) and shellcheck, where they are installed
	@if command -v golangci-lint >/dev/null; then golangci-lint run ./...; \
	else echo "golangci-lint is not installed: https://golangci-lint.run/welcome/install/"; fi
	@if command -v shellcheck >/dev/null; then shellcheck install update uninstall scripts/* .ci/run; \
	else echo "shellcheck is not installed (Debian: apt-get install shellcheck)"; fi

fuzz: ## every fuzz test for FUZZTIME (30s)
	@packages=$$($(GO) list ./...); \
	for package in $$packages; do \
	  tests=$$($(GO) test -list '^Fuzz' $$package); \
	  for name in $$(grep ^Fuzz <<<"$$tests" || true); do \
	    echo "$$package $$name"; $(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) $$package; \
	  done; \
	done

release: ## dist/dokku-expose-VERSION.tar.gz of the last commit, for `dokku plugin:install`
	scripts/release

clean: ## removes what the targets above leave in the tree
	rm -rf bin dist
