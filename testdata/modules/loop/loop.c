// build: clang @../../../rules-sdk/c/flags -Wl,--strip-all -o loop.wasm loop.c
// Spins for ever if the integer bad is 1. Every other event has code 1.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"bad\",\"type\":\"i64\"}]}")

static volatile uint32_t spins;

WE_EVALUATE(b) {
    const we_column *bad = we_col(b, 0);
    for (uint32_t row = 0; row < b->rows; row++) {
        we_verdicts(b)[row] = 1;
        if (we_i64(b, bad, row) == 1) for (;;) spins++;
    }
    return 0;
}
