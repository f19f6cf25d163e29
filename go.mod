module wasmeval

go 1.26
