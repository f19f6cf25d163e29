package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"wasmeval/runtime"
)

const (
	logsPattern = "/v1/rules/{name}/logs"

	defaultLogLines  = 20
	maxLogLines      = 1_000 // that may be asked for; the engine keeps fewer
	logsHeartbeat    = 15 * time.Second
	logsWriteTimeout = 30 * time.Second // a reader that takes nothing for so long is sent away
)

// logs shows what a rule logs as server-sent events: "log" with a line as JSON, beginning with the
// last ones, and "dropped" with {"dropped":n} where a reader was too slow. A comment comes every
// 15 s. The stream ends with an event "deleted" when the rule is deleted. With follow=false the
// answer is the last lines as JSON.
func (a *API) logs(w http.ResponseWriter, r *http.Request) {
	q, err := logsQueryOf(r.URL.Query())
	var logs *runtime.Logs
	if err == nil {
		logs, err = a.c.Engine.Logs(name(r))
	}
	if err != nil || !q.follow {
		var lines []runtime.LogLine
		if err == nil {
			lines = logs.Recent(q.lines)
		}
		a.answer(w, r, map[string]any{"lines": lines}, err)
		return
	}
	f, err := logs.Follow(q.after, q.lines)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the events back
	s := logStream{w: w, control: http.NewResponseController(w)}
	tick := time.NewTicker(logsHeartbeat)
	defer tick.Stop()
	for ok := s.write([]byte(": listening\n\n")); ok; {
		select {
		case <-r.Context().Done():
			return
		case <-a.stopping:
			s.pass(f)
			return
		case <-tick.C:
			ok = s.write([]byte(": alive\n\n"))
		case <-f.Wake():
			ok = s.pass(f)
		}
	}
}

// logsQuery is what may be asked of a log.
type logsQuery struct {
	follow bool
	lines  int
	after  uint64 // Seq of the line that the caller has
}

func logsQueryOf(values url.Values) (q logsQuery, err error) {
	q = logsQuery{follow: true, lines: defaultLogLines}
	if text := values.Get("follow"); values.Has("follow") {
		if q.follow, err = strconv.ParseBool(text); err != nil {
			return q, bad("query", "follow=%.100s: expected true or false", text)
		}
	}
	if text := values.Get("lines"); values.Has("lines") {
		if q.lines, err = strconv.Atoi(text); err != nil || q.lines < 0 || q.lines > maxLogLines {
			return q, bad("query", "lines=%.100s: expected a number from 0 to %d", text, maxLogLines)
		}
	}
	if text := values.Get("after"); values.Has("after") {
		if q.after, err = strconv.ParseUint(text, 10, 64); err != nil {
			return q, bad("query", "after=%.100s: expected the seq of a line", text)
		}
	}
	return q, nil
}

// logStream is the answer to a reader who follows a log.
type logStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     []byte
}

// pass sends what has come, and reports whether the stream goes on.
func (s *logStream) pass(f *runtime.Follower) (more bool) {
	lines, lost, ended := f.Read()
	s.buf = s.buf[:0]
	if lost > 0 {
		s.buf = fmt.Appendf(s.buf, "event: dropped\ndata: {\"dropped\":%d}\n\n", lost)
	}
	for i := range lines {
		text, err := json.Marshal(&lines[i])
		if err != nil {
			panic("BUG: " + err.Error()) // a line has nothing that cannot be encoded
		}
		s.buf = fmt.Appendf(s.buf, "id: %d\nevent: log\ndata: %s\n\n", lines[i].Seq, text)
	}
	if ended {
		s.buf = append(s.buf, "event: deleted\ndata: {}\n\n"...)
	}
	return (len(s.buf) == 0 || s.write(s.buf)) && !ended
}

// write sends p and reports whether the reader is still there.
func (s *logStream) write(p []byte) bool {
	// The server's own deadline is for a whole answer, and this one has no end.
	_ = s.control.SetWriteDeadline(time.Now().Add(logsWriteTimeout)) // or there is none to lift
	if _, err := s.w.Write(p); err != nil {
		return false
	}
	return s.control.Flush() == nil
}

// EndStreams ends the answers that have no end of their own, but for the tail's, which is closed
// with its router: a server that shuts down waits for them. It may be called more than once.
func (a *API) EndStreams() { a.stopOnce.Do(func() { close(a.stopping) }) }
