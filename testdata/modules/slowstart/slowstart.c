// build: clang @../../../rules-sdk/c/flags -o slowstart.wasm slowstart.c
// Takes some milliseconds to become ready. Never matches.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"match\":[\"*\"]}")

WE_EXPORT(_initialize) void start(void) {
    for (volatile uint32_t i = 0; i < 1000000; i++) {}
}

WE_EVALUATE(b) {
    (void)b;
    return 0;
}
