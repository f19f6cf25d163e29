// build: clang @../../../rules-sdk/c/flags -o never.wasm never.c
// Code 0 for every event.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"description\":\"never\",\"match\":[\"*\"]}")

WE_EVALUATE(b) {
    for (uint32_t row = 0; row < b->rows; row++) we_verdicts(b)[row] = 0;
    return 0;
}
