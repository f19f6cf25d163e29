// build: clang @../../../rules-sdk/c/flags -o fail.wasm fail.c
// Returns 7 from wasmeval_evaluate if the integer bad of any row is 1.
// Every other event has code 1.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"bad\",\"type\":\"i64\"}]}")

WE_EVALUATE(b) {
    const we_column *bad = we_col(b, 0);
    for (uint32_t row = 0; row < b->rows; row++) {
        we_verdicts(b)[row] = 1;
        if (we_i64(b, bad, row) == 1) return 7;
    }
    return 0;
}
