// wasmeval_test.h: the server's part for tests of a rule in C, without a server or WebAssembly.
//
//     #include "rule.c"
//     #include "wasmeval_test.h"
//
//     int main(void) {
//         we_test_begin(WE_JSON({"limit": 50}));
//         WE_EXPECT(0, "", {"type": "payment.made", "key": "u1", "amount": 50});
//         WE_EXPECT(1, "{\"amount\":51}", {"type": "payment.made", "key": "u1", "amount": 51});
//         return we_test_end();
//     }
//
// Build and run: cc -DWASMEVAL_NATIVE -o test test.c && ./test
//
// The envelope is read from the members id, type, source, ts (RFC 3339, UTC) and key. An event that
// the rule's match does not name has code 0. Keyed state goes by the events' ts: a window passes
// when an event says so. An event without ts comes a nanosecond after the one before.
//
// Limits: 256 rows and 1 MiB a batch, 16 KiB a payload; JSON is taken to be valid. A test that
// cannot go on ends with a message.
#ifndef WASMEVAL_TEST_H
#define WASMEVAL_TEST_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WT_ROWS = 256, WT_BATCH = 1 << 20, WT_TEXT = 1 << 14, WT_PARTS = 64, WT_BYTES = 256 };

// wt_event_ is one event, and what the rule said of it.
typedef struct {
    char text[WT_TEXT], key[WT_TEXT];
    uint32_t key_len;
    int64_t time, arrival;
    int32_t code;
    char payload[WT_TEXT + 1];
} wt_event_;

// wt_kept_ is what a state of any kind keeps for one key. A part is a bucket of a counter, a value
// of a distinct, or the value.
typedef struct wt_kept_ {
    struct wt_kept_ *next;
    uint32_t state, key_len, sub_len, parts;
    char key[WT_TEXT], sub[WT_BYTES];
    int64_t at; // newest bucket, newest value, or when it was set
    struct {
        int64_t at;
        double sum;
        uint32_t len;
        char bytes[WT_BYTES];
    } part[WT_PARTS];
} wt_kept_;

// wt_spec_ is a state as the manifest declares it.
typedef struct {
    char kind; // the first letter
    bool arrival;
    int64_t window, buckets, limit, bytes, ttl; // times in nanoseconds
} wt_spec_;

static struct {
    wt_event_ events[WT_ROWS];
    uint32_t n;              // events
    uint32_t event[WT_ROWS]; // of each row of the batch
    uint32_t rows, used;     // rows of the batch, and its bytes
    bool ran;                // the next event begins a new batch
    int64_t now;
    wt_kept_ *kept;
    uint64_t batch[WT_BATCH / 8];
    char log[WT_TEXT + 1];
    int failures;
} wt_;

static inline wt_event_ *wt_of_(uint32_t row) { return &wt_.events[wt_.event[row]]; }

static inline void wt_stop_(const char *what, const char *of) {
    fprintf(stderr, "%s: %s\n", what, of);
    exit(2);
}

// JSON ---------------------------------------------------------------------------------------

static inline const char *wt_space_(const char *p) {
    while (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r') p++;
    return p;
}

// wt_skip_ gives what comes after the value at p.
static inline const char *wt_skip_(const char *p) {
    int depth = 0;
    do {
        p = wt_space_(p);
        if (*p == '"') {
            for (p++; *p && *p != '"'; p++)
                if (*p == '\\' && p[1]) p++;
            p += *p != 0;
        } else if (*p == '{' || *p == '[') {
            depth++, p++;
        } else if (*p == '}' || *p == ']') {
            depth--, p++;
        } else if (*p == ',' || *p == ':') {
            p++;
        } else {
            p += strcspn(p, ",:]} \n\t\r");
        }
    } while (depth > 0 && *p);
    return p;
}

// wt_item_ gives item i of the array at p, and wt_member_ a member of the object there, or 0.
static inline const char *wt_item_(const char *p, int i) {
    if (!p || *p != '[') return 0;
    for (p = wt_space_(p + 1); *p && *p != ']'; p = wt_space_(p + 1)) {
        if (i-- == 0) return p;
        p = wt_space_(wt_skip_(p));
        if (*p != ',') break;
    }
    return 0;
}

static inline const char *wt_member_(const char *p, const char *name, size_t len) {
    if (!p || *p != '{') return 0;
    for (p = wt_space_(p + 1); *p == '"'; p = wt_space_(p + 1)) {
        const char *key = p + 1, *end = wt_skip_(p);
        const char *value = wt_space_(wt_space_(end) + 1);
        if ((size_t)(end - key) == len + 1 && !memcmp(key, name, len)) return value;
        p = wt_space_(wt_skip_(value));
        if (*p != ',') break;
    }
    return 0;
}

static inline const char *wt_get_(const char *p, const char *name) {
    return wt_member_(p, name, strlen(name));
}

// wt_path_ gives the value at a path of the manifest, or 0 where that is missing or null.
static inline const char *wt_path_(const char *event, const char *path) {
    const char *v = wt_space_(event);
    if (!strcmp(path, "@time")) path = "ts";
    if (!strcmp(path, "$")) return v;
    for (path += *path == '@'; *path && v;) {
        size_t n = strcspn(path, ".[");
        if (*path == '[') {
            v = wt_item_(v, (int)strtol(path + 1, (char **)&path, 10));
            path++;
        } else {
            v = wt_member_(v, path, n);
            path += n;
        }
        path += *path == '.';
    }
    return v && *v != 'n' ? v : 0;
}

// wt_string_ reads the string at p into a place and gives its length.
static inline uint32_t wt_string_(const char *p, char *place, uint32_t cap) {
    const char *end = wt_skip_(p) - 1;
    uint32_t len = 0;
    for (p++; p < end;) {
        uint8_t c[4] = {(uint8_t)*p};
        uint32_t n = 1;
        p += *p == '\\' ? we_unescape_(p, (uint32_t)(end - p), c, &n) : 1;
        if (len + n >= cap) wt_stop_("a text is too long", p);
        memcpy(place + len, c, n);
        len += n;
    }
    place[len] = 0;
    return len;
}

// wt_compact_ copies the value at p without the white space between its tokens.
static inline uint32_t wt_compact_(const char *p, char *place) {
    const char *end = wt_skip_(p);
    uint32_t len = 0;
    for (bool quoted = false; p < end; p++) {
        if (*p == '"') quoted = !quoted;
        if (!quoted && wt_space_(p) != p) continue;
        place[len++] = *p;
        if (quoted && *p == '\\') place[len++] = *++p;
    }
    return len;
}

static inline int64_t wt_number_(const char *p, int64_t otherwise) {
    return p ? strtoll(p, 0, 10) : otherwise;
}

// wt_time_ reads RFC 3339 in UTC, as nanoseconds since 1970.
static inline int64_t wt_time_(const char *p) {
    int y, mo, d, h, mi, n = 0;
    int64_t s, ns = 0, unit = 100000000;
    int sec;
    if (sscanf(p, "\"%4d-%2d-%2dT%2d:%2d:%2d%n", &y, &mo, &d, &h, &mi, &sec, &n) != 6 || !n)
        wt_stop_("expected a time such as 2026-01-01T00:00:00Z", p);
    if (p[n] == '.')
        for (n++; p[n] >= '0' && p[n] <= '9'; n++, unit /= 10) ns += (p[n] - '0') * unit;
    if (p[n] != 'Z') wt_stop_("expected a time that ends in Z", p);
    y -= mo <= 2; // so that a year begins in March, and a leap day is its last
    s = (int64_t)y * 365 + y / 4 - y / 100 + y / 400 + (153 * (mo > 2 ? mo - 3 : mo + 9) + 2) / 5 +
        d - 1 - 719468;
    return (((s * 24 + h) * 60 + mi) * 60 + sec) * 1000000000 + ns;
}

// State --------------------------------------------------------------------------------------

static inline wt_spec_ wt_spec_of_(uint32_t state) {
    wt_spec_ s = {0};
    const char *p = wt_item_(wt_get_(we_manifest_text_, "state"), (int)state);
    if (!p) return s;
    const char *kind = wt_get_(p, "kind"), *time = wt_get_(p, "time");
    if (!kind || !wt_get_(p, "name")) wt_stop_("a state needs name and kind", p);
    s.kind = kind[1];
    s.arrival = time && time[1] == 'a';
    s.window = wt_number_(wt_get_(p, "window_ms"), 0) * 1000000;
    s.buckets = wt_number_(wt_get_(p, "buckets"), 1);
    s.limit = wt_number_(wt_get_(p, "limit"), 16);
    s.bytes = wt_number_(wt_get_(p, "bytes"), 64);
    s.ttl = wt_number_(wt_get_(p, "ttl_ms"), 0) * 1000000;
    if (s.buckets < 1 || s.buckets > 64 || s.limit < 1 || s.limit > 64 || s.bytes < 1 ||
        s.bytes > WT_BYTES || ((s.kind == 'c' || s.kind == 'd') && s.window / s.buckets < 1))
        wt_stop_("a state is not as ABI.md says", p);
    return s;
}

// wt_find_ gives what is kept for the row's key, a fresh entry if make is set and there is nothing,
// and the row's time in steps of the state. It returns 0, WE_NONE, or why there is no answer.
static inline int32_t wt_find_(char kind, uint32_t state, uint32_t row, we_text sub, bool make,
                               wt_kept_ **out, int64_t *at) {
    wt_spec_ s = wt_spec_of_(state);
    if (!s.kind || row >= wt_.rows || (kind && s.kind != kind)) return WE_NO_STATE;
    if (sub.len > WT_BYTES) return WE_TOO_LARGE;
    wt_event_ *r = wt_of_(row);
    if (r->key_len == 0) return WE_NO_KEY;
    int64_t life = s.kind == 'c' ? s.buckets : s.kind == 'd' ? s.window : s.ttl;
    *at = (s.arrival ? r->arrival : r->time) / (s.kind == 'c' ? s.window / s.buckets : 1);
    wt_kept_ *k = wt_.kept;
    while (k && (k->state != state || k->key_len != r->key_len || k->sub_len != sub.len ||
                 memcmp(k->key, r->key, r->key_len) || memcmp(k->sub, sub.ptr, sub.len)))
        k = k->next;
    // The window of a counter moves on by itself, also when it is only asked.
    bool fresh = !k || !k->key_len || (kind != 'c' && life && *at - k->at >= life);
    *out = k;
    if (fresh && !make) return WE_NONE;
    if (!k) {
        *out = k = calloc(1, sizeof *k);
        if (!k) wt_stop_("no memory for a key of state", r->text);
        k->next = wt_.kept;
        wt_.kept = k;
    }
    if (fresh) {
        k->state = state, k->key_len = r->key_len, k->sub_len = sub.len;
        memcpy(k->key, r->key, r->key_len);
        memcpy(k->sub, sub.ptr, sub.len);
        k->parts = 0, k->at = *at;
    }
    return 0;
}

// wt_drop_ forgets a part, and wt_add_ makes one.
static inline void wt_drop_(wt_kept_ *k, uint32_t i) { k->part[i] = k->part[--k->parts]; }

static inline void wt_add_(wt_kept_ *k, int64_t at, double sum, const void *bytes, uint32_t len) {
    uint32_t i = k->parts++;
    k->part[i].at = at, k->part[i].sum = sum, k->part[i].len = len;
    memcpy(k->part[i].bytes, bytes, len);
}

double we_state_add_(uint32_t state, uint32_t row, const char *key, uint32_t len, double amount) {
    wt_kept_ *k;
    int64_t at, buckets = wt_spec_of_(state).buckets;
    int32_t code = wt_find_('c', state, row, (we_text){key, len}, amount != 0, &k, &at);
    double sum = 0;
    if ((code && code != WE_NONE) || amount - amount != 0) return strtod("nan", 0);
    if (code == WE_NONE) return 0;
    if (at > k->at) k->at = at;
    for (uint32_t i = 0; i < k->parts;)
        if (k->at - k->part[i].at >= buckets) wt_drop_(k, i);
        else i++;
    if (k->at - at < buckets) {
        uint32_t i = 0;
        while (i < k->parts && k->part[i].at != at) i++;
        if (i < k->parts) k->part[i].sum += amount;
        else wt_add_(k, at, amount, "", 0);
    }
    for (uint32_t i = 0; i < k->parts; i++) sum += k->part[i].sum;
    return sum;
}

int32_t we_state_distinct_(uint32_t state, uint32_t row, const char *key, uint32_t len,
                           const char *value, uint32_t value_len) {
    wt_kept_ *k;
    int64_t at;
    wt_spec_ s = wt_spec_of_(state);
    int32_t code = wt_find_('d', state, row, (we_text){key, len}, value_len <= WT_BYTES, &k, &at);
    if (value_len > WT_BYTES && (code == 0 || code == WE_NONE)) return WE_TOO_LARGE;
    if (code) return code;
    if (at > k->at) k->at = at;
    uint32_t same = WT_PARTS, oldest = 0;
    for (uint32_t i = 0; i < k->parts;)
        if (k->at - k->part[i].at >= s.window) wt_drop_(k, i);
        else i++;
    for (uint32_t i = 0; i < k->parts; i++) {
        if (k->part[i].len == value_len && !memcmp(k->part[i].bytes, value, value_len)) same = i;
        if (k->part[i].at < k->part[oldest].at) oldest = i;
    }
    if (k->at - at >= s.window) return (int32_t)k->parts;
    if (same < WT_PARTS) {
        if (at > k->part[same].at) k->part[same].at = at;
    } else if (k->parts < s.limit) {
        wt_add_(k, at, 0, value, value_len);
    } else if (at >= k->part[oldest].at) {
        wt_drop_(k, oldest);
        wt_add_(k, at, 0, value, value_len);
    }
    return (int32_t)k->parts;
}

int64_t we_state_seen_(uint32_t state, uint32_t row, const char *key, uint32_t len) {
    wt_kept_ *k;
    int64_t at;
    int32_t code = wt_find_('s', state, row, (we_text){key, len}, false, &k, &at);
    if (code == 0) return k->at;
    wt_find_('s', state, row, (we_text){key, len}, true, &k, &at);
    return code;
}

int32_t we_state_set_(uint32_t state, uint32_t row, const char *key, uint32_t len,
                      const void *value, uint32_t value_len) {
    wt_kept_ *k;
    int64_t at;
    bool fits = value_len <= wt_spec_of_(state).bytes;
    int32_t code = wt_find_('v', state, row, (we_text){key, len}, fits, &k, &at);
    if (!fits && (code == 0 || code == WE_NONE)) return WE_TOO_LARGE;
    if (code) return code;
    k->at = at, k->parts = 0;
    wt_add_(k, at, 0, value, value_len);
    return 0;
}

int32_t we_state_get_(uint32_t state, uint32_t row, const char *key, uint32_t len, void *place,
                      uint32_t cap) {
    wt_kept_ *k;
    int64_t at;
    int32_t code = wt_find_('v', state, row, (we_text){key, len}, false, &k, &at);
    if (code) return code;
    memcpy(place, k->part[0].bytes, k->part[0].len < cap ? k->part[0].len : cap);
    return (int32_t)k->part[0].len;
}

int64_t we_state_time_(uint32_t state, uint32_t row, const char *key, uint32_t len) {
    wt_kept_ *k;
    int64_t at;
    int32_t code = wt_find_('v', state, row, (we_text){key, len}, false, &k, &at);
    return code ? code : k->at;
}

int32_t we_state_delete_(uint32_t state, uint32_t row, const char *key, uint32_t len) {
    wt_kept_ *k = 0;
    int64_t at;
    int32_t code = wt_find_(0, state, row, (we_text){key, len}, false, &k, &at);
    if ((code == 0 || code == WE_NONE) && k) k->key_len = 0; // no key is like that
    return code;
}

// Payloads and log ---------------------------------------------------------------------------

int32_t we_emit(uint32_t row, const char *ptr, uint32_t len) {
    if (row >= wt_.rows) return 1;
    if (len > WT_TEXT) return 3;
    if (len == 0) return 4;
    memcpy(wt_of_(row)->payload, ptr, len);
    wt_of_(row)->payload[len] = 0;
    return 0;
}

void we_log(int32_t level, const char *ptr, uint32_t len) {
    (void)level;
    if (len > WT_TEXT) len = WT_TEXT;
    memcpy(wt_.log, ptr, len);
    wt_.log[len] = 0;
}

// The batch ----------------------------------------------------------------------------------

static inline uint32_t wt_place_(uint32_t size) {
    uint32_t at = wt_.used;
    wt_.used += (size + 7) & ~7u;
    if (wt_.used > WT_BATCH) wt_stop_("the batch is larger than", "1 MiB");
    memset((char *)wt_.batch + at, 0, wt_.used - at);
    return at;
}

static inline uint32_t wt_type_(const char *name) {
    static const char *const names[] = {"", "f64", "i64", "bool", "utf8", "json"};
    for (uint32_t t = WE_F64; name && t <= WE_JSON; t++)
        if (!strncmp(name + 1, names[t], strlen(names[t]))) return t;
    wt_stop_("a field needs path and a type", name ? name : we_manifest_text_);
    return 0;
}

// wt_fixed_ reads the value at v into an f64, i64 or bool column, and reports whether it is one.
static inline bool wt_fixed_(const char *v, uint32_t type, void *values, uint32_t row) {
    char *end;
    if (type == WE_BOOL) {
        if (*v == 't') ((uint8_t *)values)[row >> 3] |= (uint8_t)(1 << (row & 7));
        return *v == 't' || *v == 'f';
    }
    if (*v != '-' && (*v < '0' || *v > '9')) return false;
    double f = strtod(v, 0);
    if (type == WE_F64) {
        if (f - f != 0) return false;
        ((double *)values)[row] = f;
        return true;
    }
    errno = 0;
    int64_t n = strtoll(v, &end, 10);
    if (*end == '.' || (*end | 32) == 'e') { // 1.0 and 1e3 are integers too
        n = f > -0x1p53 && f < 0x1p53 ? (int64_t)f : 0;
        if ((double)n != f) return false;
    } else if (errno) {
        return false;
    }
    ((int64_t *)values)[row] = n;
    return true;
}

// wt_text_ appends the value at v to a utf8 or json column, and reports whether it is one.
static inline bool wt_text_(const char *v, uint32_t type) {
    if (type == WE_UTF8 && *v != '"') return false;
    uint32_t most = (uint32_t)strlen(v) + 1;
    if (wt_.used + most > WT_BATCH) wt_stop_("the batch is larger than", "1 MiB");
    char *place = (char *)wt_.batch + wt_.used;
    wt_.used += type == WE_UTF8 ? wt_string_(v, place, most) : wt_compact_(v, place);
    return true;
}

static inline void wt_column_(we_column *c, const char *field) {
    char path[1024];
    const char *name = wt_get_(field, "path");
    if (!name) wt_stop_("a field needs path and a type", field);
    wt_string_(name, path, sizeof path);
    uint32_t type = wt_type_(wt_get_(field, "type"));
    bool text = type == WE_UTF8 || type == WE_JSON;
    c->type = type;
    c->validity = wt_place_((wt_.rows + 7) / 8);
    c->values = wt_place_(text              ? 4 * (wt_.rows + 1)
                          : type == WE_BOOL ? (wt_.rows + 7) / 8
                                            : 8 * wt_.rows);
    uint8_t *validity = (uint8_t *)wt_.batch + c->validity;
    void *values = (char *)wt_.batch + c->values;
    if (text) c->data = wt_.used;
    for (uint32_t row = 0; row < wt_.rows; row++) {
        const char *v = wt_path_(wt_of_(row)->text, path);
        bool valid = v && (text ? wt_text_(v, type) : wt_fixed_(v, type, values, row));
        if (type == WE_I64 && !strcmp(path, "@time")) { // also of an event that names none
            ((int64_t *)values)[row] = wt_of_(row)->time;
            valid = true;
        }
        if (valid) validity[row >> 3] |= (uint8_t)(1 << (row & 7));
        else c->nulls++;
        if (text) ((int32_t *)values)[row + 1] = (int32_t)(wt_.used - c->data);
    }
    if (text) {
        c->data_len = wt_.used - c->data;
        wt_.used = (wt_.used + 7) & ~7u;
    }
}

// wt_wants_ reports whether the manifest's match names the event's type.
static inline bool wt_wants_(const char *event) {
    const char *match = wt_get_(we_manifest_text_, "match"), *p;
    const char *v = wt_path_(event, "@type");
    char type[1024] = "", want[1024];
    if (v && *v == '"') wt_string_(v, type, sizeof type);
    for (int i = 0; (p = wt_item_(match, i)); i++) {
        uint32_t n = wt_string_(p, want, sizeof want);
        if (!strcmp(want, "*") || !strcmp(want, type)) return true;
        if (n && want[n - 1] == '*' && !strncmp(want, type, n - 1)) return true;
    }
    return !match || !wt_item_(match, 0);
}

// What tests use -----------------------------------------------------------------------------

// we_test_begin forgets all state and gives the rule its parameters: an object of those that differ
// from their defaults, or "{}".
static inline void we_test_begin(const char *params) {
    static char text[WT_TEXT];
    const char *list = wt_get_(we_manifest_text_, "params"), *p;
    char name[1024];
    uint32_t len = 0;
    while (wt_.kept) {
        wt_kept_ *next = wt_.kept->next;
        free(wt_.kept);
        wt_.kept = next;
    }
    wt_.n = 0, wt_.now = -1, wt_.ran = false;
    for (int i = 0; (p = wt_item_(list, i)); i++) {
        const char *named = wt_get_(p, "name");
        if (!named) wt_stop_("a param needs a name", p);
        wt_string_(named, name, sizeof name);
        const char *value = wt_get_(wt_space_(params), name);
        if (!value) value = wt_get_(p, "default");
        if (!value) wt_stop_("a param has no default and is not given", name);
        text[len++] = i ? ',' : '{';
        len += wt_compact_(named, text + len);
        text[len++] = ':';
        len += wt_compact_(value, text + len);
    }
    if (!len) text[len++] = '{';
    text[len++] = '}';
    if (we_configure_ && we_configure_((we_text){text, len}))
        wt_stop_("the rule refuses its params", params);
}

// we_test_add adds an event to the batch, or begins the next batch with it.
static inline void we_test_add(const char *event) {
    if (wt_.ran) wt_.n = 0;
    wt_.ran = false;
    if (wt_.n == WT_ROWS) wt_stop_("a batch has at most 256 events", event);
    if (strlen(event) >= WT_TEXT) wt_stop_("an event is too long", event);
    wt_event_ *e = &wt_.events[wt_.n++];
    const char *key = wt_path_(event, "@key"), *ts = wt_path_(event, "@time");
    strcpy(e->text, event);
    e->code = 0, e->payload[0] = 0, e->key_len = 0;
    if (key && *key == '"') e->key_len = wt_string_(key, e->key, WT_TEXT);
    else if (key) e->key_len = wt_compact_(key, e->key);
    e->time = ts ? wt_time_(ts) : wt_.now + 1;
    e->arrival = wt_.now = e->time > wt_.now ? e->time : wt_.now + 1;
}

// we_test_run evaluates the batch and returns what the rule did: 0, or what it failed with.
static inline int32_t we_test_run(void) {
    const char *fields = wt_get_(we_manifest_text_, "fields"), *f;
    uint32_t columns = 0;
    wt_.log[0] = 0, wt_.ran = true, wt_.rows = 0, wt_.used = 0;
    for (uint32_t i = 0; i < wt_.n; i++)
        if (wt_wants_(wt_.events[i].text)) wt_.event[wt_.rows++] = i;
    if (wt_.rows == 0) return 0;
    while (wt_item_(fields, (int)columns)) columns++;
    wt_place_((uint32_t)(sizeof(we_batch) + columns * sizeof(we_column)));
    we_batch *b = (we_batch *)wt_.batch;
    b->abi = 1, b->rows = wt_.rows, b->columns = columns, b->time = wt_of_(0)->arrival;
    b->verdicts = wt_place_(4 * wt_.rows);
    b->times = wt_place_(8 * wt_.rows);
    for (uint32_t i = 0; i < wt_.rows; i++)
        ((int64_t *)((char *)b + b->times))[i] = wt_of_(i)->arrival;
    for (int i = 0; (f = wt_item_(fields, i)); i++) wt_column_((we_column *)(b + 1) + i, f);
    b->size = wt_.used;
    int32_t failed = we_evaluate_(b);
    for (uint32_t i = 0; i < wt_.rows; i++)
        if (!(wt_of_(i)->code = we_verdicts(b)[i])) wt_of_(i)->payload[0] = 0;
    return failed;
}

// Of event i of the batch that ran last: its code, and its payload or "".
static inline int32_t we_test_code(uint32_t i) { return wt_.events[i].code; }
static inline const char *we_test_payload(uint32_t i) { return wt_.events[i].payload; }

// we_test_log gives the last line that the rule logged for that batch, or "".
static inline const char *we_test_log(void) { return wt_.log; }

static inline void we_test_fault(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    wt_.failures++;
}

static inline void wt_expect_(const char *file, int line, int32_t code, const char *payload,
                              const char *event) {
    we_test_add(event);
    int32_t failed = we_test_run();
    if (!failed && we_test_code(0) == code && !strcmp(we_test_payload(0), payload)) return;
    we_test_fault(file, line, event);
    fprintf(stderr, "    got  %d %s\n    want %d %s\n", failed ? failed : we_test_code(0),
            failed ? "as failure of the batch" : we_test_payload(0), code, payload);
}

// WE_EXPECT evaluates an event of its own, and compares code and payload, "" where there is none.
#define WE_EXPECT(code, payload, ...)                                                              \
    wt_expect_(__FILE__, __LINE__, code, payload, #__VA_ARGS__)

// WE_CHECK is for everything else.
#define WE_CHECK(what) ((what) ? (void)0 : we_test_fault(__FILE__, __LINE__, #what))

// we_test_end gives what main returns.
static inline int we_test_end(void) { return wt_.failures != 0; }

#endif
