// build: clang @../../../rules-sdk/c/flags -o stain.wasm stain.c
// Tells what an instance remembers. Code 1: nothing but zeros in its memory, and the first event of
// this instance; 2: it evaluated events before; 3: it found a stain. If the integer bad is 1 it
// stains a megabyte and traps; 2: also 16 pages that it grows its memory by; 3: it only stains.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":[{\"path\":\"bad\",\"type\":\"i64\"}]}")

static unsigned char area[1 << 20];
static int events;

static void stain(unsigned char *p, unsigned n) {
    for (unsigned i = 0; i < n; i += 64) p[i] = 0xA5;
}

static int look(const unsigned char *p, unsigned n) {
    for (unsigned i = 0; i < n; i += 64)
        if (p[i]) return 1;
    return 0;
}

WE_EVALUATE(b) {
    const we_column *bad = we_col(b, 0);
    for (uint32_t row = 0; row < b->rows; row++) {
        int64_t how = we_i64(b, bad, row);
        we_verdicts(b)[row] = look(area, sizeof area) ? 3 : events ? 2 : 1;
        events++;
        if (how >= 1 && how <= 3) stain(area, sizeof area);
        if (how == 2) {
            int old = __builtin_wasm_memory_grow(0, 16);
            if (old > 0) stain((unsigned char *)(old * 65536ul), 16 * 65536u);
        }
        if (how == 1 || how == 2) __builtin_trap();
    }
    return 0;
}
