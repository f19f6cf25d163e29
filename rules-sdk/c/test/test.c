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
    const we_column *f = we_col(b, F), *i = we_col(b, I), *t = we_col(b, B), *s = we_col(b, S);
    if (we_valid(b, f, row)) we_key(j, "f"), we_put_f64(j, we_f64(b, f, row));
    if (we_valid(b, i, row)) we_key(j, "i"), we_put_i64(j, we_i64(b, i, row));
    if (we_valid(b, t, row)) we_key(j, "b"), we_put_bool(j, we_bool(b, t, row));
    if (we_valid(b, s, row)) we_key(j, "s"), we_put_str(j, we_str(b, s, row));
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
    WE_EXPECT(1, "{\"b\":false,\"time\":1767225600500000001}",
              {"type": "t.x", "f": "1", "i": 1.5, "b": false, "s": {"t": [0]}, "j": null});
    WE_EXPECT(1, "{\"i\":1000,\"time\":2000000000000000000}",
              {"type": "t.x", "i": 1e3, "s": [1], "b": 0, "ts": "2033-05-18T03:33:20Z"});
    WE_EXPECT(1, "{\"time\":2000000000000000001}", {"type": "t.x", "i": 9223372036854775808});
    WE_CHECK(!strcmp(we_test_log(), "done"));
    we_test_begin("{}");
    for (int i = 0; i < 20; i++) { // beyond one byte of a bitmap
        we_test_add(i % 3   ? WE_JSON({"type": "t.x", "b": true, "s": {"t": ["", "x"]}})
                    : i % 2 ? WE_JSON({"type": "not ours", "i": 5})
                            : WE_JSON({"type": "t.y", "i": 5}));
    }
    WE_CHECK(we_test_run() == 0 && we_test_code(19) == 1);
    WE_CHECK(!strcmp(we_test_payload(13), "{\"b\":true,\"s\":\"x\",\"time\":13}"));
    WE_CHECK(!strcmp(we_test_payload(12), "{\"i\":5,\"time\":12}"));
    WE_CHECK(we_test_code(15) == 0 && we_test_code(18) == 1);
    we_test_add(WE_JSON({"type": "t.x", "op": "!"}));
    WE_CHECK(we_test_run() == 7);
}

static void parameters(void) {
    we_test_begin("{}");
    WE_EXPECT(1, "[-1500,7,true,\"a \\\"b\\\"\\u000a\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbdx\",null]",
              {"type": "exact", "op": "p"});
    we_test_begin(WE_JSON({"count": -9223372036854775808, "strict": false, "label": ""}));
    WE_EXPECT(1, "[-1500,-9223372036854775808,false,\"\",null]", {"type": "exact", "op": "p"});
}

// says evaluates an event of key k, at a time of a day in 1970, and compares the payload.
static void says(int line, const char *payload, const char *time, const char *op, const char *text,
                 double f) {
    char event[1024];
    snprintf(event, sizeof event,
             "{\"type\":\"t.x\",\"ts\":\"1970-01-01T%sZ\",\"op\":\"%s\",\"s\":{\"t\":[0,\"%s\"]},"
             "\"f\":%g,\"key\":\"%s\"}", time, op, text, f, *text == '@' ? text + 1 : "k");
    we_test_add(event);
    int32_t failed = we_test_run();
    if (!failed && !strcmp(we_test_payload(0), payload)) return;
    we_test_fault(__FILE__, line, event);
    fprintf(stderr, "    got %s, want %s\n", we_test_payload(0), payload);
}

#define SAYS(payload, time, op, text, f) says(__LINE__, payload, time, op, text, f)

static char long_text[258];

static void counters(void) {
    we_test_begin("{}");
    SAYS("1", "00:00:50", "t", "", 1);
    SAYS("3.5", "00:00:59", "t", "", 2.5);
    SAYS("1", "00:01:00", "t", "", 1);
    SAYS("1", "00:00:55", "t", "", 1); // late
    SAYS("7", "00:01:00", "t", "sub", 7);
    SAYS("9", "00:01:00", "t", "@other", 9);
    SAYS("-1", "00:01:00", "t", "@", 9); // no key
    SAYS("-1", "00:01:00", "t", long_text, 9);
    SAYS("1", "00:00:50", "l", "", 1);
    SAYS("2", "00:01:00", "l", "", 1);
    SAYS("3", "00:00:55", "l", "", 1);
    SAYS("3", "00:01:45", "l", "", 0);
    SAYS("1", "00:01:50", "l", "", 0);
    SAYS("0", "00:03:00", "l", "", 0);
    SAYS("0", "00:01:55", "l", "", 1); // late, since it was asked later
}

static void others(void) {
    we_test_begin("{}");
    SAYS("1", "00:00:00", "d", "a", 0);
    SAYS("1", "00:00:01", "d", "a", 0);
    SAYS("2", "00:00:02", "d", "b", 0);
    SAYS("3", "00:00:03", "d", "c", 0);
    SAYS("3", "00:00:04", "d", "d", 0); // a makes room
    SAYS("2", "00:00:12", "d", "d", 0);
    SAYS("2", "00:00:01", "d", "e", 0); // late
    SAYS("-5", "00:00:12", "d", long_text, 0);
    SAYS("-2", "00:00:12", "d", "@", 0);
    SAYS("-1", "00:00:01", "k", "", 0);
    SAYS("1000000000", "00:00:05.9", "k", "", 0);
    SAYS("-1", "00:00:06", "k", "", 0);
    SAYS("-1", "00:00:06", "k", "sub", 0);
    SAYS("-3", "00:00:06", "w", "", 0);
    SAYS("-3", "00:00:06", "x", "", 0);
    SAYS("-1", "00:00:00", "g", "", 0);
    SAYS("0", "00:00:01", "s", "abcd", 0);
    SAYS("-5", "00:00:02", "s", "abcde", 0);
    SAYS("4", "00:00:05.9", "g", "", 0);
    SAYS("1000000000", "00:00:05.9", "a", "", 0);
    SAYS("-1", "00:00:06", "a", "", 0);
    SAYS("0", "00:00:06", "s", "", 0);
    SAYS("0", "00:00:06", "g", "", 0);
    SAYS("0", "00:00:06", "f", "", 0);
    SAYS("-1", "00:00:06", "f", "", 0);
    SAYS("-1", "00:00:06", "g", "", 0);
    we_test_begin("{}");
    SAYS("12000000000", "00:00:12", "c", "", 0);
    SAYS("12000000001", "00:00:09", "c", "", 0); // arrives after what came before
}

static void numbers(void) {
    static const double zero = 0;
    static const struct { double f; const char *text; } cases[] = {
        {0, "0"}, {-1, "-1"}, {0.1, "0.1"}, {0.1 + 0.2, "0.30000000000000004"},
        {1.0 / 3, "0.3333333333333333"}, {1e20, "100000000000000000000"}, {1e21, "1e21"},
        {1e-6, "0.000001"}, {1e-7, "1e-7"}, {-1.25e-9, "-1.25e-9"}, {12345678.9, "12345678.9"},
        {5e-324, "5e-324"}, {1e300, "1e300"}, {1.7976931348623157e308, "1.7976931348623157e308"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {9007199254740992.0, "9007199254740992"}, {72057594037927940.0, "72057594037927940"},
    };
    uint64_t x = 88172645463325252u;
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        we_json j = {.buf = buf, .cap = sizeof buf};
        we_put_f64(&j, cases[i].f);
        buf[j.len] = 0;
        if (strcmp(buf, cases[i].text)) we_test_fault(__FILE__, __LINE__, buf);
    }
    for (int i = 0; i < 200000; i++) { // what is written is read as the same
        double f;
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        uint64_t bits = i & 1 ? x : (x & ~(0x7ffull << 52)) | (983 + (x >> 58)) << 52;
        if (i % 16 == 3) bits &= ~((1ull << 52) - 1);
        memcpy(&f, &bits, 8);
        we_json j = {.buf = buf, .cap = sizeof buf};
        we_put_f64(&j, f);
        buf[j.len] = 0;
        if (f - f != 0 ? strcmp(buf, "null") : strtod(buf, 0) != f)
            we_test_fault(__FILE__, __LINE__, buf);
    }
    we_json j = {.buf = buf, .cap = sizeof buf};
    we_put_f64(&j, 1 / zero);
    we_put_f64(&j, -1 / zero);
    we_put_f64(&j, zero / zero);
    WE_CHECK(j.len == 14 && !memcmp(buf, "null,null,null", 14));
}

int main(void) {
    memset(long_text, 'x', sizeof long_text - 1);
    columns();
    parameters();
    counters();
    others();
    numbers();
    return we_test_end();
}
