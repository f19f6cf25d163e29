// build: clang @../../../rules-sdk/c/flags -o columns.wasm columns.c
// Code 1 and a payload that tells what every column holds of the row, for tests of the columns.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"fields\":["
            "{\"path\":\"f64\",\"type\":\"f64\"},"
            "{\"path\":\"i64\",\"type\":\"i64\"},"
            "{\"path\":\"bool\",\"type\":\"bool\"},"
            "{\"path\":\"utf8\",\"type\":\"utf8\"},"
            "{\"path\":\"json\",\"type\":\"json\"},"
            "{\"path\":\"@type\",\"type\":\"utf8\"},"
            "{\"path\":\"@id\",\"type\":\"utf8\"},"
            "{\"path\":\"@source\",\"type\":\"utf8\"},"
            "{\"path\":\"@time\",\"type\":\"i64\"},"
            "{\"path\":\"@time\",\"type\":\"utf8\"},"
            "{\"path\":\"@key\",\"type\":\"utf8\"}]}")

static const we_text names[] = {we_lit("f64"),   we_lit("i64"),     we_lit("bool"),
                                we_lit("utf8"),  we_lit("json"),    we_lit("@type"),
                                we_lit("@id"),   we_lit("@source"), we_lit("@time"),
                                we_lit("@time_utf8"), we_lit("@key")};
static char buf[1 << 18];

static void value(we_json *j, const we_batch *b, const we_column *c, uint32_t row) {
    switch (c->type) {
    case WE_F64: {
        double f = we_f64(b, c, row);
        int64_t bits;
        __builtin_memcpy(&bits, &f, 8);
        we_put_f64(j, f);
        we_key(j, "bits"); // exact, as the signed number with the same bits
        we_put_i64(j, bits);
        return;
    }
    case WE_I64: we_put_i64(j, we_i64(b, c, row)); return;
    case WE_BOOL: we_put_bool(j, we_bool(b, c, row)); return;
    case WE_UTF8: we_put_str(j, we_str(b, c, row)); return;
    case WE_JSON: {
        we_text t = we_str(b, c, row);
        if (t.len == 0) {
            we_put_null(j);
            return;
        }
        we_next(j);
        we_put_raw(j, t);
    }
    }
}

static void tell(we_json *j, const we_batch *b, uint32_t row) {
    we_open(j, '{');
    we_key(j, "row");
    we_put_i64(j, row);
    we_key(j, "rows");
    we_put_i64(j, b->rows);
    we_key(j, "time");
    we_put_i64(j, b->time);
    we_key(j, "arrival");
    we_put_i64(j, we_time(b, row));
    for (uint32_t i = 0; i < b->columns; i++) {
        const we_column *c = we_col(b, i);
        we_put_str(j, names[i]);
        we_put_byte(j, ':');
        j->comma = false;
        we_open(j, '{');
        we_key(j, "nulls");
        we_put_i64(j, c->nulls);
        we_key(j, "valid");
        // The bitmap itself, not we_valid, which trusts nulls.
        we_put_bool(j, we_bit(b, c->validity, row));
        we_key(j, "value");
        value(j, b, c, row);
        we_close(j, '}');
    }
    we_close(j, '}');
}

WE_EVALUATE(b) {
    if (b->abi != 1 || b->columns != 11 || b->reserved != 0) return 1;
    for (uint32_t row = 0; row < b->rows; row++) {
        we_json j = {.buf = buf, .cap = sizeof buf};
        tell(&j, b, row);
        we_verdicts(b)[row] = 1 + we_emit_json(row, &j);
    }
    return 0;
}
