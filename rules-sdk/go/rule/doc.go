// Package rule is the SDK for rules in Go. A rule is a package main that declares in init what it
// reads and what it does:
//
//	func main() {}
//
//	func init() {
//		rule.Describe("refuses payments above a limit")
//		rule.Match("payment.*")
//		amount := rule.F64("amount")
//		limit := rule.ParamF64("limit", 1000, "largest amount that passes")
//		rule.Each(func(r rule.Row) int32 {
//			a, ok := amount.At(r)
//			if !ok || a <= limit.Value() {
//				return 0
//			}
//			r.Payload().F64("amount", a).F64("limit", limit.Value()).Emit()
//			return 1
//		})
//	}
//
// and is built with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags='-s -w' -o rule.wasm .
//
// A fault in what init declares is reported when the server reads the manifest. Natively the same
// package compiles for go test, where [Try] evaluates events without a server.
//
// Nothing here allocates per row. Values are read in place: strings and slices that come from a
// column or a batch are valid until the function given to [Each] or [EachBatch] returns; copy what
// is to live longer.
//
// The server may replace the instance at any time, so a rule must not count on what it left in
// variables. What it must remember from event to event the server keeps for it, for each event key:
//
//	declines := rule.Counter("declines", rule.Sliding(rule.Minute, 60))
//	rule.Each(func(r rule.Row) int32 {
//		if n, ok := declines.Add(r, 1); ok && n > 5 {
//			return 1
//		}
//		return 0
//	})
//
// [Counter] is a sum over a window, [Distinct] how many different values came in one, [Seen] when a
// key came first, and [Value] some bytes.
//
// A module has one thread: everything here is for the goroutine that runs init, Each or EachBatch.
// At most 64 fields, 64 parameters and 16 states. A rule that imports fmt or encoding/json grows by
// a megabyte and takes longer to compile; [Payload] and [Log] need neither.
package rule
