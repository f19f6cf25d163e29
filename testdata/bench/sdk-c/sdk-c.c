// build: clang @../../../rules-sdk/c/flags -o sdk-c.wasm sdk-c.c
// The loop over two columns that BenchmarkSDKLoop measures, as one writes it in C.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST(WE_JSON({"fields": [{"path": "a", "type": "f64"}, {"path": "b", "type": "f64"}]}))

WE_EVALUATE(batch) {
    const we_column *a = we_col(batch, 0), *b = we_col(batch, 1);
    for (uint32_t row = 0; row < batch->rows; row++)
        if (we_valid(batch, a, row) && we_valid(batch, b, row) && we_f64(batch, a, row) > 100 &&
            we_f64(batch, b, row) < 50)
            we_verdicts(batch)[row] = 1;
    return 0;
}
