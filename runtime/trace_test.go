package runtime

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wasmeval/runtime/meter"
)

// lineOf is the line of a source in testdata/modules that ends with a comment, as "file:line".
func lineOf(t *testing.T, file, comment string) string {
	t.Helper()
	name := strings.TrimSuffix(file, filepath.Ext(file))
	text, err := os.ReadFile(filepath.Join("..", "testdata", "modules", name, file))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasSuffix(line, "// "+comment) {
			return fmt.Sprintf("%s:%d", file, i+1)
		}
	}
	t.Fatalf("%s has no line with the comment %q", file, comment)
	return ""
}

// explain evaluates one event and returns its error.
func (f *fixture) explain(rule, event string) *VerdictError {
	f.t.Helper()
	list, err := f.Test(context.Background(), RuleName(rule), 0, []TestEvent{TestEvent(event)}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if list[0].Error == nil {
		f.t.Fatalf("event %s did not fail", event)
	}
	return list[0].Error
}

// traced are the ways in which the guests with debug information fail, by their field bad.
func traced(t *testing.T) []struct {
	rule    string
	bad     int
	kind    string
	message string
	trace   []string // its beginning
} {
	c := func(comment string) string { return lineOf(t, "trap-c.c", comment) }
	rust := func(comment string) string { return lineOf(t, "trap-rust.rs", comment) }
	verdict := "<trap_rust::rule::Rule as trap_rust::rule::Verdict>::verdict"
	return []struct {
		rule    string
		bad     int
		kind    string
		message string
		trace   []string
	}{
		{"trap-c", 1, FaultTrap, "integer divide by zero in divide (" + c("divide") +
			"), called from wasmeval_evaluate (" + c("score") + ")",
			[]string{"divide (" + c("divide") + ")", "wasmeval_evaluate (" + c("score") + ")"}},
		{"trap-c", 2, FaultFuel, " units used in the loop at " + c("loop") + " (function endless)",
			[]string{"endless (" + c("loop") + ")"}},
		{"trap-c", 3, FaultStack, "calls are nested too deep in deep (" + c("deep") + ")",
			slices.Concat([]string{"deep (" + c("entry") + ")"},
				slices.Repeat([]string{"deep (" + c("deep") + ")"}, 15))},
		{"trap-c", 4, FaultTrap, "unreachable in wasmeval_evaluate (" + c("inlined") + ")", nil},
		{"trap-c", 5, FaultTrap, "out of bounds memory access in small (" + c("outside") + ")", nil},
		{"trap-rust", 1, FaultTrap, "unreachable (core::panicking::panic) in trap_rust::rule::divide (" +
			rust("divide") + "), called from " + verdict, nil},
		{"trap-rust", 2, FaultTrap, "unreachable (core::panicking::panic_bounds_check) in " +
			"trap_rust::rule::nth (" + rust("index") + "), called from " + verdict + " (" +
			rust("verdict") + ")", nil},
	}
}

// Failures name the line of the source: in tests, in the stream, and after a restart, when the code
// comes from the compilation cache.
func TestTrace(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, DefaultLimits())
	f.put("trap-c", "trap-c")
	f.put("trap-rust", "trap-rust")
	check := func(f *fixture, where string) {
		t.Helper()
		for _, c := range traced(t) {
			event := fmt.Sprintf(`{"bad":%d,"n":3}`, c.bad)
			got := []*VerdictError{f.explain(c.rule, event)}
			f.out.mu.Lock()
			f.out.lines = nil
			f.out.mu.Unlock()
			f.send("x", event, event) // a batch that fails is evaluated again
			f.drain()
			for _, v := range f.out.all(t) {
				if v.Rule == c.rule && v.Error != nil {
					got = append(got, v.Error)
				}
			}
			if len(got) != 3 {
				t.Errorf("%s: %s gave %d errors for %s: expected 3", where, c.rule, len(got), event)
			}
			for _, e := range got {
				if e.Kind != c.kind || !strings.Contains(e.Message, c.message) ||
					len(e.Trace) == 0 || len(e.Trace) > maxTrace ||
					!slices.Equal(e.Trace[:min(len(e.Trace), len(c.trace))], c.trace) {
					t.Errorf("%s: %s %s: %s %q, %q\nexpected %s … %q", where, c.rule, event, e.Kind,
						e.Message, e.Trace, c.kind, c.message)
				}
			}
		}
	}
	check(f, "at first")
	f.stop()
	f = open(t, dir, DefaultLimits())
	check(f, "after a restart")
	if n := f.Stats().Compiles[CompileDone]; n != 0 {
		t.Errorf("%d modules were compiled after the restart", n)
	}
}

// A module without debug information and names still says which function of the ABI failed.
func TestTraceOfStripped(t *testing.T) {
	f := start(t)
	for rule, want := range map[string]VerdictError{
		"trap":    {Kind: FaultTrap, Message: "unreachable in wasmeval_evaluate"},
		"loop":    {Kind: FaultFuel, Message: " units used in wasmeval_evaluate"},
		"recurse": {Kind: FaultStack, Message: "calls are nested too deep in function "},
		"exit":    {Kind: FaultExit, Message: "the rule exited with code 3 in wasmeval_evaluate"},
	} {
		f.put(rule, rule)
		got := f.explain(rule, `{"bad":1}`)
		if got.Kind != want.Kind || !strings.Contains(got.Message, want.Message) {
			t.Errorf("%s: %+v: expected %+v", rule, got, want)
		}
	}
	if e := f.explain("exit", `{"bad":1}`); e.Trace[0] != "wasi_snapshot_preview1.proc_exit" {
		t.Errorf("the trace of an exit is %q", e.Trace)
	}
}

// hostileSymbols are those of a module whose functions have the longest names, of what no log should
// have.
func hostileSymbols(t *testing.T) *meter.Symbols {
	t.Helper()
	name := strings.Repeat("\x1b[2J\n\xff", 1000)
	list := append([]byte{1, 0}, binary.AppendUvarint(nil, uint64(len(name)))...)
	list = append(list, name...)
	part := append([]byte{1}, binary.AppendUvarint(nil, uint64(len(list)))...)
	section := slices.Concat([]byte("\x04name"), part, list)
	code := append(module(t, "trap"), 0)
	code = append(binary.AppendUvarint(code, uint64(len(section))), section...)
	scanned, err := meter.Scan(code, meter.DefaultLimits(), allowedImports())
	if err != nil {
		t.Fatal(err)
	}
	_, symbols, err := scanned.RewriteWithSymbols()
	if err != nil {
		t.Fatal(err)
	}
	return symbols
}

// A trace has no more than its bounds allow, whatever names and paths a module has.
func TestTraceIsBounded(t *testing.T) {
	frames := "wasm error: unreachable\nwasm stack trace:\n"
	for range 30 {
		frames += "\t.$0(i32) i32\n\t\t0x99: -:1\n"
	}
	what, list := (&program{symbols: hostileSymbols(t)}).cutTrace(fmt.Errorf("%s", frames))
	if what != "unreachable" || len(list) != 30 {
		t.Fatalf("%q and %d calls", what, len(list))
	}
	for _, s := range []string{list[0].String(), where(list)} {
		if len(s) > 1000 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%d bytes: %q", len(s), s)
		}
	}
	for _, odd := range []string{"", "x", "wasm stack trace:\n", "\nwasm stack trace:\n\t.$(\n\t\t0xzz:",
		"\nwasm stack trace:\n\t.$99999999999999(\n\t\t0x1: -:1\n\tx"} {
		_, list := (&program{symbols: hostileSymbols(t)}).cutTrace(fmt.Errorf("%s", odd))
		_ = spent(list) + recursion(list)
	}
}
