# Plimsoll's make targets. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

export CGO_ENABLED ?= 0
GO      ?= go
TOOLS   := $(CURDIR)/.ci/tools/go.mod
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
PROGRAMS := plimd plim-agent plim
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env=PATH,GOFLAGS,GOPROXY,GOMODCACHE,GOCACHE)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## The main job on real containers: three hosts, a service, a crash, a rolling update
	@bash deploy/demo.sh

.PHONY: test
test: deps build ## All tests: checks, unit tests, end-to-end tests on real hosts
	@$(MAKE) --no-print-directory check
	$(SUDO) env CGO_ENABLED=0 $(GO) test -shuffle=on -timeout 20m ./...

.PHONY: race
race: deps ## Unit tests under the race detector (needs a C compiler)
	$(SUDO) env CGO_ENABLED=1 $(GO) test -race -shuffle=on -timeout 30m $$($(GO) list ./... | grep -v /e2e)

.PHONY: build
build: ## Build the programs into bin/
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(PROGRAMS))

.PHONY: deps
deps: ## Install what hosts need: containerd, runc, nftables, iproute2 (Debian, Ubuntu)
	@bash deploy/deps.sh

.PHONY: check
check: ## gofmt, go vet, generated code up to date
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'check: run gofmt -w on these files'; exit 1; }
	$(GO) vet ./...

.PHONY: lint
lint: ## staticcheck, buf lint, stale generated code
	$(GO) tool -modfile=$(TOOLS) staticcheck ./...
	cd proto && $(GO) tool -modfile=$(TOOLS) buf lint
	$(MAKE) --no-print-directory proto
	git diff --exit-code --stat -- proto

.PHONY: proto
proto: ## Generate Go from proto/
	cd proto && $(GO) tool -modfile=$(TOOLS) buf format -w && $(GO) tool -modfile=$(TOOLS) buf generate

.PHONY: bench
bench: deps build ## Measure against raw containerd, CNI plugins and Docker Swarm; prints a table
	@bash deploy/deps.sh bench
	$(SUDO) env CGO_ENABLED=0 $(GO) run ./e2e/bench

.PHONY: dev
dev: build ## A cluster on this machine, in the foreground; Ctrl-C ends it
	$(SUDO) bin/plim dev

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
