package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
	"wasmeval/internal/hostile"
	"wasmeval/runtime/meter"
)

// otherVerb makes the test binary compile another module than the one it is given.
const otherVerb = "compile-other"

// TestMain makes the test binary be the child that compiles, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == CompileVerb {
		os.Exit(CompileChild(os.Args[2:], os.Stdin, os.Stdout))
	}
	if len(os.Args) == 3 && os.Args[1] == otherVerb {
		code, text := compileInto(context.Background(), ".", []byte("\x00asm\x01\x00\x00\x00"))
		fmt.Println(text)
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// openJailed opens an engine that compiles in children.
func openJailed(t *testing.T, dir string, limits CompileLimits, verb string) *fixture {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return openWith(t, Config{DataDir: dir, Limits: jailed(limits),
		CompileCommand: []string{exe, verb}})
}

// jailed are the limits of an engine that openJailed opens.
func jailed(l CompileLimits) Limits {
	all := DefaultLimits()
	all.Compile, all.Module = l, anyModule()
	return all
}

// anyModule are limits that let modules in that the prescan refuses for how long they compile, so
// that the compiler's own limits can be tested.
func anyModule() meter.Limits {
	const any = 1 << 30
	l := meter.DefaultLimits()
	l.Types, l.TypeValues, l.Functions, l.Params, l.BodyBytes, l.Points = any, any, any, any, any, any
	l.BrTableTargets, l.Branches, l.Loops = any, any, any
	l.LoopsTimesLocals, l.BranchesTimesLocals = any, any
	return l
}

// openWith opens an engine with the parts of a Config that all fixtures share.
func openWith(t *testing.T, c Config) *fixture {
	t.Helper()
	if c.Bus == nil {
		var err error
		if c.Bus, err = bus.New(bus.Config{Shards: 2, RingBytes: 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	out := &collect{}
	c.Router, c.Batch = out, 64
	c.Fields = event.Fields{ID: "id", Type: "type", Time: "time", Key: "key"}
	e, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	e.Start()
	f := &fixture{Engine: e, t: t, bus: c.Bus, out: out, in: c.Bus.NewProducer(bus.SourceHTTP)}
	t.Cleanup(func() {
		f.stop()
		if left := children(t); len(left) > 0 {
			t.Errorf("children %v are left", left)
		}
		if left, _ := filepath.Glob(filepath.Join(c.DataDir, "cache", compileName)); len(left) > 0 {
			t.Errorf("folders %v are left", left)
		}
	})
	return f
}

// roomy are limits that only a bomb exceeds, also on a busy machine and with the race detector.
func roomy() CompileLimits {
	l := DefaultLimits().Compile
	l.CPU, l.Wall = time.Minute, time.Minute
	return l
}

// children are the processes that this one started and that are not waited for, zombies too.
func children(t *testing.T) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Fatalf("cannot list processes: %v", err)
	}
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ") // the name may have spaces
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(os.Getpid()) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 30_000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("after 30 s still not: %s", what)
}

// validate validates a module on a goroutine of its own, and returns how to wait for the result.
func (f *fixture) validate(ctx context.Context, code []byte) func() error {
	done := make(chan error, 1)
	go func() {
		_, err := f.Validate(ctx, code)
		done <- err
	}()
	return func() error { return <-done }
}

// child waits for a child and returns its process id.
func child(t *testing.T) (pid int) {
	t.Helper()
	until(t, "a child runs", func() bool {
		list := children(t)
		if len(list) > 0 {
			pid = list[0]
		}
		return len(list) == 1
	})
	return pid
}

func (f *fixture) compiles(want map[CompileResult]uint64) {
	f.t.Helper()
	s := f.Stats()
	for r := range CompileResults {
		if s.Compiles[r] != want[r] {
			f.t.Errorf("compiles %v, expected %v", s.Compiles, want)
			return
		}
	}
	n := uint64(0)
	for _, c := range s.CompileTook.Counts {
		n += c
	}
	ran := want[CompileDone] + want[CompileRefused] + want[CompileFailed]
	if n > ran || n < want[CompileDone] {
		f.t.Errorf("%d times in the histogram, expected those of at most %d children", n, ran)
	}
}

func wantError(t *testing.T, err error, kind Kind, text string) {
	t.Helper()
	var fault *Error
	if !errors.As(err, &fault) || fault.Kind != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, expected one of kind %s with %q", err, kind, text)
	}
}

// memory is a line of /proc/self/status, in bytes.
func memory(t *testing.T, field string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == field+":" {
			kb, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatalf("no %s", field)
	return 0
}

// A module that costs too much is refused, with the limit's name. The module behind it waits, and
// is compiled. The server's own memory stays as it was.
func TestBombs(t *testing.T) {
	for name, c := range map[string]struct {
		code  []byte
		limit func(*CompileLimits)
		want  string
	}{
		"CPU": {slowModule(), func(l *CompileLimits) { l.CPU = time.Second },
			"takes more than 1 s of CPU time"},
		"memory": {fatModule(), func(l *CompileLimits) { l.DataBytes = 96 << 20 },
			"takes more than 100663296 bytes of memory"},
	} {
		t.Run(name, func(t *testing.T) {
			limits := roomy()
			c.limit(&limits)
			f := openJailed(t, t.TempDir(), limits, CompileVerb)
			// A 5 makes the peak begin at what is used now.
			if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
				t.Fatal(err)
			}
			begun := memory(t, "VmHWM")
			bomb := f.validate(t.Context(), c.code)
			child(t)
			good := f.validate(t.Context(), madeModule("good"))
			until(t, "the good one waits", func() bool { return f.compiler.jail.waiting.Load() == 1 })
			wantError(t, bomb(), BadModule, c.want)
			if err := good(); err != nil {
				t.Errorf("the module that waited: %v", err)
			}
			f.compiles(map[CompileResult]uint64{CompileRefused: 1, CompileDone: 1})
			if grown := memory(t, "VmHWM") - begun; grown > 64<<20 {
				t.Errorf("the server took %d bytes more", grown)
			}
		})
	}
}

func TestWallTime(t *testing.T) {
	limits := roomy()
	limits.Wall = 300 * time.Millisecond
	f := openJailed(t, t.TempDir(), limits, CompileVerb)
	wantError(t, f.validate(t.Context(), slowModule())(), BadModule, "takes longer than 300ms")
	f.compiles(map[CompileResult]uint64{CompileRefused: 1})
}

// What takes long to load, or to get ready, would hold up the server.
func TestLoadTime(t *testing.T) {
	limits := DefaultLimits()
	p := programs{limits: &limits}
	order := childOrder{CPUSeconds: 1, DataBytes: limits.Compile.DataBytes, Ready: time.Second, Guests: limits,
		Pages: 16}
	hasty := order
	hasty.Ready = 1
	narrow := order
	narrow.Pages = 3
	_, good, _, err := p.rewrite(module(t, "always"))
	if err != nil {
		t.Fatal(err)
	}
	hostileModule := func(name string) []byte {
		i := slices.IndexFunc(hostile.Modules(), func(m hostile.Module) bool { return m.Name == name })
		_, code, _, err := p.rewrite(hostile.Modules()[i].Code)
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	for _, c := range []struct {
		name  string
		code  []byte
		order *childOrder
		want  int
		text  string
	}{
		{"pedantic", pedanticModule(), &order, childTooLong, "loading it takes more than"},
		{"good", good, &order, childDone, ""},
		{"slow", good, &hasty, childUnready, "to get ready: expected at most 1ns"},
		{"spinning", hostileModule("initialize-loop"), &order, childUnready, "_initialize failed: out_of_fuel"},
		{"maximum", hostileModule("memory-maximum"), &narrow, childDone, ""},
	} {
		dir := t.TempDir()
		if result, text := compileInto(t.Context(), dir, c.code); result != childDone {
			t.Fatal(result, text)
		}
		result, text := loadFrom(t.Context(), dir, c.order, c.code)
		if result != c.want || !strings.Contains(text, c.text) {
			t.Errorf("%s: result %d %q, expected %d with %q", c.name, result, text, c.want, c.text)
		}
	}
	// Without an entry nothing is compiled in its place.
	if result, text := loadFrom(t.Context(), t.TempDir(), &order, good); result != childFailed {
		t.Errorf("result %d %s, expected %d", result, text, childFailed)
	}
}

func TestCompiledTooLarge(t *testing.T) {
	limits := roomy()
	limits.CodeBytes = 4096
	f := openJailed(t, t.TempDir(), limits, CompileVerb)
	wantError(t, f.validate(t.Context(), module(t, "columns"))(), BadModule,
		"the result has more than 4096 bytes")
}

// What is refused by wazero comes back with its reason.
func TestInvalidModule(t *testing.T) {
	f := openJailed(t, t.TempDir(), roomy(), CompileVerb)
	// The prescan does not check types: an i32.add of nothing.
	bad := madeModule("bad", []byte{0, 0x6a, 0x1a, 0x0b})
	wantError(t, f.validate(t.Context(), bad)(), BadModule, "not valid WebAssembly")
	f.compiles(map[CompileResult]uint64{CompileRefused: 1})
}

// The child is limited before it reads the module.
func TestChildIsConfined(t *testing.T) {
	limits := roomy()
	limits.DataBytes = 1 << 30
	f := openJailed(t, t.TempDir(), limits, CompileVerb)
	ctx, cancel := context.WithCancel(t.Context())
	bomb := f.validate(ctx, slowModule())
	pid := child(t)
	read := func(name string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	until(t, "the child lowers its priority", func() bool { return nice(read("stat")) == "10" })
	until(t, "the child is the first to go", func() bool { return read("oom_score_adj") == "1000\n" })
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) < 2 {
		t.Fatalf("threads %v, %v", threads, err)
	}
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if err == nil && nice(string(text)) != "10" {
			t.Errorf("%s: %s", name, text)
		}
	}
	rows := read("limits")
	for _, want := range []string{"Max cpu time 60 63 ", "Max core file size 0 0 ",
		"Max file size 134217728 134217728 "} {
		if !strings.Contains(strings.Join(strings.Fields(rows), " "), want) {
			t.Errorf("no %q in %s", want, rows)
		}
	}
	if env := read("environ"); strings.Contains(env, "PATH=") || strings.Contains(env, "HOME=") ||
		!strings.Contains(env, "GOMAXPROCS=1\x00") {
		t.Errorf("environment %q", env)
	}
	cancel()
	if err := bomb(); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, expected that it was cancelled", err)
	}
	f.compiles(map[CompileResult]uint64{CompileFailed: 1})
}

// nice is a thread's, from its stat line.
func nice(stat string) string {
	_, rest, _ := strings.Cut(stat, ") ")
	return strings.Fields(rest)[16]
}

func TestChildIsKilled(t *testing.T) {
	f := openJailed(t, t.TempDir(), roomy(), CompileVerb)
	bomb := f.validate(t.Context(), slowModule())
	if err := syscall.Kill(child(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantError(t, bomb(), BadModule, "the compiler ended with signal: killed")
	f.compiles(map[CompileResult]uint64{CompileRefused: 1})
}

// A child that crashes tells why, in one line.
func TestChildCrashes(t *testing.T) {
	f := openJailed(t, t.TempDir(), roomy(), CompileVerb)
	bomb := f.validate(t.Context(), slowModule())
	pid := child(t)
	until(t, "the child has its limits, and so Go handles its signals", func() bool {
		rows, _ := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		return strings.Contains(strings.Join(strings.Fields(string(rows)), " "), "core file size 0 0")
	})
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	err := bomb()
	wantError(t, err, BadModule, "the compiler ended with exit status 2: SIGQUIT: quit")
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error of several lines: %v", err)
	}
}

func TestNoCompiler(t *testing.T) {
	l := DefaultLimits()
	f := openWith(t, Config{DataDir: t.TempDir(), Limits: l, CompileCommand: []string{"/nowhere"}})
	err := f.validate(t.Context(), module(t, "always"))()
	var fault *Error
	if err == nil || errors.As(err, &fault) {
		t.Errorf("error %v, expected one that is the server's fault", err)
	}
	f.compiles(map[CompileResult]uint64{CompileFailed: 1})
}

// This process never compiles: what the cache does not have under wazero's own key is an error.
func TestNothingIsCompiledHere(t *testing.T) {
	f := openJailed(t, t.TempDir(), roomy(), otherVerb)
	err := f.validate(t.Context(), module(t, "always"))()
	if err == nil || !strings.Contains(err.Error(), "does not agree with this process") {
		t.Errorf("error %v, expected that the entry is not the right one", err)
	}
	f.compiles(map[CompileResult]uint64{CompileFailed: 1})
	if _, err := loadCompiled(t.Context(), f.wasm, madeModule("x")); err != errMissed {
		t.Errorf("a module that is not in the cache: %v, expected %v", err, errMissed)
	}
	// So that the check above can fail:
	if _, err := f.wasm.CompileModule(t.Context(), madeModule("x")); err != nil {
		t.Error(err)
	}
}

func TestQueue(t *testing.T) {
	limits := roomy()
	limits.Queue = 2
	f := openJailed(t, t.TempDir(), limits, CompileVerb)
	ctx, cancel := context.WithCancel(t.Context())
	first := f.validate(ctx, slowModule())
	child(t)
	waits := func(n int32) func() bool {
		return func() bool { return f.compiler.jail.waiting.Load() == n }
	}
	second := f.validate(t.Context(), madeModule("second"))
	until(t, "one waits", waits(1))
	impatient, leave := context.WithCancel(t.Context())
	third := f.validate(impatient, madeModule("third"))
	until(t, "two wait", waits(2))
	wantError(t, f.validate(t.Context(), madeModule("fourth"))(), Busy, "2 modules wait already")
	leave()
	if err := third(); !errors.Is(err, context.Canceled) {
		t.Errorf("who stopped waiting: %v", err)
	}
	until(t, "one waits", waits(1))
	if len(children(t)) != 1 {
		t.Errorf("children %v, expected one at a time", children(t))
	}
	cancel()
	if err := first(); !errors.Is(err, context.Canceled) {
		t.Errorf("who stopped compiling: %v", err)
	}
	if err := second(); err != nil {
		t.Errorf("who waited: %v", err)
	}
	f.compiles(map[CompileResult]uint64{CompileFailed: 2, CompileBusy: 1, CompileDone: 1})
}

// Nobody waits longer than a turn may take.
func TestQueueTime(t *testing.T) {
	j := newJail(nil, &Limits{Compile: CompileLimits{Wall: time.Millisecond, Queue: 1}})
	if err := j.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantError(t, j.enter(t.Context()), Busy, "compiled for 1ms")
	j.leave()
	if err := j.enter(t.Context()); err != nil {
		t.Errorf("after the turn ended: %v", err)
	}
}

// Many who bring the same module at once cost one child.
func TestOneModuleOnce(t *testing.T) {
	f := openJailed(t, t.TempDir(), roomy(), CompileVerb)
	same := module(t, "always")
	// Of a custom section nothing is left when the module is rewritten.
	marked := append(append([]byte{}, same...), 0, 5, 4, 'n', 'o', 't', 'e')
	var waits []func() error
	for range 10 {
		waits = append(waits, f.validate(t.Context(), same), f.validate(t.Context(), marked))
	}
	for _, wait := range waits {
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
	s := f.Stats().Compiles
	if s[CompileDone] != 1 || s[CompileRefused]+s[CompileBusy] != 0 {
		t.Errorf("compiles %v, expected one", s)
	}
}

// While a module is compiled, the others' rules can be listed and changed.
func TestActivateWhileCompiling(t *testing.T) {
	dir := t.TempDir()
	f := openJailed(t, dir, roomy(), CompileVerb)
	f.limits.Standby = 0 // so the activation has to compile
	f.put("a", "v1")
	f.put("a", "v2")
	if err := os.RemoveAll(f.compiler.cache.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(f.compiler.cache.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	bomb := f.validate(t.Context(), slowModule())
	pid := child(t)
	activated := make(chan error, 1)
	go func() {
		_, err := f.Activate(context.Background(), "a", 1, "test")
		activated <- err
	}()
	until(t, "the activation waits", func() bool { return f.compiler.jail.waiting.Load() == 1 })
	if n := len(f.Rules()); n != 1 {
		t.Errorf("%d rules", n)
	}
	if _, err := f.Configure(context.Background(), "a", RuleConfig{Fuel: 1000}, "test"); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := bomb(); err == nil {
		t.Error("the killed child compiled")
	}
	if err := <-activated; err != nil {
		t.Errorf("activate: %v", err)
	}
	list, err := f.Versions("a")
	if err != nil || !list[0].Active || list[0].Config.Fuel != 0 || list[1].Config.Fuel != 1000 {
		t.Errorf("versions %+v, %v: expected that the one that was active kept what was set meanwhile", list, err)
	}
}

// Close does not wait for what is being compiled.
func TestCloseWhileCompiling(t *testing.T) {
	f := openJailed(t, t.TempDir(), roomy(), CompileVerb)
	bomb := f.validate(t.Context(), slowModule())
	child(t)
	waiter := f.validate(t.Context(), madeModule("waits"))
	until(t, "one waits", func() bool { return f.compiler.jail.waiting.Load() == 1 })
	begun := time.Now()
	f.stop()
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("Close took %v", took)
	}
	wantError(t, bomb(), ShuttingDown, "stopping")
	wantError(t, waiter(), ShuttingDown, "stopping")
}
