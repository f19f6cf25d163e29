package runtime

import (
	"context"
	"log"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
)

// stuckLog is a log that takes its first line and then nothing until it is released.
type stuckLog struct {
	release chan struct{}
	lines   atomic.Int64
	begun   atomic.Bool
}

func (l *stuckLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *stuckLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *stuckLog) WithGroup(string) slog.Handler            { return l }

func (l *stuckLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "rule log" {
		return nil // of what is not evaluation
	}
	l.begun.Store(true)
	<-l.release
	l.lines.Add(1)
	return nil
}

// A log that blocks stops no evaluation: lines that cannot wait are dropped and counted, and the
// others are written once it goes on.
func TestStuckLog(t *testing.T) {
	l := &stuckLog{release: make(chan struct{})}
	before := slog.Default()
	slog.SetDefault(slog.New(l))
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(os.Stderr) // which SetDefault does not give back
	})
	limits := DefaultLimits()
	limits.LogRate = 1 << 30
	f := open(t, t.TempDir(), limits)
	f.put("w", "wasi") // logs a line for each event
	many := make([]string, 2*maxLogLines)
	for i := range many {
		many[i] = `{}`
	}
	f.send("x", many...)
	until(t, "the log is stuck", l.begun.Load)
	f.send("x", many...)
	s := f.Stats()
	if n := s.Rules[0].Outcomes[Matched]; n != uint64(2*len(many)) || s.Rules[0].Logged != n {
		t.Errorf("%d events of %d were evaluated, with %d lines", n, 2*len(many), s.Rules[0].Logged)
	}
	if least := uint64(2*len(many) - maxLogLines - 1); s.Unsaid < least {
		t.Errorf("%d lines were dropped, expected at least %d", s.Unsaid, least)
	}
	close(l.release)
	f.stop()
	if n := uint64(l.lines.Load()) + f.Stats().Unsaid; n != uint64(2*len(many)) {
		t.Errorf("%d lines were written or dropped, of %d", n, 2*len(many))
	}
}
