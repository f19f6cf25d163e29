package sink

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func open(t *testing.T, c Config, out io.Writer) *Router {
	t.Helper()
	r, err := New(c, out)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// send routes n verdicts of one rule.
func send(r *Router, n int) {
	for i := range n {
		r.Route("pay", 1, false, fmt.Appendf(nil, `{"n":%d}`, i))
	}
}

func closeWithin(t *testing.T, r *Router, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return r.Close(ctx)
}

// holds checks what must be true of every sink, and returns the first one.
func holds(t *testing.T, r *Router) Stat {
	t.Helper()
	for _, s := range r.Stats() {
		if s.Routed != s.Delivered+s.Dropped()+s.DeadLettered+s.Left+s.Pending {
			t.Errorf("sink %s: %+v does not add up", s.Name, s)
		}
	}
	return r.Stats()[0]
}

func hook(url string, more func(*SinkConfig)) Config {
	s := SinkConfig{Name: "hook", Type: TypeWebhook, URL: url, AllowPrivate: true, BatchMax: 10,
		BatchWait: 5 * time.Millisecond, Timeout: time.Second, MaxAttempts: 3, Backoff: time.Millisecond}
	if more != nil {
		more(&s)
	}
	return Config{Routes: []Route{{Sinks: []string{"hook"}}}, Sinks: []SinkConfig{s}}
}

func TestRoutes(t *testing.T) {
	r := open(t, Config{
		Routes: []Route{{Rules: []string{"pay*"}, Codes: []string{"2"}, Sinks: []string{"o"}},
			{Rules: []string{"geo"}, Codes: []string{"all"}, Sinks: []string{"o"}},
			{Rules: []string{"def"}, Sinks: []string{"o"}}},
		Sinks: []SinkConfig{{Name: "o", Type: TypeStdout}},
	}, io.Discard)
	for _, c := range []struct {
		rule   string
		code   int32
		failed bool
		want   bool
	}{{"pay-x", 2, false, true}, {"pay-x", 1, false, false}, {"geo", 0, false, true}, {"def", 0, false, false},
		{"def", 1, false, true}, {"def", 0, true, true}, {"other", 2, false, false}} {
		if got := r.Wants(c.rule, c.code, c.failed); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if err := closeWithin(t, r, time.Second); err != nil {
		t.Error(err)
	}
}

func TestStdoutAndFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.ndjson")
	var out bytes.Buffer
	r := open(t, Config{
		Routes: []Route{{Sinks: []string{"o", "f"}}, {Sinks: []string{"f"}}},
		Sinks:  []SinkConfig{{Name: "o", Type: TypeStdout}, {Name: "f", Type: TypeFile, Path: path}},
	}, &out)
	send(r, 1000)
	if err := closeWithin(t, r, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"stdout": out.String(), "file": string(file)} {
		if lines := strings.Count(text, "\n"); lines != 1000 || !strings.HasSuffix(text, "{\"n\":999}\n") {
			t.Errorf("%s has %d lines, expected 1000, each once", name, lines)
		}
	}
	if s := holds(t, r); s.Delivered != 1000 {
		t.Errorf("%+v", s)
	}
}

// A webhook gets each verdict once; failures are tried again; what is refused for good goes to the
// dead-letter file.
func TestWebhook(t *testing.T) {
	var mu sync.Mutex
	got, calls := 0, 0
	status := func(n int) int { return 200 }
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		calls++
		s := status(calls)
		if s == 200 {
			got += bytes.Count(body, []byte("\n"))
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(s)
	}))
	defer srv.Close()
	for name, c := range map[string]struct {
		status             func(int) int
		delivered, letters int
	}{
		"fine":            {func(int) int { return 200 }, 100, 0},
		"every other 500": {func(n int) int { return []int{500, 200}[n%2] }, 100, 0},
		"always 500":      {func(int) int { return 500 }, 0, 100},
		"400":             {func(int) int { return 400 }, 0, 100},
		"redirect":        {func(int) int { return 302 }, 0, 100},
	} {
		mu.Lock()
		got, calls, status = 0, 0, c.status
		mu.Unlock()
		letters := filepath.Join(t.TempDir(), "dead.ndjson")
		r := open(t, hook(srv.URL, func(s *SinkConfig) { s.DeadLetter = letters }), io.Discard)
		send(r, 100)
		if err := closeWithin(t, r, 10*time.Second); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s := holds(t, r)
		text, _ := os.ReadFile(letters)
		if got != c.delivered || int(s.Delivered) != c.delivered || bytes.Count(text, []byte("\n")) != c.letters ||
			int(s.DeadLettered) != c.letters {
			t.Errorf("%s: %d came, %d in the file, %+v", name, got, bytes.Count(text, []byte("\n")), s)
		}
	}
}

// Without leave a webhook does not reach private addresses, whatever name they have.
func TestPrivateAddress(t *testing.T) {
	var hits atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer srv.Close()
	for _, url := range []string{srv.URL, strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)} {
		c := hook(url, func(s *SinkConfig) { s.AllowPrivate = false })
		r, err := New(c, io.Discard)
		if err != nil {
			continue // refused at the start already
		}
		send(r, 5)
		_ = closeWithin(t, r, 5*time.Second)
		if s := holds(t, r); s.Dropped() != 5 || !strings.Contains(s.LastError, "private") &&
			!strings.Contains(s.LastError, "public") {
			t.Errorf("%s: %+v", url, s)
		}
	}
	if hits.Load() != 0 {
		t.Errorf("%d requests reached the private address", hits.Load())
	}
}

// A webhook that hangs slows nobody: routing goes on, its queue fills, the rest is counted as dropped,
// and Close ends when its time is over.
func TestHangingWebhook(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer srv.Close()
	defer close(hang)
	r := open(t, hook(srv.URL, func(s *SinkConfig) { s.QueueBytes, s.Timeout = 64<<10, time.Minute }), io.Discard)
	begun := time.Now()
	send(r, 100_000)
	if d := time.Since(begun); d > 2*time.Second {
		t.Errorf("routing 100,000 verdicts took %v", d)
	}
	if err := closeWithin(t, r, 100*time.Millisecond); err == nil {
		t.Error("Close did not say that verdicts are left")
	}
	s := holds(t, r)
	if s.Routed != 100_000 || s.DroppedFull == 0 || s.Delivered != 0 || s.Left+s.Dropped() != 100_000 || s.Pending != 0 {
		t.Errorf("%+v", s)
	}
}

// A listener gets what its filter wants, as server-sent events.
func TestTail(t *testing.T) {
	r := open(t, Config{}, io.Discard)
	srv := httptest.NewServer(r.Tail())
	defer srv.Close()
	if r.Wants("pay", 1, false) {
		t.Error("verdicts are wanted though nobody listens")
	}
	resp, err := http.Get(srv.URL + "?rule=pay&code=2")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for range 1000 {
		if r.Tail().Stats().Listeners == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for code := range int32(4) {
		r.Route("pay", code, false, fmt.Appendf(nil, `{"code":%d}`, code))
		r.Route("geo", code, false, fmt.Appendf(nil, `{"other":%d}`, code))
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			if data != `{"code":2}` {
				t.Errorf("the tail sent %s", data)
			}
			break
		}
	}
	if err := closeWithin(t, r, 5*time.Second); err != nil {
		t.Error(err)
	}
	if n := r.Tail().Stats().Sent; n != 1 {
		t.Errorf("%d verdicts sent, expected 1", n)
	}
}

func TestRouteAllocatesNothing(t *testing.T) {
	r := open(t, Config{Routes: []Route{{Sinks: []string{"o"}}}, Sinks: []SinkConfig{{Name: "o", Type: TypeStdout}}},
		io.Discard)
	line := []byte(`{"rule":"pay"}`)
	if n := testing.AllocsPerRun(1000, func() {
		if r.Wants("pay", 1, false) {
			r.Route("pay", 1, false, line)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a verdict", n)
	}
	if err := closeWithin(t, r, 5*time.Second); err != nil {
		t.Error(err)
	}
}

// All faults of a configuration are told at once, each with what was expected.
func TestConfigFaults(t *testing.T) {
	_, err := New(Config{
		Routes: []Route{{Sinks: []string{"nobody"}}, {Codes: []string{"often"}, Sinks: []string{"f"}}},
		Sinks:  []SinkConfig{{Name: "f", Type: TypeFile}, {Name: "w", Type: TypeWebhook, URL: "ftp://x"}, {Name: "q", Type: "queue"}},
	}, io.Discard)
	if err == nil {
		t.Fatal("the configuration is taken")
	}
	for _, want := range []string{"nobody", "often", "path", `sink "w": url`, "queue"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
}
