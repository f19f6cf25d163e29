// build: clang @../../../rules-sdk/c/flags -o hog.wasm hog.c
// Takes all the memory it gets if the integer bad is 1, and emits how many pages it has. Every
// other event has code 1.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"bad\",\"type\":\"i64\"}]}")

static char buf[32];

static void take(uint32_t row) {
    for (size_t old; (old = __builtin_wasm_memory_grow(0, 16)) != SIZE_MAX;)
        for (size_t page = old; page < old + 16; page++) *(volatile char *)(page << 16) = 1;
    while (__builtin_wasm_memory_grow(0, 1) != SIZE_MAX) {}
    we_json j = {.buf = buf, .cap = sizeof buf};
    we_open(&j, '{');
    we_key(&j, "pages");
    we_put_i64(&j, (int64_t)__builtin_wasm_memory_size(0));
    we_close(&j, '}');
    we_emit_json(row, &j);
}

WE_EVALUATE(b) {
    const we_column *bad = we_col(b, 0);
    for (uint32_t row = 0; row < b->rows; row++) {
        we_verdicts(b)[row] = 1;
        if (we_i64(b, bad, row) == 1) take(row);
    }
    return 0;
}
