// build: clang @../../../rules-sdk/c/flags -o params.wasm params.c
// Code 1 and the parameters as payload: as they came, and as read. Refuses i = 13.
#include "../../../rules-sdk/c/wasmeval.h"

WE_MANIFEST("{\"match\":[\"*\"],\"params\":["
            "{\"name\":\"f\",\"type\":\"f64\",\"default\":1.5},"
            "{\"name\":\"i\",\"type\":\"i64\",\"default\":7},"
            "{\"name\":\"b\",\"type\":\"bool\",\"default\":true},"
            "{\"name\":\"s\",\"type\":\"utf8\",\"default\":\"text\"}]}")

static char buf[1 << 16];
static we_json j = {.buf = buf, .cap = sizeof buf};

WE_CONFIGURE(params) {
    static char s[1 << 14];
    double f;
    int64_t i;
    bool b;
    we_text text;
    if (!we_param_f64(params, "f", &f) || !we_param_i64(params, "i", &i) ||
        !we_param_bool(params, "b", &b) || !we_param_utf8(params, "s", s, sizeof s, &text))
        return 1;
    if (i == 13) {
        we_log(WE_INFO, "reading", 7);
        we_log(WE_ERROR, "i is 13: expected luck", 22);
        return 2;
    }
    we_open(&j, '{');
    we_key(&j, "raw");
    we_put_raw(&j, params);
    j.comma = true;
    we_key(&j, "f");
    we_put_f64(&j, f);
    we_key(&j, "i");
    we_put_i64(&j, i);
    we_key(&j, "b");
    we_put_bool(&j, b);
    we_key(&j, "s");
    we_put_str(&j, text);
    we_close(&j, '}');
    return 0;
}

WE_EVALUATE(b) {
    for (uint32_t row = 0; row < b->rows; row++) we_verdicts(b)[row] = 1 + we_emit_json(row, &j);
    return 0;
}
