// build: clang @../../../rules-sdk/c/flags -o greedy.wasm greedy.c
// Takes as many turns in wasmeval_input as its parameter says, or gives no place if that is below 0.
// Executes unreachable if the integer bad is 1. Every other event has code 1. It does without
// wasmeval.h, which has a wasmeval_input of its own.
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name)))

static const char text[] = "{\"fields\":[{\"path\":\"bad\",\"type\":\"i64\"}],"
                           "\"params\":[{\"name\":\"turns\",\"type\":\"i64\",\"default\":0}]}";
static uint64_t place[1 << 13];
static volatile int64_t turns;

EXPORT(wasmeval_abi) int32_t abi(void) { return 1; }

EXPORT(wasmeval_manifest) uint64_t manifest(void) {
    return (uint64_t)(uintptr_t)text << 32 | (sizeof text - 1);
}

// The parameters are {"turns":…}.
EXPORT(wasmeval_configure) int32_t configure(const char *p, uint32_t len) {
    int64_t n = 0;
    for (uint32_t i = 0; i < len; i++)
        if (p[i] >= '0' && p[i] <= '9') n = 10 * n + p[i] - '0';
    turns = p[9] == '-' ? -n : n;
    return 0;
}

EXPORT(wasmeval_input) const uint64_t *input(uint32_t size) {
    if (turns < 0 || size > sizeof place) return 0;
    for (volatile int64_t i = 0; i < turns; i++) {}
    return place;
}

EXPORT(wasmeval_evaluate) int32_t evaluate(uint32_t *b) {
    const uint32_t rows = b[1], values = b[10 + 3];
    for (uint32_t row = 0; row < rows; row++) {
        if (((const int64_t *)((char *)b + values))[row] == 1) __builtin_trap();
        ((int32_t *)((char *)b + b[3]))[row] = 1;
    }
    return 0;
}
