package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// conformanceRun is one run of rules-sdk/conformance/events.yaml.
type conformanceRun struct {
	Params string
	Events []conformanceCase
}

type conformanceCase struct {
	Event     string
	Code      int32
	Payload   string
	Error     []string
	Logs      []string
	Unmatched bool
}

func conformanceRuns(t *testing.T) (runs []conformanceRun) {
	t.Helper()
	text, err := os.ReadFile("../rules-sdk/conformance/events.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&runs); err != nil {
		t.Fatal(err)
	}
	if len(runs) == 0 {
		t.Fatal("there are no runs")
	}
	return runs
}

// check compares what a rule said of the event. Code 0 stands for no verdict at all.
func (c *conformanceCase) check(t *testing.T, code int32, payload []byte, fault *VerdictError) {
	t.Helper()
	switch {
	case fault != nil && !slices.Contains(c.Error, fault.Kind):
		t.Errorf("%s\nfails with %v, expected code %d or an error of %q", c.Event, fault, c.Code, c.Error)
	case fault == nil && len(c.Error) > 0:
		t.Errorf("%s\ngives code %d, expected an error of %q", c.Event, code, c.Error)
	case code != c.Code:
		t.Errorf("%s\ngives code %d %s, expected %d", c.Event, code, payload, c.Code)
	case (len(payload) > 0 || c.Payload != "") && !sameJSON(t, payload, c.Payload):
		t.Errorf("%s\ngives payload  %s\nexpected payload %s", c.Event, payload, c.Payload)
	}
}

// sameJSON compares values: integers of 64 bits exactly, and other numbers as float64.
func sameJSON(t *testing.T, got []byte, want string) bool {
	t.Helper()
	return reflect.DeepEqual(jsonValue(t, got), jsonValue(t, []byte(want)))
}

func jsonValue(t *testing.T, text []byte) (v any) {
	t.Helper()
	if len(text) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	return numbers(v)
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n
		}
		f, _ := v.Float64()
		if n := int64(f); float64(n) == f && f < 1<<53 && f > -1<<53 {
			return n // 1e3 is 1000
		}
		return f
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}

// Modules of all SDKs say the same, event by event, in one batch, and in a batch for each worker.
func TestConformance(t *testing.T) {
	runs := conformanceRuns(t)
	for _, language := range []string{"go", "c", "rust", "assemblyscript"} {
		t.Run(language, func(t *testing.T) {
			path := filepath.Join("../rules-sdk", language, "conformance/conformance.wasm")
			code, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir() // of all engines, so that the module is compiled once
			for workers := 1; workers <= 2; workers++ {
				t.Run(fmt.Sprintf("workers%d", workers), func(t *testing.T) {
					f := conform(t, dir, workers)
					for i, run := range runs {
						f.putConformance(t, code, run.Params)
						if workers == 1 {
							t.Run(fmt.Sprintf("run%d/test", i), func(t *testing.T) { run.test(t, f) })
						}
						t.Run(fmt.Sprintf("run%d/batch", i), func(t *testing.T) { run.batch(t, f) })
						if _, err := f.Delete(context.Background(), "conformance", "test"); err != nil {
							t.Fatal(err)
						}
					}
				})
			}
		})
	}
}

var conformanceFields = event.Fields{ID: "id", Type: "type", Time: "ts", Key: "key"}

func conform(t *testing.T, dir string, workers int) *fixture {
	t.Helper()
	b, err := bus.New(bus.Config{Shards: workers, RingBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	out, limits := &collect{}, DefaultLimits()
	limits.Quarantine.InRow, limits.Quarantine.Percent = 0, 0
	e, err := Open(context.Background(), Config{DataDir: dir, Bus: b, Router: out, Limits: limits,
		Batch: 1024, Fields: conformanceFields})
	if err != nil {
		t.Fatal(err)
	}
	e.Start()
	f := &fixture{Engine: e, t: t, bus: b, out: out, in: b.NewProducer(bus.SourceHTTP)}
	t.Cleanup(f.stop)
	return f
}

func (f *fixture) putConformance(t *testing.T, code []byte, params string) {
	t.Helper()
	config := &RuleConfig{}
	if err := json.Unmarshal([]byte(params), &config.Params); err != nil {
		t.Fatal(err)
	}
	_, err := f.Put(context.Background(), "conformance", code,
		PutOptions{Activate: true, Config: config, By: "test"})
	if err != nil {
		t.Fatal(err)
	}
}

// test evaluates the events one by one, and compares logs too.
func (r *conformanceRun) test(t *testing.T, f *fixture) {
	events := make([]TestEvent, len(r.Events))
	for i, c := range r.Events {
		events[i] = TestEvent(c.Event)
	}
	got, err := f.Test(context.Background(), "conformance", 0, events, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range r.Events {
		v := &got[i]
		if v.Matched == c.Unmatched {
			t.Errorf("%s\nis matched: %v", c.Event, v.Matched)
		}
		if c.Unmatched {
			continue
		}
		c.check(t, v.Code, v.Payload, v.Error)
		var logs []string
		for _, l := range v.Logs {
			logs = append(logs, l.Level+" "+l.Text)
		}
		// A failure may say more of itself.
		if v.Error == nil && !slices.Equal(logs, c.Logs) {
			t.Errorf("%s\nlogs %q, expected %q", c.Event, logs, c.Logs)
		}
	}
}

// batch gives each worker all events with its keys at once, which makes them one batch.
func (r *conformanceRun) batch(t *testing.T, f *fixture) {
	s, err := event.NewScanner(conformanceFields, event.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	records := make([][]bus.Record, f.bus.Shards())
	for i, c := range r.Events {
		var env event.Envelope
		if err := s.Scan([]byte(c.Event), &env); err != nil {
			t.Fatal(err)
		}
		env.ID, env.Arrival = []byte(strconv.Itoa(i)), time.Now().UnixNano()
		if env.Time == 0 {
			env.Time = env.Arrival
		}
		head, err := event.AppendHead(nil, &env)
		if err != nil {
			t.Fatal(err)
		}
		shard := f.bus.ShardOf(env.Key)
		records[shard] = append(records[shard], bus.Record{Head: head, Body: []byte(c.Event)})
	}
	f.out.mu.Lock()
	f.out.lines = nil
	f.out.mu.Unlock()
	before := f.Stats().Batches
	for shard, list := range records {
		if _, err := f.in.Submit(shard, list); err != nil {
			t.Fatal(err)
		}
	}
	f.drain()
	if n := int(f.Stats().Batches - before); n > f.bus.Shards() {
		t.Errorf("%d batches, expected one for each of %d workers", n, f.bus.Shards())
	}
	got := make([]said, len(r.Events))
	for _, v := range f.out.all(t) {
		i, err := strconv.Atoi(v.Event.ID)
		if err != nil || got[i].Rule != "" || r.Events[i].Unmatched {
			t.Fatalf("a verdict that nothing asks for: %+v", v)
		}
		got[i] = v
	}
	for i, c := range r.Events {
		c.check(t, got[i].Code, got[i].Payload, got[i].Error)
	}
}
