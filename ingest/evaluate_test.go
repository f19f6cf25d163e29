package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// replies opens replies as an engine would, with one worker that never has to wait: what a reply
// waits for is done on the spot.
type replies struct {
	w       *world
	err     error // of open
	events  int   // asked for
	rule    string
	opened  int
	closed  int
	skipped []int
	got     []took
	silent  bool                            // it has no verdicts for anything
	wait    func(ctx context.Context) error // before the verdicts, or nil
}

const replyID = 77

func (rs *replies) open(events int, rule string) (Reply, error) {
	if rs.err != nil {
		return nil, rs.err
	}
	rs.events, rs.rule = events, rule
	rs.opened++
	return &fakeReply{rs}, nil
}

type fakeReply struct{ *replies }

func (r *fakeReply) ID() uint64     { return replyID }
func (r *fakeReply) Skip(index int) { r.skipped = append(r.skipped, index) }
func (r *fakeReply) Close()         { r.closed++ }

// Wait gives each event one verdict: its own text.
func (r *fakeReply) Wait(ctx context.Context, timeout time.Duration) ([]json.RawMessage, error) {
	if r.wait != nil {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if err := r.wait(ctx); err != nil {
			return nil, err
		}
	}
	list := make([]json.RawMessage, r.events)
	r.got = r.w.drain()
	for _, e := range r.got {
		if e.reply != replyID {
			r.w.t.Errorf("event %d has reply %d", e.index, e.reply)
		}
		if !r.silent {
			list[e.index] = json.RawMessage("[" + e.json + "]")
		}
	}
	for _, index := range r.skipped {
		if list[index] != nil {
			r.w.t.Errorf("event %d was skipped, and taken", index)
		}
	}
	if n := len(r.got) + len(r.skipped); n != r.events {
		r.w.t.Errorf("%d events of %d were taken or skipped", n, r.events)
	}
	return list, nil
}

func newEvaluate(t testing.TB, c Config, shards int) (*world, *replies) {
	t.Helper()
	rs := &replies{}
	c.Open = rs.open
	rs.w = newWorld(t, c, shards, smallRing)
	return rs.w, rs
}

func (w *world) evaluate(body string, headers ...string) reply {
	w.t.Helper()
	return w.serve(w.in.Evaluate, request(strings.NewReader(body), headers...))
}

// expectResults compares results with what becomes of each event, in their order. A good event's
// member n is its index.
func (list items) expectResults(t testing.TB, got []result) {
	t.Helper()
	if len(got) != len(list) {
		t.Fatalf("%d results for %d events", len(got), len(list))
	}
	for i, r := range got {
		switch {
		case r.Index != i:
			t.Errorf("result %d has index %d", i, r.Index)
		case list[i] != "ok":
			if r.Error == nil || r.Error.Reason != list[i] || r.Error.Detail == "" || r.Verdicts != nil {
				t.Errorf("result %d is %+v: expected the error %s", i, r, list[i])
			}
		default:
			var verdicts []struct{ N int }
			if err := json.Unmarshal(r.Verdicts, &verdicts); err != nil || r.Error != nil ||
				len(verdicts) != 1 || verdicts[0].N != i {
				t.Errorf("result %d is %s, error %v, %v", i, r.Verdicts, r.Error, err)
			}
		}
	}
}

func TestEvaluate(t *testing.T) {
	for _, c := range []struct {
		kind, body, items string
		cut               bool
	}{
		{plain, `{"n":0}`, "ok", false},
		{plain, array(numbered(5)), "ok ok ok ok ok", false},
		{byLine, "{\"n\":0}\n\nx\n{\"n\":2}\n7", "ok malformed ok not_object", false},
		{plain, `[7,{"n":1},{"n":2,"n":2},{"n":3},]`, "not_object ok duplicate_key ok malformed", true},
		{plain, `[{"n":0},{"n":1,"pad":"` + huge + `"},{"n":2}]`, "ok too_large ok", false},
		// The bytes are good, so only the bus refuses it: there is nothing to wait for.
		{plain, `{"n":0,"pad":"` + huge + `"}`, "too_large", false},
		{plain, `[]`, "", false},
		{byLine, "\n\n", "", false},
	} {
		w, rs := newEvaluate(t, Config{}, 2)
		list := itemsOf(c.items)
		a := w.evaluate(c.body, "Content-Type: "+c.kind)
		a.expect(t, http.StatusOK, "")
		list.expectResults(t, a.Results)
		list.expectNumbers(t, rs.got)
		if a.RestNotRead != c.cut || rs.closed != rs.opened || (rs.opened == 0) != (len(list) == 0) {
			t.Errorf("%s: rest_not_read %v, %d replies opened, %d closed", c.items, a.RestNotRead,
				rs.opened, rs.closed)
		}
		if rs.events != len(list) {
			t.Errorf("a reply was opened for %d events of %d", rs.events, len(list))
		}
		w.expectLedger(bus.SourceEvaluate, list.ledger(t))
	}
}

// The exact text that clients see, also with no verdict for an event.
func TestEvaluateReply(t *testing.T) {
	w, rs := newEvaluate(t, Config{}, 1)
	for body, want := range map[string]string{
		`[{"n":0},7]`: `{"results":[{"index":0,"verdicts":[{"n":0}]},{"index":1,"error":` +
			`{"reason":"not_object","detail":"at byte 9: expected an object"}}]}` + "\n",
		`[]`: `{"results":[]}` + "\n",
	} {
		rs.skipped = nil
		if a := w.evaluate(body); a.text != want {
			t.Errorf("the answer to %q is %s", body, a.text)
		}
	}
	rs.skipped, rs.silent = nil, true
	want := `{"results":[{"index":0,"verdicts":[]}]}` + "\n"
	if a := w.evaluate(`{"n":0}`); a.text != want {
		t.Errorf("the answer without a verdict is %s", a.text)
	}
}

// The handler hands over the rule's name, and none for all rules.
func TestEvaluateRule(t *testing.T) {
	w, rs := newEvaluate(t, Config{}, 1)
	w.serve(func(w http.ResponseWriter, r *http.Request) { rs.w.in.EvaluateRule(w, r, "a") },
		request(strings.NewReader(`{"n":0}`)))
	if rs.rule != "a" {
		t.Errorf("the rule is %q", rs.rule)
	}
	w.evaluate(`{"n":0}`)
	if rs.rule != "" {
		t.Errorf("the rule is %q without one", rs.rule)
	}
	w.expectLedger(bus.SourceEvaluate, bus.SourceLedger{Received: 2, Accepted: 2})
}

// What is refused before a reply is opened.
func TestEvaluateRefuses(t *testing.T) {
	for _, c := range []struct {
		body, header string
		status       int
		code         string
		items        string // that the ledger has
	}{
		{``, "", 400, "no_body", ""},
		{`{}`, "Content-Type: text/plain", 415, "content_type", ""},
		{`{}`, "Content-Encoding: br", 415, "content_encoding", ""},
		{`x`, "", 400, "no_good_event", "malformed"},
		{"7\n[]\n", ndjson, 400, "no_good_event", "not_object not_object"},
		{lines(numbered(4)), ndjson, 413, "too_many_events",
			"too_large too_large too_large too_large"},
		{`{"n":"` + huge + `"}`, "", 413, "body_too_large", "too_large"},
	} {
		w, rs := newEvaluate(t, Config{MaxEvaluate: 3, BodyBytes: 5000}, 1)
		a := w.evaluate(c.body, c.header)
		a.expect(t, c.status, c.code)
		list := itemsOf(c.items)
		if len(list) > 0 {
			a.expectCounts(t, len(list), 0, len(list))
		}
		if rs.opened > 0 {
			t.Errorf("%s: a reply was opened", c.code)
		}
		w.drain()
		w.expectLedger(bus.SourceEvaluate, list.ledger(t))
	}
}

// Replies that cannot be had.
func TestEvaluateNoReply(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
		want   bus.SourceLedger
	}{
		{fmt.Errorf("rule %q: %w", "x", ErrNoRule), 404, "no_rule", bus.SourceLedger{}},
		{ErrBusy, 429, "busy", bus.SourceLedger{Received: 3,
			Lost: [bus.Reasons]uint64{bus.NotObject: 1, bus.RingFull: 2}}},
		{errors.New("secret of the server"), 500, "internal", bus.SourceLedger{}},
	} {
		var log bytes.Buffer
		w, rs := newEvaluate(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, 1)
		rs.err = c.err
		a := w.evaluate(`[{"n":0},7,{"n":2}]`)
		a.expect(t, c.status, c.code)
		if (a.header.Get("Retry-After") != "") != (c.status == 429) {
			t.Errorf("%s: Retry-After is %q", c.code, a.header.Get("Retry-After"))
		}
		failed := c.status == http.StatusInternalServerError
		if strings.Contains(a.text, "secret") || strings.Contains(log.String(), "secret") != failed {
			t.Errorf("%s: the answer is %s, the log %s", c.code, a.text, log.String())
		}
		if got := w.drain(); len(got) > 0 {
			t.Errorf("%s: a worker gets %+v", c.code, got)
		}
		w.expectLedger(bus.SourceEvaluate, c.want)
	}
}

// A full ring: what was taken gets its verdicts, the rest an error in its place.
func TestEvaluateFullRing(t *testing.T) {
	w, rs := newEvaluate(t, Config{Fields: event.Fields{Key: "k"}}, 1)
	body := make([]string, 100)
	for i := range body {
		body[i] = fmt.Sprintf(`{"n":%d,"pad":"%s"}`, i, strings.Repeat("x", 1000))
	}
	body[3] = "x" // not an event
	a := w.evaluate(lines(body), ndjson)
	a.expect(t, http.StatusOK, "")
	if len(rs.got) < 10 || len(rs.got) > 90 {
		t.Fatalf("%d events were taken: this test proves nothing", len(rs.got))
	}
	list := make(items, len(body))
	for i := range list {
		list[i] = "ring_full"
	}
	for _, e := range rs.got {
		list[e.index] = "ok"
	}
	list[3] = "malformed"
	list.expectResults(t, a.Results)
	w.expectLedger(bus.SourceEvaluate, list.ledger(t))
}

// fill leaves no room for an event in the first ring.
func (w *world) fill() {
	p := w.bus.NewProducer(bus.SourceEvaluate)
	var env event.Envelope
	head, err := event.AppendHead(nil, &env)
	if err != nil {
		w.t.Fatal(err)
	}
	for {
		if _, err := p.Submit(0, []bus.Record{{Head: head}}); err != nil {
			return
		}
	}
}

// No room at all, or none any more: nothing waits for verdicts.
func TestEvaluateNothingTaken(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		why    bus.Reason
		before func(w *world)
	}{
		{429, "ring_full", bus.RingFull, (*world).fill},
		{503, "closed", bus.Closed, func(w *world) { w.bus.Close() }},
	} {
		w, rs := newEvaluate(t, Config{}, 1)
		rs.wait = func(context.Context) error { t.Error("something waits"); return nil }
		c.before(w)
		want := w.bus.Ledger().Sources[bus.SourceEvaluate]
		a := w.evaluate(`[{"n":0},7,{"n":2}]`)
		a.expect(t, c.status, c.code)
		a.expectCounts(t, 3, 0, 1)
		if fmt.Sprint(a.NotTaken) != "[[0 0] [2 2]]" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: not_taken %v, Retry-After %q", c.code, a.NotTaken, a.header.Get("Retry-After"))
		}
		if rs.opened != 1 || rs.closed != 1 || len(rs.skipped) != 3 {
			t.Errorf("%s: %d replies opened, %d closed, %d events skipped: expected 1, 1 and all 3", c.code,
				rs.opened, rs.closed, len(rs.skipped))
		}
		want.Received += 3
		want.Lost[bus.NotObject]++
		want.Lost[c.why] += 2
		w.drain()
		w.expectLedger(bus.SourceEvaluate, want)
	}
}

// The timeout of a request bounds the wait: past it the answer is 504, and the events are still
// there for the workers.
func TestEvaluateTimeout(t *testing.T) {
	w, rs := newEvaluate(t, Config{}, 1)
	rs.wait = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	r := request(strings.NewReader(`[{"n":0},7]`))
	r.URL.RawQuery = "timeout=1ms"
	a := w.serve(w.in.Evaluate, r)
	a.expect(t, http.StatusGatewayTimeout, "timeout")
	a.expectCounts(t, 2, 1, 1)
	if rs.closed != 1 {
		t.Errorf("%d replies closed", rs.closed)
	}
	itemsOf("ok").expectNumbers(t, w.drain())
	w.expectLedger(bus.SourceEvaluate, itemsOf("ok not_object").ledger(t))
}

// How long a request waits: what its query says, else its header, else the configuration.
func TestEvaluateWait(t *testing.T) {
	const configured = 7 * time.Second
	for _, c := range []struct {
		query, header string
		want          time.Duration // 0 for a bad one
	}{
		{"", "", configured},
		{"200ms", "", 200 * time.Millisecond},
		{"", "1.5s", 1500 * time.Millisecond},
		{"2s", "3s", 2 * time.Second},
		{"30s", "", maxEvaluateTimeout},
		{"30.001s", "", 0},
		{"0s", "", 0},
		{"-1s", "", 0},
		{"5", "", 0},
		{"soon", "", 0},
		{"", "soon", 0},
		{"9999999999h", "", 0},
	} {
		w, rs := newEvaluate(t, Config{EvaluateTimeout: configured}, 1)
		begin := time.Now()
		rs.wait = func(ctx context.Context) error {
			deadline, ok := ctx.Deadline()
			if d := deadline.Sub(begin); !ok || d < c.want || d > c.want+time.Since(begin) {
				t.Errorf("%q %q: the deadline is %v away", c.query, c.header, d)
			}
			return nil
		}
		r := request(strings.NewReader(`{"n":0}`))
		if c.header != "" {
			r.Header.Set("Timeout", c.header)
		}
		r.URL.RawQuery = "timeout=" + c.query
		a := w.serve(w.in.Evaluate, r)
		want := bus.SourceLedger{Received: 1, Accepted: 1}
		if c.want == 0 {
			a.expect(t, http.StatusBadRequest, "timeout")
			want = bus.SourceLedger{}
		} else {
			a.expect(t, http.StatusOK, "")
		}
		w.expectLedger(bus.SourceEvaluate, want)
	}
}

// Verdicts that take too much memory, and a rule that went, are told; the events were taken.
func TestEvaluateWithoutAnswer(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{ErrAnswerTooLarge, 413, "answer_too_large"},
		{ErrAnswersFull, 503, "answers_full"},
		{ErrNoRule, 404, "no_rule"},
	} {
		w, rs := newEvaluate(t, Config{}, 1)
		rs.wait = func(context.Context) error { return c.err }
		a := w.evaluate(`[{"n":0},7]`)
		a.expect(t, c.status, c.code)
		a.expectCounts(t, 2, 1, 1)
		w.drain()
		w.expectLedger(bus.SourceEvaluate, itemsOf("ok not_object").ledger(t))
	}
}

// An answer is whole however large it is, and its memory is not.
func TestLargeResults(t *testing.T) {
	w := newWorld(t, Config{}, 1, smallRing)
	b := w.in.batch(10)
	defer b.release()
	verdicts := make([]json.RawMessage, 5000)
	for i := range verdicts {
		verdicts[i] = json.RawMessage(fmt.Sprintf(`[{"n":%d,"text":%q}]`, i, strings.Repeat("x", 1000)))
	}
	b.events = len(verdicts)
	a := w.serve(func(rw http.ResponseWriter, _ *http.Request) { b.results(rw, verdicts) }, request(nil))
	a.expect(t, http.StatusOK, "")
	list := make(items, len(verdicts))
	for i := range list {
		list[i] = "ok"
	}
	list.expectResults(t, a.Results)
	if cap(b.out) > 2*keepOut {
		t.Errorf("an answer of %d bytes takes %d more", len(a.text), cap(b.out))
	}
}

// A failure while waiting is a 500 that says nothing, and a line in the log.
func TestEvaluateFails(t *testing.T) {
	var log bytes.Buffer
	w, rs := newEvaluate(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, 1)
	rs.wait = func(context.Context) error { return errors.New("secret of the server") }
	a := w.evaluate(`{"n":0}`)
	a.expect(t, http.StatusInternalServerError, "internal")
	if strings.Contains(a.text, "secret") || !strings.Contains(log.String(), "secret") {
		t.Errorf("the answer is %s, the log %s", a.text, log.String())
	}
	w.drain()
	w.expectLedger(bus.SourceEvaluate, bus.SourceLedger{Received: 1, Accepted: 1})
}

// A client that goes away ends the wait. Its event is evaluated, and nothing is written.
func TestEvaluateClientGone(t *testing.T) {
	w, rs := newEvaluate(t, Config{}, 1)
	waiting := make(chan struct{})
	rs.wait = func(ctx context.Context) error {
		close(waiting)
		<-ctx.Done()
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-waiting
		cancel()
	}()
	rec := httptest.NewRecorder()
	w.in.Evaluate(rec, request(strings.NewReader(`{"n":0}`)).WithContext(ctx))
	if rec.Body.Len() > 0 || len(rec.Header()) > 0 {
		t.Errorf("a client that has gone gets %q", rec.Body)
	}
	if rs.closed != 1 {
		t.Errorf("%d replies closed", rs.closed)
	}
	itemsOf("ok").expectNumbers(t, w.drain())
	w.expectLedger(bus.SourceEvaluate, bus.SourceLedger{Received: 1, Accepted: 1})
}

// More errors than an answer to Events would name: each still stands in its place.
func TestEvaluateManyErrors(t *testing.T) {
	w, _ := newEvaluate(t, Config{}, 1)
	body := numbered(1000)
	list := make(items, len(body))
	for i := range list {
		list[i] = "ok"
		if i%3 != 0 {
			body[i], list[i] = "x", "malformed"
		}
	}
	a := w.evaluate(lines(body), ndjson)
	a.expect(t, http.StatusOK, "")
	list.expectResults(t, a.Results)
	w.expectLedger(bus.SourceEvaluate, list.ledger(t))
}
