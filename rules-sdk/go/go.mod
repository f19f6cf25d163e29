module wasmeval/rules-sdk/go

go 1.24
