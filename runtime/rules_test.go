package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// Every column type, valid, absent, null and of another type, as a guest sees it.
func TestColumns(t *testing.T) {
	f := start(t)
	f.put("c", "columns")
	m, err := f.Rule("c")
	if err != nil {
		t.Fatal(err)
	}
	// The guest reports what it read of each column; its fields say how the events must look.
	value := map[string]string{"f64": "1.5", "i64": "-9007199254740993", "bool": "true",
		"utf8": `"a\"é\u0007"`, "json": `[1,{"k":"v"},null]`}
	var full, wrong, null []string
	for _, fd := range m.Manifest.Fields {
		if strings.HasPrefix(fd.Path, "@") {
			continue
		}
		full = append(full, fmt.Sprintf("%q: %s", fd.Path, value[fd.Type]))
		null = append(null, fmt.Sprintf("%q:null", fd.Path))
		other := `"text"`
		if fd.Type == "utf8" {
			other = "12"
		}
		wrong = append(wrong, fmt.Sprintf("%q:%s", fd.Path, other))
	}
	events := []string{"{" + strings.Join(full, ", ") + "}", "{" + strings.Join(null, ",") + "}",
		"{" + strings.Join(wrong, ",") + "}", "{}"}
	var list []TestEvent
	for _, e := range events {
		list = append(list, TestEvent(e))
	}
	got, err := f.Test(context.Background(), "c", 0, list, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		for _, fd := range v.Fields {
			if strings.HasPrefix(fd.Path, "@") {
				continue
			}
			want := i == 0 || i == 2 && fd.Type == "json"
			if fd.Valid != want {
				t.Errorf("event %d, %s %s: valid %v, expected %v", i, fd.Path, fd.Type, fd.Valid, want)
			}
			if i == 0 && fd.Type != "utf8" && fd.Type != "f64" && string(fd.Value) != value[fd.Type] {
				t.Errorf("%s %s is %s, expected %s", fd.Path, fd.Type, fd.Value, value[fd.Type])
			}
		}
		if !json.Valid(v.Payload) {
			t.Errorf("event %d: payload %s, error %v", i, v.Payload, v.Error)
		}
	}
	// The same through the ring, all in one batch: the payloads must be what Test explained.
	f.send("", events...)
	for i, v := range f.out.all(t) {
		if len(digestOf(v.Payload)) != 5 ||
			fmt.Sprint(digestOf(v.Payload)) != fmt.Sprint(digestOf(got[i].Payload)) {
			t.Errorf("event %d: payload %s in the stream, %s in the test", i, v.Payload, got[i].Payload)
		}
	}
	if n := f.Stats().Rules[0].WrongType; n != 4 {
		t.Errorf("%d values of another type counted, expected 4", n)
	}
}

// digestOf keeps what the guest read of the object's columns: the envelope, the times and the size of
// the batch differ between a test and the stream.
func digestOf(payload []byte) map[string]any {
	var m map[string]any
	_ = json.Unmarshal(payload, &m)
	for k, v := range m {
		col, ok := v.(map[string]any)
		if !ok || strings.HasPrefix(k, "@") {
			delete(m, k)
			continue
		}
		delete(col, "nulls")
	}
	return m
}

func TestParseInt(t *testing.T) {
	for text, want := range map[string]struct {
		n  int64
		ok bool
	}{
		"0": {0, true}, "-9223372036854775808": {-1 << 63, true}, "9223372036854775807": {1<<63 - 1, true},
		"9223372036854775808": {0, false}, "1.0": {1, true}, "1e3": {1000, true}, "1.5": {0, false},
		"1e300": {0, false}, "9007199254740993.0": {0, false},
	} {
		n, ok := parseInt(text)
		if ok != want.ok || ok && n != want.n {
			t.Errorf("%s: %d, %v, expected %d, %v", text, n, ok, want.n, want.ok)
		}
	}
}

func TestPaths(t *testing.T) {
	for _, bad := range []string{"", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", "a]b", "@nope", "a[1]b", "$.a"} {
		if _, _, err := parsePath(bad); err == nil {
			t.Errorf("path %q is taken", bad)
		}
	}
	for _, good := range []string{"$", "@id", "a", "user.id", "items[0].price", "a[1][2]", "a b"} {
		if _, _, err := parsePath(good); err != nil {
			t.Errorf("path %q: %v", good, err)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"a.b[0].c", "$", "@id", "a[", "a[1]]"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, path string) { _, _, _ = parsePath(path) })
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"match":["a.*"],"fields":[{"path":"a","type":"f64"}],"params":[{"name":"p","type":"i64","default":1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, cols, err := parseManifest(text)
		if err == nil && len(cols) != len(m.Fields) {
			t.Errorf("%d columns for %d fields", len(cols), len(m.Fields))
		}
	})
}

func TestParams(t *testing.T) {
	f := start(t)
	res := f.put("p", "params")
	m, err := f.Validate(context.Background(), module(t, "params"))
	if err != nil || len(m.Params) != 4 {
		t.Fatalf("manifest %+v, %v", m, err)
	}
	given := map[string]json.RawMessage{}
	for _, p := range m.Params {
		given[p.Name] = json.RawMessage(map[string]string{"f64": "2.5", "i64": "-7", "bool": "true",
			"utf8": `"x \"y\""`}[p.Type])
	}
	if _, err := f.Configure(context.Background(), "p", RuleConfig{Params: given}, "t"); err != nil {
		t.Fatal(err)
	}
	if g := f.Generation(); g != res.Swap.Generation+1 {
		t.Errorf("generation %d after a configuration, expected a new one", g)
	}
	f.send("x", `{}`)
	v := f.out.all(t)[0]
	for _, want := range []string{"2.5", "-7", "true", `x \"y\"`} {
		if !bytes.Contains(v.Payload, []byte(want)) {
			t.Errorf("payload %s lacks %s; error %v", v.Payload, want, v.Error)
		}
	}
	for name, text := range map[string]string{m.Params[0].Name: `{}`, "nobody": "1"} {
		_, err := f.Configure(context.Background(), "p",
			RuleConfig{Params: map[string]json.RawMessage{name: json.RawMessage(text)}}, "t")
		var e *Error
		if !errors.As(err, &e) || e.Kind != BadParams || !strings.Contains(err.Error(), name) {
			t.Errorf("param %s=%s: %v", name, text, err)
		}
	}
}

// The same events give the same verdicts, payloads and fuel in every run, also for a rule that asks
// for clocks and random bytes.
func TestDeterministic(t *testing.T) {
	var first string
	for range 3 {
		f := start(t)
		f.put("w", "wasi")
		got, err := f.Test(context.Background(), "w", 0, []TestEvent{TestEvent(`{}`), TestEvent(`{"n":1}`)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, v := range got {
			if v.Error != nil {
				t.Fatalf("verdict %+v", v)
			}
			text += fmt.Sprintf("%d %d\n", v.Code, v.Fuel)
		}
		if first == "" {
			first = text
		}
		if text != first {
			t.Errorf("got\n%s, in the first run\n%s", text, first)
		}
	}
}

// The policy of a rule decides the code of a failed evaluation; the error stays in the verdict.
func TestFailurePolicy(t *testing.T) {
	for _, c := range []struct {
		config RuleConfig
		want   int32
	}{{RuleConfig{}, 0}, {RuleConfig{OnFailure: FailClosed}, 1}, {RuleConfig{OnFailure: FailClosed, FailCode: 9}, 9}} {
		f := start(t)
		if _, err := f.Put(context.Background(), "r", module(t, "trap"),
			PutOptions{Activate: true, Config: &c.config}); err != nil {
			t.Fatal(err)
		}
		f.send("x", `{"bad":1}`)
		if v := f.out.all(t)[0]; v.Code != c.want || v.Error == nil || v.Error.Kind != FaultTrap {
			t.Errorf("%+v: code %d, error %v", c.config, v.Code, v.Error)
		}
	}
}

// A test has no side effects and explains fuel, fields and traps.
func TestExplain(t *testing.T) {
	f := start(t)
	f.put("r", "loop")
	got, err := f.Test(context.Background(), "r", 1, []TestEvent{TestEvent(`{"bad":0}`), TestEvent(`{"bad":1}`),
		TestEvent(`{"bad":0}`)}, &RuleConfig{Fuel: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Code != 1 || got[0].Fuel == 0 || got[0].Fuel != got[2].Fuel || got[2].Code != 1 {
		t.Errorf("verdicts %+v and %+v, expected equal ones", got[0], got[2])
	}
	if got[1].Error == nil || got[1].Error.Kind != FaultFuel || got[1].Fuel != 10_000 {
		t.Errorf("verdict %+v, expected it out of 10,000 units", got[1])
	}
	if s := f.Stats(); s.Events != 0 || s.Rules[0].Calls != 0 || len(f.out.all(t)) != 0 {
		t.Errorf("a test left traces: %+v", s)
	}
	if _, err := f.Test(context.Background(), "r", 2, []TestEvent{TestEvent(`{}`)}, nil); err == nil {
		t.Error("version 2 does not exist and was tested")
	}
}

// Replies carry all verdicts of their events, those of a named rule alone if asked.
func TestReplies(t *testing.T) {
	f := start(t)
	f.put("a", "always")
	f.put("n", "never")
	for rule, want := range map[string]int{"": 2, "n": 1} {
		r, err := f.OpenReply(3, rule)
		if err != nil {
			t.Fatal(err)
		}
		r.Skip(1)
		for _, i := range []uint32{0, 2} {
			env := event.Envelope{Arrival: 1, Reply: r.ID(), Index: i}
			head, err := event.AppendHead(nil, &env)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.in.Submit(0, []bus.Record{{Head: head, Body: []byte(`{}`)}}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		list, err := r.Wait(ctx, time.Minute)
		cancel()
		r.Close()
		if err != nil || list[1] != nil {
			t.Fatalf("reply %s, %v", list, err)
		}
		for _, i := range []int{0, 2} {
			var v []said
			if err := json.Unmarshal(list[i], &v); err != nil || len(v) != want {
				t.Errorf("rule %q, event %d: %s (%v), expected %d verdicts", rule, i, list[i], err, want)
			}
		}
	}
	if _, err := f.OpenReply(1, "none"); !errors.Is(err, ErrNoRule) {
		t.Errorf("reply of a rule that is not there: %v", err)
	}
	r, _ := f.OpenReply(1, "")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Wait(ctx, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("wait past the deadline: %v", err)
	}
	r.Close()
	f.limits.Waiting = 2
	for _, want := range []error{nil, nil, ErrBusy} {
		if _, err := f.OpenReply(1, ""); !errors.Is(err, want) {
			t.Errorf("with a limit of 2 replies: %v, expected %v", err, want)
		}
	}
}

// Rules match by type: exactly, by prefix, or all.
func TestMatch(t *testing.T) {
	s := newRuleSet(1, []*activeRule{
		{name: "all", prog: &program{manifest: Manifest{Match: []string{"*"}}}},
		{name: "pay", prog: &program{manifest: Manifest{Match: []string{"payment.*", "payment.card"}}}},
		{name: "card", prog: &program{manifest: Manifest{Match: []string{"payment.card"}}}},
	})
	for typ, want := range map[string]string{"": "[0]", "payment.card": "[0 1 2]", "payment.": "[0 1]",
		"payment": "[0]", "payment.x.y": "[0 1]"} {
		if got := fmt.Sprint(s.matching(nil, typ)); got != want {
			t.Errorf("type %q wants rules %s, expected %s", typ, got, want)
		}
	}
}

// A registry that is damaged is reported by name and left as it is.
func TestDamagedRegistry(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "registry.db")
	junk := bytes.Repeat([]byte("junk"), 5000)
	if err := os.WriteFile(path, junk, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := bus.New(bus.Config{Shards: 1, RingBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), Config{DataDir: dir, Bus: b, Router: &collect{}, Limits: DefaultLimits(), Batch: 1})
	var e *Error
	if !errors.As(err, &e) || e.Kind != Damaged || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, expected Damaged with the file's name", err)
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, junk) {
		t.Error("the damaged file was changed")
	}
}

// 100 rules come back at start from the compilation cache: BenchmarkOpen says how fast.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	e := idle(b, dir)
	code := module(b, "params")
	for i := range 100 {
		// Another default makes each a module of its own.
		own := bytes.Replace(code, []byte(`"default":"text"`), fmt.Appendf(nil, `"default":"te%02d"`, i), 1)
		if bytes.Equal(own, code) {
			b.Fatal("the module has no default to replace")
		}
		if _, err := e.Put(context.Background(), RuleName(fmt.Sprint("r", i)), own,
			PutOptions{Activate: true}); err != nil {
			b.Fatal(err)
		}
	}
	shut(b, e)
	for b.Loop() {
		e := idle(b, dir)
		if n := e.programs.count(); n != 100 {
			b.Fatalf("%d programs are loaded, expected 100", n)
		}
		shut(b, e)
	}
}

// idle is an engine whose workers were not started, in a data folder.
func idle(b testing.TB, dir string) *Engine {
	b.Helper()
	bs, err := bus.New(bus.Config{Shards: 2, RingBytes: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	e, err := Open(context.Background(), Config{DataDir: dir, Bus: bs, Router: &collect{},
		Limits: DefaultLimits(), Batch: 64})
	if err != nil {
		b.Fatal(err)
	}
	return e
}

func shut(b testing.TB, e *Engine) {
	b.Helper()
	e.bus.Close()
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkEvaluate is the way from the ring through one rule, for each event of a batch.
func BenchmarkEvaluate(b *testing.B) {
	for _, c := range []struct {
		rule  string
		batch int
		typ   string
		event string
	}{
		{"c/examples/geofence/geofence", 1, "vehicle.position", position},
		{"c/examples/geofence/geofence", 64, "vehicle.position", position},
		{"go/examples/payment-limit/payment-limit", 1, "payment.card", payment},
		{"go/examples/payment-limit/payment-limit", 64, "payment.card", payment},
		{"../testdata/modules/counting/counting", 1, "any", "{}"}, // two operations of state
		{"../testdata/modules/counting/counting", 64, "any", "{}"},
	} {
		b.Run(fmt.Sprintf("%s/batch%d", filepath.Base(c.rule), c.batch), func(b *testing.B) {
			code, err := os.ReadFile("../rules-sdk/" + c.rule + ".wasm")
			if err != nil {
				b.Fatal(err)
			}
			batch := c.batch
			bs, err := bus.New(bus.Config{Shards: 1, RingBytes: 1 << 20})
			if err != nil {
				b.Fatal(err)
			}
			e, err := Open(context.Background(), Config{DataDir: b.TempDir(), Bus: bs, Router: nobody{},
				Limits: DefaultLimits(), Batch: batch})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := e.Put(context.Background(), "g", code, PutOptions{Activate: true}); err != nil {
				b.Fatal(err)
			}
			env := event.Envelope{ID: []byte("f-1"), Type: []byte(c.typ), Key: []byte("user-1"), Arrival: 1}
			head, err := event.AppendHead(nil, &env)
			if err != nil {
				b.Fatal(err)
			}
			rec := append(head, c.event...)
			recs := make([][]byte, batch)
			for i := range recs {
				recs[i] = rec
			}
			b.ReportAllocs()
			for b.Loop() {
				e.workers[0].Handle(recs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/event")
			st := e.Stats().Rules[0]
			b.ReportMetric(float64(st.Fuel)/float64(st.Outcomes[Matched]+st.Outcomes[Unmatched]), "fuel/event")
			bs.Close()
			if err := e.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

const (
	position = `{"lat":48.1,"lon":11.5,"speed_kmh":60.5,"vehicle":{"id":"van-01"},"heading":45}`
	payment  = `{"amount":20.5,"currency":"EUR","user":{"id":"u-1"},"card":{"brand":"visa"}}`
)
