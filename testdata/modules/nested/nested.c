// build: clang @../../../rules-sdk/c/flags -o nested.wasm nested.c
// Declares sixteen objects, each in the one before. The code is how many of them it got.
#include "../../../rules-sdk/c/wasmeval.h"

#define F(path) "{\"path\":\"" path "\",\"type\":\"json\"}"
#define A4 "a.a.a.a"
#define A8 A4 "." A4
#define FOUR(in) F(in "a") "," F(in "a.a") "," F(in "a.a.a") "," F(in A4)

WE_MANIFEST("{\"fields\":[" FOUR("") "," FOUR(A4 ".") "," FOUR(A8 ".") "," FOUR(A8 "." A4 ".") "]}")

WE_EVALUATE(b) {
    for (uint32_t row = 0; row < b->rows; row++)
        for (uint32_t i = 0; i < b->columns; i++)
            we_verdicts(b)[row] += we_valid(b, we_col(b, i), row);
    return 0;
}
