package metrics

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"wasmeval/bus"
	"wasmeval/runtime"
	"wasmeval/runtime/state"
)

var update = flag.Bool("update", false, "write the golden file")

const golden = "testdata/names.txt"

// scrape returns the lines that the handler answers with.
func scrape(t *testing.T, rules ...string) []string {
	t.Helper()
	h := Handler(Sources{
		Version: "test",
		Ledger: func() bus.Ledger {
			var l bus.Ledger
			l.Sources[bus.SourceHTTP].Received = 5
			l.Sources[bus.SourceHTTP].Accepted = 3
			l.Sources[bus.SourceHTTP].Lost[bus.RingFull] = 2
			l.Evaluated = 3
			return l
		},
		Rings: func() []bus.RingStats { return make([]bus.RingStats, 1) },
		Engine: func() runtime.Stats {
			s := runtime.Stats{Generation: 7}
			for _, r := range rules {
				rs := runtime.RuleStats{Name: runtime.RuleName(r), Faults: map[string]uint64{"trap": 1}}
				rs.Outcomes[runtime.Matched] = 4
				rs.State = []runtime.StateStats{{Spec: state.Spec{Name: "s"}, Held: 2, Evicted: 1, Late: 1}}
				rs.Took.Counts[0], rs.Took.Counts[24] = 3, 1
				s.Rules = append(s.Rules, rs)
			}
			return s
		},
		Sinks: func() []Sink {
			return []Sink{{Name: "s", Type: "file", Dropped: map[string]uint64{"queue_full": 1}}}
		},
		Tail: func() Tail { return Tail{} },
		UDP:  func() UDP { return UDP{} },
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return strings.Split(w.Body.String(), "\n")
}

// The names, types and labels of metrics are what dashboards are made of: they change on purpose only.
func TestNames(t *testing.T) {
	var names []string
	for _, line := range scrape(t, "r") {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok && strings.HasPrefix(name, "wasmeval_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	got := strings.Join(names, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the metrics are\n%s, expected those of %s:\n%s", got, golden, want)
	}
}

func TestValues(t *testing.T) {
	lines := scrape(t, "r")
	for _, want := range []string{
		`wasmeval_events_received_total{source="http"} 5`,
		`wasmeval_events_dropped_total{reason="ring_full",source="http"} 2`,
		`wasmeval_ledger_difference 0`,
		`wasmeval_generation 7`,
		`wasmeval_rule_evaluations_total{outcome="matched",rule="r"} 4`,
		`wasmeval_rule_seconds_bucket{rule="r",le="1e-06"} 3`,
		`wasmeval_rule_seconds_count{rule="r"} 4`,
		`wasmeval_sink_dropped_total{reason="queue_full",sink="s",type="file"} 1`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %s", want)
		}
	}
}

// A rule that was deleted has no series any more.
func TestDeletedRule(t *testing.T) {
	for _, line := range scrape(t) {
		if strings.Contains(line, `rule="`) {
			t.Errorf("line %s, but there is no rule", line)
		}
	}
}
