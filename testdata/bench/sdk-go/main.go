// Command sdk-go is the loop over two columns that BenchmarkSDKLoop measures, as one writes it in Go.
package main

// build: cd ../../../rules-sdk/go && GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false -buildmode=c-shared -ldflags='-s -w' -o ../../testdata/bench/sdk-go/sdk-go.wasm ../../testdata/bench/sdk-go/main.go

import "wasmeval/rules-sdk/go/rule"

func main() {}

func init() {
	a, b := rule.F64("a"), rule.F64("b")
	rule.Each(func(r rule.Row) int32 {
		x, ok := a.At(r)
		y, ok2 := b.At(r)
		if ok && ok2 && x > 100 && y < 50 {
			return 1
		}
		return 0
	})
}
