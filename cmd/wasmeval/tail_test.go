package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// tailing is a tail that runs.
type tailing struct {
	t      *testing.T
	lines  *bufio.Scanner
	stop   context.CancelFunc
	ended  chan int
	stderr *notices
}

// notices is what a tail writes to stderr, for several goroutines.
type notices struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *notices) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(b)
}

func (n *notices) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

func startTail(t *testing.T, args ...string) *tailing {
	t.Helper()
	return startReader(t, append([]string{"tail"}, args...)...)
}

// startReader runs a verb that reads a stream.
func startReader(t *testing.T, args ...string) *tailing {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	l := &tailing{t: t, lines: bufio.NewScanner(out), stop: cancel, ended: make(chan int, 1),
		stderr: new(notices)}
	go func() {
		l.ended <- run(ctx, args, strings.NewReader(""), in, l.stderr)
		_ = in.Close()
	}()
	t.Cleanup(cancel)
	return l
}

// end waits for the tail's end and returns the lines that are left and its exit code.
func (l *tailing) end() (rest []string, code int) {
	for l.lines.Scan() {
		rest = append(rest, l.lines.Text())
	}
	return rest, <-l.ended
}

// listeners waits until that many listen to the tail.
func (p *program) listeners(n int) {
	p.t.Helper()
	for range 2000 {
		if metricOf(p.t, p, "wasmeval_tail_listeners") == float64(n) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	p.t.Fatalf("there are not %d listeners", n)
}

func TestTailVerb(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir, "--key", "user")
	p.upload("a.one", "v1")
	p.upload("a.two", "v2")
	p.upload("b.trap", "trap")
	at := []string{"--server", p.url, "--data-dir", dir}
	tail := func(args ...string) *tailing { return startTail(t, append(args, at...)...) }
	all := tail("-n", "5")
	rule := tail("--rule", "a.*", "--json", "-n", "4")
	failed := tail("--code", "failed", "--count", "1")
	two := tail("--code", "2", "--rule", "b.*", "--rule", "a.two")
	p.listeners(4)
	for _, text := range []string{`{"id":"e1","type":"t\u001b[2J","bad":1,"user":"u1"}`,
		`{"id":"e2","bad":0}`} {
		status, reply := p.call("POST", "/v1/evaluate", "application/json", []byte(text))
		if status != 200 {
			t.Fatalf("%d %s", status, reply)
		}
	}
	lines, code := all.end()
	if code != 0 || len(lines) != 5 {
		t.Errorf("tail -n 5: exit code %d, %q", code, lines)
	}
	for _, want := range []string{" a.one@1 t [2J u1 code 1 (", " a.two@1 t [2J u1 code 2 (",
		" b.trap@1 t [2J u1 code 0 failed: trap: ", " a.one@1 e2 code 1 ("} {
		if !strings.Contains(squeezed(strings.Join(lines, "\n")), want) {
			t.Errorf("no line of %q has %q", lines, want)
		}
	}
	lines, code = rule.end()
	for _, line := range lines {
		var v struct {
			Rule  string
			Event struct{ ID string }
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil || !strings.HasPrefix(v.Rule, "a.") {
			t.Errorf("line %s: %v", line, err)
		}
	}
	if code != 0 || len(lines) != 4 {
		t.Errorf("tail --rule a.* -n 4: exit code %d, %q", code, lines)
	}
	lines, code = failed.end()
	if code != 0 || len(lines) != 1 || !strings.Contains(lines[0], "b.trap@1") {
		t.Errorf("tail --code failed: exit code %d, %q", code, lines)
	}
	for range 2 {
		if !two.lines.Scan() || !strings.Contains(two.lines.Text(), "a.two@1") {
			t.Errorf("tail --code 2: %q", two.lines.Text())
		}
	}
	two.stop() // as an interrupt does
	if lines, code = two.end(); code != 0 || len(lines) != 0 || two.stderr.String() != "" {
		t.Errorf("tail after an interrupt: exit code %d, %q %s", code, lines, two.stderr)
	}
	p.bad(dir, "", []string{"tail", "--code", "x"}, `cannot read the tail: code "x": expected matched`)
	p.bad(dir, "", []string{"tail", "--rule", "["}, "cannot read the tail: rule pattern")
	p.bad(dir, "", []string{"tail", "--token", "wev_wrong"}, "cannot read the tail: ")
	p.bad(dir, "", []string{"tail", "-n", "-1"}, "expected --count of 0 or more")
}

// A tail lives on when its server is gone, and finds it again.
func TestTailReconnects(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	p.upload("r", "echo")
	l := startTail(t, "--server", p.url, "--data-dir", dir, "-n", "2")
	p.listeners(1)
	post := func(p *program, id string) {
		event := fmt.Appendf(nil, `{"id":%q}`, id)
		status, text := p.call("POST", "/v1/events", "application/json", event)
		if status != 202 {
			t.Fatalf("%d %s", status, text)
		}
	}
	post(p, "before")
	if !l.lines.Scan() || !strings.Contains(l.lines.Text(), "before") {
		t.Fatalf("the tail shows %q", l.lines.Text())
	}
	p.end()
	for range 2000 {
		if strings.Contains(l.stderr.String(), "cannot reach the server") {
			break // it has tried at least once
		}
		time.Sleep(5 * time.Millisecond)
	}
	want := "the tail has ended (the server closed it); next try in "
	if text := l.stderr.String(); !strings.Contains(text, want) {
		t.Errorf("the tail said %q, expected %q", text, want)
	}
	again := launch(t, dir, "--http", strings.TrimPrefix(p.url, "http://"))
	again.listeners(1)
	post(again, "after")
	if lines, code := l.end(); code != 0 || len(lines) != 1 || !strings.Contains(lines[0], "after") {
		t.Errorf("exit code %d, %q, %s", code, lines, l.stderr)
	}
}

// The stream as it may come: comments, data in several lines, other events, a cut in the middle.
func TestTailStream(t *testing.T) {
	var mu sync.Mutex
	n := 0
	streams := []string{
		": listening\n\nevent: verdict\ndata: {\"rule\":\"cut\"}\n", // never ended, so never shown
		"event: verdict\ndata:{\"rule\":\"a\",\ndata: \"code\":1}\n\n" +
			"event: dropped\ndata: {\"dropped\":7}\n\nevent: other\ndata: x\n\ndata: y\n\n" +
			": alive\n\nevent: verdict\ndata: no JSON\n\n",
	}
	server := "http://" + serveLoopback(t, &http.Server{Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if r.URL.RawQuery != "code=3&rule=a&rule=b" {
				t.Errorf("the query is %q", r.URL.RawQuery)
			}
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, streams[min(n, len(streams)-1)])
			n++
		})})
	l := startTail(t, "--server", server, "--rule", "a", "--rule", "b", "--code", "3", "-n", "2")
	lines, code := l.end()
	if code != 0 || len(lines) != 2 || !strings.Contains(lines[0], "  a@0 ") || lines[1] != "no JSON" {
		t.Errorf("exit code %d, %q", code, lines)
	}
	if text := l.stderr.String(); strings.Count(text, "\n") != 2 ||
		!strings.Contains(text, "this tail was too slow: {\"dropped\":7}\n") {
		t.Errorf("the tail said %q", text)
	}
}
