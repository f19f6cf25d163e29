// build: clang --target=wasm32-unknown-unknown -O2 -ffreestanding -nostdlib -Wall -Wextra -Werror -Wl,--no-entry -Wl,--strip-all -o extism.wasm extism.c
// The same rule as a plugin of Extism. Its input is the two numbers, so that it has nothing to
// parse; its output is one byte.
#include <stdint.h>

#define ENV(name) __attribute__((import_module("extism:host/env"), import_name(#name))) name
uint64_t ENV(input_load_u64)(uint64_t at);
uint64_t ENV(alloc)(uint64_t size);
void ENV(store_u8)(uint64_t at, uint32_t value);
void ENV(output_set)(uint64_t at, uint64_t size);

static double number(uint64_t at) {
    union { uint64_t bits; double value; } u = {input_load_u64(at)};
    return u.value;
}

__attribute__((export_name("evaluate"))) int32_t evaluate(void) {
    uint64_t out = alloc(1);
    store_u8(out, number(0) > 189.1 && number(8) > 230);
    output_set(out, 1);
    return 0;
}
