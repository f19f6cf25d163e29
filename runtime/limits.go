package runtime

import (
	"fmt"
	"time"

	"wasmeval/runtime/meter"
)

// Limits bounds what rules may do. See docs/LIMITS.md for the reasons and the counters.
type Limits struct {
	Module meter.Limits // of a module's parts

	EventFuel uint64 // units for one event, where the rule's configuration names none
	CallFuel  uint64 // units for one call, however many events it evaluates
	InitFuel  uint64 // units for making an instance ready, and its manifest

	PayloadBytes  int // of one verdict's payload
	OutputBytes   int // of all payloads of one call
	LogLineBytes  int // of one log line; the rest is cut off
	LogRate       int // lines a second that each rule may log; the rest is counted
	ManifestBytes int
	StateBytes    int // of all keyed states of one rule

	Quarantine QuarantineLimits
	Compile    CompileLimits

	Waiting     int // requests that wait for verdicts at once
	AnswerBytes int // of the verdicts of one request; all that wait may have four times as many

	Rules    int // rules in the registry
	Versions int // versions of one rule
	Standby  int // rules that were active and are kept ready for it; 0: none
}

// DefaultLimits are the limits of a server that is configured with none.
func DefaultLimits() Limits {
	return Limits{
		Module:    meter.DefaultLimits(),
		EventFuel: 1_750_000, CallFuel: 1_750_000, InitFuel: 7_000_000,
		PayloadBytes: 16 << 10, OutputBytes: 1 << 20, LogLineBytes: 1 << 10, LogRate: 10,
		ManifestBytes: 64 << 10, StateBytes: 64 << 20, Waiting: 1024, AnswerBytes: 64 << 20,
		Rules: 1000, Versions: 1000, Standby: 4,
		Quarantine: QuarantineLimits{InRow: 20, Percent: 10, Wait: time.Second,
			MaxWait: 5 * time.Minute},
		Compile: CompileLimits{DataBytes: 512 << 20, CPU: 10 * time.Second, Wall: 20 * time.Second,
			Queue: 8, CodeBytes: 128 << 20, CacheBytes: 1 << 30},
	}
}

func (l *Limits) check() error {
	if l.EventFuel == 0 || l.EventFuel > l.CallFuel {
		return fmt.Errorf("fuel for an event is %d: expected 1 to a call's %d",
			l.EventFuel, l.CallFuel)
	}
	if n := l.Module.MemoryPages; n < 1 || uint64(n) >= meter.PauseBytes/wasmPage {
		return fmt.Errorf("memory pages are %d: expected 1 to %d", n, meter.PauseBytes/wasmPage-1)
	}
	if q := &l.Quarantine; q.InRow < 0 || q.Percent < 0 || q.Percent > 100 || q.Wait <= 0 ||
		q.MaxWait < q.Wait {
		return fmt.Errorf("quarantine after %d failures in a row or %d %%, for %v to %v: expected 0 or "+
			"more, 0 to 100, and a wait above 0 and up to its maximum", q.InRow, q.Percent, q.Wait, q.MaxWait)
	}
	if c := &l.Compile; c.CPU <= 0 || c.Wall <= 0 || c.Queue < 0 {
		return fmt.Errorf("compiling in %v of CPU time and %v, %d waiting: expected times above 0, and 0 "+
			"or more", c.CPU, c.Wall, c.Queue)
	}
	if l.Standby < 0 {
		return fmt.Errorf("rules on standby are %d: expected 0 or more", l.Standby)
	}
	for _, v := range []struct {
		name string
		n    int
	}{
		{"payload bytes", l.PayloadBytes}, {"output bytes", l.OutputBytes},
		{"log line bytes", l.LogLineBytes}, {"log rate", l.LogRate},
		{"manifest bytes", l.ManifestBytes}, {"state bytes", l.StateBytes},
		{"waiting requests", l.Waiting}, {"bytes of an answer", l.AnswerBytes},
		{"rules", l.Rules}, {"versions", l.Versions},
		{"memory to compile in", l.Compile.DataBytes}, {"compiled bytes", l.Compile.CodeBytes},
		{"cache bytes", l.Compile.CacheBytes},
	} {
		if v.n < 1 {
			return fmt.Errorf("limit of %s is %d: expected at least 1", v.name, v.n)
		}
	}
	return nil
}
