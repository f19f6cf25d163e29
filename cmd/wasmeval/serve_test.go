package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// program is the whole server at work in this process, as run starts it.
type program struct {
	t        *testing.T
	url, udp string
	token    string
	stop     context.CancelFunc
	code     chan int
	stderr   *bytes.Buffer
}

// launch starts "serve" on ports of the system's choice, with more arguments.
func launch(t *testing.T, dir string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	p := &program{t: t, stop: cancel, code: make(chan int, 1), stderr: &bytes.Buffer{}}
	args = append([]string{"serve", "--data-dir", dir, "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0",
		"--log-level", "error"}, args...)
	go func() {
		p.code <- run(ctx, args, strings.NewReader(""), in, p.stderr)
		_ = in.Close()
	}()
	lines := bufio.NewScanner(out)
	for range 2 {
		if !lines.Scan() {
			t.Fatalf("the server ended: %s", p.stderr)
		}
		what, addr, _ := strings.Cut(lines.Text(), " ")
		if what == "http" {
			p.url = addr
		} else {
			p.udp = addr
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	p.token = strings.TrimSpace(string(token))
	t.Cleanup(p.end)
	return p
}

// end stops the server and expects exit code 0. It may be called more than once.
func (p *program) end() {
	p.stop()
	select {
	case code := <-p.code:
		if code != 0 {
			p.t.Errorf("exit code %d: %s", code, p.stderr)
		}
		p.code <- code
	case <-time.After(15 * time.Second):
		p.t.Fatal("the server did not stop within 15 s")
	}
}

// call sends a request with the admin token and returns status and body.
func (p *program) call(method, path, contentType string, body []byte) (int, []byte) {
	p.t.Helper()
	r, err := http.NewRequest(method, p.url+path, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.token)
	r.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Errorf("%s %s: %v", method, path, err)
		return 0, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Errorf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, text
}

func (p *program) upload(rule, module string) {
	p.t.Helper()
	code, err := os.ReadFile(filepath.Join("..", "..", "testdata", "modules", module, module+".wasm"))
	if err != nil {
		p.t.Fatal(err)
	}
	if status, text := p.call("PUT", "/v1/rules/"+rule, "application/wasm", code); status >= 300 {
		p.t.Fatalf("upload of %s: %d %s", module, status, text)
	}
}

// account is the ledger as a client reads it.
type account struct {
	Received  int64
	Evaluated int64
	Rejected  map[string]int64
	Dropped   map[string]int64
	InFlight  int64 `json:"in_flight"`
	Diff      int64 `json:"difference"`
	Sources   map[string]account
}

func (p *program) ledger() account {
	p.t.Helper()
	var a account
	status, text := p.call("GET", "/v1/ledger", "", nil)
	if status != 200 {
		p.t.Fatalf("ledger: %d %s", status, text)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		p.t.Fatal(err)
	}
	return a
}

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// holds checks the identity, computed here from the parts.
func (a *account) holds(t *testing.T) {
	t.Helper()
	if d := a.Received - a.Evaluated - sum(a.Rejected) - sum(a.Dropped) - a.InFlight; d != 0 || a.Diff != 0 {
		t.Errorf("ledger %+v: difference %d", *a, d)
	}
}

// source counts what it sends and what it is told. Its count is the reference.
type source struct {
	p                  *program
	sent, malformed    atomic.Int64
	accepted, rejected atomic.Int64 // by the server's replies
}

// event makes one event; one in 200 is malformed and one in 1,000 traps the rule.
func (s *source) event(dst []byte) []byte {
	s.sent.Add(1)
	switch n := rand.IntN(1000); {
	case n < 5:
		s.malformed.Add(1)
		return append(dst, `{"type":"x","bad":nan}`...)
	case n < 6:
		return append(dst, `{"type":"x","bad":1}`...)
	}
	return append(dst, `{"type":"x","bad":0}`...)
}

func (s *source) post(requests, events int) {
	for range requests {
		var body []byte
		for range events {
			body = append(s.event(body), '\n')
		}
		status, text := s.p.call("POST", "/v1/events", "application/x-ndjson", body)
		var reply struct{ Accepted, Rejected int64 }
		if err := json.Unmarshal(text, &reply); err != nil || status != 202 && status != 429 {
			s.p.t.Errorf("reply %d %s: %v", status, text, err)
		}
		s.accepted.Add(reply.Accepted)
		s.rejected.Add(reply.Rejected)
	}
}

func (s *source) datagrams(n int) {
	c, err := net.Dial("udp", s.p.udp)
	if err != nil {
		s.p.t.Error(err)
		return
	}
	defer c.Close()
	var buf []byte
	for range n {
		buf = s.event(buf[:0])
		if _, err := c.Write(buf); err != nil {
			s.p.t.Error(err)
			return
		}
	}
}

// The sender's own count is what the ledger must come to: 1,000,000 events by HTTP and UDP, a ring so
// small that some are dropped, a rule that traps at random, and swaps all the time.
func TestLedger(t *testing.T) {
	p := launch(t, t.TempDir(), "--ring-bytes", "64KiB", "--event-bytes", "1KiB", "--udp-receive-buffer", "64KiB")
	p.upload("trap", "trap")
	p.upload("r", "v1")
	p.upload("r", "v2")
	s := &source{p: p}
	ctx, done := context.WithCancel(context.Background())
	var beside, senders sync.WaitGroup
	swaps, samples := 0, 0
	beside.Go(func() {
		for ; ctx.Err() == nil; swaps++ {
			body := fmt.Appendf(nil, `{"version":%d}`, 1+swaps%2)
			if status, text := p.call("POST", "/v1/rules/r/activate", "application/json", body); status != 200 ||
				!bytes.Contains(text, []byte(`"lost":0`)) {
				t.Errorf("swap: %d %s", status, text)
				return
			}
		}
	})
	beside.Go(func() {
		for ; ctx.Err() == nil; samples++ {
			a := p.ledger()
			a.holds(t)
		}
	})
	for range 3 {
		senders.Go(func() { s.post(600, 500) })
	}
	senders.Go(func() { s.datagrams(100_000) })
	senders.Wait()
	done()
	beside.Wait()

	var a account
	for range 500 {
		if a = p.ledger(); a.InFlight == 0 && a.Received == s.sent.Load() {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	a.holds(t)
	h := a.Sources["http"]
	if a.Received != 1_000_000 || s.sent.Load() != 1_000_000 || a.InFlight != 0 {
		t.Errorf("received %d of %d sent, %d in flight", a.Received, s.sent.Load(), a.InFlight)
	}
	if got := h.Received - sum(h.Rejected) - sum(h.Dropped); got != s.accepted.Load() {
		t.Errorf("the ledger accepted %d by HTTP, the replies said %d", got, s.accepted.Load())
	}
	if got := sum(h.Rejected); got != s.rejected.Load() {
		t.Errorf("the ledger rejected %d by HTTP, the replies said %d", got, s.rejected.Load())
	}
	if m := a.Rejected["malformed"] + a.Dropped["kernel"]; a.Rejected["malformed"] > s.malformed.Load() ||
		m < s.malformed.Load() {
		t.Errorf("%d malformed, %d lost by the kernel, but %d malformed sent",
			a.Rejected["malformed"], a.Dropped["kernel"], s.malformed.Load())
	}
	if a.Dropped["ring_full"] == 0 {
		t.Error("the ring was never full: this test needs a smaller one")
	}
	t.Logf("evaluated %d, rejected %d, dropped %v, %d swaps, %d samples", a.Evaluated,
		sum(a.Rejected), a.Dropped, swaps, samples)
}

// A server whose address is taken says so before it makes a data folder.
func TestServeOnTakenPorts(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, c := range []struct{ http, udp, want string }{
		{tcp.Addr().String(), "127.0.0.1:0", "cannot listen for HTTP on "},
		{"127.0.0.1:0", udp.LocalAddr().String(), "cannot listen on UDP "},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		code, _, errs := verb(t, "", "serve", "--data-dir", dir, "--http", c.http, "--udp", c.udp)
		if code != 1 || !strings.Contains(errs, c.want) || !strings.Contains(errs, "in use") {
			t.Errorf("serve on %s and %s: exit code %d, %s", c.http, c.udp, code, errs)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("serve on %s and %s left a data folder: %v", c.http, c.udp, err)
		}
	}
}

// What the demo cannot do it says before it makes a data folder.
func TestDemoRefuses(t *testing.T) {
	rules := filepath.Join("..", "..", "rules-sdk")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--rules-dir", rules, "--for", "-1s"}, "--for is -1s: expected 0 or more"},
		{[]string{"--rules-dir", rules, "--rate", "0"}, "--rate is 0: expected 1 to 100000"},
		{[]string{"--rules-dir", "none"}, "no such file or directory; expected --rules-dir to name"},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		code, _, errs := verb(t, "", append([]string{"demo", "--data-dir", dir}, c.args...)...)
		if code != 1 || !strings.Contains(errs, c.want) {
			t.Errorf("demo %q: exit code %d, %s", c.args, code, errs)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("demo %q left a data folder: %v", c.args, err)
		}
	}
}
