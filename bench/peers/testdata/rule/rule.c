// build: clang @../../../../rules-sdk/c/flags -msimd128 -o rule.wasm rule.c
// Code 1 if both conditions are true.
#include "../../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"speed_kmh\",\"type\":\"f64\"},{\"path\":\"heading\",\"type\":\"f64\"}]}")

WE_EVALUATE(b) {
    const double *speed = we_f64s(b, we_col(b, 0)), *heading = we_f64s(b, we_col(b, 1));
    int32_t *code = we_verdicts(b);
    uint32_t rows = b->rows;
    for (uint32_t row = 0; row < rows; row++)
        code[row] = (speed[row] > 189.1) & (heading[row] > 230);
    return 0;
}
