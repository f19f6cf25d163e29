package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// manyEvents are so many that they fill several batches. Each third one has no time, and each fifth
// makes the module trap fail.
func manyEvents(n int) string {
	var b strings.Builder
	for i := range n {
		bad, at := 0, fmt.Sprintf(`"time":"2026-03-02T08:00:00.%03dZ",`, i%1000)
		if i%5 == 4 {
			bad = 1
		}
		if i%3 == 2 {
			at = ""
		}
		fmt.Fprintf(&b, "{\"type\":\"t\",%s\"bad\":%d,\"i64\":%d,\"user\":\"u%d\"}\n", at, bad, i, i%7)
	}
	return b.String()
}

// replayed replays events through the module trap, and columns besides.
func replayed(t *testing.T, stdin string, args ...string) (code int, out, errs string) {
	t.Helper()
	return verb(t, stdin, append([]string{"replay", "--rule", "traps=" + modulePath("trap"),
		"--rule", "all=" + modulePath("columns"), "--key", "user"}, args...)...)
}

// The same events give the same bytes, whichever way they come, and each verdict is for its event.
func TestReplay(t *testing.T) {
	const n = 1000
	events := writeFile(t, "events.ndjson", manyEvents(n))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(manyEvents(n)))
	_ = z.Close()
	outFile := filepath.Join(t.TempDir(), "verdicts.ndjson")

	code, first, errs := replayed(t, "", events)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	_, again, _ := replayed(t, "", events)
	_, stdin, _ := replayed(t, manyEvents(n), "-")
	_, gzipped, _ := replayed(t, zipped.String(), "-")
	_, none, _ := replayed(t, "", events, "-o", outFile)
	written, err := os.ReadFile(outFile)
	if err != nil {
		t.Fatal(err)
	}
	for what, out := range map[string]string{"again": again, "stdin": stdin, "gzip": gzipped,
		"-o": string(written)} {
		if out != first {
			t.Errorf("%s: other bytes than the first time", what)
		}
	}
	if none != "" {
		t.Errorf("with -o stdout has %q", none)
	}
	checkReplay(t, first, n)
	table := squeezed(errs)
	for _, want := range []string{"1000 events in ", " 0 lines that are none\n",
		" all 1000 1000 0 0 ", " traps 1000 800 0 200 "} {
		if !strings.Contains(table, want) {
			t.Errorf("the summary has no %q: %s", want, table)
		}
	}
}

// checkReplay checks the verdicts of manyEvents against the events.
func checkReplay(t *testing.T, out string, n int) {
	t.Helper()
	next := map[string]int{}
	for line := range strings.Lines(out) {
		var v struct {
			Rule    string
			Time    string
			Event   struct{ ID, Key string }
			Code    int
			Error   *struct{ Kind string }
			Payload struct {
				Arrival int64
				I64     struct{ Value int }
			}
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		i := next[v.Rule]
		next[v.Rule]++
		at := fmt.Sprintf("2026-03-02T08:00:00.%03d000Z", i%1000)
		if i%3 == 2 { // the base, and a millisecond for each line
			at = fmt.Sprintf("2026-01-01T00:00:%02d.%03d000Z", (i+1)/1000, (i+1)%1000)
		}
		fails := v.Rule == "traps" && i%5 == 4
		if v.Event.ID != fmt.Sprint(i+1) || v.Event.Key != fmt.Sprintf("u%d", i%7) || v.Time != at ||
			(v.Error != nil) != fails || v.Code == 0 != fails {
			t.Fatalf("verdict %d of %s is %s", i, v.Rule, line)
		}
		if v.Rule == "all" && v.Payload.I64.Value != i {
			t.Fatalf("the payload is another event's: %s", line)
		}
	}
	if next["all"] != n || next["traps"] != n || len(next) != 2 {
		t.Errorf("verdicts by rule: %v, expected %d of each", next, n)
	}
	for _, gone := range []string{`"took_us"`, `"queued_us"`} {
		if strings.Contains(out, gone) {
			t.Errorf("there is %s in a verdict", gone)
		}
	}
}

// Rules that do not match are left out unless all is asked for; a rule takes its own parameters.
func TestReplayOptions(t *testing.T) {
	events := writeFile(t, "events.ndjson", "{}\n{\"type\":\"x\"}\n")
	for args, lines := range map[string]int{
		"--rule a=M/never":                                         0,
		"--rule a=M/never --all":                                   2,
		"--rule a=M/never --rule b=M/always":                       2,
		"--rule a=M/never --rule b=M/always --all":                 4,
		"--rule a=M/params --param i=9":                            2,
		"--rule a=M/params,b=M/params --param a:i=9 --param b:i=8": 4,
	} {
		args := strings.ReplaceAll(args, "M/never", modulePath("never"))
		args = strings.ReplaceAll(args, "M/always", modulePath("always"))
		args = strings.ReplaceAll(args, "M/params", modulePath("params"))
		code, out, errs := verb(t, "", append(strings.Fields("replay "+args), events)...)
		if code != 0 || strings.Count(out, "\n") != lines {
			t.Errorf("%s: exit code %d, %s, %s; expected %d lines", args, code, out, errs, lines)
		}
		for _, p := range regexp.MustCompile(`i=(\d)`).FindAllStringSubmatch(args, -1) {
			if strings.Count(out, `"raw":{"f":1.5,"i":`+p[1]) != 2 {
				t.Errorf("%s: the parameter did not come: %s", args, out)
			}
		}
	}
}

// Lines that are no events are told with their number and make the exit code 1; the others are
// evaluated.
func TestReplayBadLines(t *testing.T) {
	text := "{}\n\n{\"a\":\n[1]\n  {\"type\":\"x\"}\r\nnull"
	code, out, errs := replayed(t, text, "-")
	for _, want := range []string{"-:3: ", "-:4: at byte 0: expected an object", "-:6: at byte 0: ",
		"2 events in ", " 3 lines that are none\n", `wasmeval: 3 of the lines of "-" are no events`} {
		if !strings.Contains(errs, want) {
			t.Errorf("there is no %q in %s", want, errs)
		}
	}
	if code != 1 || strings.Count(out, "\n") != 4 {
		t.Errorf("exit code %d, %s", code, out)
	}
	_, _, errs = replayed(t, strings.Repeat("x\n", 100), "-")
	if n := strings.Count(errs, "expected a value"); n != maxBadLines {
		t.Errorf("%d lines are told, expected %d: %s", n, maxBadLines, errs)
	}
	_, _, errs = replayed(t, "{\"a\":\""+strings.Repeat("x", maxLineBytes), "-")
	if !strings.Contains(errs, "line 1: expected at most 16MiB") {
		t.Errorf("a line that is too long: %s", errs)
	}
}

func TestReplayFaults(t *testing.T) {
	events, kept := writeFile(t, "events.ndjson", "{}\n"), writeFile(t, "kept", "kept")
	cut := writeFile(t, "cut.gz", "\x1f\x8b")
	long := writeFile(t, "long", "{}\n{}\n{\"a\":\""+strings.Repeat("x", maxLineBytes))
	module := writeFile(t, "always.wasm", string(readModule(t, "always")))
	always := modulePath("always")
	for args, want := range map[string]string{
		events:                              `required flag(s) "rule" not set`,
		"--rule a=" + always:                "accepts 1 arg(s), received 0",
		"--rule always.wasm " + events:      `--rule "always.wasm": expected NAME=MODULE`,
		"--rule a=none.wasm " + events:      "run `wasmeval build`",
		"--rule A=" + always + " " + events: "not a rule name",
		"--rule a=" + always + ",a=" + always + " " + events:            "expected a name that no other rule has",
		"--rule a=" + modulePath("badabi") + " " + events:               "cannot use module",
		"--rule a=" + always + " none.ndjson":                           `cannot read events "none.ndjson"`,
		"--rule a=" + always + " --param x=1 " + events:                 `param "x" is not declared`,
		"--rule a=" + always + " -o " + t.TempDir() + "/no/x " + events: "cannot write verdicts",
		"--rule a=" + always + " -o " + events + " " + events:           "it is the file of the events",
		"--rule a=" + always + " -o " + kept + " " + t.TempDir():        "is a directory",
		"--rule a=" + always + " -o " + kept + " none.ndjson":           "cannot read events",
		"--rule a=" + always + " -o " + kept + " " + cut:                `cannot read events "` + cut,
		"--rule a=" + module + " -o " + module + " " + events:           `it is the module of rule "a"`,
		"--rule a=" + always + " -o " + kept + " " + long:               "line 3: expected at most 16MiB",
		"--rule a=none.wasm -o " + kept + " " + events:                  "cannot read module",
	} {
		code, out, errs := verb(t, "", append([]string{"replay"}, strings.Fields(args)...)...)
		if code != 1 || !strings.Contains(errs, want) || out != "" {
			t.Errorf("replay %s: exit code %d, %s", args, code, errs)
		}
	}
	if left, _ := filepath.Glob(filepath.Dir(kept) + "/*.part"); left != nil {
		t.Errorf("%q are left", left)
	}
	for name, want := range map[string]string{kept: "kept", events: "{}\n", module: string(readModule(t, "always"))} {
		if text, err := os.ReadFile(name); err != nil || string(text) != want {
			t.Errorf("%s has %q after replays that did not begin, expected %q, %v", name, text, want, err)
		}
	}
}

// An interruption ends a replay that waits for events.
func TestReplayInterrupted(t *testing.T) {
	for _, text := range []string{"", "{}\n"} {
		in, feed := io.Pipe()
		defer feed.Close()
		go func() { _, _ = feed.Write([]byte(text)) }()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		var errs strings.Builder
		args := []string{"replay", "--rule", "a=" + modulePath("always"), "-"}
		if code := run(ctx, args, in, io.Discard, &errs); code != 1 || errs.String() != "wasmeval: interrupted\n" {
			t.Errorf("after %q: exit code %d, %s", text, code, errs.String())
		}
	}
}

// A line of progress is for terminals, and shows how much of the file was read.
func TestProgress(t *testing.T) {
	var b strings.Builder
	p := newProgress(&b, 100)
	p.show(50, 1000)
	if p.clear(); b.Len() != 0 {
		t.Errorf("what is no terminal got %q", b.String())
	}
	p.out = &b
	p.show(50, 1000)
	p.show(60, 1000) // too soon
	p.clear()
	if out := b.String(); strings.Count(out, "\r") != 2 || !strings.Contains(out,
		"[###############...............]  50 %  1000 events, ") {
		t.Errorf("progress is %q", out)
	}
}

func TestDiff(t *testing.T) {
	events := writeFile(t, "events.ndjson", manyEvents(20))
	diff := func(args string) (int, string, string) {
		args = regexp.MustCompile(`M/(\S+)`).ReplaceAllStringFunc(args, func(m string) string {
			return modulePath(m[2:])
		})
		return verb(t, "", append(strings.Fields("diff "+args), events)...)
	}
	if code, out, errs := diff("--old M/always --new M/v1"); code != 0 || errs != "" ||
		!strings.HasPrefix(out, "20 events: 20 have the same verdict, 0 differ\n") {
		t.Errorf("the same: exit code %d, %s %s", code, out, errs)
	}
	if code, _, errs := diff("--old M/trap --new M/never --examples -3"); code != 1 ||
		errs != "wasmeval: --examples is -3: expected 0 or more\n" {
		t.Errorf("too few examples: exit code %d, %s", code, errs)
	}
	code, out, errs := diff("--old M/trap --new M/never --examples 2")
	for _, want := range []string{"20 events: 0 have the same verdict, 20 differ\n", "  code     16\n",
		"  error    4\n", "  code 1 -> 0    16\n", `line 1: {"type":"t",`, "  code     old  1\n",
		"           new  0\n", "and 18 more\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in %s", want, out)
		}
	}
	if code != 1 || errs != "wasmeval: 20 of 20 events changed their verdict\n" ||
		strings.Count(out, "line ") != 2 {
		t.Errorf("exit code %d, %s %s", code, out, errs)
	}
	code, out, _ = diff("--old M/params --new M/params --param f=2 --param old:i=1 --param new:i=2 " +
		"--format json --examples 1")
	var d ruleDiff
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatal(err)
	}
	if code != 1 || d.Events != 20 || d.Differ != 20 || d.Changed["payload"] != 20 || len(d.Codes) != 0 ||
		len(d.Examples) != 1 || d.Examples[0].Line != 1 ||
		!bytes.Contains(d.Examples[0].New.Payload, []byte(`"i": 2`)) {
		t.Errorf("exit code %d, %+v", code, d)
	}
	for args, want := range map[string]string{
		"--old M/always":                              `required flag(s) "new" not set`,
		"--old M/always --new none":                   "run `wasmeval build`",
		"--old M/always --new M/badabi":               `as rule "new"`,
		"--old M/always --new M/v1 --format x":        "expected text or json",
		"--old M/always --new M/params --param old:i": `--param "i": expected name=value`,
	} {
		if code, _, errs := diff(args); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("diff %s: exit code %d, %s", args, code, errs)
		}
	}
}
