#!/bin/sh
# Runs the tests of the Rust SDK and of its examples with Debian's rustc, which needs no cargo; with
# cargo, "cargo test" here runs them and the documentation's examples.
set -eu
cd "$(dirname "$0")"
rustc=${RUSTC:-/usr/bin/rustc}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$rustc" --edition 2021 --test --crate-name wasmeval_rule -o "$out/sdk" src/lib.rs
"$out/sdk" --quiet
"$rustc" --edition 2021 --crate-type rlib --crate-name wasmeval_rule -o "$out/libwasmeval_rule.rlib" src/lib.rs
for rule in examples/*/*.rs; do
    "$rustc" --edition 2021 --test --extern "wasmeval_rule=$out/libwasmeval_rule.rlib" -o "$out/rule" "$rule"
    "$out/rule" --quiet
done
