// build: clang @../../../rules-sdk/c/flags -o scribble.wasm scribble.c
// The code is the integer n. Then it writes over all that the batch has after its verdicts, and executes
// unreachable if an n is below 0.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"n\",\"type\":\"i64\"},{\"path\":\"i64\",\"type\":\"i64\"}]}")

WE_EVALUATE(b) {
    const int64_t *n = we_i64s(b, we_col(b, 0));
    int32_t *code = we_verdicts(b);
    uint32_t rows = b->rows, size = b->size;
    int bad = 0;
    for (uint32_t row = 0; row < rows; row++) {
        bad |= n[row] < 0;
        code[row] = (int32_t)n[row];
    }
    for (unsigned char *p = (unsigned char *)(code + rows); p < (unsigned char *)b + size; p++) *p = 0x25;
    if (bad) __builtin_trap();
    return 0;
}
