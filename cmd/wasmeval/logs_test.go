package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// log makes a rule log one line.
func (p *program) log(rule string) {
	p.t.Helper()
	status, reply := p.call("POST", "/v1/rules/"+rule+"/evaluate", "application/json", []byte("{}"))
	if status != 200 || !strings.Contains(string(reply), `"code":1`) {
		p.t.Fatalf("%d %s", status, reply)
	}
}

func TestLogsVerb(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	p.upload("w", "wasi") // logs a line for each event
	at := []string{"--server", p.url, "--data-dir", dir}
	logs := func(args ...string) []string { return append(append([]string{"logs"}, args...), at...) }
	for range 3 {
		p.log("w")
	}
	all := p.good(dir, "", []string{"logs", "w"}, " info @1 one row")
	two := p.good(dir, "", []string{"logs", "w", "--lines", "2", "--json"}, `"text":"one row"`)
	if strings.Count(all, "\n") != 3 || strings.Count(two, "\n") != 2 {
		t.Errorf("logs shows %q, and with --lines 2 %q", all, two)
	}
	l := startReader(t, logs("w", "--follow", "-n", "1", "--json")...)
	seq := func() (n uint64) {
		t.Helper()
		var line struct {
			Seq  uint64
			Text string
		}
		if !l.lines.Scan() || json.Unmarshal(l.lines.Bytes(), &line) != nil || line.Text != "one row" {
			t.Fatalf("logs --follow shows %q, and says %q", l.lines.Text(), l.stderr)
		}
		return line.Seq
	}
	first := seq()
	p.log("w")
	if n := seq(); n != first+1 {
		t.Errorf("line %d follows on %d", n, first)
	}

	// The server comes back: the lines are those of its new life, and none is shown twice.
	p.end()
	again := launch(t, dir, "--http", strings.TrimPrefix(p.url, "http://"))
	again.log("w")
	if n := seq(); n <= first+1 {
		t.Errorf("line %d, after a restart, follows on %d", n, first+1)
	}
	status, text := again.call("DELETE", "/v1/rules/w", "", nil)
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if lines, code := l.end(); code != 0 || len(lines) != 0 ||
		!strings.HasSuffix(l.stderr.String(), "the rule was deleted\n") {
		t.Errorf("after the rule is deleted: exit code %d, %q, %s", code, lines, l.stderr)
	}
	again.bad(dir, "", []string{"logs", "w"}, `cannot read the log of rule "w": there is no rule "w"`)
	again.bad(dir, "", []string{"logs", "w", "--follow"}, `cannot read the log: there is no rule "w"`)
	again.bad(dir, "", []string{"logs"}, "accepts 1 arg(s)")
	again.bad(dir, "", []string{"logs", "w", "-n", "-1"}, "expected a number from 0")
}

// The lines of a rule come as they are logged, and an interrupt ends the following.
func TestLogsInterrupted(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	p.upload("w", "wasi")
	l := startReader(t, "logs", "w", "-f", "--server", p.url, "--data-dir", dir)
	p.log("w")
	if !l.lines.Scan() || !strings.HasSuffix(l.lines.Text(), "  info   @1  one row") {
		t.Errorf("logs -f shows %q", l.lines.Text())
	}
	l.stop()
	if lines, code := l.end(); code != 0 || len(lines) != 0 || l.stderr.String() != "" {
		t.Errorf("after an interrupt: exit code %d, %q %s", code, lines, l.stderr)
	}
}
