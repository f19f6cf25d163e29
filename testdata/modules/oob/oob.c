// build: clang @../../../rules-sdk/c/flags -o oob.wasm oob.c
// Reads outside memory if the integer bad is 1. Every other event has code 1.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"bad\",\"type\":\"i64\"}]}")

WE_EVALUATE(b) {
    const we_column *bad = we_col(b, 0);
    for (uint32_t row = 0; row < b->rows; row++) {
        we_verdicts(b)[row] = 1;
        if (we_i64(b, bad, row) == 1) we_verdicts(b)[row] = *(volatile int32_t *)0xfffffff0;
    }
    return 0;
}
