package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// metric is a line of /metrics without its value, and what that is; -1: there is no such line.
func (p *program) metric(name string) int {
	p.t.Helper()
	_, text := p.call("GET", "/metrics", "", nil)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				p.t.Fatal(err)
			}
			return n
		}
	}
	return -1
}

// The server compiles in a child, and after a restart not at all.
func TestServeCompilesInChild(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	p.upload("r", "always")
	const compiled = `wasmeval_compiles_total{result="compiled"}`
	const cached = `wasmeval_compiles_total{result="cached"}`
	if a, b := p.metric(compiled), p.metric(cached); a != 1 || b != 0 {
		t.Errorf("compiled %d, cached %d, expected 1 and 0", a, b)
	}
	if n := p.metric("wasmeval_compile_seconds_count"); n != 1 {
		t.Errorf("%d compile times, expected 1", n)
	}
	p.end()
	p = launch(t, dir)
	if a, b := p.metric(compiled), p.metric(cached); a != 0 || b != 1 {
		t.Errorf("after a restart: compiled %d, cached %d, expected 0 and 1", a, b)
	}
}

// The limits of the configuration are those of the child, and the answer tells which it was.
func TestServeLimitsCompiling(t *testing.T) {
	p := launch(t, t.TempDir(), "--compile-timeout", "1ms")
	status, text := p.call("PUT", "/v1/rules/r", "application/wasm", readModule(t, "always"))
	if status != 422 || !bytes.Contains(text, []byte("cannot be compiled: it takes longer than 1ms")) {
		t.Errorf("%d %s", status, text)
	}
	if n := p.metric(`wasmeval_compiles_total{result="refused"}`); n != 1 {
		t.Errorf("%d refused, expected 1", n)
	}
}

// The verb of the child is for nobody else.
func TestCompileVerbIsHidden(t *testing.T) {
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"--help"}, strings.NewReader(""), &out, &errs)
	if code != 0 || strings.Contains(out.String(), "compile-child") {
		t.Errorf("exit code %d: %s %s", code, &out, &errs)
	}
	out.Reset()
	code = run(context.Background(), []string{"compile-child"}, strings.NewReader(""), &out, &errs)
	if code == 0 || !strings.Contains(out.String(), "not for use by hand") {
		t.Errorf("exit code %d: %s", code, &out)
	}
}

// childOf finds the child of a process; 0: there is none.
func childOf(parent int) int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(parent) && f[0] != "Z" {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	return 0
}

// kill -9 of the server ends the child with it: what it was compiling is left half done, and
// removed at the next start.
func TestKillWhileCompiling(t *testing.T) {
	large, err := os.ReadFile("../../rules-sdk/go/examples/payment-limit/payment-limit.wasm")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := spawn(t, dir, "--log-level", "error")
	answered := make(chan bool, 1)
	go func() {
		_, ok := c.try("PUT", "/v1/rules/r", "application/wasm", large)
		answered <- ok
	}()
	wait := func(what string, ok func() bool) {
		t.Helper()
		for range 20_000 {
			if ok() {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatalf("after 20 s still not: %s", what)
	}
	work := filepath.Join(dir, "cache", "compile-*")
	pid := 0
	wait("the child has read the module and compiles", func() bool {
		begun, _ := filepath.Glob(filepath.Join(work, "wazero-*"))
		pid = childOf(c.cmd.Process.Pid)
		return pid != 0 && len(begun) == 1
	})
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.cmd.Wait()
	wait("the child has ended", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
	if ok := <-answered; ok {
		t.Error("the upload was answered")
	}
	if done, err := filepath.Glob(filepath.Join(work, "wazero-*", "*")); err != nil || len(done) > 0 {
		t.Errorf("the child went on: %v %v", done, err)
	}
	c = spawn(t, dir, "--log-level", "error")
	if left, err := filepath.Glob(work); err != nil || len(left) > 0 {
		t.Errorf("left after the next start: %v %v", left, err)
	}
	if s := c.state(); s != (state{}) {
		t.Errorf("the registry says %+v", s)
	}
}
