package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	goruntime "runtime"
	"strings"
	"testing"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// putGreedy puts rule g, whose wasmeval_input takes so many turns.
func (f *fixture) putGreedy(turns int) {
	f.t.Helper()
	config := &RuleConfig{Params: map[string]json.RawMessage{"turns": fmt.Append(nil, turns)}}
	_, err := f.Put(context.Background(), "g", module(f.t, "greedy"),
		PutOptions{Activate: true, Config: config})
	if err != nil {
		f.t.Fatal(err)
	}
}

// oneByOne sends events each of which is a batch.
func (f *fixture) oneByOne(events ...string) {
	f.t.Helper()
	for _, ev := range events {
		f.send("x", ev)
	}
}

// What wasmeval_input burns is part of an event's budget, and is counted.
func TestInputFuel(t *testing.T) {
	f := start(t)
	f.putGreedy(1 << 40)
	f.oneByOne(`{}`, `{}`, `{}`)
	r := f.Stats().Rules[0]
	if r.Faults[FaultFuel] != 3 || r.Fuel != 3*f.limits.EventFuel {
		t.Errorf("3 events, each out of fuel: failures %v, fuel %d", r.Faults, r.Fuel)
	}
	for _, v := range f.out.all(t) {
		if v.Fuel != f.limits.EventFuel {
			t.Errorf("the verdict has fuel %d, of a budget of %d", v.Fuel, f.limits.EventFuel)
		}
	}
	// One that gives a place at last is asked again only after a failure, so the fuel is the rule's
	// and not the event's.
	f.stop()
	f = start(t)
	f.putGreedy(0)
	f.oneByOne(`{"bad":1}`, `{}`, `{}`)
	cheap := f.Stats().Rules[0].Fuel
	const turns = 5_000
	f.putGreedy(turns)
	f.oneByOne(`{"bad":1}`, `{}`, `{}`)
	dear := f.Stats().Rules[0].Fuel - cheap
	if least := cheap + 2*turns; dear < least || dear > cheap+2*100*turns {
		t.Errorf("fuel %d with %d turns for a place, asked for twice, and %d without: expected above %d",
			dear, turns, cheap, least)
	}
	list := f.out.all(t)
	for i, v := range list[len(list)-2:] {
		if v.Fuel != list[1+i].Fuel || v.Code != 1 {
			t.Errorf("code %d with fuel %d: expected 1 with %d, as if a place cost nothing", v.Code,
				v.Fuel, list[1+i].Fuel)
		}
	}
}

// However a call ends, what it used is from 0 to its budget.
func TestFuelNeverWraps(t *testing.T) {
	f := start(t)
	f.putGreedy(-1) // gives no place
	f.put("trap", "trap")
	f.put("loop", "loop")
	f.put("exit", "exit")
	f.put("recurse", "recurse")
	f.oneByOne(`{"bad":1}`, `{"bad":0}`)
	if n := f.Stats().Rules[1].Faults[FaultMemory]; n != 2 {
		t.Errorf("%d events have no place, expected 2", n)
	}
	list := f.out.all(t)
	if len(list) != 10 {
		t.Errorf("%d verdicts, expected 10", len(list))
	}
	for _, v := range list {
		if v.Fuel > f.limits.EventFuel {
			t.Errorf("rule %s, event %s: fuel %d of %d", v.Rule, v.Event.ID, v.Fuel, f.limits.EventFuel)
		}
	}
	for _, r := range f.Stats().Rules {
		if r.Fuel == 0 || r.Fuel > 2*f.limits.EventFuel {
			t.Errorf("rule %s: fuel %d for two events of %d", r.Name, r.Fuel, f.limits.EventFuel)
		}
	}
	got, err := f.Test(context.Background(), "g", 0, []TestEvent{TestEvent(`{}`)}, nil)
	if err != nil || got[0].Fuel > f.limits.EventFuel {
		t.Errorf("a test says %+v, %v", got, err)
	}
}

// nest is an event of objects in each other around a text.
func nest(depth, text int) string {
	return strings.Repeat(`{"a":`, depth) + `"` + strings.Repeat("v", text) + `"` +
		strings.Repeat("}", depth)
}

// nestedRules is a set of one rule that reads every object of an event that is nested so deep.
func nestedRules(t *testing.T, depth int) *ruleSet {
	t.Helper()
	p := &program{manifest: Manifest{Match: []string{"*"}}}
	for i := range depth {
		path := strings.Repeat("a.", i) + "a"
		c, err := newColumn(Field{Path: path, Type: "json"})
		if err != nil {
			t.Fatal(err)
		}
		p.columns = append(p.columns, c)
	}
	return newRuleSet(1, []*activeRule{{name: "r", prog: p}})
}

func record(t *testing.T, text string) []byte {
	t.Helper()
	head, err := event.AppendHead(nil, &event.Envelope{Arrival: 1})
	if err != nil {
		t.Fatal(err)
	}
	return append(head, text...)
}

// Texts of a row and of a batch are bounded, however many columns have the same bytes, and what a
// batch took beyond the usual is given back.
func TestTextIsBounded(t *testing.T) {
	e := idle(t, t.TempDir())
	defer shut(t, e)
	w, s := e.workers[0], nestedRules(t, 64)
	w.adopt(s)
	one := [][]byte{record(t, nest(64, 1<<20))}
	var many [][]byte
	for range 256 {
		many = append(many, record(t, nest(64, 3<<10)))
	}
	for _, recs := range [][][]byte{one, many} {
		rows := w.gather(s, recs, 1)
		if n := len(w.table.text); n > batchText+maxRowText || rows == 0 {
			t.Errorf("%d of %d rows have %d bytes of text: expected at most %d", rows, len(recs), n,
				batchText+maxRowText)
		}
		if len(w.found) != 1 || len(w.found[0].rows) != rows {
			t.Fatalf("%d rows were gathered, and the rule has others: %v", rows, w.found)
		}
		w.found[0].rows = w.found[0].rows[:0]
		w.found = w.found[:0]
	}
	w.gather(s, [][]byte{record(t, `{}`)}, 1)
	if n := cap(w.table.text); n > keepText {
		t.Errorf("%d bytes are kept for texts, expected at most %d", n, keepText)
	}
}

// Values that are too much for their row are not valid and counted, the others are there; events of
// a batch that is cut have one verdict each; and memory goes back.
func TestNestedColumns(t *testing.T) {
	b, err := bus.New(bus.Config{Shards: 1, RingBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	out := &collect{}
	e, err := Open(context.Background(), Config{DataDir: t.TempDir(), Bus: b, Router: out,
		Limits: DefaultLimits(), Batch: 256})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Engine: e, t: t, bus: b, out: out, in: b.NewProducer(bus.SourceHTTP)}
	t.Cleanup(f.stop)
	f.put("n", "nested")
	before := heap()
	var records []bus.Record
	const large, small = 4, 200
	for range large {
		records = append(records, bus.Record{Body: record(t, nest(16, 1<<20-1000))})
	}
	for range small {
		records = append(records, bus.Record{Body: record(t, nest(16, 8<<10))})
	}
	if n, err := f.in.Submit(0, records); n != len(records) {
		t.Fatalf("%d of %d events are taken: %v", n, len(records), err)
	}
	f.Start()
	f.drain()
	codes := map[int32]int{}
	for _, v := range out.all(t) {
		codes[v.Code]++
	}
	// Four of the large one's columns are as much as a row may have.
	if len(codes) != 2 || codes[4] != large || codes[16] != small {
		t.Errorf("columns that were valid, and events: %v", codes)
	}
	if n := f.Stats().Rules[0].WrongType; n != 12*large {
		t.Errorf("%d values are counted as too much, expected %d", n, 12*large)
	}
	out.mu.Lock()
	out.lines = nil
	out.mu.Unlock()
	if grown := heap() - before; grown > 16<<20 {
		t.Errorf("%d bytes are kept after the batch", grown)
	}
}

// heap is what is in use of Go's.
func heap() int {
	goruntime.GC()
	goruntime.GC()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Events that are nested as deep as any may be keep their fields, in the stream and in a test; one
// level more is refused before it comes to the parser.
func TestDeepestEvents(t *testing.T) {
	limits := event.Limits{Depth: 256}
	scanner, err := event.NewScanner(event.Fields{}, limits)
	if err != nil {
		t.Fatal(err)
	}
	f := openWith(t, Config{DataDir: t.TempDir(), Limits: DefaultLimits(), EventLimits: limits})
	f.put("c", "columns")
	f.put("odd", "odd")
	deep := func(open, end string, depth int) string {
		return `{"n":1,"a":` + strings.Repeat(open, depth-1) + "1" + strings.Repeat(end, depth-1) + "}"
	}
	for _, c := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
		var env event.Envelope
		good, bad := deep(c[0], c[1], 256), deep(c[0], c[1], 257)
		if err := scanner.Scan([]byte(good), &env); err != nil {
			t.Errorf("256 levels: %v", err)
		}
		if err := scanner.Scan([]byte(bad), &env); err == nil {
			t.Error("257 levels are taken")
		}
		if got := f.codes("x", "odd", good); fmt.Sprint(got) != "[1]" {
			t.Errorf("codes %v of %.20s…: expected 1, for its field", got, good)
		}
		ctx := context.Background()
		got, err := f.Test(ctx, "odd", 0, []TestEvent{TestEvent(good)}, nil)
		if err != nil || got[0].Code != 1 {
			t.Errorf("a test of %.20s… says %+v, %v", good, got, err)
		}
		if _, err := f.Test(ctx, "odd", 0, []TestEvent{TestEvent(bad)}, nil); err == nil {
			t.Error("257 levels are tested")
		}
	}
	if _, err := event.NewScanner(event.Fields{}, event.Limits{Depth: 257}); err == nil {
		t.Error("a limit above what the parser reads is taken")
	}
}
