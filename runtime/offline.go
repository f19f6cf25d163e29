package runtime

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
	"wasmeval/runtime/state"
)

// Offline is an engine without a stream, for the command line: its caller's goroutine is the one
// worker, and nothing depends on the time of day, so that the same events give the same verdicts in
// every run. Its rules live in a temporary folder. Nothing of it may be used by two goroutines.
//
// Events do not go through a ring: where a batch ends would then depend on who was faster, and a
// verdict's fuel is the average of its batch.
type Offline struct {
	*Engine
	dir  string
	held []*program // of all sessions so far, so that each module is loaded once
}

// OpenOffline opens an engine with no rules. Of c it takes the limits, the command to compile by and
// how events are read. No rule is ever quarantined: that would depend on the time.
func OpenOffline(ctx context.Context, c Config) (*Offline, error) {
	dir, err := os.MkdirTemp("", "wasmeval-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a temporary folder: %w", err)
	}
	o := &Offline{dir: dir}
	c.DataDir, c.Router, c.Batch = dir, nobody{}, 256
	c.Limits.Quarantine.InRow, c.Limits.Quarantine.Percent = 0, 0
	if c.Bus, err = bus.New(bus.Config{Shards: 1, RingBytes: 64 << 10}); err == nil {
		o.Engine, err = Open(ctx, c)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	o.boot = "offline"
	o.secret = state.Secret{} // which keys make room for others depends on it
	o.workers[0].hasher = state.NewHasher(o.secret)
	return o, nil
}

// Close closes the engine and removes its folder.
func (o *Offline) Close() error {
	for _, prog := range o.held {
		o.programs.put(prog)
	}
	err := o.Engine.Close()
	if gone := os.RemoveAll(o.dir); err == nil {
		err = gone
	}
	return err
}

// program loads a module, which stays loaded until Close.
func (o *Offline) program(ctx context.Context, code []byte) (*program, error) {
	prog, err := o.programs.get(ctx, code)
	switch {
	case err != nil:
		return nil, err
	case slices.Contains(o.held, prog):
		o.programs.put(prog)
	default:
		o.held = append(o.held, prog)
	}
	return prog, nil
}

// nobody is a Router that wants no verdict.
type nobody struct{}

func (nobody) Wants(string, int32, bool) bool    { return false }
func (nobody) Route(string, int32, bool, []byte) {}

// Run evaluates records as one batch: each is a head that event.AppendHead made, and the event's
// JSON after it.
func (o *Offline) Run(recs [][]byte) { o.workers[0].Handle(recs) }

// Replay evaluates records as Run does, each with its position as its index, and returns the
// verdicts of each in the order of the rules: as the server has them, but without what depends on
// the time of the run. The time of a verdict is its event's arrival. With only one rule no verdict
// needs to be parsed.
func (o *Offline) Replay(ctx context.Context, recs [][]byte) ([][]json.RawMessage, error) {
	reply, err := o.OpenReply(len(recs), "")
	if err != nil {
		return nil, err
	}
	defer reply.Close()
	for _, rec := range recs {
		event.SetReply(rec, reply.ID())
	}
	o.Run(recs)
	answers, err := reply.Wait(ctx, time.Minute)
	if err != nil {
		return nil, err
	}
	all := make([][]json.RawMessage, len(recs))
	for i, list := range answers {
		if all[i], err = split(list, len(o.set.Load().rules)); err != nil {
			return nil, err
		}
		for k := range all[i] {
			all[i][k] = steady(all[i][k], int64(binary.LittleEndian.Uint64(recs[i])))
		}
	}
	return all, nil
}

// split splits a JSON array of verdicts by so many rules at most.
func split(list json.RawMessage, rules int) (verdicts []json.RawMessage, err error) {
	switch {
	case len(list) <= len("[]"):
		return nil, nil
	case rules == 1:
		return []json.RawMessage{list[1 : len(list)-1]}, nil
	}
	if err := json.Unmarshal(list, &verdicts); err != nil {
		return nil, fmt.Errorf("cannot read verdicts: %w", err)
	}
	return verdicts, nil
}

// steady takes what depends on the time of the run out of a verdict, which it changes. The time is
// the second member, and the durations are the last ones: see verdict.append.
func steady(line json.RawMessage, arrival int64) json.RawMessage {
	const before, form = `","time":"`, "2006-01-02T15:04:05.000000Z"
	at := bytes.Index(line, []byte(before)) + len(before)
	end := bytes.LastIndex(line, []byte(`,"queued_us":`))
	copy(line[at:], time.Unix(0, arrival).UTC().Format(form))
	return append(line[:end], '}')
}

// Session evaluates events by one module, one after the other, each at a time that its caller names.
// Its keyed state begins empty, and passes from event to event.
type Session struct {
	o *Offline
	t *tester
	n int // events so far
}

// NewSession opens a session, which must be closed before the engine is.
func (o *Offline) NewSession(ctx context.Context, code []byte, config RuleConfig) (*Session, error) {
	if err := config.check(&o.limits); err != nil {
		return nil, err
	}
	prog, err := o.program(ctx, code)
	if err != nil {
		return nil, err
	}
	t, err := o.newTester("session", prog, &config)
	if err != nil {
		return nil, err
	}
	t.choosy = true
	return &Session{o: o, t: t}, nil
}

// Manifest is the module's.
func (s *Session) Manifest() Manifest { return s.t.prog.manifest }

// Evaluate evaluates an event that arrives at that time, with so much fuel; 0 is the session's. An
// event that the rule's match does not name is not given to it, as in the stream. The error is of
// kind BadEvent if the event cannot be read.
func (s *Session) Evaluate(ctx context.Context, text TestEvent, arrival time.Time, fuel uint64) (
	TestVerdict, error) {
	config := *s.t.config
	if fuel != 0 {
		config.Fuel = fuel
	}
	if err := config.check(&s.o.limits); err != nil {
		return TestVerdict{}, err
	}
	i := s.n
	s.n++
	return s.t.evaluate(ctx, i, text, arrival.UnixNano(), config.Fuel)
}

// Close ends the session.
func (s *Session) Close() { s.t.close() }

// Costs is what it takes to have an instance of a rule.
type Costs struct {
	Pages       int           // of memory, when it is ready
	Instantiate time.Duration // making one ready from nothing, once the module is compiled
	FromImage   time.Duration // making one from the image of a ready one; 0 if that cannot be
	Reset       time.Duration // going back to that image after a failure; 0 if that cannot be
}

// Costs measures what a module takes, as the least of several tries.
func (o *Offline) Costs(ctx context.Context, code []byte, config RuleConfig) (c Costs, err error) {
	prog, err := o.program(ctx, code)
	if err != nil {
		return c, err
	}
	params, err := paramsJSON(&prog.manifest, config.Params)
	if err != nil {
		return c, err
	}
	fresh := func(from *snapshot) (in *instance, took time.Duration, err error) {
		start := time.Now()
		if in, err = o.programs.instantiate(ctx, prog, params, from, nil); err != nil {
			return nil, 0, refused(err)
		}
		return in, time.Since(start), nil
	}
	for range costTries {
		in, took, err := fresh(nil)
		if err != nil {
			return c, err
		}
		c.Pages, c.Instantiate = int(in.mem.Size()/wasmPage), least(c.Instantiate, took)
		image := prog.snapshots.take(in, params)
		in.close()
		if image == nil {
			continue
		}
		copied, took, err := fresh(image)
		if err != nil {
			prog.snapshots.put(image)
			return c, err
		}
		c.FromImage = least(c.FromImage, took)
		// What a failed call leaves behind: some pages that it has written.
		if b, ok := copied.mem.Read(0, copied.mem.Size()); ok {
			for at := 0; at < len(b); at += wasmPage {
				b[at]++
			}
		}
		start := time.Now()
		if copied.restore(image) {
			c.Reset = least(c.Reset, time.Since(start))
		}
		copied.close()
		prog.snapshots.put(image)
	}
	return c, nil
}

const costTries = 10

// least is the smaller one, where 0 is none yet.
func least(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}
