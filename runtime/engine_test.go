package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// collect is a Router that keeps every verdict.
type collect struct {
	mu    sync.Mutex
	lines []string
}

func (c *collect) Wants(_ string, code int32, failed bool) bool { return code != 0 || failed }

func (c *collect) Route(_ string, _ int32, _ bool, v []byte) {
	c.mu.Lock()
	c.lines = append(c.lines, string(v))
	c.mu.Unlock()
}

// said is a verdict as tests read it back.
type said struct {
	DecisionID string                         `json:"decision_id"`
	Rule       string                         `json:"rule"`
	Version    int                            `json:"version"`
	Generation Generation                     `json:"generation"`
	Event      struct{ ID, Type, Key string } `json:"event"`
	Code       int32                          `json:"code"`
	Payload    json.RawMessage                `json:"payload"`
	Error      *VerdictError                  `json:"error"`
	Fuel       uint64                         `json:"fuel"`
}

func (c *collect) all(t *testing.T) []said {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]said, len(c.lines))
	for i, l := range c.lines {
		if err := json.Unmarshal([]byte(l), &list[i]); err != nil {
			t.Fatalf("verdict %s: %v", l, err)
		}
	}
	return list
}

// fixture is an engine at work.
type fixture struct {
	*Engine
	t    *testing.T
	bus  *bus.Bus
	out  *collect
	in   *bus.Producer
	sent int
}

func open(t *testing.T, dir string, limits Limits) *fixture {
	t.Helper()
	b, err := bus.New(bus.Config{Shards: 2, RingBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	out := &collect{}
	e, err := Open(context.Background(), Config{DataDir: dir, Bus: b, Router: out, Limits: limits,
		Batch: 64, Fields: event.Fields{ID: "id", Type: "type", Time: "time"}})
	if err != nil {
		t.Fatal(err)
	}
	e.Start()
	f := &fixture{Engine: e, t: t, bus: b, out: out, in: b.NewProducer(bus.SourceHTTP)}
	t.Cleanup(f.stop)
	return f
}

func start(t *testing.T) *fixture { return open(t, t.TempDir(), DefaultLimits()) }

// stop drains and closes everything; it may be called more than once.
func (f *fixture) stop() {
	f.bus.Close()
	if err := f.Close(); err != nil {
		f.t.Errorf("cannot close: %v", err)
	}
}

func module(t testing.TB, name string) []byte {
	t.Helper()
	code, err := os.ReadFile(filepath.Join("..", "testdata", "modules", name, name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func (f *fixture) put(rule, mod string) PutResult {
	f.t.Helper()
	r, err := f.Put(context.Background(), RuleName(rule), module(f.t, mod),
		PutOptions{Activate: true, By: "test"})
	if err != nil {
		f.t.Fatalf("put %s: %v", mod, err)
	}
	return r
}

// send submits events of one type and returns once they are evaluated.
func (f *fixture) send(typ string, events ...string) {
	f.t.Helper()
	for _, ev := range events {
		f.sent++
		env := event.Envelope{ID: []byte(fmt.Sprint(f.sent)), Type: []byte(typ), Arrival: time.Now().UnixNano()}
		head, err := event.AppendHead(nil, &env)
		if err != nil {
			f.t.Fatal(err)
		}
		if _, err := f.in.Submit(0, []bus.Record{{Head: head, Body: []byte(ev)}}); err != nil {
			f.t.Fatal(err)
		}
	}
	f.drain()
}

func (f *fixture) drain() {
	f.t.Helper()
	for range 10_000 {
		if l := f.bus.Ledger(); l.InFlight() == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	f.t.Fatal("events are still in flight after 10 s")
}

func TestEvaluate(t *testing.T) {
	f := start(t)
	f.put("always", "always")
	f.put("odd", "odd")
	f.send("x", `{"n":1}`, `{"n":2}`, `{"n":3}`)
	codes := map[string]string{}
	for _, v := range f.out.all(t) {
		codes[v.Rule] += v.Event.ID + fmt.Sprintf("=%d ", v.Code)
	}
	if codes["always"] != "1=1 2=1 3=1 " || codes["odd"] != "1=1 3=1 " {
		t.Errorf("verdicts %v", codes)
	}
}

// A rule that misbehaves on one event costs that event's verdict and nothing else.
func TestMisbehaviour(t *testing.T) {
	for mod, kind := range map[string]string{
		"loop": FaultFuel, "recurse": FaultStack, "trap": FaultTrap, "exit": FaultExit,
		"fail": FaultRule, "negative": FaultVerdict, "oob": FaultTrap,
	} {
		t.Run(mod, func(t *testing.T) {
			f := start(t)
			f.put("bad", mod)
			f.put("good", "always")
			var events []string
			for i := range 50 {
				events = append(events, fmt.Sprintf(`{"bad":%d}`, b2i(i == 20)))
			}
			f.send("x", events...)
			count := map[string]int{}
			for _, v := range f.out.all(t) {
				switch {
				case v.Rule == "good":
					count["good"]++
				case v.Error == nil && v.Code == 1:
					count["fine"]++
				case v.Error != nil && v.Error.Kind == kind && v.Event.ID == "21" && v.Code == 0:
					count["failed"]++
				default:
					t.Errorf("verdict %+v, error %v", v, v.Error)
				}
			}
			if count["good"] != 50 || count["fine"] != 49 || count["failed"] != 1 {
				t.Errorf("counts %v, expected 50 good, 49 fine, 1 failed", count)
			}
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestRefusedModules(t *testing.T) {
	f := start(t)
	for mod, want := range map[string]string{
		"nomanifest": `does not export "wasmeval_manifest"`, "badsig": `"wasmeval_evaluate" has signature`,
		"badabi": "wasmeval_abi returned 2", "badmanifest": "cannot read the manifest",
		"unknownfield": "unknown field", "startsection": "start section", "badimport": "env.print",
	} {
		_, err := f.Put(context.Background(), "r", module(t, mod), PutOptions{Activate: true})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected an error with %q", mod, err, want)
		}
	}
	if n := len(f.Rules()); n != 0 {
		t.Errorf("%d rules are left of refused modules", n)
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, DefaultLimits())
	f.put("a", "v1")
	f.put("a", "v2")
	f.put("b", "always")
	if _, err := f.Rollback(context.Background(), "a", "me"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Disable(context.Background(), "b", "me"); err != nil {
		t.Fatal(err)
	}
	g := f.Generation()
	f.stop()
	f = open(t, dir, DefaultLimits())
	if f.Generation() != g {
		t.Errorf("generation %d after the restart, expected %d", f.Generation(), g)
	}
	a, err := f.Rule("a")
	if err != nil || a.Active != 1 || a.Previous != 2 || a.Versions != 2 {
		t.Errorf("rule a is %+v, %v", a, err)
	}
	f.send("x", `{}`)
	if l := f.out.all(t); len(l) != 1 || l[0].Rule != "a" || l[0].Code != 1 || l[0].Version != 1 {
		t.Errorf("verdicts %+v, expected one of version 1 of a", l)
	}
	audit, err := f.Audit("", 100)
	if err != nil || len(audit) != 5 || audit[0].Action != "disable" || audit[0].By != "me" {
		t.Errorf("audit %+v, %v", audit, err)
	}
}
