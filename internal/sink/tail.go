package sink

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/problem"
)

const (
	tailQueueBytes   = 1 << 20 // of each listener
	tailBatch        = 64      // verdicts in one write
	tailHeartbeat    = 15 * time.Second
	tailWriteTimeout = 30 * time.Second // a listener that takes nothing for so long is sent away
	maxTailFilters   = 64               // values in a request
)

// Tail shows verdicts to listeners as server-sent events. It is an http.Handler for GET /v1/tail
// with the query values rule (a pattern, as in a Route; any number of them) and code (a number,
// matched, failed or all; any number of them; matched and failed if there is none).
//
// Each verdict is an event "verdict" with its JSON object as data. A listener that is too slow
// loses verdicts, and is told by an event "dropped" with {"dropped":n}, n being those lost since
// the last such event. A comment comes every 15 s.
type Tail struct {
	max       int
	heartbeat time.Duration

	// listeners is nil when there are none: all that the tail costs then is this load. The slice is
	// never changed, only replaced under mu.
	listeners atomic.Pointer[[]*listener]
	mu        sync.Mutex
	closed    bool

	stopping chan struct{}
	aborted  atomic.Bool
	empty    chan struct{} // closed when the tail is closed and the last listener is gone

	sent, dropped, refused atomic.Uint64
}

// listener is one request. Its ring is filled by route and drained by the request's goroutine,
// which cannot wait on the ring, since it waits for the client and the heartbeat too; so it is
// woken through kick.
type listener struct {
	filter
	ring    *bus.Ring
	kick    chan struct{}
	dropped atomic.Uint64
	control *http.ResponseController

	// These belong to the request's goroutine.
	recs [tailBatch][]byte
	buf  []byte
}

func newTail(most int) *Tail {
	return &Tail{
		max: most, heartbeat: tailHeartbeat,
		stopping: make(chan struct{}), empty: make(chan struct{}),
	}
}

func (t *Tail) wants(rule string, code int32, failed bool) bool {
	ls := t.listeners.Load()
	return ls != nil && slices.ContainsFunc(*ls, func(l *listener) bool {
		return l.filter.wants(rule, code, failed)
	})
}

func (t *Tail) route(rule string, code int32, failed bool, line []byte) {
	ls := t.listeners.Load()
	if ls == nil {
		return
	}
	for _, l := range *ls {
		if l.filter.wants(rule, code, failed) {
			t.put(l, line)
		}
	}
}

func (t *Tail) put(l *listener, line []byte) {
	rec := [1]bus.Record{{Head: line}}
	if _, err := l.ring.Publish(rec[:]); err != nil {
		l.dropped.Add(1)
		t.dropped.Add(1)
	}
	// The token comes after the record: who takes it finds the record.
	select {
	case l.kick <- struct{}{}:
	default: // a token is there already
	}
}

// Stats returns the tail's figures. Any goroutine may call it.
func (t *Tail) Stats() TailStat {
	s := TailStat{Sent: t.sent.Load(), Dropped: t.dropped.Load(), Refused: t.refused.Load()}
	if ls := t.listeners.Load(); ls != nil {
		s.Listeners = len(*ls)
	}
	return s
}

// Close ends the streams of all listeners once they have what is queued for them, and refuses new
// ones. It does not wait. It may be called more than once, and before Router.Close: an HTTP server
// that shuts down gracefully wants the streams to end first.
func (t *Tail) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed = true
	close(t.stopping)
	ls := t.listeners.Load()
	if ls == nil {
		close(t.empty)
		return
	}
	for _, l := range *ls {
		l.ring.Close() // else a stream of verdicts without a gap would never let it end
	}
}

// wait returns when the last listener is gone after Close, or when ended is closed.
func (t *Tail) wait(ended <-chan struct{}) {
	select {
	case <-t.empty:
	case <-ended:
	}
}

// abort breaks off writes to listeners that do not read.
func (t *Tail) abort() {
	t.aborted.Store(true)
	t.mu.Lock()
	defer t.mu.Unlock()
	if ls := t.listeners.Load(); ls != nil {
		for _, l := range *ls {
			_ = l.control.SetWriteDeadline(time.Now()) // where it cannot be set, no write waits
		}
	}
}

var (
	errTailFull   = errors.New("too many listeners")
	errTailClosed = errors.New("the server is stopping")
)

// add makes the queue of a listener, once it is sure that there is a place, and enters it.
func (t *Tail) add(l *listener) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errTailClosed
	}
	var next []*listener
	if ls := t.listeners.Load(); ls != nil {
		next = *ls
	}
	if len(next) >= t.max {
		return errTailFull
	}
	var err error
	if l.ring, err = bus.NewRing(tailQueueBytes); err != nil {
		panic("BUG: " + err.Error())
	}
	next = append(slices.Clip(next), l)
	t.listeners.Store(&next)
	return nil
}

func (t *Tail) remove(l *listener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(*t.listeners.Load()), func(o *listener) bool {
		return o == l
	})
	if len(next) > 0 {
		t.listeners.Store(&next)
		return
	}
	t.listeners.Store(nil)
	if t.closed {
		close(t.empty)
	}
}

// ServeHTTP streams verdicts until the client goes away or the tail is closed. It answers 400 for a
// filter that cannot be read and 503 with too many listeners or while the server stops.
func (t *Tail) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, err := tailFilter(r.URL.RawQuery)
	if err != nil {
		problem.Write(w, r, http.StatusBadRequest, "query", err.Error(), nil)
		return
	}
	l := &listener{
		filter: f, kick: make(chan struct{}, 1), control: http.NewResponseController(w),
	}
	if err := t.add(l); err != nil {
		t.refused.Add(1)
		code := "closed"
		if err == errTailFull {
			code = "too_many_listeners"
		}
		w.Header().Set("Retry-After", "5")
		problem.Write(w, r, http.StatusServiceUnavailable, code, err.Error(), nil)
		return
	}
	defer t.remove(l)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the events back
	t.stream(w, r, l)
}

// stream is the life of a listener.
func (t *Tail) stream(w http.ResponseWriter, r *http.Request, l *listener) {
	tick := time.NewTicker(t.heartbeat)
	defer tick.Stop()
	if !t.write(w, l, []byte(": listening\n\n")) {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case <-t.stopping:
			t.finish(w, l)
			return
		case <-tick.C:
			if !t.write(w, l, []byte(": alive\n\n")) {
				return
			}
		case <-l.kick:
			for more := true; more; { // what comes after the last look has a token of its own
				n, ok := t.pass(w, l)
				if !ok {
					return
				}
				more = n > 0
			}
		}
	}
}

// finish sends what is left. The ring is closed or about to be, so this ends; and Wait, unlike
// Next, knows of a verdict that is being copied into the ring.
func (t *Tail) finish(w http.ResponseWriter, l *listener) {
	for l.ring.Wait() {
		if _, ok := t.pass(w, l); !ok {
			return
		}
	}
	t.pass(w, l) // verdicts that were lost in the meantime
}

// pass sends the next verdicts, and how many were lost. It returns how many it sent, and whether
// the listener is still there.
func (t *Tail) pass(w http.ResponseWriter, l *listener) (n int, ok bool) {
	n = l.ring.Next(l.recs[:])
	lost := l.dropped.Swap(0)
	if n == 0 && lost == 0 {
		return 0, true
	}
	l.buf = appendEvents(l.buf[:0], l.recs[:n], lost)
	l.ring.Release()
	if !t.write(w, l, l.buf) {
		return n, false
	}
	t.sent.Add(uint64(n))
	return n, true
}

func appendEvents(buf []byte, recs [][]byte, lost uint64) []byte {
	for _, rec := range recs {
		buf = append(buf, "event: verdict\ndata: "...)
		buf = append(appendLine(buf, rec), "\n\n"...)
	}
	if lost > 0 {
		buf = fmt.Appendf(buf, "event: dropped\ndata: {\"dropped\":%d}\n\n", lost)
	}
	return buf
}

// write sends p and reports whether the listener is still there.
func (t *Tail) write(w http.ResponseWriter, l *listener, p []byte) bool {
	// The server's own deadline is for a whole answer, and this one has no end.
	_ = l.control.SetWriteDeadline(time.Now().Add(tailWriteTimeout)) // or there is none to lift
	if t.aborted.Load() {
		return false // abort may have set its deadline before we set ours
	}
	if _, err := w.Write(p); err != nil {
		return false
	}
	return l.control.Flush() == nil
}

func tailFilter(query string) (filter, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return filter{}, fmt.Errorf("cannot read the query: %w", err)
	}
	for name := range values {
		if name != "rule" && name != "code" {
			return filter{}, fmt.Errorf("query value %q: expected rule or code", name)
		}
	}
	if n := len(values["rule"]) + len(values["code"]); n > maxTailFilters {
		return filter{}, fmt.Errorf("%d query values: expected at most %d", n, maxTailFilters)
	}
	f, faults := newFilter(values["rule"], values["code"])
	if len(faults) > 0 {
		texts := make([]string, len(faults))
		for i, err := range faults {
			texts[i] = err.Error()
		}
		return filter{}, errors.New(strings.Join(texts, "; "))
	}
	return f, nil
}
