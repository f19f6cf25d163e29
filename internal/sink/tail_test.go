package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// client is the other end of a listener, without a network.
type client struct {
	header http.Header
	// took is called for each write, and may wait; an error is that of a client that has gone.
	took func(p []byte) error

	mu        sync.Mutex
	code      int
	text      strings.Builder
	deadlines []time.Time
}

func (c *client) Header() http.Header {
	if c.header == nil {
		c.header = make(http.Header)
	}
	return c.header
}

func (c *client) WriteHeader(code int) { c.code = code }

func (c *client) Write(p []byte) (int, error) {
	if c.took != nil {
		if err := c.took(p); err != nil {
			return 0, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(p)
}

func (c *client) Flush() {}

func (c *client) SetWriteDeadline(d time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadlines = append(c.deadlines, d)
	return nil
}

func (c *client) events() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return events(strings.NewReader(c.text.String()))
}

// listen serves a listener and returns when it has its place; wait returns when the stream ended.
func listen(t *testing.T, r *Router, w http.ResponseWriter, query string) (leave, wait func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/tail"+query, nil)
	before := r.Tail().Stats().Listeners
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Tail().ServeHTTP(w, req)
	}()
	waitFor(t, "the listener has its place", func() bool {
		return r.Tail().Stats().Listeners > before
	})
	return cancel, func() { <-done }
}

// connect opens a stream over HTTP and returns when the listener has its place.
func connect(t *testing.T, r *Router, url string) *http.Response {
	t.Helper()
	before := r.Tail().Stats().Listeners
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if n := r.Tail().Stats().Listeners; n != before+1 {
		t.Fatalf("%d listeners, expected %d", n, before+1)
	}
	return res
}

// A listener gets what its filter wants, once, in order, and Close ends the stream after that.
func TestTail(t *testing.T) {
	r := open(t, Config{}, io.Discard)
	srv := httptest.NewServer(r.Tail())
	defer srv.Close()
	if r.Wants("pay", 1, false) {
		t.Error("verdicts are wanted though nobody listens")
	}
	queries := map[string]func(rule string, code int32, failed bool) bool{
		"":          func(_ string, c int32, f bool) bool { return c != 0 || f },
		"?code=all": func(string, int32, bool) bool { return true },
		"?rule=pay&code=2": func(rule string, c int32, _ bool) bool {
			return rule == "pay" && c == 2
		},
		"?rule=p*&rule=geo&code=failed&code=3": func(rule string, c int32, f bool) bool {
			return rule != "other" && (f || c == 3)
		},
		"?rule=nothing": func(string, int32, bool) bool { return false },
	}
	streams := make(map[string]*http.Response)
	for q := range queries {
		streams[q] = connect(t, r, srv.URL+q)
	}
	want := make(map[string][]string)
	total := 0
	for i := range 240 {
		rule, code, failed := []string{"pay", "geo", "other"}[i%3], int32(i/3%4), i/12%2 == 1
		wanted := false
		for q, f := range queries {
			if f(rule, code, failed) {
				want[q] = append(want[q], "verdict "+string(line(i)))
				wanted = true
				total++
			}
		}
		if r.Wants(rule, code, failed) != wanted {
			t.Errorf("Wants %s %d %v: %v", rule, code, failed, !wanted)
		}
		r.Route(rule, code, failed, line(i))
	}
	ended := make(map[string][]string)
	returns(t, "Close", func() { mustClose(t, r) })
	for q, res := range streams {
		ended[q] = events(res.Body) // to the end of the stream
		h := res.Header
		if res.StatusCode != http.StatusOK || h.Get("Content-Type") != "text/event-stream" ||
			h.Get("Cache-Control") != "no-store" || h.Get("X-Accel-Buffering") != "no" {
			t.Errorf("%s: %d %v", q, res.StatusCode, h)
		}
		sameLines(t, "query "+q, ended[q], append([]string{": listening"}, want[q]...))
	}
	if s := r.Tail().Stats(); s != (TailStat{Sent: uint64(total)}) {
		t.Errorf("%+v, expected %d sent and nobody there", s, total)
	}
}

// problemOf reads a problem.
func problemOf(t *testing.T, body io.Reader) (code, detail string) {
	t.Helper()
	var p struct{ Code, Detail string }
	if err := json.NewDecoder(body).Decode(&p); err != nil {
		t.Error(err)
	}
	return p.Code, p.Detail
}

func TestTailQuery(t *testing.T) {
	r := open(t, Config{}, io.Discard)
	for query, want := range map[string]string{
		"?rule=[":          `rule pattern "["`,
		"?rule=":           `rule pattern ""`,
		"?code=often":      `code "often"`,
		"?code=2147483648": `code "2147483648"`,
		"?rule=[&code=x":   `rule pattern "[": expected a glob such as payment.*; code "x"`,
		"?rules=pay":       `query value "rules": expected rule or code`,
		"?rule=a;code=1":   "cannot read the query",
		"?rule=%zz":        "cannot read the query",
		"?" + strings.Repeat("code=1&", 33) + strings.Repeat("rule=a&", 32): "65 query values",
	} {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodGet, "/v1/tail", nil)
		req.URL.RawQuery = query[1:]
		r.Tail().ServeHTTP(w, req)
		if code, detail := problemOf(t, w.Body); w.Code != 400 || code != "query" ||
			!strings.Contains(detail, want) {
			t.Errorf("%.30s: %d %s %q, expected %q", query, w.Code, code, detail, want)
		}
	}
	if s := r.Tail().Stats(); s != (TailStat{}) {
		t.Errorf("%+v", s)
	}
	mustClose(t, r)
	// As many values as are allowed.
	values := url.Values{"code": slices.Repeat([]string{"1"}, 32),
		"rule": slices.Repeat([]string{"a"}, 32)}
	if f, err := tailFilter(values.Encode()); err != nil || !f.wants("a", 1, false) {
		t.Errorf("64 values: %v", err)
	}
}

// A silent stream shows every 15 s that it is alive.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, Config{}, io.Discard)
		begun := time.Now()
		var at []time.Duration
		c := &client{took: func([]byte) error {
			at = append(at, time.Since(begun))
			return nil
		}}
		_, wait := listen(t, r, c, "")
		time.Sleep(time.Until(begun.Add(40 * time.Second)))
		r.Route("pay", 1, false, []byte("{\"a\":\r\n1}"))
		time.Sleep(time.Until(begun.Add(50 * time.Second)))
		mustClose(t, r)
		wait()
		sameLines(t, "the stream", c.events(), []string{": listening", ": alive", ": alive",
			`verdict {"a":  1}`, ": alive"})
		s := time.Second
		if want := []time.Duration{0, 15 * s, 30 * s, 40 * s, 45 * s}; !slices.Equal(at, want) {
			t.Errorf("writes at %v, expected %v", at, want)
		}
		for i, d := range c.deadlines {
			if got := d.Sub(begun.Add(at[i])); got != tailWriteTimeout {
				t.Errorf("write %d has %v, expected %v", i+1, got, tailWriteTimeout)
			}
		}
	})
}

// A listener that does not read does not hold up Route. What it loses is counted, it is told, and
// what it gets, what it is told and what was routed add up.
func TestSlowListener(t *testing.T) {
	const n = 50_000
	r := open(t, Config{}, io.Discard)
	read := make(chan struct{})
	var slow, fast client
	slow.took = func([]byte) error {
		<-read
		return nil
	}
	_, waitSlow := listen(t, r, &slow, "")
	returns(t, "Route", func() { send(r, 0, n) })
	full := r.Tail().Stats()
	if full.Dropped == 0 || full.Sent != 0 {
		t.Errorf("while nobody reads: %+v", full)
	}
	_, waitFast := listen(t, r, &fast, "")
	send(r, n, 10)
	waitFor(t, "another listener has its verdicts", func() bool { return len(fast.events()) == 11 })
	close(read)
	waitFor(t, "the listener caught up", func() bool {
		s := r.Tail().Stats()
		return s.Sent+s.Dropped == n+20
	})
	send(r, n+10, 10)
	mustClose(t, r)
	waitSlow()
	waitFast()
	sent, told, last := 0, 0, -1
	for _, e := range slow.events() {
		var i, lost int
		if _, err := fmt.Sscanf(e, `verdict {"n":%d}`, &i); err == nil {
			if i <= last {
				t.Fatalf("number %d comes after %d", i, last)
			}
			sent, last = sent+1, i
		} else if _, err := fmt.Sscanf(e, `dropped {"dropped":%d}`, &lost); err == nil {
			told += lost
		} else if e != ": listening" {
			t.Errorf("event %q", e)
		}
	}
	s := r.Tail().Stats()
	if sent+told != n+20 || int(s.Dropped) != told || int(s.Sent) != sent+20 || last != n+19 {
		t.Errorf("%d sent, %d told as dropped, the last is %d, of %d routed; %+v", sent, told, last,
			n+20, s)
	}
	var want []string
	for _, l := range numbered(n, 20) {
		want = append(want, "verdict "+l)
	}
	sameLines(t, "the fast listener", fast.events(), append([]string{": listening"}, want...))
}

// A verdict that is too large for a listener's queue counts as dropped, and the listener is told.
func TestTailLargeVerdict(t *testing.T) {
	r := open(t, Config{}, io.Discard)
	var c client
	_, wait := listen(t, r, &c, "")
	r.Route("pay", 1, false, fmt.Appendf(nil, "%q", strings.Repeat("x", tailQueueBytes/8)))
	waitFor(t, "the listener is told", func() bool { return len(c.events()) == 2 })
	mustClose(t, r)
	wait()
	sameLines(t, "the stream", c.events(), []string{": listening", `dropped {"dropped":1}`})
}

// There is a limit on listeners; a place that becomes free can be had again.
func TestTooManyListeners(t *testing.T) {
	r := open(t, Config{TailListeners: 2}, io.Discard)
	refused := func(code, detail string) {
		t.Helper()
		w := httptest.NewRecorder()
		r.Tail().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/tail", nil))
		if c, d := problemOf(t, w.Body); w.Code != 503 || c != code || d != detail ||
			w.Header().Get("Retry-After") == "" {
			t.Errorf("%d %s %q %v, expected 503 %s %q", w.Code, c, d, w.Header(), code, detail)
		}
	}
	leave, wait := listen(t, r, &client{}, "")
	_, waitSecond := listen(t, r, &client{}, "?rule=geo")
	refused("too_many_listeners", "too many listeners")
	refused("too_many_listeners", "too many listeners")
	if s := r.Tail().Stats(); s != (TailStat{Listeners: 2, Refused: 2}) {
		t.Errorf("%+v", s)
	}
	leave()
	wait()
	if r.Wants("pay", 1, false) || !r.Wants("geo", 1, false) {
		t.Error("the wrong listener has left")
	}
	_, waitThird := listen(t, r, &client{}, "")
	r.Tail().Close()
	r.Tail().Close() // may come again
	waitSecond()
	waitThird()
	refused("closed", "the server is stopping")
	mustClose(t, r)
	if s := r.Tail().Stats(); s != (TailStat{Refused: 3}) {
		t.Errorf("%+v", s)
	}
	if r.Wants("geo", 1, false) {
		t.Error("verdicts are wanted though nobody listens")
	}
}

// Close ends a stream also when verdicts keep coming faster than the listener takes them.
func TestTailCloseUnderLoad(t *testing.T) {
	r := open(t, Config{}, io.Discard)
	c := &client{took: func([]byte) error {
		time.Sleep(time.Millisecond)
		return nil
	}}
	_, wait := listen(t, r, c, "")
	var stop atomic.Bool
	var routers sync.WaitGroup
	var routed atomic.Int64
	for range 2 {
		routers.Go(func() {
			for !stop.Load() {
				send(r, 0, 100)
				routed.Add(100)
				time.Sleep(10 * time.Microsecond)
			}
		})
	}
	waitFor(t, "the listener is behind", func() bool { return r.Tail().Stats().Dropped > 0 })
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := r.Close(ctx)
	if err != nil || ctx.Err() != nil {
		t.Errorf("Close did not end before its time: %v", err)
	}
	stop.Store(true)
	routers.Wait()
	wait()
	sent := 0
	for _, e := range c.events() {
		if strings.HasPrefix(e, "verdict") {
			sent++
		}
	}
	s := r.Tail().Stats()
	if int(s.Sent) != sent || s.Sent+s.Dropped > uint64(routed.Load()) {
		t.Errorf("%d came, %+v of %d routed", sent, s, routed.Load())
	}
}

// Close ends a stream after all that was queued, and the listener is told of what came later.
func TestTailCloseDrains(t *testing.T) {
	for range 20 { // since a select has its choice between the end and a verdict
		r := open(t, Config{}, io.Discard)
		for _, queued := range []int{0, 1000} {
			r.tail = newTail(1)
			read := make(chan struct{})
			c := &client{took: func([]byte) error {
				<-read
				return nil
			}}
			_, wait := listen(t, r, c, "")
			send(r, 0, queued)
			r.Tail().Close()
			send(r, queued, 5)
			close(read)
			wait()
			var sent, told []string
			for _, e := range c.events() {
				if strings.HasPrefix(e, "verdict ") {
					sent = append(sent, strings.TrimPrefix(e, "verdict "))
				} else {
					told = append(told, e)
				}
			}
			sameLines(t, "what was queued", sent, numbered(0, queued))
			sameLines(t, "the rest", told, []string{": listening", `dropped {"dropped":5}`})
		}
		mustClose(t, r)
	}
}

// Close does not wait for a client that does not read, once its time is over.
func TestTailAbort(t *testing.T) {
	r := open(t, Config{}, io.Discard)
	srv := httptest.NewUnstartedServer(r.Tail())
	srv.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if tcp, ok := c.(*net.TCPConn); ok && s == http.StateNew {
			tcp.SetWriteBuffer(4 << 10)
		}
	}
	srv.Start()
	defer srv.Close()
	connect(t, r, srv.URL) // and nobody reads
	long := fmt.Appendf(nil, "%q", strings.Repeat("x", 10_000))
	waitFor(t, "the connection is full", func() bool {
		for range 10 {
			r.Route("pay", 1, false, long)
		}
		return r.Tail().Stats().Dropped > 0
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	returns(t, "Close", func() {
		if err := r.Close(ctx); err != nil {
			t.Error(err) // a listener is no sink: nothing counts as left
		}
	})
	if n := r.Tail().Stats().Listeners; n != 0 {
		t.Errorf("%d listeners after Close", n)
	}
	// A listener that sets its deadline after abort has set its own does not write any more.
	c := &client{}
	l := &listener{control: http.NewResponseController(c)}
	if r.Tail().write(c, l, []byte("late")) || c.events() != nil {
		t.Errorf("%q was written after abort", c.events())
	}
}

// A client that goes away in the midst of a stream gives its place back.
func TestClientLeaves(t *testing.T) {
	r := open(t, Config{}, io.Discard)
	srv := httptest.NewServer(r.Tail())
	defer srv.Close()
	res := connect(t, r, srv.URL)
	send(r, 0, 10)
	res.Body.Close()
	waitFor(t, "the place is free", func() bool { return r.Tail().Stats().Listeners == 0 })

	gone := errors.New("gone")
	for name, took := range map[string]func([]byte) error{
		"at once": func([]byte) error { return gone },
		"with a verdict": func(p []byte) error {
			if strings.HasPrefix(string(p), "event") {
				return gone
			}
			return nil
		},
	} {
		w := &client{took: took}
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Tail().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/tail", nil))
		}()
		waitFor(t, "the listener is gone "+name, func() bool {
			send(r, 0, 1)
			select {
			case <-done:
				return true
			default:
				return false
			}
		})
	}
	// A ResponseWriter that cannot flush is of no use.
	returns(t, "ServeHTTP", func() {
		r.Tail().ServeHTTP(struct{ http.ResponseWriter }{&client{}},
			httptest.NewRequest(http.MethodGet, "/v1/tail", nil))
	})
	mustClose(t, r)
	nothingRuns(t)
}

// Listeners come and go while verdicts are routed and the router is closed.
func TestTailHammer(t *testing.T) {
	for range 10 {
		r := open(t, Config{TailListeners: 3}, io.Discard)
		var stop atomic.Bool
		var all, routers sync.WaitGroup
		var sent atomic.Int64
		for range 2 {
			routers.Go(func() {
				for !stop.Load() {
					send(r, 0, 10)
					time.Sleep(time.Microsecond)
				}
			})
		}
		for i := range 6 {
			all.Go(func() {
				for !stop.Load() {
					ctx, cancel := context.WithTimeout(context.Background(),
						time.Duration(i)*300*time.Microsecond)
					w := &client{}
					r.Tail().ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet,
						"/v1/tail", nil))
					cancel()
					last := -1
					for _, e := range w.events() {
						var n int
						if _, err := fmt.Sscanf(e, `verdict {"n":%d}`, &n); err == nil {
							sent.Add(1)
							last = max(last, n)
						}
					}
					if last > 9 {
						t.Errorf("number %d was never routed", last)
					}
				}
			})
		}
		waitFor(t, "verdicts come", func() bool { return r.Tail().Stats().Sent > 100 })
		mustClose(t, r)
		if n := r.Tail().Stats().Listeners; n != 0 {
			t.Errorf("%d listeners after Close", n)
		}
		stop.Store(true)
		all.Wait()
		routers.Wait()
		if s := r.Tail().Stats(); int64(s.Sent) != sent.Load() || s.Refused == 0 {
			t.Errorf("%+v, expected %d sent and some refused", s, sent.Load())
		}
	}
	nothingRuns(t)
}

// Routing to a listener allocates nothing either.
func TestTailAllocatesNothing(t *testing.T) {
	r := open(t, Config{}, io.Discard)
	hold := make(chan struct{})
	_, wait := listen(t, r, &client{took: func([]byte) error {
		<-hold
		return nil
	}}, "?rule=p*y")
	text := []byte(`{"rule":"pay"}`)
	if n := testing.AllocsPerRun(1000, func() {
		if r.Wants("pay", 1, false) {
			r.Route("pay", 1, false, text)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a verdict", n)
	}
	close(hold)
	mustClose(t, r)
	wait()
}
