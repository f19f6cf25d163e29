// Tests of wasmeval.h and wasmeval_test.h, each by the other; ../test.sh runs them.
#include "../wasmeval.h"

WE_MANIFEST(WE_JSON({
    "match": ["t.*", "exact"],
    "fields": [
        {"path": "op", "type": "utf8"},
        {"path": "f", "type": "f64"},
        {"path": "i", "type": "i64"},
        {"path": "b", "type": "bool"},
        {"path": "s.t[1]", "type": "utf8"},
        {"path": "j", "type": "json"},
        {"path": "@time", "type": "i64"}
    ],
    "params": [
        {"name": "limit", "type": "f64", "default": -1.5e3},
        {"name": "count", "type": "i64", "default": 7},
        {"name": "strict", "type": "bool", "default": true},
        {"name": "label", "type": "utf8", "default": "a \"b\"\n\u00e9\ud83d\ude00\ud83dx"}
    ],
    "state": [
        {"name": "tumbling", "kind": "counter", "window_ms": 60000},
        {"name": "sliding", "kind": "counter", "window_ms": 60000, "buckets": 6},
        {"name": "cards", "kind": "distinct", "window_ms": 10000, "limit": 3},
        {"name": "known", "kind": "seen", "ttl_ms": 5000},
        {"name": "last", "kind": "value", "bytes": 4, "ttl_ms": 5000},
        {"name": "came", "kind": "value", "bytes": 1, "time": "arrival"}
    ]
}))

enum { OP, F, I, B, S, J, TIME };
enum { TUMBLING, SLIDING, CARDS, KNOWN, LAST, CAME };

static struct { double limit; int64_t count; bool strict; we_text label; } params;
static char label[64], buf[1024];

WE_CONFIGURE(text) {
    return !we_param_f64(text, "limit", &params.limit) ||
           !we_param_i64(text, "count", &params.count) ||
           !we_param_bool(text, "strict", &params.strict) ||
           !we_param_utf8(text, "label", label, sizeof label, &params.label);
}

static void put_row(we_json *j, const we_batch *b, uint32_t row) {
    we_open(j, '{');
    if (we_valid(b, we_col(b, F), row)) we_key(j, "f"), we_put_f64(j, we_f64(b, we_col(b, F), row));
    if (we_valid(b, we_col(b, I), row)) we_key(j, "i"), we_put_i64(j, we_i64(b, we_col(b, I), row));
    if (we_valid(b, we_col(b, B), row)) we_key(j, "b"), we_put_bool(j, we_bool(b, we_col(b, B), row));
    if (we_valid(b, we_col(b, S), row)) we_key(j, "s"), we_put_str(j, we_str(b, we_col(b, S), row));
    if (we_valid(b, we_col(b, J), row)) {
        we_key(j, "j");
        we_put_json(j, we_str(b, we_col(b, J), row));
    }
    if (we_valid(b, we_col(b, TIME), row)) {
        we_key(j, "time");
        we_put_i64(j, we_i64(b, we_col(b, TIME), row));
    }
    we_close(j, '}');
}

static void put_params(we_json *j) {
    we_open(j, '[');
    we_put_f64(j, params.limit);
    we_put_i64(j, params.count);
    we_put_bool(j, params.strict);
    we_put_str(j, params.label);
    we_put_null(j);
    we_close(j, ']');
}

static void put_state(we_json *j, const we_batch *b, uint32_t row) {
    we_text s = we_str(b, we_col(b, S), row);
    double f = we_f64(b, we_col(b, F), row), sum;
    char place[8];
    switch (we_str(b, we_col(b, OP), row).ptr[0]) {
    case 't': we_put_f64(j, we_add(TUMBLING, row, s, f, &sum) ? sum : -1); break;
    case 'l': we_put_f64(j, we_add(SLIDING, row, s, f, &sum) ? sum : -1); break;
    case 'd': we_put_i64(j, we_distinct(CARDS, row, we_lit(""), s)); break;
    case 'k': we_put_i64(j, we_seen(KNOWN, row, s)); break;
    case 's': we_put_i64(j, we_set(LAST, row, we_lit(""), s.ptr, s.len)); break;
    case 'g': we_put_i64(j, we_get(LAST, row, we_lit(""), place, sizeof place)); break;
    case 'a': we_put_i64(j, we_set_at(LAST, row, we_lit(""))); break;
    case 'f': we_put_i64(j, we_forget(LAST, row, we_lit(""))); break;
    case 'c':
        we_set(CAME, row, we_lit(""), "x", 1);
        we_put_i64(j, we_set_at(CAME, row, we_lit("")));
        break;
    case 'w': we_put_i64(j, we_seen(LAST, row, s)); break; // of another kind
    default: we_put_i64(j, we_seen(17, row, s));
    }
}

WE_EVALUATE(b) {
    for (uint32_t row = 0; row < b->rows; row++) {
        we_text op = we_str(b, we_col(b, OP), row);
        we_json j = {.buf = buf, .cap = op.len && op.ptr[0] == '-' ? 4 : sizeof buf};
        if (op.len && op.ptr[0] == '!') return 7;
        if (!op.len || op.ptr[0] == '-') put_row(&j, b, row);
        else if (op.ptr[0] == 'p') put_params(&j);
        else put_state(&j, b, row);
        we_verdicts(b)[row] = 1 + we_emit_json(row, &j);
    }
    we_log(WE_INFO, "done", 4);
    return 0;
}

#include "../wasmeval_test.h"

static void columns(void) {
    we_test_begin("{}");
    WE_EXPECT(1, "{\"time\":0}", {"type": "exact", "ts": "1970-01-01T00:00:00Z"});
    WE_EXPECT(0, "", {"type": "exactly"});
    WE_EXPECT(0, "", {"f": 1});
    WE_EXPECT(4, "", {"type": "t.x", "op": "-", "f": 1}); // does not fit
    WE_EXPECT(1,
              "{\"f\":1.5,\"i\":-9223372036854775808,\"b\":true,\"s\":\"\\\"\\u000a\xc3\xa9\","
              "\"j\":{\"a b\":[1,\"c \\\" d\"]},\"time\":1767225600500000000}",
              {"type": "t.x", "f": 1.5, "i": -9223372036854775808, "b": true,
               "s": {"t": [0, "\"\n\u00e9"]}, "j": {"a b": [1, "c \" d"]},
               "ts": "2026-01-01T00:00:00.5Z"});
    WE_EXPECT(1, "{\"b\":false}",
              {"type": "t.x", "f": "1", "i": 1.5, "b": false, "s": {"t": [0]}, "j": null});
    WE_EXPECT(1, "{}", {"type": "t.x", "i": 9223372036854775808, "s": [1], "b": 0});
    WE_CHECK(!strcmp(we_test_log(), "done"));
    for (int i = 0; i < 20; i++) { // beyond one byte of a bitmap
        we_test_add(i % 3 ? WE_JSON({"type": "t.x", "b": true, "s": {"t": ["", "x"]}})
                          : WE_JSON({"type": i % 2 ? "no" : "t.y", "i": 5}));
    }
    WE_CHECK(we_test_run() == 0 && we_test_code(19) == 1);
    WE_CHECK(!strcmp(we_test_payload(13), "{\"b\":true,\"s\":\"x\"}"));
    WE_CHECK(!strcmp(we_test_payload(12), "{\"i\":5}"));
    we_test_add(WE_JSON({"type": "t.x", "op": "!"}));
    WE_CHECK(we_test_run() == 7);
}

static void parameters(void) {
    we_test_begin("{}");
    WE_EXPECT(1, "[-1500,7,true,\"a \\\"b\\\"\\u000a\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbdx\",null]",
              {"type": "t", "op": "p", "type": "exact"});
    we_test_begin(WE_JSON({"count": -9223372036854775808, "strict": false, "label": ""}));
    WE_EXPECT(1, "[-1500,-9223372036854775808,false,\"\",null]", {"type": "exact", "op": "p"});
}

// AT is an event of key k.
#define AT(time, ...) {"type": "t.x", "key": "k", "ts": "1970-01-01T00:" time "Z", __VA_ARGS__}
