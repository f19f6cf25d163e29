//go:build !wasip1

package main

import (
	"testing"

	"wasmeval/rules-sdk/go/rule"
)

func TestPaymentLimit(t *testing.T) {
	got, err := rule.Try(nil, `{"limit":50}`,
		`{"type":"payment.made","amount":50,"currency":"EUR"}`,
		`{"type":"payment.made","amount":50.5,"currency":"EUR","user":{"id":"u1"}}`,
		`{"type":"payment.made","amount":60,"currency":"USD"}`,
		`{"type":"payment.made","amount":"60","currency":"EUR"}`,
		`{"type":"refund","amount":60,"currency":"EUR"}`)
	if err != nil {
		t.Fatal(err)
	}
	hit := rule.Verdict{Code: 1, Payload: `{"amount":50.5,"limit":50,"user":"u1"}`}
	want := []rule.Verdict{{}, hit, {}, {}, {}}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("event %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
}
