package sink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t testing.TB, c Config, out io.Writer) *Router {
	t.Helper()
	r, err := New(c, out)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// line is the verdict number i.
func line(i int) []byte { return fmt.Appendf(nil, `{"n":%d}`, i) }

// send routes verdicts of one rule with the numbers from first on, n of them.
func send(r *Router, first, n int) {
	for i := range n {
		r.Route("pay", 1, false, line(first+i))
	}
}

// numbered is what n verdicts from first on look like, one a line.
func numbered(first, n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = string(line(first + i))
	}
	return lines
}

func closeWithin(t *testing.T, r *Router, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return r.Close(ctx)
}

// mustClose closes a router whose sinks can deliver everything.
func mustClose(t *testing.T, r *Router) {
	t.Helper()
	if err := closeWithin(t, r, 30*time.Second); err != nil {
		t.Error(err)
	}
}

// wantLeft checks that err is a LeftError with these figures.
func wantLeft(t *testing.T, err error, left int, stuck ...string) {
	t.Helper()
	e, ok := errors.AsType[*LeftError](err)
	if !ok {
		t.Errorf("Close returned %v, expected %d verdicts left", err, left)
	} else if e.Left != uint64(left) || !slices.Equal(e.Stuck, stuck) {
		t.Errorf("%d verdicts left and %q stuck, expected %d and %q", e.Left, e.Stuck, left, stuck)
	}
}

// ledger is what the test itself counted.
type ledger struct{ routed, delivered, deadLettered, dropped, left int }

// account holds what a sink says after Close against what the test counted.
func account(t *testing.T, s Stat, want ledger) {
	t.Helper()
	got := ledger{int(s.Routed), int(s.Delivered), int(s.DeadLettered), int(s.Dropped()), int(s.Left)}
	if got != want || s.Pending != 0 {
		t.Errorf("sink %s: %+v, %d pending, expected %+v, 0 pending", s.Name, got, s.Pending, want)
	}
	if want.routed != want.delivered+want.deadLettered+want.dropped+want.left {
		t.Errorf("the test's own count does not add up: %+v", want)
	}
}

// waitFor waits until something holds. The limit is only there to end a test that fails.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// returns fails the test if f does not return.
func returns(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s does not return", what)
	}
}

// linesOf returns the lines of files, and complains about a torn one.
func linesOf(t *testing.T, files ...string) (lines []string) {
	t.Helper()
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			t.Errorf("file %s ends within a line", filepath.Base(name))
		}
		lines = append(lines, split(text)...)
	}
	return lines
}

func split(text []byte) (lines []string) {
	for l := range bytes.Lines(text) {
		lines = append(lines, strings.TrimSuffix(string(l), "\n"))
	}
	return lines
}

// sameLines checks that the same lines are there, in the same order.
func sameLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("%s: line %d is %.80q, expected %.80q", what, i, got[i], want[i])
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d lines, expected %d", what, len(got), len(want))
	}
}

// gate is an io.Writer that keeps what it gets, once it is open.
type gate struct {
	open chan struct{} // closed: writes go through; nil: they always do

	mu    sync.Mutex
	text  []byte
	calls int
}

func (g *gate) Write(p []byte) (int, error) {
	if g.open != nil {
		<-g.open
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.text = append(g.text, p...)
	g.calls++
	return len(p), nil
}

func (g *gate) lines() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return split(g.text)
}

// hook is a configuration with one webhook, at a place that nobody connects to unless more says so.
func hook(more func(*SinkConfig)) Config {
	s := SinkConfig{Name: "hook", Type: TypeWebhook, URL: "http://hook.test/", AllowPrivate: true,
		BatchMax: 10, BatchWait: 5 * time.Millisecond, Timeout: 20 * time.Second, MaxAttempts: 3,
		Backoff: time.Millisecond}
	if more != nil {
		more(&s)
	}
	return Config{Routes: []Route{{Sinks: []string{"hook"}}}, Sinks: []SinkConfig{s}}
}

// post is one request that a fake endpoint got.
type post struct {
	at    time.Time
	lines []string
	req   *http.Request
}

// endpoint is a webhook's transport that leads nowhere.
type endpoint struct {
	answer func(n int, p post) (*http.Response, error) // of the request number n, from 1 on; nil: 200

	mu    sync.Mutex
	posts []post
}

func (e *endpoint) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	p := post{time.Now(), split(body), req}
	e.mu.Lock()
	e.posts = append(e.posts, p)
	n := len(e.posts)
	e.mu.Unlock()
	if e.answer == nil {
		return status(200)
	}
	return e.answer(n, p)
}

func (e *endpoint) got() []post {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.posts)
}

// sizes are how many verdicts each request had.
func (e *endpoint) sizes() (n []int) {
	for _, p := range e.got() {
		n = append(n, len(p.lines))
	}
	return n
}

// status is an answer with a code and headers, given as name, value, name, value.
func status(code int, headers ...string) (*http.Response, error) {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, Body: http.NoBody}, nil
}

// always answers everything with one code.
func always(code int, headers ...string) func(int, post) (*http.Response, error) {
	return func(int, post) (*http.Response, error) { return status(code, headers...) }
}

// hang answers nothing until the client has had enough.
func hang(_ int, p post) (*http.Response, error) {
	<-p.req.Context().Done()
	return nil, p.req.Context().Err()
}

// openHook makes a router whose first sink is a webhook that leads to e.
func openHook(t *testing.T, c Config, e *endpoint) *Router {
	t.Helper()
	r := open(t, c, io.Discard)
	r.queues[0].out.(*webhook).client.Transport = e
	return r
}

// events reads a stream of server-sent events: "name data" for each, or the comment.
func events(body io.Reader) (all []string) {
	name := ""
	for s := bufio.NewScanner(body); s.Scan(); {
		if text, ok := strings.CutPrefix(s.Text(), "event: "); ok {
			name = text
		} else if text, ok := strings.CutPrefix(s.Text(), "data: "); ok {
			all = append(all, name+" "+text)
		} else if s.Text() != "" {
			all = append(all, s.Text())
		}
	}
	return all
}

// nothingRuns checks that no goroutine of this package is left but the test's own. One that has
// closed its last channel may need a moment to end.
func nothingRuns(t *testing.T) {
	t.Helper()
	left := running()
	for end := time.Now().Add(10 * time.Second); left != "" && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		left = running()
	}
	if left != "" {
		t.Errorf("goroutines are left:\n%s", left)
	}
}

func running() (all string) {
	buf := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(buf[:goruntime.Stack(buf, true)]), "\n\n") {
		if !strings.Contains(g, "testing.tRunner") && (strings.Contains(g, "internal/sink.") ||
			strings.Contains(g, "net/http.(*persistConn)")) {
			all += g + "\n\n"
		}
	}
	return all
}
