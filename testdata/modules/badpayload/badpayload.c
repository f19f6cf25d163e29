// build: clang @../../../rules-sdk/c/flags -o badpayload.wasm badpayload.c
// Emits what is not JSON if the integer bad is 1; the code is then what emit returned, plus 100.
// Every other event has code 1.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"bad\",\"type\":\"i64\"}]}")

static const char text[] = "{not json";

WE_EVALUATE(b) {
    const we_column *bad = we_col(b, 0);
    for (uint32_t row = 0; row < b->rows; row++) {
        we_verdicts(b)[row] = 1;
        if (we_i64(b, bad, row) == 1)
            we_verdicts(b)[row] = 100 + we_emit(row, text, sizeof text - 1);
    }
    return 0;
}
