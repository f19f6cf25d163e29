package runtime

import (
	"encoding/json"
	"strings"
	"testing"

	"wasmeval/internal/event"
)

// Whatever a stranger or a rule puts into a verdict, the durations and the time of the run alone are
// taken out, and verdicts stay apart.
func TestSteadyVerdicts(t *testing.T) {
	const trick = `","time":"2020-01-01T00:00:00.000000Z","queued_us":1,"took_us":2}`
	payload, _ := json.Marshal(map[string]any{"queued_us": 3, "x": trick,
		"y": []any{map[string]any{"decision_id": "offline-0-1", "took_us": 4}}})
	view := &event.View{Envelope: event.Envelope{ID: []byte(trick), Type: []byte("],["),
		Key: []byte(`},"code":0,"fuel":1`)}}
	line := func(rule string, queued int64) string {
		v := verdict{rule: &activeRule{name: RuleName(rule), version: 3}, gen: 7, event: view, code: 5,
			payload: payload, fault: &VerdictError{Kind: FaultTrap, Message: trick}, fuel: 11,
			queuedNS: queued, tookNS: queued, decision: 9}
		return string(v.append(nil, "offline", 0, 1767225600e9+queued))
	}
	one, err := split(json.RawMessage("["+line("a", 123456)+"]"), 1)
	if err != nil || len(one) != 1 {
		t.Fatalf("split gave %d verdicts, %v", len(one), err)
	}
	two, err := split(json.RawMessage("["+line("a", 789)+","+line("b", 5)+"]"), 2)
	if err != nil || len(two) != 2 {
		t.Fatalf("split gave %d verdicts, %v", len(two), err)
	}
	const at = 1767225601_234567000
	got := string(steady(one[0], at))
	if again := string(steady(two[0], at)); again != got {
		t.Errorf("a verdict depends on the run:\n%s\n%s", got, again)
	}
	var all map[string]any
	if err := json.Unmarshal([]byte(got), &all); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	want, _, _ := strings.Cut(line("a", 0), `,"queued_us":0`)
	want = strings.Replace(want, `"time":"2026-01-01T00:00:00.000000Z"`,
		`"time":"2026-01-01T00:00:01.234567Z"`, 1)
	if !strings.HasPrefix(got, want[:60]) || all["took_us"] != nil || all["queued_us"] != nil ||
		all["time"] != "2026-01-01T00:00:01.234567Z" || all["fuel"] != 11.0 || all["rule"] != "a" {
		t.Errorf("got %s", got)
	}
	if none, err := split(json.RawMessage("[]"), 1); err != nil || none != nil {
		t.Errorf("an event without verdicts has %s, %v", none, err)
	}
}
