// build: clang @../flags -o conformance.wasm conformance.c
//
// The rule that ../../conformance/README.md describes.
#include "../wasmeval.h"

WE_MANIFEST(WE_JSON({
    "description": "conformance of an SDK",
    "match": ["conf.*", "exact"],
    "fields": [
        {"path": "op", "type": "utf8"},
        {"path": "f", "type": "f64"},
        {"path": "i", "type": "i64"},
        {"path": "b", "type": "bool"},
        {"path": "s", "type": "utf8"},
        {"path": "j", "type": "json"},
        {"path": "$", "type": "json"},
        {"path": "@key", "type": "utf8"},
        {"path": "@type", "type": "utf8"},
        {"path": "@time", "type": "i64"},
        {"path": "items[0].price", "type": "f64"}
    ],
    "params": [
        {"name": "limit", "type": "f64", "default": 10},
        {"name": "count", "type": "i64", "default": 3},
        {"name": "strict", "type": "bool", "default": false},
        {"name": "label", "type": "utf8", "default": "a \"b\"\n\u00e9"}
    ],
    "state": [
        {"name": "tumbling", "kind": "counter", "window_ms": 60000},
        {"name": "sliding", "kind": "counter", "window_ms": 60000, "buckets": 60},
        {"name": "cards", "kind": "distinct", "window_ms": 600000, "limit": 4},
        {"name": "last", "kind": "value", "bytes": 32, "ttl_ms": 60000},
        {"name": "known", "kind": "seen"}
    ]
}))

enum { OP, F, I, B, S, J, WHOLE, KEY, TYPE, TIME, PRICE };
enum { TUMBLING, SLIDING, CARDS, LAST, KNOWN };

static struct { double limit; int64_t count; bool strict; we_text label; } params;
static char label[256], buf[32768];

WE_CONFIGURE(text) {
    return !we_param_f64(text, "limit", &params.limit) ||
           !we_param_i64(text, "count", &params.count) ||
           !we_param_bool(text, "strict", &params.strict) ||
           !we_param_utf8(text, "label", label, sizeof label, &params.label);
}

static bool is(we_text t, const char *name) {
    uint32_t n = 0;
    while (n < t.len && name[n] && name[n] == t.ptr[n]) n++;
    return n == t.len && !name[n];
}

static int32_t validity(const we_batch *b, uint32_t row) {
    static const uint8_t columns[] = {F, I, B, S, J, PRICE, KEY, TYPE, TIME};
    int32_t code = 1024;
    for (uint32_t n = 0; n < sizeof columns; n++)
        if (we_valid(b, we_col(b, columns[n]), row)) code |= 1 << n;
    return code;
}

static volatile int32_t depth;

static __attribute__((noinline)) int32_t deep(int32_t n) {
    depth = n;
    return depth < 0 ? 0 : deep(n + 1) + depth; // it never is
}

static void echo(const we_batch *b, uint32_t row) {
    const we_column *f = we_col(b, F), *i = we_col(b, I), *t = we_col(b, B), *s = we_col(b, S);
    const we_column *json = we_col(b, J), *key = we_col(b, KEY), *type = we_col(b, TYPE);
    we_json j = {.buf = buf, .cap = sizeof buf};
    we_open(&j, '{');
    if (we_valid(b, f, row)) we_key(&j, "f"), we_put_f64(&j, we_f64(b, f, row));
    if (we_valid(b, i, row)) we_key(&j, "i"), we_put_i64(&j, we_i64(b, i, row));
    if (we_valid(b, t, row)) we_key(&j, "b"), we_put_bool(&j, we_bool(b, t, row));
    if (we_valid(b, s, row)) we_key(&j, "s"), we_put_str(&j, we_str(b, s, row));
    if (we_valid(b, json, row)) we_key(&j, "j"), we_put_json(&j, we_str(b, json, row));
    if (we_valid(b, key, row)) we_key(&j, "key"), we_put_str(&j, we_str(b, key, row));
    if (we_valid(b, type, row)) we_key(&j, "type"), we_put_str(&j, we_str(b, type, row));
    we_close(&j, '}');
    we_emit_json(row, &j);
}

static void emit_params(uint32_t row) {
    we_json j = {.buf = buf, .cap = sizeof buf};
    we_open(&j, '{');
    we_key(&j, "limit");
    we_put_f64(&j, params.limit);
    we_key(&j, "count");
    we_put_i64(&j, params.count);
    we_key(&j, "strict");
    we_put_bool(&j, params.strict);
    we_key(&j, "label");
    we_put_str(&j, params.label);
    we_close(&j, '}');
    we_emit_json(row, &j);
}

static void emit_i64(uint32_t row, we_text key, int64_t n) {
    we_json j = {.buf = buf, .cap = sizeof buf};
    we_open(&j, '{');
    we_put_str(&j, key);
    we_put_byte(&j, ':');
    j.comma = false;
    we_put_i64(&j, n);
    we_close(&j, '}');
    we_emit_json(row, &j);
}

// payloads does what emits or logs; -1 is something else.
static int32_t payloads(const we_batch *b, uint32_t row, we_text op) {
    if (is(op, "echo")) {
        echo(b, row);
    } else if (is(op, "raw")) {
        we_text t = we_str(b, we_col(b, WHOLE), row);
        we_emit(row, t.ptr, t.len);
    } else if (is(op, "params")) {
        emit_params(row);
    } else if (is(op, "twice")) {
        emit_i64(row, we_lit("n"), 1);
        emit_i64(row, we_lit("n"), 2);
    } else if (is(op, "unmatched")) {
        emit_i64(row, we_lit("n"), 1);
        return 0;
    } else if (is(op, "emit-row")) {
        return 100 + we_emit(65535, "1", 1);
    } else if (is(op, "emit-bad")) {
        return 100 + we_emit(row, "{", 1);
    } else if (is(op, "emit-large")) {
        for (uint32_t i = 0; i < 20000; i++) buf[i] = 'x';
        buf[0] = buf[19999] = '"';
        return 100 + we_emit(row, buf, 20000);
    } else if (is(op, "log")) {
        we_log(WE_DEBUG, "d", 1);
        we_log(WE_INFO, "i", 1);
        we_log(WE_WARN, "w", 1);
        we_log(WE_ERROR, "e", 1);
    } else {
        return -1;
    }
    return 1;
}

static int32_t seen(uint32_t row) {
    int64_t first = we_seen(KNOWN, row, we_lit(""));
    if (first >= 0) emit_i64(row, we_lit("first"), first);
    return first >= 0 ? 2 : first == WE_NONE ? 1 : 9;
}

static int32_t get(uint32_t row) {
    char place[32];
    int32_t n = we_get(LAST, row, we_lit(""), place, sizeof place);
    if (n < 0) return 2;
    we_json j = {.buf = buf, .cap = sizeof buf};
    we_open(&j, '{');
    we_key(&j, "v");
    we_put_str(&j, (we_text){place, (uint32_t)n});
    we_close(&j, '}');
    we_emit_json(row, &j);
    return 1;
}

// states does what needs keyed state; 0 is something else.
static int32_t states(const we_batch *b, uint32_t row, we_text op) {
    we_text s = we_str(b, we_col(b, S), row), none = we_lit("");
    double sum;
    if (is(op, "count")) return we_add(TUMBLING, row, none, 1, &sum) ? (int32_t)sum : 9;
    if (is(op, "sub")) return we_add(TUMBLING, row, s, 1, &sum) ? (int32_t)sum : 9;
    if (is(op, "slide"))
        return we_add(SLIDING, row, none, we_f64(b, we_col(b, F), row), &sum) ? (int32_t)sum : 9;
    if (is(op, "trap-after-count")) {
        we_add(TUMBLING, row, none, 1, &sum);
        __builtin_trap();
    }
    if (is(op, "distinct")) {
        int32_t n = we_distinct(CARDS, row, none, s);
        return n < 0 ? 9 : n;
    }
    if (is(op, "seen")) return seen(row);
    if (is(op, "set")) {
        int32_t code = we_set(LAST, row, none, s.ptr, s.len);
        return code == 0 ? 1 : code == WE_TOO_LARGE ? 5 : 9;
    }
    if (is(op, "get")) return get(row);
    if (is(op, "age")) {
        int64_t at = we_set_at(LAST, row, none);
        return at < 0 ? 0 : (int32_t)((we_i64(b, we_col(b, TIME), row) - at) / 1000000000) + 1;
    }
    if (is(op, "delete")) return we_forget(LAST, row, none) == 0 ? 1 : 2;
    return 0;
}

static int32_t each(const we_batch *b, uint32_t row) {
    we_text op = we_str(b, we_col(b, OP), row);
    const we_column *f = we_col(b, F), *i = we_col(b, I);
    if (is(op, "code")) return we_valid(b, i, row) ? (int32_t)we_i64(b, i, row) : 1;
    if (is(op, "valid")) return validity(b, row);
    if (is(op, "limit")) return we_valid(b, f, row) && we_f64(b, f, row) > params.limit;
    if (is(op, "text")) return (int32_t)we_str(b, we_col(b, S), row).len + 1;
    if (is(op, "trap")) __builtin_trap();
    if (is(op, "spin"))
        for (;;) depth++;
    if (is(op, "deep")) return deep(1);
    int32_t code = payloads(b, row, op);
    return code >= 0 ? code : states(b, row, op);
}

WE_EVALUATE(b) {
    for (uint32_t row = 0; row < b->rows; row++) we_verdicts(b)[row] = each(b, row);
    return 0;
}
