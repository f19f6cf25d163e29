package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// noon is when every event of these tests arrives, in nanoseconds since 1970-01-01 UTC.
const noon = 1_700_000_000_123_456_789

const smallRing = 64 << 10 // the smallest that there is

// world is an Ingest whose rings the test reads itself, so that it sees what a worker would.
type world struct {
	t       testing.TB
	bus     *bus.Bus
	in      *Ingest
	drained uint64 // events
}

func newWorld(t testing.TB, c Config, shards, ringBytes int) *world {
	t.Helper()
	var err error
	if c.Bus, err = bus.New(bus.Config{Shards: shards, RingBytes: ringBytes}); err != nil {
		t.Fatal(err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = func() int64 { return noon }
	}
	w := &world{t: t, bus: c.Bus}
	if w.in, err = New(c); err != nil {
		t.Fatal(err)
	}
	return w
}

// took is an event as a worker gets it.
type took struct {
	shard                       int
	id, kind, source, key, json string
	time, arrival               int64
	reply                       uint64
	index                       int
}

// drain reads the rings until they are empty.
func (w *world) drain() []took {
	var all []took
	var view event.View
	recs := make([][]byte, 64)
	for shard := range w.bus.Shards() {
		ring := w.bus.Ring(shard)
		for n := ring.Next(recs); n > 0; n = ring.Next(recs) {
			for _, rec := range recs[:n] {
				view.Decode(rec)
				all = append(all, took{
					shard, string(view.ID), string(view.Type), string(view.Source), string(view.Key),
					string(view.JSON), view.Time, view.Arrival, view.Reply, int(view.Index),
				})
			}
			ring.Release()
			w.drained += uint64(n)
		}
	}
	return all
}

// discard empties the rings.
func (w *world) discard() {
	recs := make([][]byte, 64)
	for shard := range w.bus.Shards() {
		for ring := w.bus.Ring(shard); ring.Next(recs) > 0; {
			ring.Release()
		}
	}
}

// expectLedger compares the ledger with what the test counted for one source. No other source may
// have anything, and what was evaluated is what the test drained.
func (w *world) expectLedger(source bus.Source, want bus.SourceLedger) {
	w.t.Helper()
	l := w.bus.Ledger()
	if got := l.Sources[source]; got != want {
		w.t.Errorf("the ledger has %s\nexpected %s", ledgerText(got), ledgerText(want))
	}
	if total := l.Total(); total != l.Sources[source] {
		w.t.Errorf("sources other than %v have events: %s", source, ledgerText(total))
	}
	if d := l.Difference(); d != 0 {
		w.t.Errorf("the ledger's difference is %d", d)
	}
	if l.Evaluated != w.drained {
		w.t.Errorf("the ledger has %d evaluated: %d were drained", l.Evaluated, w.drained)
	}
}

func ledgerText(l bus.SourceLedger) string {
	text := fmt.Sprintf("received %d, accepted %d", l.Received, l.Accepted)
	for why, n := range l.Lost {
		if n > 0 {
			text += fmt.Sprintf(", %v %d", bus.Reason(why), n)
		}
	}
	return text
}

// reply is an answer's status and members, of a good answer or a problem.
type reply struct {
	status int
	header http.Header
	text   string

	Code          string
	Detail        string
	Received      *int
	Accepted      int
	Rejected      int
	Errors        []itemError
	ErrorsOmitted int      `json:"errors_omitted"`
	RestNotRead   bool     `json:"rest_not_read"`
	NotTaken      [][2]int `json:"not_taken"`
	Results       []result
}

// result is a reply's part for one event.
type result struct {
	Index    int
	Verdicts json.RawMessage
	Error    *itemError
}

// request makes a request with headers given as "name: value", or "" for none.
func request(body io.Reader, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/v1/events", body)
	for _, h := range headers {
		if name, value, ok := strings.Cut(h, ": "); ok {
			r.Header.Add(name, value)
		}
	}
	return r
}

// serve answers a request with a handler and reads the answer.
func (w *world) serve(h http.HandlerFunc, r *http.Request) reply {
	w.t.Helper()
	rec := httptest.NewRecorder()
	h(rec, r)
	a := reply{status: rec.Code, header: rec.Header(), text: rec.Body.String()}
	if err := json.Unmarshal(rec.Body.Bytes(), &a); err != nil {
		w.t.Fatalf("the answer %.200q is not JSON: %v", a.text, err)
	}
	kind := "application/json"
	if a.status >= 400 {
		kind = "application/problem+json"
	}
	if got := a.header.Get("Content-Type"); got != kind {
		w.t.Errorf("the answer's type is %q with status %d", got, a.status)
	}
	return a
}

// post sends events.
func (w *world) post(body string, headers ...string) reply {
	w.t.Helper()
	return w.serve(w.in.Events, request(strings.NewReader(body), headers...))
}

func (a *reply) expect(t testing.TB, status int, code string) {
	t.Helper()
	if a.status != status || a.Code != code {
		t.Fatalf("the answer is %d %q: expected %d %q\n%.500s", a.status, a.Code, status, code, a.text)
	}
}

// expectCounts compares what an answer counts.
func (a *reply) expectCounts(t testing.TB, received, accepted, rejected int) {
	t.Helper()
	if a.Received == nil {
		t.Fatalf("the answer has no counts: %s", a.text)
	}
	if *a.Received != received || a.Accepted != accepted || a.Rejected != rejected {
		t.Errorf("the answer counts %d received, %d accepted, %d rejected: expected %d, %d, %d",
			*a.Received, a.Accepted, a.Rejected, received, accepted, rejected)
	}
}

// items says in one word each what becomes of a request's events: "ok", or the reason for which an
// event is rejected.
type items []string

func itemsOf(text string) items { return strings.Fields(text) }

// bad is how many are rejected.
func (list items) bad() (n int) {
	for _, item := range list {
		if item != "ok" {
			n++
		}
	}
	return n
}

// errors are the indexes and reasons of those that are rejected.
func (list items) errors() []itemError {
	all := []itemError{}
	for i, item := range list {
		if item != "ok" {
			all = append(all, itemError{Index: i, Reason: item})
		}
	}
	return all
}

func (list items) ledger(t testing.TB) bus.SourceLedger {
	t.Helper()
	l := bus.SourceLedger{Received: uint64(len(list))}
	for _, item := range list {
		if item == "ok" {
			l.Accepted++
		} else {
			l.Lost[reasonOf(t, item)]++
		}
	}
	return l
}

func reasonOf(t testing.TB, name string) bus.Reason {
	t.Helper()
	for why := range bus.Reasons {
		if why.String() == name {
			return why
		}
	}
	t.Fatalf("there is no reason %q", name)
	return 0
}

// expectErrors compares the errors of an answer, whose details are for people, with indexes and
// reasons.
func expectErrors(t testing.TB, got, want []itemError) {
	t.Helper()
	plain := []itemError{}
	for _, e := range got {
		if e.Detail == "" {
			t.Errorf("item %d has no detail", e.Index)
		}
		e.Detail = ""
		plain = append(plain, e)
	}
	if !slices.Equal(plain, want) {
		t.Errorf("errors are %v: expected %v", plain, want)
	}
}

// expectNumbers checks that the events that a worker gets are those marked ok, each with its index
// as its member n.
func (list items) expectNumbers(t testing.TB, got []took) {
	t.Helper()
	var want, numbers []int
	for i, item := range list {
		if item == "ok" {
			want = append(want, i)
		}
	}
	for _, e := range got {
		var o struct{ N int }
		if err := json.Unmarshal([]byte(e.json), &o); err != nil {
			t.Errorf("a worker gets %.100q: %v", e.json, err)
		}
		if o.N != e.index {
			t.Errorf("the event %.100q has index %d", e.json, e.index)
		}
		numbers = append(numbers, o.N)
	}
	slices.Sort(numbers)
	if !slices.Equal(numbers, want) {
		t.Errorf("a worker gets the events %v: expected %v", numbers, want)
	}
}

// until waits for a condition that another goroutine brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}

// numbered are n objects, each with its number as n.
func numbered(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"n":%d}`, i)
	}
	return list
}

func array(list []string) string { return "[" + strings.Join(list, ",") + "]" }

func lines(list []string) string { return strings.Join(list, "\n") + "\n" }

// failing gives some bytes and then an error.
func failing(text string, err error) io.Reader {
	return io.MultiReader(bytes.NewBufferString(text), errorReader{err})
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// endless gives a text again and again.
func endless(text string) io.Reader { return &repeater{text: text} }

type repeater struct {
	text string
	at   int
}

func (r *repeater) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = r.text[r.at%len(r.text)]
		r.at++
	}
	return len(b), nil
}
