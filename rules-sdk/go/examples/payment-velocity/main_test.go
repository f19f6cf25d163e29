//go:build !wasip1

package main

import (
	"fmt"
	"testing"

	"wasmeval/rules-sdk/go/rule"
)

func TestPaymentVelocity(t *testing.T) {
	declined := func(user string, second int) string {
		return fmt.Sprintf(`{"type":"payment.declined","key":%q,"ts":"2026-01-01T00:%02d:%02dZ"}`,
			user, second/60, second%60)
	}
	got, err := rule.Try(nil, `{"limit":2}`,
		declined("u1", 0), declined("u1", 20), declined("u2", 21), declined("u1", 59),
		declined("u1", 60), declined("", 61), declined("u1", 200))
	if err != nil {
		t.Fatal(err)
	}
	hit := rule.Verdict{Code: 1, Payload: `{"count":3}`}
	want := []rule.Verdict{{}, {}, {}, hit, hit, {}, {}}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("event %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
}
