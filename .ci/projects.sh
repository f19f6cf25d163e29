#!/usr/bin/env bash
# Makes a project in each language with the real binary, and does with it what its README says: unit
# tests, build, tests of the module, replay twice. Needs the compilers; nothing is downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/bin/wasmeval" ./cmd/wasmeval
export PATH="$work/bin:$PATH"
cd "$work"

for lang in c as go rust; do
    echo "== $lang"
    wasmeval init --lang "$lang" "velocity-$lang"
    (
        cd "velocity-$lang"
        make unit
        make test
        wasmeval inspect "velocity-$lang.wasm" --events events.ndjson --key user |
            grep -E '^(bytes|instance|fuel|server)'
        for run in 1 2; do
            wasmeval replay --rule "velocity=velocity-$lang.wasm" --key user events.ndjson -o "$run.out"
        done
        cmp 1.out 2.out
        [ -s 1.out ]
        # Fuel is each language's own; all else must be the same.
        sed 's/,"fuel":[0-9]*}$//' 1.out >"../$lang.out"
    )
    cmp c.out "$lang.out"
done
wasmeval diff --old velocity-c/velocity-c.wasm --new velocity-go/velocity-go.wasm --key user \
    velocity-c/events.ndjson
echo "projects: all passed"
