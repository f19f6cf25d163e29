package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wasmeval/runtime"
)

// childEnv makes the test binary be the program itself, so that tests can kill it. What that starts is
// the program, too. The name is not one of those with WASMEVAL_, of which the program knows each.
const childEnv = "BE_THE_WASMEVAL_PROGRAM"

func TestMain(m *testing.M) {
	// The child that compiles modules is started without an environment.
	compiles := len(os.Args) > 1 && os.Args[1] == runtime.CompileVerb
	if compiles || os.Getenv(childEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// child is the server as a process of its own.
type child struct {
	*program
	cmd *exec.Cmd
	err *bytes.Buffer
}

func spawn(t *testing.T, dir string, args ...string) *child {
	t.Helper()
	args = append([]string{"serve", "--data-dir", dir, "--http", "127.0.0.1:0", "--udp", ""}, args...)
	c := &child{cmd: exec.Command(os.Args[0], args...), err: &bytes.Buffer{}}
	c.cmd.Env = append(os.Environ(), childEnv+"=1")
	c.cmd.Stderr = c.err
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		_ = c.cmd.Wait()
		t.Fatalf("the server ended: %s", c.err)
	}
	c.program = &program{t: t, url: strings.TrimPrefix(lines.Text(), "http ")}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	c.token = strings.TrimSpace(string(token))
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	return c
}

// wait returns the exit code.
func (c *child) wait() int {
	c.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }()
	select {
	case <-ended:
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(15 * time.Second):
		c.t.Fatalf("the server did not end: %s", c.err)
		return -1
	}
}

// try is call for a server that may be killed meanwhile: ok says that an answer came.
func (c *child) try(method, path, contentType string, body []byte) (status int, ok bool) {
	r, err := http.NewRequest(method, c.url+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err == nil
}

// state is what a rule's registry entry must say.
type state struct {
	active, versions int
}

// kill -9 at random moments of uploads and activations, 200 times, or as often as there is time for: what
// was acknowledged is there after the restart, what was not is there wholly or not at all, and the rule
// works. The moments are among those of the first few changes, however long these take here.
func TestKill(t *testing.T) {
	const lives, enough = 200, 90 * time.Second
	begun, span := time.Now(), 25*time.Millisecond
	dir := t.TempDir()
	modules := make([][]byte, 3)
	for i, m := range []string{"v1", "v2", "always"} {
		var err error
		if modules[i], err = os.ReadFile(filepath.Join("..", "..", "testdata", "modules", m, m+".wasm")); err != nil {
			t.Fatal(err)
		}
	}
	var acked state   // by the server's replies
	var asked []state // what the request in flight at the kill would make of it
	acks, round := 0, 0
	for ; round < lives && time.Since(begun) < enough; round++ {
		c := spawn(t, dir, "--log-level", "error")
		got := c.state()
		if got != acked && (len(asked) == 0 || got != asked[0]) {
			t.Fatalf("round %d: after the kill the registry says %+v; acknowledged was %+v, asked for %+v",
				round, got, acked, asked)
		}
		acked = got
		if acked.active > 0 {
			status, text := c.call("POST", "/v1/rules/r/evaluate", "application/json", []byte(`{}`))
			if status != 200 || !bytes.Contains(text, fmt.Appendf(nil, `"version":%d,`, acked.active)) {
				t.Fatalf("round %d: %d %s, expected a verdict of version %d", round, status, text, acked.active)
			}
		}
		killed, after := make(chan struct{}), rand.N(span)
		go func() {
			time.Sleep(after)
			_ = c.cmd.Process.Kill()
			close(killed)
		}()
		asked = nil
		for n := round; ; n++ {
			asking := time.Now()
			next, ok := c.step(n, acked, modules)
			span = max(span, 2*time.Since(asking)) // also if it was killed: so it grows until changes fit in
			if !ok {
				asked = []state{next}
				break
			}
			acked = next
			acks++
		}
		<-killed
		_ = c.cmd.Wait()
	}
	t.Logf("%d acknowledged changes in %d lives", acks, round)
	if acks < round/4 || round < 20 {
		t.Errorf("%d acknowledged changes in %d lives are not worth the test", acks, round)
	}
}

// step makes one change, and returns what it leads to and whether it was acknowledged.
func (c *child) step(n int, s state, modules [][]byte) (next state, ok bool) {
	next = s
	var status int
	if n%2 == 0 || s.versions == 0 {
		v := n / 2 % 3
		if v >= s.versions { // versions come in the order of the modules
			v = s.versions
			next.versions++
		}
		next.active = v + 1
		status, ok = c.try("PUT", "/v1/rules/r", "application/wasm", modules[v])
	} else {
		next.active = 1 + n/2%s.versions
		status, ok = c.try("POST", "/v1/rules/r/activate", "application/json",
			fmt.Appendf(nil, `{"version":%d}`, next.active))
	}
	if ok && status >= 300 {
		c.t.Errorf("change to %+v: status %d", next, status)
	}
	return next, ok
}

func (c *child) state() (s state) {
	c.t.Helper()
	var list struct {
		Rules []struct {
			Active, Versions int
			Error            string
		}
	}
	status, text := c.call("GET", "/v1/rules", "", nil)
	if err := json.Unmarshal(text, &list); status != 200 || err != nil || len(list.Rules) > 1 {
		c.t.Fatalf("rules: %d %s %v", status, text, err)
	}
	for _, r := range list.Rules {
		if r.Error != "" {
			c.t.Errorf("rule is broken: %s", r.Error)
		}
		s = state{r.Active, r.Versions}
	}
	return s
}

// SIGTERM under load: exit code 0, and every event that was accepted was evaluated.
func TestTerminate(t *testing.T) {
	c := spawn(t, t.TempDir(), "--log-level", "info")
	c.upload("r", "always")
	accepted := 0
	go func() {
		time.Sleep(200 * time.Millisecond)
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
	}()
	body := bytes.Repeat([]byte("{\"type\":\"x\"}\n"), 200)
	for range 100_000 {
		status, ok := c.try("POST", "/v1/events", "application/x-ndjson", body)
		if !ok || status == 503 {
			break
		}
		if status == 202 {
			accepted += 200
		}
	}
	if code := c.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, c.err)
	}
	want := fmt.Sprintf("evaluated=%d in_flight=0 difference=0", accepted)
	if accepted == 0 || !strings.Contains(c.err.String(), want) {
		t.Errorf("log %q, expected %q", c.err, want)
	}
}

// A drain that takes too long costs the events that were not evaluated and nothing else: what rules have
// counted is there after the next start, and the ledger says how many events that were.
func TestTerminateLate(t *testing.T) {
	dir := t.TempDir()
	args := []string{"--shards", "1", "--key", "k", "--shutdown-timeout", "200ms"}
	c := spawn(t, dir, args...)
	c.upload("count", "counting")
	for want := 1; want <= 5; want++ {
		c.counts("a", want)
	}
	for i := range 60 {
		c.upload(fmt.Sprint("slow", i), "counting")
	}
	const events = 150_000
	body := bytes.Repeat([]byte("{\"type\":\"x\",\"k\":\"b\"}\n"), events)
	if status, text := c.call("POST", "/v1/events", "application/x-ndjson", body); status != 202 {
		t.Fatalf("%d %s", status, text)
	}
	begun := time.Now()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	code := c.wait()
	if took := time.Since(begun); code != 1 || took > 6*time.Second {
		t.Errorf("exit code %d after %v: %s", code, took, c.err)
	}
	_, last, _ := strings.Cut(c.err.String(), "msg=stopped ")
	var received, evaluated, inFlight, difference int
	if _, err := fmt.Sscanf(last, "received=%d evaluated=%d in_flight=%d difference=%d", &received, &evaluated,
		&inFlight, &difference); err != nil {
		t.Fatalf("no ledger in the log (%v): %s", err, c.err)
	}
	want := fmt.Sprintf("the rings were not drained within 200ms: %d events were not evaluated", inFlight)
	if received != events+5 || evaluated+inFlight != received || inFlight == 0 || difference != 0 ||
		!strings.Contains(c.err.String(), want) {
		t.Errorf("ledger and error %q, expected %d received and %q", last, events+5, want)
	}
	c = spawn(t, dir, args...)
	c.counts("a", 6)
	c.counts("b", evaluated-5+1)
}

// counts expects the code of rule "count" for the next event of a key.
func (c *child) counts(key string, want int) {
	c.t.Helper()
	status, text := c.call("POST", "/v1/rules/count/evaluate", "application/json",
		fmt.Appendf(nil, `{"type":"x","k":%q}`, key))
	if status != 200 || !bytes.Contains(text, fmt.Appendf(nil, `"code":%d,`, want)) {
		c.t.Errorf("an event of key %s: %d %s, expected code %d", key, status, text, want)
	}
}

// Two signals in the same moment are one: the server stops in good order.
func TestTerminateByTwo(t *testing.T) {
	for _, second := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		c := spawn(t, t.TempDir())
		c.upload("r", "always")
		if status, text := c.call("POST", "/v1/events", "application/json", []byte(`{"type":"x"}`)); status != 202 {
			t.Fatalf("%d %s", status, text)
		}
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		_ = c.cmd.Process.Signal(second)
		if code := c.wait(); code != 0 || !strings.Contains(c.err.String(), "msg=stopped received=1 evaluated=1") {
			t.Errorf("%v: exit code %d, %s", second, code, c.err)
		}
	}
}

// A second signal ends the server at once and says what is left.
func TestTerminateTwice(t *testing.T) {
	hang := make(chan struct{})
	entered := make(chan struct{}, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case entered <- struct{}{}:
		default:
		}
		<-hang
	})}
	addr := serveLoopback(t, srv)
	defer close(hang)
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	text := fmt.Sprintf(`routes:
  - rules: ["*"]
    sinks: [hook]
sinks:
  - name: hook
    type: webhook
    url: http://%s/
    allow_private: true
`, addr)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := spawn(t, dir, "--config", file)
	c.upload("r", "always")
	if status, reply := c.call("POST", "/v1/events", "application/json", []byte(`{"type":"x"}`)); status != 202 {
		t.Fatalf("%d %s", status, reply)
	}
	<-entered
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	time.Sleep(300 * time.Millisecond) // it now waits for the webhook
	begun := time.Now()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	code := c.wait()
	if code != 1 || time.Since(begun) > 3*time.Second ||
		!strings.Contains(c.err.String(), "1 verdicts not delivered") {
		t.Errorf("exit code %d after %v: %s", code, time.Since(begun), c.err)
	}
}

// A signal while the server starts, with a module to compile anew, ends it soon: it was not ready, and what
// is in the data folder works at the next start.
func TestTerminateWhileStarting(t *testing.T) {
	dir := t.TempDir()
	c := spawn(t, dir)
	code, err := os.ReadFile("../../rules-sdk/rust/examples/price-band/price-band.wasm")
	if err != nil {
		t.Fatal(err)
	}
	if status, text := c.call("PUT", "/v1/rules/r", "application/wasm", code); status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	if code := c.wait(); code != 0 {
		t.Fatalf("exit code %d: %s", code, c.err)
	}
	cache := filepath.Join(dir, "cache")
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	late := &child{program: &program{t: t}, err: &bytes.Buffer{}}
	late.cmd = exec.Command(os.Args[0], c.cmd.Args[1:]...)
	late.cmd.Env, late.cmd.Stdout, late.cmd.Stderr = c.cmd.Env, &said, late.err
	if err := late.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = late.cmd.Process.Kill() })
	for range 10_000 {
		if list, _ := filepath.Glob(filepath.Join(cache, "compile-*")); len(list) > 0 {
			break // it compiles
		}
		time.Sleep(time.Millisecond)
	}
	begun := time.Now()
	_ = late.cmd.Process.Signal(syscall.SIGTERM)
	ended := late.wait()
	if took := time.Since(begun); ended != 1 || took > 3*time.Second || said.Len() > 0 ||
		!strings.HasSuffix(late.err.String(), "wasmeval: interrupted while starting\n") ||
		strings.Contains(late.err.String(), "cannot load rule") {
		t.Errorf("exit code %d after %v: %s%s", ended, took, &said, late.err)
	}
	if list, _ := filepath.Glob(filepath.Join(cache, "compile-*")); len(list) > 0 {
		t.Errorf("folders %v are left", list)
	}
	if got := spawn(t, dir).state(); got != (state{1, 1}) {
		t.Errorf("the registry says %+v", got)
	}
}

// serveLoopback serves srv on a port of the system's choice until the test ends.
func serveLoopback(t *testing.T, srv *http.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}
