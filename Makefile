# Everything but `check` and `guests` needs only Go.

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

.PHONY: run build test race bench check guests sdk fuzz clean

## run: the server at work on example rules and made-up events
run: build
	bin/wasmeval demo

build:
	$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/wasmeval ./cmd/wasmeval

## test: all tests
test: sdk
	$(GO) test ./...

sdk:
	cd rules-sdk/go && $(GO) test ./...

race:
	$(GO) test -race ./...

## bench: the benchmarks, then the ring against channels
bench: build
	$(GO) test -run '^$$' -bench . -benchmem ./...
	bin/wasmeval bench bus

## check: what CI runs
check:
	scripts/check

## guests: rebuild every guest module from its source
guests:
	rules-sdk/examples/build.sh

## fuzz: every fuzz target for FUZZTIME
FUZZTIME ?= 30s
fuzz:
	scripts/fuzz $(FUZZTIME)

clean:
	rm -rf bin
