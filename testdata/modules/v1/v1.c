// build: clang @../../../rules-sdk/c/flags -o v1.wasm v1.c
// Code 1 for every event; v2 is the next version of the same rule.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"description\":\"v1\",\"match\":[\"*\"]}")

WE_EVALUATE(b) {
    for (uint32_t row = 0; row < b->rows; row++) we_verdicts(b)[row] = 1;
    return 0;
}
