// build: clang @../../../rules-sdk/c/flags -o exit.wasm exit.c
// Calls proc_exit(3) if the integer bad is 1. Every other event has code 1.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"bad\",\"type\":\"i64\"}]}")

__attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_exit")))
void proc_exit(uint32_t code);

WE_EVALUATE(b) {
    const we_column *bad = we_col(b, 0);
    for (uint32_t row = 0; row < b->rows; row++) {
        we_verdicts(b)[row] = 1;
        if (we_i64(b, bad, row) == 1) proc_exit(3);
    }
    return 0;
}
