// build: clang @../../../rules-sdk/c/flags -o odd.wasm odd.c
// Code 1 if the integer n is odd.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"n\",\"type\":\"i64\"}]}")

WE_EVALUATE(b) {
    const we_column *n = we_col(b, 0);
    for (uint32_t row = 0; row < b->rows; row++) we_verdicts(b)[row] = we_i64(b, n, row) & 1;
    return 0;
}
