// build: clang @../../../rules-sdk/c/flags -o v2.wasm v2.c
// Code 2 for every event; v1 is the version before it.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"description\":\"v2\",\"match\":[\"*\"]}")

WE_EVALUATE(b) {
    for (uint32_t row = 0; row < b->rows; row++) we_verdicts(b)[row] = 2;
    return 0;
}
