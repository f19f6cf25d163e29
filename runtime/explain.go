package runtime

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fastjson"

	"wasmeval/internal/event"
	"wasmeval/runtime/state"
)

// Validate checks a module as Put does and returns its manifest. Nothing is kept.
func (e *Engine) Validate(ctx context.Context, code []byte) (Manifest, error) {
	leave, err := e.enter()
	if err != nil {
		return Manifest{}, err
	}
	defer leave()
	prog, err := e.programs.get(ctx, code)
	if err != nil {
		return Manifest{}, err
	}
	defer e.programs.put(prog)
	return prog.manifest, nil
}

// Test evaluates events by a version of a rule (0: the active one) and explains each verdict. It has
// no side effects: the instance is its own, nothing is routed, counted or kept. A nil config means
// the rule's. It runs on the caller's goroutine.
func (e *Engine) Test(ctx context.Context, name RuleName, n VersionNumber, events []TestEvent,
	config *RuleConfig) ([]TestVerdict, error) {
	leave, err := e.enterTest(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	v, own, err := e.version(name, n)
	if err != nil {
		return nil, err
	}
	if config == nil {
		config = &own
	}
	if err := config.check(&e.limits); err != nil {
		return nil, err
	}
	prog, err := e.programOf(ctx, name, v)
	if err != nil {
		return nil, err
	}
	defer e.programs.put(prog)
	t, err := e.newTester(name, prog, config)
	if err != nil {
		return nil, err
	}
	defer t.close()
	list := make([]TestVerdict, len(events))
	for i, ev := range events {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-e.stopping:
			return nil, errorf(ShuttingDown, "the server is stopping")
		default:
		}
		if list[i], err = t.evaluate(ctx, i, ev, time.Now().UnixNano(), config.Fuel); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// enterTest is enter, and waits for one of the turns that tests have.
func (e *Engine) enterTest(ctx context.Context) (func(), error) {
	leave, err := e.enter()
	if err != nil {
		return nil, err
	}
	select {
	case e.tests <- struct{}{}:
		return func() {
			<-e.tests
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// tester evaluates events one by one on an instance of its own.
type tester struct {
	e        *Engine
	prog     *program
	params   []byte
	config   *RuleConfig
	scanner  *event.Scanner
	set      *ruleSet
	table    table
	parser   fastjson.Parser
	snapshot *snapshot // what instances begin with, or nil
	in       *instance
	logs     []TestLog
	choosy   bool          // it is not given events that its match does not name
	states   []*keyedState // of its own, empty at first
	keeper   *keeper
}

func (t *tester) close() {
	if t.in != nil {
		t.in.close()
	}
	for _, k := range t.states {
		k.close()
	}
	t.prog.snapshots.put(t.snapshot)
}

// newTester makes one, with small states of its own: its events are few. It must be closed before the
// program is put back.
func (e *Engine) newTester(name RuleName, prog *program, config *RuleConfig) (*tester, error) {
	params, err := paramsJSON(&prog.manifest, config.Params)
	if err != nil {
		return nil, err
	}
	scanner, err := event.NewScanner(e.fields, e.evLim)
	if err != nil {
		return nil, err
	}
	t := &tester{e: e, prog: prog, params: params, config: config, scanner: scanner,
		snapshot: prog.snapshots.get(params)}
	t.set = newRuleSet(0, []*activeRule{{name: name, prog: prog}})
	for _, spec := range prog.manifest.State {
		spec.Keys = min(spec.Keys, maxTestKeys)
		k, err := newKeyedState(spec, 1)
		if err != nil {
			t.close()
			return nil, err
		}
		t.states = append(t.states, k)
	}
	t.keeper = newKeeper(t.states, 0, state.NewHasher(e.secret), new(atomic.Uint64))
	return t, nil
}

// maxTests is how many calls of Test run at once; the others wait.
const maxTests = 2

// maxTestKeys is how many keys a state has at most in a test.
const maxTestKeys = 1000

// maxTestLogs bounds the log lines in the explanation of one event.
const maxTestLogs = 100

func (t *tester) log(level int, text string) {
	if len(t.logs) < maxTestLogs {
		t.logs = append(t.logs, TestLog{Level: logNames[level], Text: text})
	}
}

// evaluate evaluates one event that arrives at that time. A fuel of 0 is the engine's default.
func (t *tester) evaluate(ctx context.Context, i int, text TestEvent, arrival int64, fuel uint64) (
	TestVerdict, error) {
	out := TestVerdict{Index: i}
	view := event.View{JSON: text}
	bad := func(err error) (TestVerdict, error) {
		return out, &Error{Kind: BadEvent, Msg: "event " + strconv.Itoa(i), Err: err}
	}
	if err := t.scanner.Scan(text, &view.Envelope); err != nil {
		return bad(err)
	}
	if len(view.ID) == 0 {
		view.ID = strconv.AppendInt(nil, int64(i), 10)
	}
	if view.Arrival = arrival; view.Time == 0 {
		view.Time = arrival
	}
	out.Matched = len(t.set.matching(nil, string(view.Type))) > 0
	if !out.Matched && t.choosy {
		return out, nil
	}
	obj, err := t.parser.ParseBytes(text)
	if err != nil {
		return bad(err)
	}
	if err := t.ready(ctx); err != nil {
		return out, err
	}
	if fuel == 0 {
		fuel = t.e.limits.EventFuel
	}
	t.table.reset(len(t.set.columns), 1)
	t.table.gather(0, &view, obj, t.set.columns, t.set.match(0).columns)
	start := time.Now()
	_, fault := t.in.run(&t.table, []event.View{view}, []uint16{0}, t.set.columns, t.set.which[0],
		fuel)
	out.TookNS, out.Fuel = time.Since(start).Nanoseconds(), t.in.used()
	out.Fields, out.Logs = t.fields(), t.logs
	code := int32(0)
	if fault == nil {
		code = t.in.code(0)
	}
	t.finish(&out, fault, code)
	return out, nil
}

// ready sees that there is an instance, which logs for the next event.
func (t *tester) ready(ctx context.Context) (err error) {
	t.logs = nil
	if t.in != nil {
		return nil
	}
	if t.in, err = t.e.programs.instantiate(ctx, t.prog, t.params, t.snapshot, t.log); err != nil {
		return refused(err)
	}
	t.in.keeper = t.keeper
	return nil
}

// finish fills in what the call gave, as a worker would have it.
func (t *tester) finish(out *TestVerdict, fault *VerdictError, code int32) {
	if fault != nil && fault.Kind != FaultRule && !t.in.restore(t.snapshot) {
		t.in.close()
		t.in = nil
	}
	if fault == nil && code < 0 {
		fault = badVerdict(code)
	}
	if fault != nil {
		out.Error, out.Code = fault, t.config.failCode()
		return
	}
	out.Code = code
	if p := t.in.payload(0); code != 0 && len(p) > 0 {
		out.Payload = append(json.RawMessage{}, p...)
	}
}

func badVerdict(code int32) *VerdictError {
	return &VerdictError{Kind: FaultVerdict,
		Message: "the verdict is " + strconv.Itoa(int(code)) + ": expected 0 or above"}
}

// fields tells what each column held.
func (t *tester) fields() []TestField {
	list := make([]TestField, len(t.prog.columns))
	for i, c := range t.prog.columns {
		g := &t.table.cols[t.set.which[0][i]]
		list[i] = TestField{Field: t.prog.manifest.Fields[i], Valid: g.state[0] == valid}
		if list[i].Valid {
			list[i].Value = t.value(g, c.typ)
		}
	}
	return list
}

func (t *tester) value(g *gathered, typ colType) json.RawMessage {
	switch typ {
	case typeF64:
		b, _ := json.Marshal(math.Float64frombits(g.fixed[0])) // JSON numbers are finite
		return b
	case typeI64:
		return strconv.AppendInt(nil, int64(g.fixed[0]), 10)
	case typeBool:
		return strconv.AppendBool(nil, g.fixed[0] == 1)
	}
	text := t.table.text[g.text[0].off:g.text[0].end]
	if typ == typeUTF8 {
		return appendString(nil, text)
	}
	return append(json.RawMessage{}, text...)
}
