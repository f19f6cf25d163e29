// build: clang @../../../rules-sdk/c/flags -o wasi.wasm wasi.c
// Code 1 and what WASI gave for the row: two readings of the clock and eight random bytes. Writes a
// line to fd 1 for each row. The same on every fresh instance.
#include "../../../rules-sdk/c/wasmeval.h"

#define WASI(name)                                                                                 \
    __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))

typedef struct {
    const char *ptr;
    uint32_t len;
} iovec;

WASI(clock_time_get) uint32_t clock_time_get(uint32_t clock, int64_t precision, int64_t *ns);
WASI(random_get) uint32_t random_get(void *buf, uint32_t len);
WASI(fd_write) uint32_t fd_write(uint32_t fd, const iovec *io, uint32_t n, uint32_t *written);

WE_MANIFEST("{\"match\":[\"*\"]}")

static char buf[256];
static const char line[] = "one row\n";

WE_EVALUATE(b) {
    for (uint32_t row = 0; row < b->rows; row++) {
        int64_t first = 0, second = 0, random = 0;
        iovec io[2] = {{line, 4}, {line + 4, sizeof line - 5}};
        uint32_t written = 0;
        if (clock_time_get(0, 1, &first) || clock_time_get(0, 1, &second) ||
            random_get(&random, 8) || fd_write(1, io, 2, &written) || written != 8)
            return 1;
        we_json j = {.buf = buf, .cap = sizeof buf};
        we_open(&j, '{');
        we_key(&j, "clock");
        we_open(&j, '[');
        we_put_i64(&j, first);
        we_put_i64(&j, second);
        we_close(&j, ']');
        we_key(&j, "random");
        we_put_i64(&j, random);
        we_close(&j, '}');
        we_verdicts(b)[row] = 1 + we_emit_json(row, &j);
    }
    return 0;
}
