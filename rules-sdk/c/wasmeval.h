// wasmeval.h: all that a rule in C needs, without a C library. ../ABI.md is the contract.
//
//     #include "wasmeval.h"
//     WE_MANIFEST(WE_JSON({"match": ["payment.*"], "fields": [{"path": "amount", "type": "f64"}]}))
//     WE_EVALUATE(b) {
//         const we_column *amount = we_col(b, 0);
//         for (uint32_t row = 0; row < b->rows; row++)
//             we_verdicts(b)[row] = we_valid(b, amount, row) && we_f64(b, amount, row) > 1000;
//         return 0;
//     }
//
// Build:   clang @flags -o rule.wasm rule.c
// Test:    wasmeval_test.h, by the machine's own compiler
//
// Include it in one source file of a rule: it defines wasmeval_abi and wasmeval_input. Names that
// end in _ are its own. The server owns the batch's memory. Every pointer into it ends with the
// call of WE_EVALUATE, and one into the parameters with the call of WE_CONFIGURE. Calls of an
// instance never overlap.
#ifndef WASMEVAL_H
#define WASMEVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef WASMEVAL_NATIVE // for tests: wasmeval_test.h is the server
#define WE_EXPORT(name)
#define WE_IMPORT(name)
#else
#define WE_EXPORT(name) __attribute__((export_name(#name)))
#define WE_IMPORT(name) __attribute__((import_module("wasmeval"), import_name(#name)))
#endif

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

// we_lit makes a we_text of a string literal.
#define we_lit(s) ((we_text){s, sizeof(s) - 1})

// What a rule exports ------------------------------------------------------------------------

// WE_JSON makes a string literal of JSON as it stands: of its white space one space is left.
#define WE_JSON(...) #__VA_ARGS__

// WE_MANIFEST takes the manifest as a string literal. Columns and states are numbered by their
// place in it; an enum beside it gives them names.
#define WE_MANIFEST(text)                                                                          \
    static const char we_manifest_text_[] = text;                                                  \
    WE_EXPORT(wasmeval_manifest) uint64_t we_manifest_(void) {                                     \
        return (uint64_t)(uintptr_t)we_manifest_text_ << 32 | (sizeof we_manifest_text_ - 1);      \
    }

// WE_EVALUATE begins the function that evaluates the batch; it returns 0, or else fails the batch.
#define WE_EVALUATE(b) WE_EXPORT(wasmeval_evaluate) int32_t we_evaluate_(const we_batch *b)

#ifdef WASMEVAL_NATIVE
static int32_t (*we_configure_)(we_text); // 0 if the rule takes none
#define WE_CONFIGURE_ static int32_t (*we_configure_)(we_text) = we_take_params_;
#else
#define WE_CONFIGURE_                                                                              \
    WE_EXPORT(wasmeval_configure) int32_t we_configure_(const char *ptr, uint32_t len) {           \
        return we_take_params_((we_text){ptr, len});                                               \
    }
#endif

// WE_CONFIGURE begins the function that takes the parameters, a we_text of JSON; it returns 0, or
// else refuses them.
#define WE_CONFIGURE(params)                                                                       \
    static int32_t we_take_params_(we_text params);                                                \
    WE_CONFIGURE_                                                                                  \
    static int32_t we_take_params_(we_text params)

WE_EXPORT(wasmeval_abi) int32_t we_abi_(void) { return 1; }

#ifndef WASMEVAL_NATIVE
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
#endif

// What the server gives ----------------------------------------------------------------------

enum { WE_DEBUG, WE_INFO, WE_WARN, WE_ERROR };

// we_emit attaches a JSON value to the row's verdict: 0, or 1 no such row, 2 outside memory, 3 too
// large, 4 not JSON.
WE_IMPORT(emit) int32_t we_emit(uint32_t row, const char *ptr, uint32_t len);
WE_IMPORT(log) void we_log(int32_t level, const char *ptr, uint32_t len);

// Keyed state --------------------------------------------------------------------------------

// What the server keeps for the row's event key from event to event; ABI.md says how. `state` is
// the place of the state in the manifest. `sub` divides the key further; we_lit("") is the key
// itself. A call that has no answer returns one of these, all below 0.
enum {
    WE_NONE = -1,      // nothing is kept
    WE_NO_KEY = -2,    // the event has no key, and so no state
    WE_NO_STATE = -3,  // no such row, no such state, or one of another kind
    WE_OUTSIDE = -4,   // outside memory
    WE_TOO_LARGE = -5, // a sub above 256 bytes, or a value above what the state takes
};

WE_IMPORT(state_add)
double we_state_add_(uint32_t state, uint32_t row, const char *key, uint32_t len, double amount);
WE_IMPORT(state_distinct)
int32_t we_state_distinct_(uint32_t state, uint32_t row, const char *key, uint32_t len,
                           const char *value, uint32_t value_len);
WE_IMPORT(state_seen)
int64_t we_state_seen_(uint32_t state, uint32_t row, const char *key, uint32_t len);
WE_IMPORT(state_set)
int32_t we_state_set_(uint32_t state, uint32_t row, const char *key, uint32_t len,
                      const void *value, uint32_t value_len);
WE_IMPORT(state_get)
int32_t we_state_get_(uint32_t state, uint32_t row, const char *key, uint32_t len, void *place,
                      uint32_t cap);
WE_IMPORT(state_time)
int64_t we_state_time_(uint32_t state, uint32_t row, const char *key, uint32_t len);
WE_IMPORT(state_delete)
int32_t we_state_delete_(uint32_t state, uint32_t row, const char *key, uint32_t len);

// we_add adds to a counter at the row's time and gives the sum over the window; an amount of 0 only
// asks. It is false if there is no key, or the amount is not finite.
static inline bool we_add(uint32_t state, uint32_t row, we_text sub, double amount, double *sum) {
    *sum = we_state_add_(state, row, sub.ptr, sub.len, amount);
    return *sum == *sum;
}

// we_distinct adds a value to a distinct, and returns how many different ones the window has.
static inline int32_t we_distinct(uint32_t state, uint32_t row, we_text sub, we_text value) {
    return we_state_distinct_(state, row, sub.ptr, sub.len, value.ptr, value.len);
}

// we_seen notes that a key has come: WE_NONE the first time, else when that was, in nanoseconds
// since 1970-01-01 UTC.
static inline int64_t we_seen(uint32_t state, uint32_t row, we_text sub) {
    return we_state_seen_(state, row, sub.ptr, sub.len);
}

// we_set keeps a copy of the bytes in a value, and returns 0.
static inline int32_t we_set(uint32_t state, uint32_t row, we_text sub, const void *value,
                             uint32_t len) {
    return we_state_set_(state, row, sub.ptr, sub.len, value, len);
}

// we_get copies the bytes of a value to a place, as many as fit, and returns how many there are.
static inline int32_t we_get(uint32_t state, uint32_t row, we_text sub, void *place, uint32_t cap) {
    return we_state_get_(state, row, sub.ptr, sub.len, place, cap);
}

// we_set_at gives when a value was set, in nanoseconds since 1970-01-01 UTC.
static inline int64_t we_set_at(uint32_t state, uint32_t row, we_text sub) {
    return we_state_time_(state, row, sub.ptr, sub.len);
}

// we_forget forgets what a state of any kind has: 0, or WE_NONE if that was nothing.
static inline int32_t we_forget(uint32_t state, uint32_t row, we_text sub) {
    return we_state_delete_(state, row, sub.ptr, sub.len);
}

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

// we_f64s and we_i64s give the whole column, double[rows] and int64_t[rows]: a loop over those and
// we_verdicts is what a compiler makes fastest, with vectors under -msimd128.
static inline const double *we_f64s(const we_batch *b, const we_column *c) {
    return (const double *)we_at(b, c->values);
}

static inline const int64_t *we_i64s(const we_batch *b, const we_column *c) {
    return (const int64_t *)we_at(b, c->values);
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

static inline uint32_t we_hex4_(const char *p) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < 4; i++)
        n = n << 4 | (uint32_t)(p[i] <= '9' ? p[i] - '0' : (p[i] | 32) - 'a' + 10);
    return n;
}

// we_utf8_ writes a code point as UTF-8 and gives its length. Half of a surrogate pair is U+FFFD.
static inline uint32_t we_utf8_(uint32_t c, uint8_t *out) {
    uint32_t more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    if (c >= 0xd800 && c < 0xe000) c = 0xfffd;
    for (uint32_t i = more; i > 0; i--, c >>= 6) out[i] = 0x80 | (c & 0x3f);
    out[0] = (uint8_t)(more ? (0xff00 >> (more + 1) & 0xff) | c : c);
    return more + 1;
}

// we_unescape_ reads the escape at p, of which left bytes are there, writes what it stands for and
// gives its length in the text.
static inline uint32_t we_unescape_(const char *p, uint32_t left, uint8_t *out, uint32_t *n) {
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    if (p[1] == 'u' && left >= 6) {
        uint32_t c = we_hex4_(p + 2), used = 6;
        if (c >> 10 == 0x36 && left >= 12 && p[6] == '\\' && p[7] == 'u') {
            uint32_t d = we_hex4_(p + 8);
            if (d >> 10 == 0x37) c = 0x10000 + ((c & 0x3ff) << 10 | (d & 0x3ff)), used = 12;
        }
        *n = we_utf8_(c, out);
        return used;
    }
    *n = 1;
    out[0] = (uint8_t)p[1];
    for (uint32_t i = 0; i < 5; i++)
        if (p[1] == from[i]) out[0] = (uint8_t)to[i];
    return 2;
}

// we_param_utf8 copies the string into a buffer of the rule. It is false if it does not fit.
static inline bool we_param_utf8(we_text params, const char *name, char *buf, uint32_t cap,
                                 we_text *out) {
    we_text v = we_param(params, name);
    uint32_t len = 0;
    if (v.len < 2 || v.ptr[0] != '"') return false;
    for (uint32_t i = 1; i < v.len - 1;) {
        uint8_t c[4] = {(uint8_t)v.ptr[i]};
        uint32_t n = 1;
        i += c[0] == '\\' ? we_unescape_(v.ptr + i, v.len - 1 - i, c, &n) : 1;
        if (n > cap - len) return false;
        for (uint32_t k = 0; k < n; k++) buf[len++] = (char)c[k];
    }
    *out = (we_text){buf, len};
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

// we_put_raw writes text as it stands, without a comma.
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

// we_key takes a string literal.
#define we_key(j, k) (we_put_str(j, we_lit(k)), we_put_byte(j, ':'), (void)((j)->comma = false))

static inline void we_put_digits(we_json *j, uint64_t n) {
    char d[20];
    uint32_t k = 20;
    do d[--k] = (char)('0' + n % 10), n /= 10;
    while (n);
    we_put_raw(j, (we_text){d + k, 20 - k});
}

static inline void we_put_i64(we_json *j, int64_t n) {
    we_next(j);
    if (n < 0) we_put_byte(j, '-');
    we_put_digits(j, n < 0 ? -(uint64_t)n : (uint64_t)n);
}

// we_put_json writes a value that is JSON already, such as one of a json column.
static inline void we_put_json(we_json *j, we_text t) {
    we_next(j);
    we_put_raw(j, t);
}

static inline void we_put_bool(we_json *j, bool v) {
    we_next(j);
    we_put_raw(j, v ? we_lit("true") : we_lit("false"));
}

static inline void we_put_null(we_json *j) {
    we_next(j);
    we_put_raw(j, we_lit("null"));
}

// we_big_ is a natural number, of which only limb[0] to limb[n-1] are set; 1,280 bits are enough
// for what we_scaled_ does.
typedef struct {
    uint32_t limb[40], n;
} we_big_;

static inline void we_times_(we_big_ *b, uint32_t by) {
    uint64_t carry = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        carry += (uint64_t)b->limb[i] * by;
        b->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry) b->limb[b->n++] = (uint32_t)carry;
}

static inline void we_over_(we_big_ *b, uint32_t by) {
    uint64_t rest = 0;
    for (uint32_t i = b->n; i-- > 0;) {
        rest = rest << 32 | b->limb[i];
        b->limb[i] = (uint32_t)(rest / by);
        rest %= by;
    }
    while (b->n > 2 && b->limb[b->n - 1] == 0) b->n--;
}

// we_scaled_ gives m * 2^e / 10^x, rounded down, which must be below 2^64.
static inline uint64_t we_scaled_(uint64_t m, int32_t e, int32_t x) {
    we_big_ b = {.n = 2};
    b.limb[0] = (uint32_t)m;
    b.limb[1] = (uint32_t)(m >> 32);
    for (; x <= -9; x += 9) we_times_(&b, 1000000000);
    for (; x < 0; x++) we_times_(&b, 10);
    for (; e >= 30; e -= 30) we_times_(&b, 1u << 30);
    if (e > 0) we_times_(&b, 1u << e);
    for (; e <= -30; e += 30) we_over_(&b, 1u << 30);
    if (e < 0) we_over_(&b, 1u << -e);
    for (; x >= 9; x -= 9) we_over_(&b, 1000000000);
    for (; x > 0; x--) we_over_(&b, 10);
    return (uint64_t)b.limb[1] << 32 | b.limb[0];
}

// we_shortest_ gives the fewest digits that are read as f again (f > 0), which are digits * 10^exp.
static inline uint64_t we_shortest_(double f, int32_t *exp) {
    // Most numbers have few decimals. Both n and p are exact here, so n / p is what n and a point
    // at that place are read as; with 16 digits there would be several such n.
    double p = 1;
    for (*exp = 0; *exp > -22 && f * p < (p > 1 ? 1e15 : 0x1p53); p *= 10, --*exp) {
        uint64_t n = (uint64_t)(f * p + 0.5);
        if ((double)n / p == f) return n;
    }
    // Else the one with the fewest digits that is nearer to f than to its neighbours. 18 or 19
    // digits of all three are compared, which are enough for 17 digits always to be in between.
    uint64_t bits, one = 1;
    __builtin_memcpy(&bits, &f, 8);
    int32_t e = (int32_t)(bits >> 52);
    uint64_t m = bits & ((one << 52) - 1);
    if (e > 0) m |= one << 52, e--;
    e -= 1074;
    int32_t x = ((e + 64 - __builtin_clzll(m)) * 1233 >> 12) - 18; // 1233 / 4096 is the log of 2
    bool nearer = m == one << 52 && e > -1074; // the lower neighbour of a power of two is
    uint64_t low = nearer ? we_scaled_(4 * m - 1, e - 2, x) : we_scaled_(2 * m - 1, e - 1, x);
    uint64_t mid = we_scaled_(m, e, x), high = we_scaled_(2 * m + 1, e - 1, x);
    uint64_t unit = 1000000000000000000, n;
    for (*exp = x + 18;; unit /= 10, --*exp) {
        n = (mid + unit / 2) / unit;
        if (unit == 10 || (n * unit > low && n * unit < high)) break;
    }
    for (; n % 10 == 0; ++*exp) n /= 10;
    return n;
}

// we_put_f64 writes the fewest digits that are read as f again; one number in some thousand gets a
// digit more. What is not a finite number is null.
static inline void we_put_f64(we_json *j, double f) {
    char d[20];
    int32_t exp = 0, k = 20, point;
    if (f - f != 0) {
        we_put_null(j);
        return;
    }
    we_next(j);
    if (f < 0) we_put_byte(j, '-');
    uint64_t n = f == 0 ? 0 : we_shortest_(f < 0 ? -f : f, &exp);
    do d[--k] = (char)('0' + n % 10), n /= 10;
    while (n);
    point = 20 - k + exp; // where the point stands in the digits
    if (point > 21 || point < -5) {
        exp = point - 1;
        point = 1;
    } else {
        exp = 0;
    }
    if (point <= 0) we_put_raw(j, (we_text){"0.00000", (uint32_t)(2 - point)});
    for (int32_t i = 0; i < 20 - k || i < point; i++) {
        if (i == point && i > 0) we_put_byte(j, '.');
        we_put_byte(j, i < 20 - k ? d[k + i] : '0');
    }
    if (exp) {
        we_put_byte(j, 'e');
        if (exp < 0) we_put_byte(j, '-');
        we_put_digits(j, (uint64_t)(exp < 0 ? -exp : exp));
    }
}

// we_emit_json emits what was written, or gives 3 if it did not fit.
static inline int32_t we_emit_json(uint32_t row, const we_json *j) {
    return j->full ? 3 : we_emit(row, j->buf, j->len);
}

#endif
