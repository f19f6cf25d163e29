package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wasmeval/bus"
	"wasmeval/internal/event"
	"wasmeval/internal/hostile"
	"wasmeval/runtime/meter"
)

// hostileBounds are what an answer to a hostile module may cost: CPU time of this process, which
// unlike the time on a clock does not depend on who else uses the machine, and memory.
func hostileBounds() (cpu time.Duration, memory int) {
	cpu, memory = 100*time.Millisecond, 64<<20
	info, ok := debug.ReadBuildInfo()
	if ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return 10 * cpu, 2 * memory // as the race detector makes Go code slower and its heap larger
	}
	return cpu, memory
}

// neighbours are good rules, one evaluated before the hostile one and one after it. Each gives code
// 1 and the event as payload.
var neighbours = []string{"a-neighbour", "z-neighbour"}

// siege is an engine at work with neighbours, for one hostile module after the other.
type siege struct {
	*fixture
	cpu    time.Duration
	memory int
}

func besiege(t *testing.T, command ...string) *siege {
	t.Helper()
	limits := DefaultLimits()
	limits.Module.MemoryPages = 256 // as the server has it by default
	if len(command) > 0 {
		limits.Module = anyModule()
	}
	s := &siege{fixture: openWith(t, Config{DataDir: t.TempDir(), Limits: limits,
		CompileCommand: command})}
	s.cpu, s.memory = hostileBounds()
	for _, name := range neighbours {
		s.put(name, "echo")
	}
	return s
}

// Each module of the corpus is refused for the right reason, or gives the right verdicts, within
// the time and the memory that an answer may cost; its neighbours notice nothing; and nothing of it
// is left once it is deleted.
func TestHostile(t *testing.T) {
	s := besiege(t)
	goroutines, images := goruntime.NumGoroutine(), openFiles(t)
	for _, m := range hostile.Modules() {
		if m.Bomb {
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			s.t = t
			s.attack(&m)
		})
	}
	s.t = t
	s.nothingLeft(goroutines, images)
}

// Bombs end at a limit of the process that compiles them, and cost this one no more than others do.
func TestHostileBombs(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := besiege(t, exe, CompileVerb)
	goroutines, images := goruntime.NumGoroutine(), openFiles(t)
	for _, m := range hostile.Modules() {
		if !m.Bomb {
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			s.t = t
			s.limits.Compile.Wall = 1500 * time.Millisecond
			if m.Refused != "" {
				s.limits.Compile.Wall = 200 * time.Millisecond // it would use up any other
			}
			s.attack(&m)
			s.deliver(`{"after":"the bomb"}`)
			s.check([]string{`{"after":"the bomb"}`}, nil)
		})
	}
	s.t = t
	s.nothingLeft(goroutines, images)
}

func (s *siege) nothingLeft(goroutines, images int) {
	t := s.t
	t.Helper()
	if n := openFiles(t); n != images {
		t.Errorf("%d images of memories are left: expected %d", n, images)
	}
	if n := s.Stats().Programs; n != 1 {
		t.Errorf("%d programs are left: expected that of the neighbours", n)
	}
	until(t, "all goroutines of the attacks have ended",
		func() bool { return goruntime.NumGoroutine() <= goroutines })
}

// attack uploads a module, and if it is loaded calls it with its events: one by one, then all in
// one batch.
func (s *siege) attack(m *hostile.Module) {
	t := s.t
	t.Helper()
	debug.FreeOSMemory() // or what others have left would hide what this one takes
	resetPeak(t)
	begun := memory(t, "VmHWM")
	cpu := cpuTime(t)
	_, err := s.Put(context.Background(), "hostile", m.Code, PutOptions{Activate: true, By: "test"})
	s.within("the upload", cpu, 1)
	if err != nil || m.Refused != "" {
		checkRefusal(t, m, err)
	}
	if err == nil {
		for i := range m.Events {
			s.attackWith(m.Events[i:i+1], m.Verdicts[i:i+1])
		}
		s.attackWith(m.Events, m.Verdicts)
	}
	// Pages of an image that nobody has touched are in no process, but in memory.
	if grown := memory(t, "VmHWM") - begun + imageBytes(t); grown > s.memory {
		t.Errorf("it took %d KiB of memory", grown>>10)
	}
	if err == nil {
		if _, err := s.Delete(context.Background(), "hostile", "test"); err != nil {
			t.Fatal(err)
		}
	}
}

// attackWith calls the hostile rule with a batch of events. One that fails has each of its events
// evaluated again.
func (s *siege) attackWith(events []string, want []hostile.Verdict) {
	s.t.Helper()
	cpu := cpuTime(s.t)
	s.deliver(events...)
	s.within(fmt.Sprintf("a batch of %d", len(events)), cpu, 2*len(events)-1)
	s.check(events, want)
}

// within checks the CPU time that was spent since begun. Where the first touch of memory is slow, as in
// some virtual machines, an answer may also take twice what that costs here for all the memory that it may
// have: a heap touches again what it has given back.
func (s *siege) within(what string, begun time.Duration, answers int) {
	s.t.Helper()
	spent := cpuTime(s.t) - begun
	most := time.Duration(answers) * s.cpu
	if spent > most {
		const part = 16 // or the measurement would be the peak of memory
		_, slow := firstTouch(s.t, s.memory/part)
		if slow *= part; slow > s.cpu/2 {
			most += time.Duration(answers) * 2 * slow
		}
	}
	if spent > most {
		s.t.Errorf("%s took %v of CPU time: expected at most %v", what, spent, most)
	}
}

// firstTouch is how long it takes now to write to each page of so much fresh memory, by the clock and in CPU
// time, at best.
func firstTouch(t *testing.T, bytes int) (took, cpu time.Duration) {
	t.Helper()
	for try := range 3 {
		m, err := newGuestMemory(memoryState{in: &instance{}, declared: uint64(bytes), most: uint64(bytes)})
		if err != nil {
			t.Fatal(err)
		}
		begun, cpuBegun := time.Now(), cpuTime(t)
		for at := 0; at < bytes; at += osPage {
			m.region[at] = 1
		}
		thisTook, thisCPU := time.Since(begun), cpuTime(t)-cpuBegun
		m.Free()
		if try == 0 {
			took, cpu = thisTook, thisCPU
		}
		took, cpu = min(took, thisTook), min(cpu, thisCPU)
	}
	return took, cpu
}

// deliver hands events over as one batch, to one shard or the other, and returns once they are
// evaluated.
func (s *siege) deliver(events ...string) {
	s.t.Helper()
	var records []bus.Record
	for _, ev := range events {
		s.sent++
		env := event.Envelope{ID: []byte(fmt.Sprint(s.sent)), Key: []byte("k"),
			Arrival: time.Now().UnixNano()}
		head, err := event.AppendHead(nil, &env)
		if err != nil {
			s.t.Fatal(err)
		}
		records = append(records, bus.Record{Head: head, Body: []byte(ev)})
	}
	s.out.mu.Lock()
	s.out.lines = nil
	s.out.mu.Unlock()
	if _, err := s.in.Submit(s.sent%s.bus.Shards(), records); err != nil {
		s.t.Fatal(err)
	}
	s.drain()
}

// check holds the verdicts of the last events against what must have come of them: those of the
// hostile rule, if it is loaded, and of its neighbours.
func (s *siege) check(events []string, want []hostile.Verdict) {
	t := s.t
	t.Helper()
	got := map[string]said{}
	for _, v := range s.out.all(t) {
		if rule := v.Rule + " " + v.Event.ID; got[rule].Rule == "" {
			got[rule] = v
		} else {
			t.Errorf("two verdicts of %s", rule)
		}
	}
	for i, ev := range events {
		id := fmt.Sprint(s.sent - len(events) + 1 + i)
		for _, name := range neighbours {
			v := got[name+" "+id]
			whole := len(ev) > s.limits.PayloadBytes || string(v.Payload) == ev
			if v.Code != 1 || v.Error != nil || !whole {
				t.Errorf("event %d: %s gave %+v, error %v", i, name, v, v.Error)
			}
		}
		v, said := got["hostile "+id], hostile.Verdict{}
		if said.Code = v.Code; v.Error != nil {
			said.Fault = v.Error.Kind
		}
		if want != nil && said != want[i] {
			t.Errorf("event %d of %d: code %d, error %v: expected %v", i, len(events), v.Code, v.Error,
				want[i])
		}
	}
}

func checkRefusal(t *testing.T, m *hostile.Module, err error) {
	t.Helper()
	want := m.Refused
	if m.Bomb {
		want = "it cannot be compiled" // nothing else is wrong with it
	}
	var fault *Error
	if !errors.As(err, &fault) || fault.Kind != BadModule && fault.Kind != BadParams ||
		want == "" || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v: expected a refusal with %q", err, m.Refused)
	}
	var scan *meter.Error
	if errors.As(err, &scan) != (m.Kind != "") || scan != nil && string(scan.Kind) != m.Kind {
		t.Errorf("error %v of the prescan: expected one of kind %q", scan, m.Kind)
	}
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// resetPeak makes the peak of memory, VmHWM, begin at what is used now.
func resetPeak(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// imageBytes is the memory that all images of rules have.
func imageBytes(t *testing.T) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		name := "/proc/self/fd/" + f.Name()
		if to, err := os.Readlink(name); err == nil && to == "/memfd:wasmeval-rule (deleted)" {
			var stat unix.Stat_t
			if err := unix.Stat(name, &stat); err != nil {
				t.Fatal(err)
			}
			n += int(stat.Blocks) * 512
		}
	}
	return n
}
