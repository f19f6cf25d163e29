package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// benched runs a verb of bench whose servers are this test binary, and returns its report.
func benched(t *testing.T, args string) (r report, dir string) {
	t.Helper()
	t.Setenv(childEnv, "1")
	t.Setenv("TMPDIR", t.TempDir())
	dir = filepath.Join(t.TempDir(), "report")
	list := append([]string{"bench"}, strings.Fields(args)...)
	code, out, errs := verb(t, "", append(list, "-o", dir)...)
	if code != 0 {
		t.Fatalf("bench %s: exit code %d: %s", args, code, errs)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("bench %s left something behind: %v, %v", args, left, err)
	}
	for _, m := range r.Measured {
		if !strings.Contains(out, m.What) {
			t.Errorf("bench %s did not print %q", args, m.What)
		}
		for _, run := range m.Runs {
			if run.Sent == 0 || run.Seconds <= 0 || m.Part != "bus" && m.Offered > 0 && run.CPU <= 0 {
				t.Errorf("bench %s measured nothing of %q: %+v", args, m.What, run)
			}
		}
	}
	return r, dir
}

// What the drivers sent is what the server's ledger has, and as much as the flags ask for.
func TestBenchLoads(t *testing.T) {
	for args, sent := range map[string]uint64{
		// The first is sent at 0 and the last at 100 ms: one more than rate times length.
		"http --rate 400 --workers 2 --batch 3 --for 100ms":        41 * 3,
		"udp --rate 400 --workers 2 --batch 3 --for 100ms":         41 * 3,
		"udp --segment --rate 100 --batch 64 --for 100ms":          11 * 64,
		"http --rate 1 --workers 500 --for 50ms":                   1, // all but one have nothing to do
		"http --rate 0 --for 100ms --rule " + modulePath("always"): 0,
	} {
		r, _ := benched(t, args+" --runs 2 --warm-up 20ms")
		if len(r.Measured) != 1 || len(r.Measured[0].Runs) != 2 {
			t.Errorf("bench %s: measured %+v", args, r.Measured)
			continue
		}
		for _, run := range r.Measured[0].Runs {
			if run.Missing != 0 || run.Sent != run.Taken+run.Dropped || sent > 0 && run.Sent != sent {
				t.Errorf("bench %s: sent %d, expected %d; taken %d, dropped %d, missing %d", args,
					run.Sent, sent, run.Taken, run.Dropped, run.Missing)
			}
		}
	}
}

// All parts run, and the report has each target, each measurement and each plot.
func TestBenchAll(t *testing.T) {
	slowCompiler(t)
	r, dir := benched(t, "all --for 20ms --warm-up 5ms --runs 1 --max-rules 4 "+
		"--rules-dir ../../rules-sdk")
	page, err := os.ReadFile(filepath.Join(dir, "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, row := range r.Rows {
		got = append(got, row.ID)
	}
	for _, target := range targets {
		want = append(want, target.id)
		if !strings.Contains(string(page), target.what) {
			t.Errorf("the page does not have %q", target.what)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the report has rows %q, expected %q", got, want)
	}
	parts := map[string]int{}
	for _, m := range r.Measured {
		parts[m.Part]++
		for _, run := range m.Runs {
			lossless := m.Part != "udp" && run.Missing == 0 && run.Sent == run.Taken+run.Dropped
			if !lossless && (m.Part != "udp" || run.Missing < 0 || run.Taken > run.Sent) {
				t.Errorf("%s, %s: %+v", m.Part, m.What, run)
			}
		}
	}
	// Of http, 3 loads at each of 2 rates, a lone one on 2 servers, 2 of lines; of rules, 3 counts, 2
	// of those that do not match, 6 sizes, 7 numbers of fields, workers by powers of 2; and so on.
	wanted := map[string]int{"http": 10, "udp": 8, "rules": 18 + bits.Len(uint(goruntime.NumCPU())), "swap": 2,
		"bus": 6*len(queues) + 2*len(pollers) + 2 + len(queues) - 1 + 1}
	for part, n := range wanted {
		if parts[part] != n {
			t.Errorf("%d loads of part %s, expected %d", parts[part], part, n)
		}
	}
	plots, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil || len(plots) != 9 {
		t.Errorf("%d plots, %v", len(plots), err)
	}
	for _, name := range plots {
		if !strings.Contains(string(page), "("+filepath.Base(name)+")") {
			t.Errorf("the page does not show %s", name)
		}
		checkPicture(t, name)
	}
}

// checkPicture expects good XML with a line and no number that is none.
func checkPicture(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if !bytes.Contains(text, []byte("<polyline")) || bytes.Contains(text, []byte("NaN")) ||
		bytes.Contains(text, []byte("Inf")) {
		t.Errorf("%s has no line, or one to nowhere", name)
	}
}

func TestBenchRefuses(t *testing.T) {
	t.Setenv(childEnv, "1")
	t.Setenv("TMPDIR", t.TempDir())
	for args, want := range map[string]string{
		"http --rate -1":               "expected --rate 0 or more",
		"udp --batch 0":                "expected --rate 0 or more",
		"http --workers 5000":          "expected --rate 0 or more",
		"http --for 0s":                "expected --for above 0",
		"udp --runs 0":                 "expected --for above 0",
		"all --max-rules 1001":         "expected --for above 0",
		"swap --swaps 0":               "--swaps is 0",
		"bus --producers 0":            "--producers is 0: expected 1 to 64",
		"bus --producers 65":           "--producers is 65: expected 1 to 64",
		"bus --for x":                  `--for "x": expected a time such as 500ms or 2s`,
		"http --rule none":             `cannot read module "none"`,
		"udp --rule cli_test.go":       "no WebAssembly module",
		"start --rules-dir /nonesuch/": "give --rules-dir",
		"all --rules-dir /nonesuch/":   "give --rules-dir", // and at once
	} {
		code, _, errs := verb(t, "", append([]string{"bench"}, strings.Fields(args)...)...)
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("bench %s: exit code %d, %s", args, code, errs)
		}
	}
}

// Every queue hands over each message once, in each producer's order, one by one and many at once.
func TestBenchQueues(t *testing.T) {
	const producers, each = 2, 4000
	for _, kind := range slices.Concat(pollers, queues) {
		for _, batch := range []int{1, 16} {
			q, err := kind.make()
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for p := range producers {
				msgs := (&busLoad{batch: batch}).messages() // used again for each put
				put := q.producer(msgs)
				all.Go(func() {
					for i := 0; i < each; i += batch {
						for j, m := range msgs {
							copy(m, fmt.Appendf(nil, "%d %d ", p, i+j))
						}
						put()
					}
				})
			}
			go func() { all.Wait(); q.close() }()
			var next [producers]int
			q.drain(func(msg []byte) {
				var p, i int
				if _, err := fmt.Sscanf(string(msg), "%d %d ", &p, &i); err != nil || next[p] != i {
					t.Errorf("%s: message %.10q, expected number %d of producer %d", kind.name, msg, next[p], p)
				}
				next[p] = i + 1
			})
			if next != [producers]int{each, each} {
				t.Errorf("%s: got %v messages", kind.name, next)
			}
		}
	}
}

// The module that bench writes says of each event what its conditions say.
func TestRuleModule(t *testing.T) {
	p := launch(t, t.TempDir())
	defer p.end()
	events := benchEvents(500)
	type row map[string]float64
	for _, c := range []struct {
		rule   string
		module []byte
		want   func(row) bool
	}{
		{"pair", ruleOf(0, "*"), func(e row) bool {
			return e["speed_kmh"] > rare[0] && e["heading"] > common[1]
		}},
		{"other-pair", ruleOf(5, "*"), func(e row) bool {
			return e["lat"] > rare[2] && e["lon"] > common[3]
		}},
		{"one", ruleModule("*", []condition{{"heading", 150}}), func(e row) bool {
			return e["heading"] > 150
		}},
		{"missing", ruleModule("*", []condition{{"none", 0}}), func(row) bool { return false }},
	} {
		status, body := p.call("PUT", "/v1/rules/"+c.rule, "application/wasm", c.module)
		if status != 201 {
			t.Fatalf("rule %s: %d %s", c.rule, status, body)
		}
		status, body = p.call("POST", "/v1/rules/"+c.rule+"/evaluate", "application/x-ndjson",
			bytes.Join(events, []byte("\n")))
		var answer struct {
			Results []struct{ Verdicts []struct{ Code int } }
		}
		if err := json.Unmarshal(body, &answer); err != nil || status != 200 {
			t.Fatalf("rule %s: %d %.200s", c.rule, status, body)
		}
		matched := 0
		for i, e := range events {
			r := row{}
			_ = json.Unmarshal(e, &r) // fields of other types stay out
			want := 0
			if c.want(r) {
				want = 1
				matched++
			}
			if got := answer.Results[i].Verdicts[0].Code; got != want {
				t.Fatalf("rule %s, event %s: code %d, expected %d", c.rule, e, got, want)
			}
		}
		if matched == 0 && c.rule != "missing" || matched == len(events) {
			t.Errorf("rule %s matched %d of %d events: this proves little", c.rule, matched, len(events))
		}
	}
}

func TestBenchEvents(t *testing.T) {
	for _, e := range benchEvents(1000) {
		if len(e) != 199 || !json.Valid(e) {
			t.Fatalf("event %s has %d bytes", e, len(e))
		}
	}
	for _, size := range []int{100, 200, 8 * kib, 64 * kib} {
		if e := sized(7, size); !json.Valid(e) || len(e) < size-50 || len(e) > size+10 {
			t.Errorf("event of %d bytes, expected about %d: %.100s", len(e), size, e)
		}
	}
	if !json.Valid(numbers()) {
		t.Errorf("event %s", numbers())
	}
}

func TestJudge(t *testing.T) {
	var r report
	for _, c := range []struct {
		id             string
		figures, bases []float64
		against        float64
		pass           bool
	}{
		{"ndjson-cpu", []float64{0.9, 0.5, 0.7}, nil, 0, true},
		{"ndjson-cpu", []float64{0.9, 0.71}, nil, 0, false},
		{"ndjson-rate", []float64{2e6}, nil, 0, true},
		{"ndjson-rate", []float64{1.9e6}, nil, 0, false},
		{"http-cpu", []float64{20, 13, 14}, []float64{10, 10, 10}, 1.4, false},
		{"http-cpu", []float64{20, 13, 13}, []float64{10, 10, 10}, 1.3, true},
		{"verdict-latency", []float64{130}, []float64{100}, 30, true},
		{"verdict-latency", []float64{131}, []float64{100}, 31, false},
		{"tail-beyond", []float64{99}, []float64{10}, 9.9, false},
		{"udp-loss", []float64{0}, nil, 0, true},
	} {
		r.judge(c.id, c.figures, c.bases, "")
		if got := r.Rows[len(r.Rows)-1]; got.Pass != c.pass || got.Against != c.against {
			t.Errorf("%s of %v and %v: %+v", c.id, c.figures, c.bases, got)
		}
	}
}

func TestSlope(t *testing.T) {
	if s := slope([][2]float64{{1, 5}, {2, 7}, {4, 11}}); s != 2 {
		t.Errorf("slope %v, expected 2", s)
	}
	if s := slope([][2]float64{{1, 5}}); s != 0 {
		t.Errorf("slope %v of one point", s)
	}
}

// A pacer is never early, and the CPU time of a process is what the process itself says.
func TestClocks(t *testing.T) {
	begun, before := time.Now(), processCPU()
	clock, err := newPacer(begun)
	if err != nil {
		t.Fatal(err)
	}
	defer clock.close()
	for i := range 50 {
		want := time.Duration(i) * 300 * time.Microsecond
		if clock.until(t.Context(), want); time.Since(begun) < want {
			t.Fatalf("until(%v) returned after %v", want, time.Since(begun))
		}
	}
	for processCPU()-before < 30*time.Millisecond { // so that there is something to compare
	}
	low := processCPU()
	cpu, err := cpuOf(os.Getpid())
	if high := processCPU(); err != nil || cpu < low-time.Millisecond || cpu > high+time.Millisecond {
		t.Errorf("CPU time %v, expected %v to %v: %v", cpu, low, high, err)
	}
	if n, err := residentOf(os.Getpid()); err != nil || n < mib {
		t.Errorf("%d bytes resident, %v", n, err)
	}
}

// An answer may come in any pieces.
func TestHTTPLane(t *testing.T) {
	for _, c := range []struct {
		answer string
		taken  int
		fails  string
	}{
		{"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhello", 1, ""},
		{"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 1, ""},
		{"HTTP/1.1 429 x\r\nContent-Length: 15\r\n\r\n{\"accepted\":17}", 17, ""},
		{"HTTP/1.1 400 x\r\nContent-Length: 2\r\n\r\nno", 0, "answered 400: no"},
		{"HTTP/1.1 200 OK\r\nX: y\r\n\r\n", 0, "no Content-Length"},
		{"HTTP/1.1 200", 0, "EOF"},
	} {
		for _, piece := range []int{1, 7, len(c.answer)} {
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				if _, err := server.Read(make([]byte, 100)); err != nil {
					return
				}
				for p := range slices.Chunk([]byte(c.answer), piece) {
					if _, err := server.Write(p); err != nil {
						return
					}
				}
			}()
			h := &httpLane{conn: client, request: []byte("x"), events: 1, answer: make([]byte, 8)}
			n, err := h.send()
			if n != c.taken || (err != nil) != (c.fails != "") ||
				err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%q in pieces of %d: taken %d, %v", c.answer, piece, n, err)
			}
			client.Close()
		}
	}
}
