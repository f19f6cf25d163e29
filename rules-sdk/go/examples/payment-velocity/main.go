// Command payment-velocity is a rule with code 1 for more than a number of declined payments of one
// user in a minute. The user is the event's key.
package main

// build: GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false -buildmode=c-shared -ldflags='-s -w' -o payment-velocity.wasm .

import "wasmeval/rules-sdk/go/rule"

func main() {}

func init() {
	rule.Describe("many declined payments of one user in a minute")
	rule.Match("payment.declined")
	limit := rule.ParamI64("limit", 5, "declined payments in a minute that pass")
	declined := rule.Counter("declined", rule.Sliding(rule.Minute, 60))

	rule.Each(func(r rule.Row) int32 {
		n, ok := declined.Add(r, 1)
		if !ok || int64(n) <= limit.Value() {
			return 0 // without a key there is nobody to count for
		}
		r.Payload().I64("count", int64(n)).Emit()
		return 1
	})
}
