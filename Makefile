# `run`, `build`, `test` and `bench` need only Go. `check` also needs the network, for the linter.

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LINT = $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME ?= 30s

.PHONY: run build test sdk sdks race bench fmt vet lint tidy check guests fuzz clean

## run: the server at work on example rules and made-up events
run: build
	bin/wasmeval demo

build:
	$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/wasmeval ./cmd/wasmeval

## test: all tests, those of the Go SDK too
test: sdk
	$(GO) test ./...

sdk:
	cd rules-sdk/go && $(GO) vet ./... && $(GO) test ./...

## sdks: the tests of the SDKs in their own languages; needs a C compiler, rustc and npm's asc
sdks:
	rules-sdk/c/test.sh
	rules-sdk/rust/test.sh
	cd rules-sdk/assemblyscript && npm test --silent

race:
	$(GO) test -race -timeout 15m ./...

## bench: Go benchmarks, the ring against channels, and the whole server under load
bench: build
	$(GO) test -run '^$$' -bench . -benchmem ./...
	bin/wasmeval bench bus
	bin/wasmeval bench http --rate 0
	bin/wasmeval bench http --rate 0 --batch 1000
	bin/wasmeval bench http --rate 5000 --rule rules-sdk/c/examples/geofence/geofence.wasm
	bin/wasmeval bench udp --rate 50000

fmt:
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "not formatted: $$files" >&2; exit 1; }

vet:
	$(GO) vet ./...

lint:
	$(LINT) run ./...

tidy:
	$(GO) mod tidy -diff

## check: what CI runs beside `test`
check: fmt vet lint tidy race
	git diff --exit-code

## guests: rebuild every guest module from its source; rules-sdk/examples/build.sh says what it needs
guests:
	rules-sdk/examples/build.sh

## fuzz: every fuzz target for FUZZTIME. Go sometimes ends one with "context deadline exceeded" when its
## time is over, which is no finding: those leave a file, and without one it is run once more.
fuzz:
	@for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
		for f in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\).*/\1/p' $$dir/*_test.go); do \
			echo "$$dir $$f"; \
			run="$(GO) test -run ^$$ -fuzz ^$$f\$$ -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ."; \
			(cd $$dir && { $$run || { [ -z "$$(git ls-files -o testdata/fuzz)" ] && $$run; }; }) || exit 1; \
		done; \
	done

clean:
	rm -rf bin
