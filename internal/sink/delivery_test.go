package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Each verdict comes to the sinks of all routes that want it, once, and to no other.
func TestRoutes(t *testing.T) {
	dir := t.TempDir()
	out := &gate{}
	r := open(t, Config{
		Routes: []Route{
			{Rules: []string{"pay*"}, Codes: []string{"2"}, Sinks: []string{"o"}},
			{Rules: []string{"pay-x"}, Codes: []string{"all"}, Sinks: []string{"a", "o", "a"}},
			{Rules: []string{"geo", "def"}, Codes: []string{"failed"}, Sinks: []string{"b"}},
			{Rules: []string{"def"}, Sinks: []string{"b", "o"}},
		},
		Sinks: []SinkConfig{{Name: "o", Type: TypeStdout},
			{Name: "a", Type: TypeFile, Path: filepath.Join(dir, "a")},
			{Name: "b", Type: TypeFile, Path: filepath.Join(dir, "b")},
			{Name: "nothing", Type: TypeFile, Path: filepath.Join(dir, "nothing")}},
	}, out)
	want := make(map[string][]string)
	for i, c := range []struct {
		rule   string
		code   int32
		failed bool
		sinks  string
	}{
		{"pay-x", 2, false, "oa"}, {"pay-x", 1, false, "oa"}, {"pay-x", 0, false, "oa"},
		{"pay-y", 2, false, "o"}, {"pay-y", 1, false, ""}, {"pay-y", 0, true, ""},
		{"geo", 0, true, "b"}, {"geo", 1, false, ""}, {"geo", 1, true, "b"},
		{"def", 0, false, ""}, {"def", 1, false, "ob"}, {"def", 0, true, "ob"},
		{"def", -1, true, "ob"}, {"other", 2, false, ""}, {"", 2, false, ""},
	} {
		if got := r.Wants(c.rule, c.code, c.failed); got != (c.sinks != "") {
			t.Errorf("Wants %+v: %v", c, got)
		}
		r.Route(c.rule, c.code, c.failed, line(i))
		for _, s := range c.sinks {
			want[string(s)] = append(want[string(s)], string(line(i)))
		}
	}
	mustClose(t, r)
	sameLines(t, "o", out.lines(), want["o"])
	sameLines(t, "a", linesOf(t, filepath.Join(dir, "a")), want["a"])
	sameLines(t, "b", linesOf(t, filepath.Join(dir, "b")), want["b"])
	sameLines(t, "nothing", linesOf(t, filepath.Join(dir, "nothing")), nil)
	for i, s := range r.Stats() {
		name := []string{"o", "a", "b", "nothing"}[i]
		n := len(want[name])
		account(t, s, ledger{routed: n, delivered: n})
		if s.Name != name || s.QueuedBytes != 0 || s.QueueBytes != defaultQueueBytes {
			t.Errorf("sink number %d is %+v", i+1, s)
		}
	}
}

// With more rules than plans, verdicts find their way all the same.
func TestManyRules(t *testing.T) {
	out := &gate{}
	r := open(t, Config{
		Routes: []Route{{Rules: []string{"*7"}, Sinks: []string{"o"}}},
		Sinks:  []SinkConfig{{Name: "o", Type: TypeStdout, QueueBytes: 64 << 20}},
	}, out)
	var want []string
	for range 2 {
		for i := range maxPlans + 500 {
			rule := fmt.Sprint("r", i)
			r.Route(rule, 1, false, line(i))
			if i%10 == 7 {
				want = append(want, string(line(i)))
			}
		}
	}
	if n := len(*r.plans.Load()); n != maxPlans {
		t.Errorf("%d plans are kept, expected %d", n, maxPlans)
	}
	if n := testing.AllocsPerRun(100, func() { r.Wants("unknown7", 1, false) }); n != 0 {
		t.Errorf("%v allocations for a rule without a plan", n)
	}
	mustClose(t, r)
	sameLines(t, "stdout", out.lines(), want)
}

// Several goroutines meet the same new rules at once, and every verdict is routed.
func TestPlansAtOnce(t *testing.T) {
	var out gate
	r := open(t, Config{
		Routes: []Route{{Sinks: []string{"o"}}},
		Sinks:  []SinkConfig{{Name: "o", Type: TypeStdout, QueueBytes: 16 << 20}},
	}, &out)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				r.Route(fmt.Sprint(i), 1, false, line(i))
			}
		})
	}
	wg.Wait()
	mustClose(t, r)
	lines := out.lines()
	slices.Sort(lines)
	if n := len(slices.Compact(lines)); len(lines) != 4000 || n != 1000 {
		t.Errorf("%d lines, %d different ones, expected 4000 and 1000", len(lines), n)
	}
}

// What comes while a write is under way goes out with the next one.
func TestStdoutWrites(t *testing.T) {
	out := &gate{open: make(chan struct{})}
	r := open(t, Config{
		Routes: []Route{{Sinks: []string{"o"}}}, Sinks: []SinkConfig{{Name: "o", Type: TypeStdout}},
	}, out)
	send(r, 0, 3*writeMax)
	close(out.open)
	mustClose(t, r)
	sameLines(t, "stdout", out.lines(), numbered(0, 3*writeMax))
	if out.calls > 4 {
		t.Errorf("%d writes for %d lines", out.calls, 3*writeMax)
	}
}

// shortWriter takes a number of bytes in its next writes, then all of them.
type shortWriter struct {
	bytes.Buffer
	takes []int
	err   error // beside a short write
}

func (w *shortWriter) Write(p []byte) (int, error) {
	if len(w.takes) == 0 {
		return w.Buffer.Write(p)
	}
	n := min(w.takes[0], len(p))
	w.takes = w.takes[1:]
	w.Buffer.Write(p[:n])
	if n == len(p) {
		return n, nil
	}
	return n, w.err
}

// What follows a torn line begins on a new one, and only whole lines count.
func TestTornWrite(t *testing.T) {
	fault := errors.New("no")
	for _, c := range []struct {
		takes []int
		err   error
		whole []int // of each write of two lines
		text  string
	}{
		{nil, nil, []int{2, 2}, "aa\nbb\naa\nbb\n"},
		{[]int{0}, fault, []int{0, 2}, "aa\nbb\n"},
		{[]int{1}, fault, []int{0, 2}, "a\naa\nbb\n"},
		{[]int{3}, fault, []int{1, 2}, "aa\naa\nbb\n"},
		{[]int{4}, fault, []int{1, 2}, "aa\nb\naa\nbb\n"},
		{[]int{4}, nil, []int{1, 2}, "aa\nb\naa\nbb\n"}, // short without an error
		{[]int{5}, fault, []int{1, 2}, "aa\nbb\naa\nbb\n"},
		{[]int{4, 0, 0}, fault, []int{1, 0, 0, 2}, "aa\nb\naa\nbb\n"}, // the new line fails too
		{[]int{4, 1, 1}, fault, []int{1, 0, 2}, "aa\nb\na\naa\nbb\n"},
	} {
		w := &shortWriter{takes: c.takes, err: c.err}
		torn := false
		for i, whole := range c.whole {
			n, err := writeLines(w, []byte("aa\nbb\n"), &torn)
			if err == nil {
				n = 2
			} else if c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("%v: error %v, expected %v", c.takes, err, c.err)
			}
			if n != whole {
				t.Errorf("%v: write %d had %d whole lines, expected %d", c.takes, i+1, n, whole)
			}
		}
		if w.String() != c.text {
			t.Errorf("%v: %q was written, expected %q", c.takes, w.String(), c.text)
		}
	}
}

// What standard output does not take is counted by lines.
func TestStdoutFails(t *testing.T) {
	out := &shortWriter{takes: []int{0}, err: errors.New("nobody reads")}
	r := open(t, Config{
		Routes: []Route{{Sinks: []string{"o"}}}, Sinks: []SinkConfig{{Name: "o", Type: TypeStdout}},
	}, out)
	send(r, 0, 1)
	waitFor(t, "the first write failed", func() bool { return r.Stats()[0].Pending == 0 })
	send(r, 1, 9)
	mustClose(t, r)
	sameLines(t, "stdout", split(out.Bytes()), numbered(1, 9))
	s := r.Stats()[0]
	account(t, s, ledger{routed: 10, delivered: 9, dropped: 1})
	if s.DroppedFailed != 1 || s.FailedAttempts != 1 ||
		!strings.Contains(s.LastError, "nobody reads") {
		t.Errorf("%+v", s)
	}
}

// A sink that is stuck does not hold up Route: all calls return while it is. What does not fit into
// its queue is dropped and counted, and another sink of the same route gets everything.
func TestStuckSinks(t *testing.T) {
	const n = 20_000
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		<-release
	}))
	defer hanging.Close()
	failing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer failing.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lis.Close() // connections to it are refused
	web := func(name, url string) SinkConfig {
		return SinkConfig{Name: name, Type: TypeWebhook, URL: url, AllowPrivate: true,
			QueueBytes: minQueueBytes, Timeout: time.Hour, Backoff: time.Hour,
			MaxElapsed: 1000 * time.Hour}
	}
	path := filepath.Join(t.TempDir(), "v.ndjson")
	r := open(t, Config{
		Routes: []Route{{Sinks: []string{"o", "hangs", "500", "refuses", "good"}}},
		Sinks: []SinkConfig{{Name: "o", Type: TypeStdout, QueueBytes: minQueueBytes},
			web("hangs", hanging.URL), web("500", failing.URL),
			web("refuses", "http://"+lis.Addr().String()),
			{Name: "good", Type: TypeFile, Path: path, QueueBytes: 16 << 20}},
	}, &gate{open: release})
	returns(t, "Route", func() { send(r, 0, n) })
	stats := r.Stats()
	for i, s := range stats[:4] {
		full := int(s.DroppedFull)
		if s.Routed != n || s.Delivered != 0 || full == 0 || int(s.Pending) != n-full ||
			s.QueuedBytes == 0 || s.QueuedBytes > minQueueBytes {
			t.Errorf("sink number %d while it is stuck: %+v", i+1, s)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	close(release) // so that standard output goes on; a webhook that was slow may still be taken
	err = r.Close(ctx)
	left := 0
	for i, s := range r.Stats() {
		if i < 4 {
			full := int(stats[i].DroppedFull)
			account(t, s, ledger{routed: n, delivered: int(s.Delivered), dropped: full,
				left: n - full - int(s.Delivered)})
		} else if n := len(linesOf(t, path)); n != int(s.Delivered) {
			t.Errorf("%d lines in the good file, expected %d", n, s.Delivered)
		}
		left += int(s.Left)
	}
	wantLeft(t, err, left)
}

// What is too large for a queue is dropped and counted apart; what just fits is delivered.
func TestLargeVerdict(t *testing.T) {
	out := &gate{}
	r := open(t, Config{
		Routes: []Route{{Sinks: []string{"o"}}},
		Sinks:  []SinkConfig{{Name: "o", Type: TypeStdout, QueueBytes: minQueueBytes}},
	}, out)
	most := r.queues[0].ring.MaxRecord()
	if most > minQueueBytes/8 || most < minQueueBytes/8-64 {
		t.Errorf("a verdict may have %d bytes, which is not an eighth of the queue", most)
	}
	text := fmt.Appendf(nil, "%q", strings.Repeat("x", most-2))
	r.Route("pay", 1, false, text)
	r.Route("pay", 1, false, append(text, ' '))
	mustClose(t, r)
	sameLines(t, "stdout", out.lines(), []string{string(text)})
	s := r.Stats()[0]
	account(t, s, ledger{routed: 2, delivered: 1, dropped: 1})
	if s.DroppedLarge != 1 {
		t.Errorf("%+v", s)
	}
}

// What comes after Close is dropped and counted apart.
func TestRouteAfterClose(t *testing.T) {
	out := &gate{}
	r := open(t, Config{
		Routes: []Route{{Sinks: []string{"o"}}}, Sinks: []SinkConfig{{Name: "o", Type: TypeStdout}},
	}, out)
	send(r, 0, 3)
	mustClose(t, r)
	send(r, 3, 4)
	mustClose(t, r) // Close may come again
	sameLines(t, "stdout", out.lines(), numbered(0, 3))
	s := r.Stats()[0]
	account(t, s, ledger{routed: 7, delivered: 3, dropped: 4})
	if s.DroppedAfter != 4 {
		t.Errorf("%+v", s)
	}
}

// A write that does not return cannot be aborted: Close says which sink it is, and what was left.
// When the write returns after all, the goroutine ends.
func TestStuckWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &gate{open: make(chan struct{})}
		c := hook(nil)
		c.Sinks = append(c.Sinks, SinkConfig{Name: "o", Type: TypeStdout})
		c.Routes[0].Sinks = []string{"hook", "o"}
		e := &endpoint{}
		r, err := New(c, out)
		if err != nil {
			t.Fatal(err)
		}
		r.queues[0].out.(*webhook).client.Transport = e
		send(r, 0, 1)
		synctest.Wait() // the first verdict is being written
		send(r, 1, 19)
		begun := time.Now()
		wantLeft(t, closeWithin(t, r, time.Minute), 20, "o")
		if d := time.Since(begun); d != time.Minute+abortGrace {
			t.Errorf("Close took %v, expected %v", d, time.Minute+abortGrace)
		}
		account(t, r.Stats()[0], ledger{routed: 20, delivered: 20})
		if s := r.Stats()[1]; s.Pending != 20 {
			t.Errorf("%+v, expected 20 pending", s)
		}
		close(out.open)
		synctest.Wait()
		account(t, r.Stats()[1], ledger{routed: 20, delivered: 1, left: 19})
		wantLeft(t, closeWithin(t, r, time.Minute), 19)
	})
}

func TestLeftError(t *testing.T) {
	e := &LeftError{Left: 3}
	if got := e.Error(); got != "cannot deliver 3 verdicts before the deadline" {
		t.Error(got)
	}
	e.Stuck = []string{"a", "b"}
	if got := e.Error(); !strings.HasSuffix(got, "the deadline; still writing: a, b") {
		t.Error(got)
	}
}

// Close does not take for left what a Route that came too late has counted as routed and not yet as
// dropped.
func TestCloseDuringRoute(t *testing.T) {
	r := open(t, Config{Sinks: []SinkConfig{{Name: "o", Type: TypeStdout}}}, io.Discard)
	r.queues[0].routed.Add(1) // as in the midst of put
	mustClose(t, r)
	r.queues[0].droppedAfter.Add(1)
	account(t, r.Stats()[0], ledger{routed: 1, dropped: 1})
}

// Goroutines route while the router is closed. Nothing is lost uncounted, doubled or torn, and each
// goroutine's verdicts stay in order.
func TestCloseHammer(t *testing.T) {
	for round := range 20 {
		dir := t.TempDir()
		out, e := &gate{}, &endpoint{}
		var accepted gate
		e.answer = func(n int, p post) (*http.Response, error) {
			if code := []int{200, 200, 422, 500}[n%4]; code != 200 {
				return status(code)
			}
			fmt.Fprintln(&accepted, strings.Join(p.lines, "\n"))
			return status(200)
		}
		c := hook(func(s *SinkConfig) {
			s.DeadLetter, s.QueueBytes, s.BatchMax = filepath.Join(dir, "dead"), minQueueBytes, 50
		})
		c.Sinks = append(c.Sinks, SinkConfig{Name: "o", Type: TypeStdout, QueueBytes: minQueueBytes},
			SinkConfig{Name: "f", Type: TypeFile, Path: filepath.Join(dir, "f"),
				QueueBytes: minQueueBytes})
		c.Routes[0].Sinks = []string{"hook", "o", "f"}
		r := open(t, c, out)
		r.queues[0].out.(*webhook).client.Transport = e

		routed := closeUnderLoad(t, r, uint64(round*20))
		letters := linesOf(t, filepath.Join(dir, "dead"))
		for i, came := range [][]string{accepted.lines(), out.lines(),
			linesOf(t, filepath.Join(dir, "f"))} {
			s := r.Stats()[i]
			want := ledger{routed: routed, delivered: len(came)}
			if i == 0 {
				want.deadLettered = len(letters)
				inOrder(t, s.Name, came, letters)
			} else {
				inOrder(t, s.Name, came)
			}
			want.dropped = routed - want.delivered - want.deadLettered
			account(t, s, want)
			if s.DroppedLarge+s.DroppedFailed != 0 {
				t.Errorf("sink %s: %+v", s.Name, s)
			}
		}
	}
	nothingRuns(t)
}

// closeUnderLoad closes a router when its second sink has delivered so much, while goroutines route
// until after that. It returns how many verdicts they have routed.
func closeUnderLoad(t *testing.T, r *Router, delivered uint64) (routed int) {
	t.Helper()
	var stop atomic.Bool
	var wg sync.WaitGroup
	var counts [4]int
	for g := range counts {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				r.Route("pay", 1, false, fmt.Appendf(nil, `{"g":%d,"i":%d}`, g, i))
				counts[g] = i + 1
				if i%8 == 0 {
					goruntime.Gosched() // with few cores the sinks would hardly get one
				}
			}
		})
	}
	wg.Go(func() {
		for !stop.Load() {
			for _, s := range r.Stats() {
				if s.Pending > s.Routed {
					t.Errorf("sink %s: %d pending of %d", s.Name, s.Pending, s.Routed)
				}
			}
			time.Sleep(100 * time.Microsecond)
		}
	})
	waitFor(t, "something is delivered", func() bool { return r.Stats()[1].Delivered >= delivered })
	mustClose(t, r)
	stop.Store(true)
	wg.Wait()
	for _, n := range counts {
		routed += n
	}
	return routed
}

// inOrder checks that the lines of all places are whole and each is there once, and that those of
// one place are in the order of the goroutine that routed them.
func inOrder(t *testing.T, name string, places ...[]string) {
	t.Helper()
	seen := make(map[string]bool)
	for _, lines := range places {
		last := make(map[string]int)
		for _, l := range lines {
			text, whole := strings.CutSuffix(l, "}")
			g, number, _ := strings.Cut(text, `,"i":`)
			i, err := strconv.Atoi(number)
			if !whole || err != nil || len(g) != len(`{"g":0`) {
				t.Errorf("sink %s: line %q is torn", name, l)
			}
			if seen[l] {
				t.Errorf("sink %s: line %q is there twice", name, l)
			}
			seen[l] = true
			if prev, ok := last[g]; ok && prev >= i {
				t.Errorf("sink %s: line %q comes after number %d", name, l, prev)
			}
			last[g] = i
		}
	}
}

// After Close no goroutine is left, whatever there was to do: the bubble would not end.
func TestCloseEndsGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := hook(func(s *SinkConfig) {
			s.DeadLetter, s.MaxBackups, s.Compress = filepath.Join(dir, "dead"), 1, true
		})
		c.Sinks = append(c.Sinks, SinkConfig{Name: "f", Type: TypeFile,
			Path: filepath.Join(dir, "f"), MaxSizeMB: 1, Compress: true},
			SinkConfig{Name: "o", Type: TypeStdout})
		c.Routes[0].Sinks = []string{"hook", "f", "o"}
		e := &endpoint{answer: hang}
		r := openHook(t, c, e)
		long := fmt.Appendf(nil, "%q", strings.Repeat("x", 10_000))
		for range 300 {
			r.Route("pay", 1, false, long)
		}
		mustClose(t, r)
		synctest.Wait()
		if left := running(); left != "" {
			t.Errorf("goroutines are left:\n%s", left)
		}
	})
}

// The same with connections as they are.
func TestCloseEndsConnections(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}))
	r := open(t, hook(func(s *SinkConfig) { s.URL = srv.URL }), io.Discard)
	send(r, 0, 100)
	mustClose(t, r)
	account(t, r.Stats()[0], ledger{routed: 100, delivered: 100})
	nothingRuns(t) // the server still runs: it is not the server that ended the connection
	srv.Close()
}

func TestRouteAllocatesNothing(t *testing.T) {
	r := open(t, Config{
		Routes: []Route{{Sinks: []string{"o"}}, {Rules: []string{"p*y"}, Sinks: []string{"o"}}},
		Sinks:  []SinkConfig{{Name: "o", Type: TypeStdout}},
	}, io.Discard)
	text := []byte(`{"rule":"pay"}`)
	if n := testing.AllocsPerRun(1000, func() {
		if r.Wants("pay", 1, false) {
			r.Route("pay", 1, false, text)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a verdict", n)
	}
	mustClose(t, r)
}
