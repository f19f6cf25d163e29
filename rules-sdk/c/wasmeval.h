// wasmeval.h: all that a rule in C needs, without a C library. ../ABI.md is the contract.
//
//     #include "wasmeval.h"
//     WE_MANIFEST("{\"match\":[\"payment.*\"],"
//                 "\"fields\":[{\"path\":\"amount\",\"type\":\"f64\"}]}")
//     WE_EVALUATE(b) {
//         const we_column *amount = we_col(b, 0);
//         for (uint32_t row = 0; row < b->rows; row++)
//             we_verdicts(b)[row] = we_valid(b, amount, row) && we_f64(b, amount, row) > 1000;
//         return 0;
//     }
//
// Build:   clang @flags -o rule.wasm rule.c
// Include it in one source file of a rule: it defines wasmeval_abi and wasmeval_input.
// The server owns the batch's memory. Every pointer into it ends with the call of WE_EVALUATE, and
// one into the parameters with the call of WE_CONFIGURE. Calls of an instance never overlap.
// Limits: numbers in payloads have six decimals; parameters' numbers are read to 19 digits.
#ifndef WASMEVAL_H
#define WASMEVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WE_EXPORT(name) __attribute__((export_name(#name)))
#define WE_IMPORT(module, name) __attribute__((import_module(module), import_name(name)))

typedef struct {
    uint32_t abi, rows, columns, verdicts; // verdicts and times are offsets from the batch
    int64_t time;
    uint32_t times, size;
    uint64_t reserved;
} we_batch;

enum { WE_F64 = 1, WE_I64, WE_BOOL, WE_UTF8, WE_JSON };

typedef struct {
    uint32_t type, nulls;
    uint32_t validity, values, data, data_len; // all but data_len are offsets from the batch
    uint64_t reserved;
} we_column;

_Static_assert(sizeof(we_batch) == 40 && sizeof(we_column) == 32, "the layout of ABI.md");

// we_text is bytes in place: UTF-8 with no zero at the end.
typedef struct {
    const char *ptr;
    uint32_t len;
} we_text;

// What a rule exports ------------------------------------------------------------------------

// WE_MANIFEST takes the manifest as a string literal.
#define WE_MANIFEST(text)                                                                          \
    WE_EXPORT(wasmeval_manifest) uint64_t we_manifest_(void) {                                     \
        static const char manifest[] = text;                                                       \
        return (uint64_t)(uintptr_t)manifest << 32 | (sizeof manifest - 1);                        \
    }

// WE_EVALUATE begins the function that evaluates the batch; it returns 0, or else fails the batch.
#define WE_EVALUATE(b) WE_EXPORT(wasmeval_evaluate) int32_t we_evaluate_(const we_batch *b)

// WE_CONFIGURE begins the function that takes the parameters, a we_text of JSON; it returns 0, or
// else refuses them.
#define WE_CONFIGURE(params)                                                                       \
    static int32_t we_take_params_(we_text params);                                                \
    WE_EXPORT(wasmeval_configure) int32_t we_configure_(const char *ptr, uint32_t len) {           \
        return we_take_params_((we_text){ptr, len});                                               \
    }                                                                                              \
    static int32_t we_take_params_(we_text params)

WE_EXPORT(wasmeval_abi) int32_t we_abi_(void) { return 1; }

// The input is all memory behind the program's own data; it grows with the batches.
WE_EXPORT(wasmeval_input) uint32_t we_input_(uint32_t size) {
    extern unsigned char __heap_base;
    uint32_t base = ((uint32_t)(uintptr_t)&__heap_base + 7) & ~7u;
    uint64_t need = ((uint64_t)base + size + 65535) >> 16;
    uint64_t have = __builtin_wasm_memory_size(0);
    if (need > have && (need > 65536 || __builtin_wasm_memory_grow(0, need - have) == SIZE_MAX))
        return 0;
    return base;
}

// What the server gives ----------------------------------------------------------------------

enum { WE_DEBUG, WE_INFO, WE_WARN, WE_ERROR };

// we_emit attaches a JSON value to the row's verdict: 0, or 1 no such row, 2 outside memory, 3 too
// large, 4 not JSON.
WE_IMPORT("wasmeval", "emit") int32_t we_emit(uint32_t row, const char *ptr, uint32_t len);
WE_IMPORT("wasmeval", "log") void we_log(int32_t level, const char *ptr, uint32_t len);

// The batch ----------------------------------------------------------------------------------

static inline const void *we_at(const we_batch *b, uint32_t offset) {
    return (const char *)b + offset;
}

// we_verdicts gives i32[rows], all 0 at first.
static inline int32_t *we_verdicts(const we_batch *b) { return (int32_t *)we_at(b, b->verdicts); }

// we_time gives the row's arrival in nanoseconds since 1970-01-01 UTC.
static inline int64_t we_time(const we_batch *b, uint32_t row) {
    return ((const int64_t *)we_at(b, b->times))[row];
}

// we_col gives the column of the manifest's field i.
static inline const we_column *we_col(const we_batch *b, uint32_t i) {
    return (const we_column *)(b + 1) + i;
}

static inline bool we_bit(const we_batch *b, uint32_t bitmap, uint32_t row) {
    return ((const uint8_t *)we_at(b, bitmap))[row >> 3] >> (row & 7) & 1;
}

static inline bool we_valid(const we_batch *b, const we_column *c, uint32_t row) {
    return c->nulls == 0 || we_bit(b, c->validity, row);
}

// The values of a row that is not valid are 0, false and empty.
static inline double we_f64(const we_batch *b, const we_column *c, uint32_t row) {
    return ((const double *)we_at(b, c->values))[row];
}

static inline int64_t we_i64(const we_batch *b, const we_column *c, uint32_t row) {
    return ((const int64_t *)we_at(b, c->values))[row];
}

static inline bool we_bool(const we_batch *b, const we_column *c, uint32_t row) {
    return we_bit(b, c->values, row);
}

// we_str reads utf8 and json.
static inline we_text we_str(const we_batch *b, const we_column *c, uint32_t row) {
    const int32_t *ends = (const int32_t *)we_at(b, c->values);
    return (we_text){(const char *)we_at(b, c->data) + ends[row],
                     (uint32_t)(ends[row + 1] - ends[row])};
}

// Parameters ---------------------------------------------------------------------------------

// we_skip_string gives the index after the string that begins with the quote at i.
static inline uint32_t we_skip_string(we_text t, uint32_t i) {
    for (i++; i < t.len && t.ptr[i] != '"'; i++)
        if (t.ptr[i] == '\\') i++;
    return i < t.len ? i + 1 : t.len;
}

// we_param finds the parameter's value, as JSON text; its length is 0 if there is none. The name
// must need no escape in JSON.
static inline we_text we_param(we_text params, const char *name) {
    uint32_t i = 1; // after '{'
    while (i < params.len && params.ptr[i] == '"') {
        uint32_t key = i + 1, n = 0;
        i = we_skip_string(params, i);
        while (name[n] && key + n + 1 < i && params.ptr[key + n] == name[n]) n++;
        bool found = !name[n] && key + n + 1 == i;
        uint32_t from = ++i; // after ':'
        if (i < params.len && params.ptr[i] == '"') i = we_skip_string(params, i);
        while (i < params.len && params.ptr[i] != ',' && params.ptr[i] != '}') i++;
        if (found && i <= params.len) return (we_text){params.ptr + from, i - from};
        i++;
    }
    return (we_text){0, 0};
}

static inline bool we_param_i64(we_text params, const char *name, int64_t *out) {
    we_text v = we_param(params, name);
    uint32_t i = v.len && v.ptr[0] == '-';
    bool minus = i;
    uint64_t n = 0;
    if (i == v.len) return false;
    for (; i < v.len; i++) {
        if (v.ptr[i] < '0' || v.ptr[i] > '9') return false;
        n = n * 10 + (uint64_t)(v.ptr[i] - '0');
    }
    *out = (int64_t)(minus ? -n : n);
    return true;
}

// we_param_f64 is exact up to 15 digits with a power of ten within 22, and else off by a few units
// in the last place.
static inline bool we_param_f64(we_text params, const char *name, double *out) {
    we_text v = we_param(params, name);
    uint32_t i = v.len && v.ptr[0] == '-';
    bool minus = i, point = false;
    int32_t exp = 0, e = 0, sign = 1;
    uint64_t n = 0;
    if (i == v.len) return false;
    for (; i < v.len && v.ptr[i] != 'e' && v.ptr[i] != 'E'; i++) {
        char c = v.ptr[i];
        if (c == '.' && !point) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9') return false;
        if (n < UINT64_MAX / 10 - 1) {
            n = n * 10 + (uint64_t)(c - '0');
            exp -= point;
        } else {
            exp += !point;
        }
    }
    if (i++ < v.len) {
        if (i < v.len && (v.ptr[i] == '-' || v.ptr[i] == '+')) sign = v.ptr[i++] == '-' ? -1 : 1;
        for (; i < v.len && e < 1000; i++) e = e * 10 + (v.ptr[i] - '0');
    }
    exp += sign * e;
    double scale = 1, f = (double)n;
    for (int32_t k = exp < 0 ? -exp : exp; k > 0 && k < 400; k--) scale *= 10;
    f = exp < 0 ? f / scale : f * scale;
    *out = minus ? -f : f;
    return true;
}

static inline bool we_param_bool(we_text params, const char *name, bool *out) {
    we_text v = we_param(params, name);
    *out = v.len == 4; // true, not false
    return v.len == 4 || v.len == 5;
}

// we_param_utf8 copies the string as it stands in JSON, without its quotes but with its escapes, so
// that it may go into a payload through we_put_raw or be compared. It is false if it does not fit.
static inline bool we_param_utf8(we_text params, const char *name, char *buf, uint32_t cap,
                                 we_text *out) {
    we_text v = we_param(params, name);
    if (v.len < 2 || v.ptr[0] != '"' || v.len - 2 > cap) return false;
    for (uint32_t i = 0; i < v.len - 2; i++) buf[i] = v.ptr[i + 1];
    *out = (we_text){buf, v.len - 2};
    return true;
}

// Payloads -----------------------------------------------------------------------------------

// we_json writes JSON into a buffer of the rule. What does not fit sets full, and is not emitted.
typedef struct {
    char *buf;
    uint32_t cap, len;
    bool comma, full;
} we_json;

static inline void we_put_byte(we_json *j, char c) {
    if (j->len < j->cap) j->buf[j->len++] = c;
    else j->full = true;
}

static inline void we_put_raw(we_json *j, we_text t) {
    if (t.len > j->cap - j->len) {
        j->full = true;
        return;
    }
    __builtin_memcpy(j->buf + j->len, t.ptr, t.len);
    j->len += t.len;
}

// we_next puts the comma before a value or key where one is due.
static inline void we_next(we_json *j) {
    if (j->comma) we_put_byte(j, ',');
    j->comma = true;
}

// we_open takes '{' or '[', we_close '}' or ']'.
static inline void we_open(we_json *j, char c) {
    we_next(j);
    we_put_byte(j, c);
    j->comma = false;
}

static inline void we_close(we_json *j, char c) {
    we_put_byte(j, c);
    j->comma = true;
}

static inline void we_put_str(we_json *j, we_text t) {
    static const char hex[] = "0123456789abcdef";
    we_next(j);
    we_put_byte(j, '"');
    for (uint32_t i = 0; i < t.len; i++) {
        uint8_t c = (uint8_t)t.ptr[i];
        if (c < 0x20) {
            we_put_raw(j, (we_text){"\\u00", 4});
            we_put_byte(j, hex[c >> 4]);
            we_put_byte(j, hex[c & 15]);
            continue;
        }
        if (c == '"' || c == '\\') we_put_byte(j, '\\');
        we_put_byte(j, (char)c);
    }
    we_put_byte(j, '"');
}

// we_lit makes a we_text of a string literal.
#define we_lit(s) ((we_text){s, sizeof(s) - 1})

// we_key takes a string literal.
#define we_key(j, k) (we_put_str(j, we_lit(k)), we_put_byte(j, ':'), (void)((j)->comma = false))

static inline void we_put_digits(we_json *j, uint64_t n, uint32_t least) {
    char d[20];
    uint32_t k = 20;
    do d[--k] = (char)('0' + n % 10), n /= 10;
    while (n || 20 - k < least);
    we_put_raw(j, (we_text){d + k, 20 - k});
}

static inline void we_put_i64(we_json *j, int64_t n) {
    we_next(j);
    if (n < 0) we_put_byte(j, '-');
    we_put_digits(j, n < 0 ? -(uint64_t)n : (uint64_t)n, 1);
}

static inline void we_put_bool(we_json *j, bool v) {
    we_next(j);
    we_put_raw(j, v ? we_lit("true") : we_lit("false"));
}

static inline void we_put_null(we_json *j) {
    we_next(j);
    we_put_raw(j, we_lit("null"));
}

// we_put_f64 writes six decimals, without zeros at the end, and an exponent from 1e12 on. What is
// not a number is null.
static inline void we_put_f64(we_json *j, double f) {
    int32_t exp = 0;
    if (f != f || f - f != 0) {
        we_put_null(j);
        return;
    }
    we_next(j);
    if (f < 0) {
        we_put_byte(j, '-');
        f = -f;
    }
    if (f >= 1e12)
        for (; f >= 10; exp++) f /= 10;
    uint64_t n = (uint64_t)(f * 1e6 + 0.5), frac = n % 1000000;
    we_put_digits(j, n / 1000000, 1);
    if (frac) {
        uint32_t places = 6;
        for (; frac % 10 == 0; places--) frac /= 10;
        we_put_byte(j, '.');
        we_put_digits(j, frac, places);
    }
    if (exp) {
        we_put_byte(j, 'e');
        we_put_digits(j, (uint64_t)exp, 1);
    }
}

// we_emit_json emits what was written, or gives 3 if it did not fit.
static inline int32_t we_emit_json(uint32_t row, const we_json *j) {
    return j->full ? 3 : we_emit(row, j->buf, j->len);
}

#endif
