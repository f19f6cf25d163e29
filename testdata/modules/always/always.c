// build: clang @../../../rules-sdk/c/flags -o always.wasm always.c
// Code 1 for every event.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"description\":\"always\",\"match\":[\"*\"]}")

WE_EVALUATE(b) {
    for (uint32_t row = 0; row < b->rows; row++) we_verdicts(b)[row] = 1;
    return 0;
}
