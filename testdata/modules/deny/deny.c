// build: clang @../../../rules-sdk/c/flags -o deny.wasm deny.c
// Code 2 for every event.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"description\":\"deny\",\"match\":[\"*\"]}")

WE_EVALUATE(b) {
    for (uint32_t row = 0; row < b->rows; row++) we_verdicts(b)[row] = 2;
    return 0;
}
