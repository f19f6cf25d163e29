package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// windowEvents are events of three types, with and without the fields that the rules of TestWindow read.
func windowEvents(random *rand.Rand, n int) (list []bus.Record) {
	for i := range n {
		number := 1 + random.IntN(1000)
		if random.IntN(300) == 0 {
			number = -number
		}
		typ := []string{"payment.card", "payment.bank", "other"}[random.IntN(3)]
		body := fmt.Sprintf(`{"n":%d,"i64":%d,"f64":%d.5,"utf8":"t%d","amount":%d,"user":{"id":"u%d"}}`, number, i,
			i, random.IntN(1e9), random.IntN(2000), i%7)
		if random.IntN(10) == 0 {
			body = `{"f64":"none"}`
		}
		list = append(list, bus.Record{Head: []byte(typ), Body: []byte(body)})
	}
	return list
}

// records are events, whose types their heads are, as a batch.
func records(t *testing.T, events []bus.Record) (recs [][]byte) {
	t.Helper()
	for i, ev := range events {
		head, err := event.AppendHead(nil, &event.Envelope{ID: []byte("e"), Type: ev.Head, Arrival: 1,
			Index: uint32(i)})
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, append(head, ev.Body...))
	}
	return recs
}

// ofBatch is what a payload of the rule columns says of its batch.
var ofBatch = regexp.MustCompile(`"(row|rows|nulls)":\d+,`)

// What rules say of events does not depend on whether they see the columns of large batches in the
// worker's window or get copies of small ones, also beside rules that write over what they see, trap, or
// have no place that is large enough.
func TestWindow(t *testing.T) {
	ctx := context.Background()
	o, err := OpenOffline(ctx, Config{Limits: DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	limit, err := os.ReadFile("../rules-sdk/go/examples/payment-limit/payment-limit.wasm")
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, code []byte) {
		if _, err := o.Put(ctx, RuleName(name), code, PutOptions{Activate: true}); err != nil {
			t.Fatal(err)
		}
	}
	put("payment", limit)
	put("a-odd", module(t, "odd")) // its column is the first one
	for _, name := range []string{"scribble", "columns", "greedy", "odd", "echo"} {
		put(name+"-1", module(t, name))
		put(name+"-2", module(t, name))
	}
	type verdict struct {
		Rule    string
		Code    int
		Payload json.RawMessage
		Error   *struct{ Kind string }
	}
	said := func(events []bus.Record) (list []string) {
		replies, err := o.Replay(ctx, records(t, events))
		if err != nil {
			t.Fatal(err)
		}
		for _, lines := range replies {
			text := ""
			for _, line := range lines {
				var v verdict
				if err := json.Unmarshal(line, &v); err != nil {
					t.Fatal(err)
				}
				kind := ""
				if v.Error != nil {
					kind = v.Error.Kind
				}
				text += fmt.Sprintln(v.Rule, v.Code, ofBatch.ReplaceAllString(string(v.Payload), ""), kind)
			}
			list = append(list, text)
		}
		return list
	}
	random := rand.New(rand.NewPCG(3, 4))
	shown, failed := 0, uint64(0)
	for n := range 40 {
		size := []int{256, 200, 100, windowRows, windowRows - 1, 5}[random.IntN(6)]
		if n == 20 {
			size = 2000 // more than batches of this engine may have
		}
		events := windowEvents(random, size)
		got := said(events)
		for _, r := range o.set.Load().rules {
			shown += b2i(r.instances[0].memory.shown != nil)
		}
		for i := range events {
			if want := said(events[i : i+1]); got[i] != want[0] {
				t.Fatalf("event %d of %d: %sexpected, as alone, %s", i, len(events), got[i], want[0])
			}
		}
	}
	// A guest that is as new, or that gives another place, has no window in the memory that is its own.
	isShown := func(rule string) bool {
		s := o.set.Load()
		return s.rules[s.byName[rule]].instances[0].memory.shown != nil
	}
	type step struct {
		event bus.Record
		rule  string
	}
	for _, last := range []step{{bus.Record{Body: []byte(`{"n":-1}`)}, "scribble-1"},
		{bus.Record{Body: fmt.Appendf(nil, `{"n":%q}`, strings.Repeat("x", 600_000))}, "echo-1"}} {
		said(slices.Repeat([]bus.Record{{Body: []byte(`{"n":1}`)}}, 100))
		if !isShown(last.rule) && goruntime.GOOS == "linux" {
			t.Errorf("rule %s does not see the window", last.rule)
		}
		said([]bus.Record{last.event})
		if isShown(last.rule) {
			t.Errorf("rule %s still sees the window", last.rule)
		}
	}
	for _, r := range o.Stats().Rules {
		failed += r.Outcomes[Failed]
	}
	if goruntime.GOOS == "linux" && shown < 100 || failed < 10 {
		t.Errorf("the window was shown %d times, and %d evaluations failed: this proves little", shown, failed)
	}
}
