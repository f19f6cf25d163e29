#!/bin/sh
# Rebuilds the module of every example and conformance rule, of testdata/modules and of testdata/bench. Each source says
# in its line "build: …" how, to be run in its folder. Arguments are names of modules; none means
# all but those of Rego and Zig, whose compilers are large.
#
# Debian: apt-get install clang lld wabt rustc libstd-rust-dev-wasm32; npm: assemblyscript. The
# committed files were built with clang 14, wabt 1.0.32, rustc 1.63, AssemblyScript 0.28.20 and Go
# 1.26; another compiler gives other bytes with the same behaviour.
set -eu
cd "$(dirname "$0")/../.."
built=0

for tool in clang wasm-ld wat2wasm go rustc asc; do
    [ $# -gt 0 ] || command -v "$tool" >/dev/null ||
        { echo "build.sh: $tool is missing" >&2; exit 1; }
done

for source in rules-sdk/*/examples/*/*.* rules-sdk/*/conformance/*.* \
    testdata/modules/*/*.* testdata/bench/*/*.*; do
    folder=$(dirname "$source")
    name=$(basename "$folder")
    case "$source" in */main.go | *.c | *.rs | *.ts | *.wat | *.zig | *.rego) ;; *) continue ;; esac
    case " $* " in
    *" $name "*) ;;
    "  ") case "$source" in *.rego | *.zig) continue ;; esac ;;
    *) continue ;;
    esac
    line=$(sed -n 's,^[/;#][/;#]* build: ,,p' "$source")
    [ -n "$line" ] || { echo "build.sh: $source has no line \"build: …\"" >&2; exit 1; }
    (cd "$folder" && eval "$line")
    built=$((built + 1))
    echo "$folder/$name.wasm $(wc -c <"$folder/$name.wasm")"
done
if [ $# -gt 0 ] && [ $built -lt $# ]; then
    echo "build.sh: built $built of $# modules: expected names of folders" >&2
    exit 1
fi
