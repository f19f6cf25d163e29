package runtime

import (
	"context"
	"log/slog"
	"time"
)

// maxLogLines is how many lines of workers and rules may wait to be logged.
const maxLogLines = 256

// logLine is a line for the log.
type logLine struct {
	at    time.Time
	level slog.Level
	text  string
	args  []any
}

// say logs a line from a worker, which must not wait: a log that blocks, such as a pipe that nobody
// reads, must not stop the evaluation. What does not fit is counted.
func (e *Engine) say(level slog.Level, text string, args ...any) {
	select {
	case e.lines <- logLine{time.Now(), level, text, args}:
	default:
		e.unsaid.Add(1)
	}
}

// logLoop writes the lines that were said, until the engine is closed.
func (e *Engine) logLoop() {
	for {
		select {
		case l := <-e.lines:
			l.write()
		case <-e.stopping:
			for len(e.lines) > 0 {
				(<-e.lines).write()
			}
			return
		}
	}
}

func (l logLine) write() {
	h := slog.Default().Handler()
	if !h.Enabled(context.Background(), l.level) {
		return
	}
	r := slog.NewRecord(l.at, l.level, l.text, 0)
	r.Add(l.args...)
	_ = h.Handle(context.Background(), r) // there is nowhere else to say that it fails
}
