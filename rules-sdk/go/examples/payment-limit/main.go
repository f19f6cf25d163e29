// Command payment-limit is a rule with code 1 for payments above a limit in one currency.
package main

// build: GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false -buildmode=c-shared -ldflags='-s -w' -o payment-limit.wasm .

import "wasmeval/rules-sdk/go/rule"

func main() {}

func init() {
	rule.Describe("payments above a limit in one currency")
	rule.Match("payment.*")
	amount := rule.F64("amount")
	currency := rule.UTF8("currency")
	user := rule.UTF8("user.id")
	limit := rule.ParamF64("limit", 1000, "largest amount that passes")
	in := rule.ParamUTF8("currency", "EUR", "currency of the limit; other payments pass")

	rule.Each(func(r rule.Row) int32 {
		a, ok := amount.At(r)
		if c, _ := currency.At(r); !ok || a <= limit.Value() || c != in.Value() {
			return 0
		}
		p := r.Payload().F64("amount", a).F64("limit", limit.Value())
		if id, ok := user.At(r); ok {
			p.UTF8("user", id)
		}
		p.Emit()
		return 1
	})
}
