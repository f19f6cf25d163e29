// A rule whose code is how many events of the key came in the hour, in its state "hour"; each is a
// value of the state "day" as well. It traps after counting where the field "trap" is 1.
// build: clang @../../../rules-sdk/c/flags -o counting.wasm counting.c
#include "../../../rules-sdk/c/wasmeval.h"

#ifndef HOUR
#define HOUR "3600000" // ms
#endif

WE_MANIFEST("{\"fields\":[{\"path\":\"trap\",\"type\":\"i64\"}],\"state\":["
            "{\"name\":\"hour\",\"kind\":\"counter\",\"window_ms\":" HOUR ",\"keys\":1000},"
            "{\"name\":\"day\",\"kind\":\"distinct\",\"window_ms\":86400000,\"keys\":1000}]}")

WE_EVALUATE(b) {
    const we_column *trap = we_col(b, 0);
    for (uint32_t row = 0; row < b->rows; row++) {
        double n = we_state_add_(0, row, 0, 0, 1);
        if (n != n)
            n = 9999; // the event has no key
        we_state_distinct_(1, row, 0, 0, (const char *)&n, sizeof n);
        if (we_valid(b, trap, row) && we_i64(b, trap, row) == 1)
            __builtin_trap();
        we_verdicts(b)[row] = (int32_t)n;
    }
    return 0;
}
