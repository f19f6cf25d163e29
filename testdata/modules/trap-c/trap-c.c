// build: clang @../../../rules-sdk/c/flags -g -o trap-c.wasm trap-c.c
// Has debug information. Its field bad says how it is to fail; tests find lines by their comments.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"bad\",\"type\":\"i64\"},{\"path\":\"n\",\"type\":\"i64\"}]}")

static volatile int32_t sink, zero;

// small is a loop of few instructions, of which the metering makes several copies.
__attribute__((noinline)) static int32_t small(const uint8_t *at, int32_t n) {
    int32_t sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += at[(uint32_t)i << 16]; // outside
    return sum;
}

__attribute__((noinline)) static int32_t divide(int32_t a, int32_t b) {
    int32_t sum = 0;
    for (int32_t i = 0; i < 3; i++) {
        sink = i;
        sum += sink * 7;
    }
    return (sum + a) / b; // divide
}

__attribute__((noinline)) static int32_t endless(int32_t a) {
    for (;;) {
        if (sink == 77) // loop
            return a;
        sink = a ^ sink;
    }
}

__attribute__((noinline)) static int32_t deep(int32_t a) { // entry
    if (a == -1) return 0;
    sink = a;
    return deep(a + 1) + sink; // deep
}

static inline int32_t inlined(int32_t a) {
    if (sink != a) __builtin_trap(); // inlined
    return 1;
}

static int32_t score(int64_t bad, int32_t n) {
    switch (bad) {
    case 1:
        return divide(n, zero); // score
    case 2:
        return endless(n);
    case 3:
        return deep(n);
    case 4:
        return inlined(n + 1);
    case 5:
        return small((const uint8_t *)&zero, 1 << 15);
    }
    return 1;
}

WE_EVALUATE(b) {
    const we_column *bad = we_col(b, 0), *n = we_col(b, 1);
    for (uint32_t row = 0; row < b->rows; row++)
        we_verdicts(b)[row] = score(we_i64(b, bad, row), (int32_t)we_i64(b, n, row));
    return 0;
}
