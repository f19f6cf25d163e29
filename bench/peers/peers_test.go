// Package peers holds wasmeval's engine against other ways of evaluating rules in a Go program, on
// the same rule and the same events. It is a module of its own, so that wasmeval carries none of
// them. README.md says how to run it and what the figures mean.
package peers

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
	extism "github.com/extism/go-sdk"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"wasmeval/internal/event"
	"wasmeval/runtime"
)

// The rule: two conditions on two numbers.
const (
	speedAbove, headingAbove = 189.1, 230.0

	rule = "speed_kmh > 189.1 && heading > 230.0"
)

// sample is one event in the form that each engine takes.
type sample struct {
	text   []byte
	fields map[string]any
	input  ast.Value
	plugin []byte // the two numbers
	match  bool
}

// samples are 256 events of 199 bytes.
func samples(tb testing.TB) []sample {
	tb.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	list := make([]sample, 256)
	for i := range list {
		s := &list[i]
		speed := math.Round(1000+random.Float64()*900) / 10
		heading := float64(100 + random.IntN(260))
		s.text = fmt.Appendf(nil, `{"id":"b-%05d","type":"vehicle.position","speed_kmh":%.1f,`+
			`"heading":%.0f,"lat":100.500,"lon":100.500,"ts":"2026-01-01T00:00:00Z",`+
			`"vehicle":{"id":"van-%02d","plate":"M-WE 100000"},"driver":"driver-%02d"}`, i, speed, heading,
			i%100, i%100)
		if len(s.text) != 199 {
			tb.Fatalf("event %s has %d bytes, expected 199", s.text, len(s.text))
		}
		if err := json.Unmarshal(s.text, &s.fields); err != nil {
			tb.Fatal(err)
		}
		var err error
		if s.input, err = ast.InterfaceToValue(s.fields); err != nil {
			tb.Fatal(err)
		}
		s.plugin = binary.LittleEndian.AppendUint64(nil, math.Float64bits(speed))
		s.plugin = binary.LittleEndian.AppendUint64(s.plugin, math.Float64bits(heading))
		s.match = speed > speedAbove && heading > headingAbove
	}
	return list
}

// engine evaluates all of its rules on events. It is for one goroutine.
type engine interface {
	evaluate(events []sample) error
	matches() int // verdicts so far that were matches
}

// counter is the matches of an engine that does not count them itself.
type counter struct{ n int }

func (c *counter) matches() int { return c.n }

var engines = []struct {
	name  string
	rules []int
	open  func(tb testing.TB, rules int, events []sample) engine
}{
	{"wasmeval", []int{1, 100, 1000}, openWasmeval},
	{"cel", []int{1, 100, 1000}, openCEL},
	{"expr", []int{1, 100, 1000}, openExpr},
	{"opa", []int{1, 100, 1000}, openOPA},
	{"extism", []int{1, 100}, openExtism},
}

// Each engine must find the same events before its speed says anything.
func TestSameVerdicts(t *testing.T) {
	events := samples(t)
	want := 0
	for _, s := range events {
		if s.match {
			want++
		}
	}
	if want == 0 || want == len(events) {
		t.Fatalf("%d of %d events match: this proves nothing", want, len(events))
	}
	for _, e := range engines {
		for _, rules := range []int{1, 3} {
			opened := e.open(t, rules, events)
			err := opened.evaluate(events)
			if got := opened.matches(); err != nil || got != rules*want {
				t.Errorf("%s with %d rules: %d matches, expected %d: %v", e.name, rules, got, rules*want, err)
			}
		}
	}
}

// BenchmarkRules is for each event; ns/rule is that divided by the number of rules.
func BenchmarkRules(b *testing.B) {
	events := samples(b)
	for _, e := range engines {
		for _, rules := range e.rules {
			b.Run(fmt.Sprintf("%s/%d", e.name, rules), func(b *testing.B) {
				engine := e.open(b, rules, events)
				b.ReportAllocs()
				b.ResetTimer()
				for done := 0; done < b.N; done += len(events) {
					if err := engine.evaluate(events[:min(len(events), b.N-done)]); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rules), "ns/rule")
			})
		}
	}
}

// wasmeval is the server's engine: a batch of records as they stand in the ring, of which each
// event is parsed, put into columns, and given to each rule.
type wasmeval struct {
	*runtime.Offline
	recs [][]byte
}

func openWasmeval(tb testing.TB, rules int, events []sample) engine {
	tb.Helper()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	code, err := os.ReadFile("testdata/rule/rule.wasm")
	if err != nil {
		tb.Fatal(err)
	}
	ctx := context.Background()
	w := &wasmeval{}
	w.Offline, err = runtime.OpenOffline(ctx, runtime.Config{Limits: runtime.DefaultLimits()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := w.Close(); err != nil {
			tb.Error(err)
		}
	})
	for i := range rules {
		name := runtime.RuleName(fmt.Sprintf("rule-%d", i))
		if _, err := w.Put(ctx, name, code, runtime.PutOptions{Activate: true}); err != nil {
			tb.Fatal(err)
		}
	}
	for _, s := range events {
		head, err := event.AppendHead(nil, &event.Envelope{ID: []byte("b"),
			Type: []byte("vehicle.position"), Arrival: time.Now().UnixNano()})
		if err != nil {
			tb.Fatal(err)
		}
		w.recs = append(w.recs, append(head, s.text...))
	}
	return w
}

func (w *wasmeval) evaluate(events []sample) error {
	w.Run(w.recs[:len(events)])
	return nil
}

func (w *wasmeval) matches() (n int) {
	for _, r := range w.Stats().Rules {
		n += int(r.Outcomes[runtime.Matched])
	}
	return n
}

type celRules struct {
	counter
	list []cel.Program
}

func openCEL(tb testing.TB, rules int, _ []sample) engine {
	tb.Helper()
	env, err := cel.NewEnv(cel.Variable("speed_kmh", cel.DoubleType),
		cel.Variable("heading", cel.DoubleType))
	if err != nil {
		tb.Fatal(err)
	}
	c := &celRules{}
	for range rules {
		tree, issues := env.Compile(rule)
		if issues.Err() != nil {
			tb.Fatal(issues.Err())
		}
		p, err := env.Program(tree, cel.EvalOptions(cel.OptOptimize))
		if err != nil {
			tb.Fatal(err)
		}
		c.list = append(c.list, p)
	}
	return c
}

func (c *celRules) evaluate(events []sample) error {
	for i := range events {
		vars, err := cel.NewActivation(events[i].fields)
		if err != nil {
			return err
		}
		for _, p := range c.list {
			v, _, err := p.Eval(vars)
			if err != nil {
				return err
			}
			if v.Value() == true {
				c.n++
			}
		}
	}
	return nil
}

type exprRules struct {
	counter
	list    []*vm.Program
	machine vm.VM
}

func openExpr(tb testing.TB, rules int, events []sample) engine {
	tb.Helper()
	e := &exprRules{}
	for range rules {
		p, err := expr.Compile(rule, expr.Env(events[0].fields), expr.AsBool())
		if err != nil {
			tb.Fatal(err)
		}
		e.list = append(e.list, p)
	}
	return e
}

func (e *exprRules) evaluate(events []sample) error {
	for i := range events {
		for _, p := range e.list {
			v, err := e.machine.Run(p, events[i].fields)
			if err != nil {
				return err
			}
			if v == true {
				e.n++
			}
		}
	}
	return nil
}

// opaRules are one policy that all rules are parts of, evaluated once for each event.
type opaRules struct {
	counter
	rego.PreparedEvalQuery
}

func openOPA(tb testing.TB, rules int, _ []sample) engine {
	tb.Helper()
	var policy strings.Builder
	policy.WriteString("package peers\n\n")
	for i := range rules {
		fmt.Fprintf(&policy, "matches contains %d if {\n\tinput.speed_kmh > %v\n\tinput.heading > %v\n"+
			"}\n", i, speedAbove, headingAbove)
	}
	q, err := rego.New(rego.Query("count(data.peers.matches)"),
		rego.Module("peers.rego", policy.String())).PrepareForEval(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return &opaRules{PreparedEvalQuery: q}
}

func (o *opaRules) evaluate(events []sample) error {
	ctx := context.Background()
	for i := range events {
		set, err := o.Eval(ctx, rego.EvalParsedInput(events[i].input))
		if err != nil {
			return err
		}
		n, err := set[0].Expressions[0].Value.(json.Number).Int64()
		if err != nil {
			return err
		}
		o.n += int(n)
	}
	return nil
}

type extismRules struct {
	counter
	list []*extism.Plugin
}

func openExtism(tb testing.TB, rules int, _ []sample) engine {
	tb.Helper()
	ctx := context.Background()
	code, err := extism.NewCompiledPlugin(ctx, extism.Manifest{
		Wasm: []extism.Wasm{extism.WasmFile{Path: "testdata/extism/extism.wasm"}},
	}, extism.PluginConfig{}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := code.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
	e := &extismRules{}
	for range rules {
		p, err := code.Instance(ctx, extism.PluginInstanceConfig{})
		if err != nil {
			tb.Fatal(err)
		}
		e.list = append(e.list, p)
	}
	return e
}

func (e *extismRules) evaluate(events []sample) error {
	for i := range events {
		for _, p := range e.list {
			_, out, err := p.Call("evaluate", events[i].plugin)
			if err != nil {
				return err
			}
			e.n += int(out[0])
		}
	}
	return nil
}
