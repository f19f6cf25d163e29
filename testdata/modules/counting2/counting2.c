// A version of counting whose state "hour" is another one: of two hours.
// build: clang @../../../rules-sdk/c/flags -o counting2.wasm counting2.c
#define HOUR "7200000"
#include "../counting/counting.c"
