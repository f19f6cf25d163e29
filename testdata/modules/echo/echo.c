// build: clang @../../../rules-sdk/c/flags -o echo.wasm echo.c
// Code 1 and the whole event as payload.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"$\",\"type\":\"json\"}]}")

WE_EVALUATE(b) {
    const we_column *whole = we_col(b, 0);
    for (uint32_t row = 0; row < b->rows; row++) {
        we_text t = we_str(b, whole, row);
        we_emit(row, t.ptr, t.len);
        we_verdicts(b)[row] = 1;
    }
    return 0;
}
