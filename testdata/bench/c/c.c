// build: clang --target=wasm32-unknown-unknown -O2 -ffreestanding -fno-builtin -nostdlib -mbulk-memory -Wall -Wextra -Werror -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o c.wasm c.c
// The bodies that ../README.md describes, in C without a library.
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))

static struct {
    char text[4096];
    double amounts[64];
    int64_t counts[64];
    int32_t offsets[128];
    char names[2048];
    int32_t values[1024];
    int32_t verdicts[64];
} in;

EXPORT("input") void *input(void) { return &in; }

static int equal(const char *a, const char *b, int32_t n) {
    for (int32_t i = 0; i < n; i++)
        if (a[i] != b[i]) return 0;
    return 1;
}

EXPORT("find") int32_t find(int32_t n) {
    static const char key[] = "\"amount\":";
    const int32_t size = sizeof key - 1;
    for (int32_t i = 0; i + size < n; i++) {
        if (!equal(in.text + i, key, size)) continue;
        int32_t cents = 0, digits = -1;
        for (i += size; i < n && digits < 2; i++) {
            char c = in.text[i];
            if (c == '.' && digits < 0) {
                digits = 0;
            } else if (c >= '0' && c <= '9') {
                cents = 10 * cents + (c - '0');
                if (digits >= 0) digits++;
            } else {
                break;
            }
        }
        for (digits = digits < 0 ? 0 : digits; digits < 2; digits++) cents *= 10;
        return cents;
    }
    return -1;
}

EXPORT("rows") int32_t rows(int32_t n) {
    int32_t matched = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t v = in.amounts[i] > 1000 && in.counts[i] != 3 ? 1 : in.amounts[i] < 0 ? 2 : 0;
        in.verdicts[i] = v;
        matched += v != 0;
    }
    return matched;
}

EXPORT("compare") int32_t compare(int32_t n) {
    static const char want[] = "premium";
    int32_t matched = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t from = in.offsets[i], size = in.offsets[i + 1] - from;
        matched += size == sizeof want - 1 && equal(in.names + from, want, size);
    }
    return matched;
}

EXPORT("hash") int32_t hash(int32_t n) {
    static uint8_t seen[256];
    for (int32_t i = 0; i < 256; i++) seen[i] = 0;
    int32_t repeated = 0;
    uint32_t h = 2166136261u;
    for (int32_t i = 0; i < n; i++) {
        char c = in.text[i];
        if (c == '"' || c == ',' || c == ':') {
            repeated += seen[h & 255]++ != 0;
            h = 2166136261u;
        } else {
            h = (h ^ (uint8_t)c) * 16777619u;
        }
    }
    return repeated;
}

EXPORT("sort") int32_t sort(int32_t n) {
    static int32_t v[1024];
    for (int32_t i = 0; i < n; i++) {
        int32_t x = in.values[i], j = i;
        for (; j > 0 && v[j - 1] > x; j--) v[j] = v[j - 1];
        v[j] = x;
    }
    return v[n / 2];
}

static int by_value(int32_t a, int32_t b) { return in.values[a] < in.values[b]; }
static int by_last_digit(int32_t a, int32_t b) {
    int32_t x = in.values[a] % 10, y = in.values[b] % 10;
    return x != y ? x < y : by_value(a, b);
}

static int (*volatile less)(int32_t, int32_t);

static void sink(int32_t *heap, int32_t i, int32_t n, int (*before)(int32_t, int32_t)) {
    for (int32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(heap[child], heap[child + 1])) child++;
        if (!before(heap[i], heap[child])) return;
        int32_t x = heap[i];
        heap[i] = heap[child], heap[child] = x;
    }
}

EXPORT("order") int32_t order(int32_t n) {
    static int32_t heap[1024];
    less = n & 1 ? by_value : by_last_digit;
    int (*before)(int32_t, int32_t) = less;
    for (int32_t i = 0; i < n; i++) heap[i] = i;
    for (int32_t i = n / 2; i-- > 0;) sink(heap, i, n, before);
    for (int32_t i = n; i-- > 1;) {
        int32_t x = heap[0];
        heap[0] = heap[i], heap[i] = x;
        sink(heap, 0, i, before);
    }
    return in.values[heap[n / 2]];
}
