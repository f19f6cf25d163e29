// build: clang @../../../../rules-sdk/c/flags -o rule.wasm rule.c
// Code 1 if both conditions are true.
#include "../../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"speed_kmh\",\"type\":\"f64\"},{\"path\":\"heading\",\"type\":\"f64\"}]}")

WE_EVALUATE(b) {
    const we_column *speed = we_col(b, 0), *heading = we_col(b, 1);
    for (uint32_t row = 0; row < b->rows; row++)
        we_verdicts(b)[row] = we_f64(b, speed, row) > 189.1 && we_f64(b, heading, row) > 230;
    return 0;
}
