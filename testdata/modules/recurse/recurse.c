// build: clang @../../../rules-sdk/c/flags -Wl,--strip-all -o recurse.wasm recurse.c
// Calls itself without end if the integer bad is 1. Every other event has code 1.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"bad\",\"type\":\"i64\"}]}")

static volatile uint32_t bottom = 0xffffffff, sink;

// The volatile accesses keep the compiler from making a loop of it.
static __attribute__((noinline)) uint32_t deeper(uint32_t n) {
    if (n == bottom) return n;
    uint32_t r = deeper(n + 1);
    sink = r;
    return r ^ n;
}

WE_EVALUATE(b) {
    const we_column *bad = we_col(b, 0);
    for (uint32_t row = 0; row < b->rows; row++) {
        we_verdicts(b)[row] = 1;
        if (we_i64(b, bad, row) == 1) we_verdicts(b)[row] = (int32_t)deeper(0);
    }
    return 0;
}
