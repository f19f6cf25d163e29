#!/bin/sh
# Builds the tests of the C SDK and of its examples with the machine's own compiler, and runs them.
set -eu
cd "$(dirname "$0")"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
failed=0
for test in test/*.c; do
    ${CC:-cc} -DWASMEVAL_NATIVE -std=c11 -O1 -Wall -Wextra -Werror -o "$out/test" "$test" -lm
    if "$out/test"; then echo "ok $test"; else echo "FAIL $test"; failed=1; fi
done
exit $failed
