package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What send says of the events is what the server's ledger says.
func TestSendHTTP(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	five := "{\"n\":1}\n\n  {\"n\":2}\r\n{\"n\":NaN}\n{\"n\":4}\n{\"n\":5}" // no newline at the end
	file := writeFile(t, "five.ndjson", five)
	sent := int64(0)
	count := func(n int64) { sent += n; p.received("http", sent) }

	// rejects runs send on events of which some are rejected.
	rejects := func(stdin string, n int, args []string, want ...string) {
		t.Helper()
		code, out, errs := verb(t, stdin, append(args, "--server", p.url, "--data-dir", dir)...)
		if code != 1 || errs != fmt.Sprintf("wasmeval: %d events were rejected\n", n) {
			t.Errorf("%q: exit code %d, %s", args, code, errs)
		}
		for _, text := range want {
			if !strings.Contains(squeezed(out), text) {
				t.Errorf("%q printed %s, expected in it: %q", args, out, text)
			}
		}
	}
	rejects("", 1, []string{"send", file}, "sent 5 events in ",
		"accepted 4, rejected 1, not taken 0, not answered 0; answers 429: 0\n line 4: malformed: ")
	count(5)
	rejects(five, 1, []string{"send"}, "sent 5 events", "accepted 4, rejected 1")
	count(5)
	rejects(five, 1, []string{"send", "-", "--batch", "1"}, "accepted 4, rejected 1", " line 4: malformed: ")
	count(5)
	rejects("", 3, []string{"send", file, "--repeat", "3", "--gzip", "--batch", "7"},
		"sent 15 events", "accepted 12, rejected 3", " line 4: ")
	count(15)
	p.good(dir, "", []string{"send", "-"}, "sent 0 events")
	count(0)
	p.good(dir, "{}\n{}", []string{"send", "-"}, "accepted 2, rejected 0, ")
	count(2)

	begun := time.Now()
	rejects("", 4, []string{"send", file, "--repeat", "4", "--rate", "100", "--batch", "1"},
		"sent 20 events", "accepted 16, rejected 4")
	// The 20th is due 190 ms after the first.
	if took := time.Since(begun); took < 190*time.Millisecond {
		t.Errorf("20 events at 100/s took %v", took)
	}
	count(20)

	for _, c := range []struct{ args, want string }{
		{"none", `cannot read events "none": no such file or directory`},
		{file + " --rate -1", "expected --rate"},
		{file + " --repeat 0", "expected --rate"},
		{"- --repeat 2", "more than 1 with a file only"},
		{file + " --retries -1", "expected --rate"},
		{file + " x", "accepts at most 1 arg(s), received 2"},
		{file + " --udp 127.0.0.1", `cannot send to "127.0.0.1": `},
		{file + " --udp 127.0.0.1:1 --gzip", "expected --gzip without --udp"},
		{file + " --token wev_wrong", "cannot send events: "},
	} {
		p.bad(dir, "", append([]string{"send"}, strings.Fields(c.args)...), c.want)
	}
	count(0)
}

// A ring that is full: send tells how many the server has taken, to the event.
func TestSendToFullRing(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir, "--ring-bytes", "64KiB", "--event-bytes", "2KiB", "--call-fuel", "4000000")
	status, text := p.call("PUT", "/v1/rules/slow?fuel=4000000", "application/wasm",
		readModule(t, "loop"))
	if status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	const events = 400 // of 1 KiB: one request has six times as much as the ring, and each takes 1 ms
	event := `{"bad":1,"a":"` + strings.Repeat("x", 1000) + "\"}\n"
	file := writeFile(t, "e", strings.Repeat(event, events))
	code, out, errs := verb(t, "", "send", file, "--retries", "0", "--server", p.url,
		"--data-dir", dir)
	var sent, accepted, rejected, left, throttled int64
	first, second, _ := strings.Cut(out, "\n")
	_, err := fmt.Sscanf(first, "sent %d events", &sent)
	_, err2 := fmt.Sscanf(second, "accepted %d, rejected %d, not taken %d, not answered 0; answers 429: %d", &accepted,
		&rejected, &left, &throttled)
	if err != nil || err2 != nil {
		t.Fatalf("send printed %q: %v, %v", out, err, err2)
	}
	if code != 1 || !strings.Contains(errs, fmt.Sprintf("%d events were not taken", left)) {
		t.Errorf("exit code %d, %s", code, errs)
	}
	a := p.received("http", events)
	if sent != events || accepted+left != events || left == 0 || rejected != 0 || throttled != 1 ||
		a.Evaluated != accepted || a.Dropped["ring_full"] != left {
		t.Errorf("send said %q, the ledger %+v", out, a)
	}
}

// Events that were not taken are sent again, those alone and in their order, until they are taken
// or the retries are used up.
func TestSendAgain(t *testing.T) {
	var mu sync.Mutex
	var bodies []string
	answers := []string{
		`429 {"accepted":2,"rejected":1,"errors":[{"index":1,"reason":"r","detail":"d\u001b"}],` +
			`"not_taken":[[2,3],[5,5]]}`,
		`503 {"accepted":0,"not_taken":[[0,2]]}`,
		`429 {"accepted":1,"not_taken":[[1,2]]}`,
		`202 {"accepted":2,"rejected":0,"errors":[]}`,
	}
	server := "http://" + serveLoopback(t, &http.Server{Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			z, err := gzip.NewReader(r.Body)
			if err != nil || r.Header.Get("Content-Encoding") != "gzip" {
				t.Errorf("the body is not compressed: %v", err)
				return
			}
			body, err := io.ReadAll(z)
			if err != nil {
				t.Error(err)
			}
			bodies = append(bodies, string(body))
			status, text, _ := strings.Cut(answers[len(bodies)-1], " ")
			n, _ := strconv.Atoi(status)
			w.WriteHeader(n)
			_, _ = io.WriteString(w, text)
		})})
	send := func(args ...string) (int, string, string) {
		bodies = nil
		return verb(t, "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n{\"n\":4}\n{\"n\":5}\n",
			append([]string{"send", "--gzip", "--server", server}, args...)...)
	}
	code, out, errs := send()
	want := []string{"{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n{\"n\":4}\n{\"n\":5}\n",
		"{\"n\":2}\n{\"n\":3}\n{\"n\":5}\n", "{\"n\":2}\n{\"n\":3}\n{\"n\":5}\n",
		"{\"n\":3}\n{\"n\":5}\n"}
	if code != 1 || errs != "wasmeval: 1 events were rejected\n" || !slices.Equal(bodies, want) ||
		!strings.Contains(out, "accepted 5, rejected 1, not taken 0, not answered 0; answers 429: 2\n  line 2: r: d \n") {
		t.Errorf("exit code %d, %q %s\nbodies %q\nexpected %q", code, out, errs, bodies, want)
	}
	code, out, errs = send("--retries", "2")
	if code != 1 || len(bodies) != 3 || !strings.Contains(errs, "2 events were not taken") ||
		!strings.Contains(out, "accepted 3, rejected 1, not taken 2") {
		t.Errorf("with two retries: exit code %d, %q %s", code, out, errs)
	}
	for text, fate := range map[string]string{
		`500 {"detail":"oh"}`:   "not taken 0, not answered 6;",
		`429 {"detail":"busy"}`: "not taken 6, not answered 0;",
		`413 {"rejected":6}`:    "not taken 6, not answered 0;",
		`202 no JSON`:           "not taken 0, not answered 6;",
		`200 `:                  "not taken 0, not answered 6;",
	} {
		answers = []string{text}
		code, out, errs := send()
		if code != 1 || len(bodies) != 1 || !strings.Contains(errs, "cannot send events") ||
			!strings.Contains(out, "accepted 0, rejected 0, "+fate) {
			t.Errorf("answer %q: exit code %d after %d requests, %s %s", text, code, len(bodies), out, errs)
		}
	}
}

// Without a server nothing was sent.
func TestSendToNobody(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = lis.Close()
	code, out, errs := verb(t, "{}\n{}\n", "send", "--server", "http://"+lis.Addr().String())
	if code != 1 || !strings.Contains(out, "sent 0 events") || !strings.Contains(errs, "connection refused") ||
		!strings.Contains(out, "not taken 0, not answered 0;") {
		t.Errorf("exit code %d, %s %s", code, out, errs)
	}
}

// Whoever interrupts send gets its report, in the middle of a request and between two.
func TestSendInterrupted(t *testing.T) {
	var hang atomic.Bool
	came := make(chan struct{}, 1)
	server := "http://" + serveLoopback(t, &http.Server{Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			came <- struct{}{}
			if hang.Load() {
				<-r.Context().Done() // the client has gone
				return
			}
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"accepted":1}`)
		})})
	for _, hangs := range []bool{true, false} {
		hang.Store(hangs)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-came
			time.Sleep(200 * time.Millisecond) // an answer comes, or does not
			cancel()
		}()
		var out, errs bytes.Buffer // the second event is due in 100 s
		code := run(ctx, []string{"send", "--rate", "0.01", "--server", server},
			strings.NewReader("{}\n{}\n"), &out, &errs)
		want := "accepted 1, rejected 0, not taken 0, not answered 0;"
		if hangs {
			want = "accepted 0, rejected 0, not taken 0, not answered 1;"
		}
		if code != 1 || !strings.Contains(out.String(), "sent 1 events") || errs.String() != "wasmeval: interrupted\n" ||
			!strings.Contains(out.String(), want) {
			t.Errorf("exit code %d, %s %s: expected %q", code, &out, &errs, want)
		}
	}
}

func TestSendUDP(t *testing.T) {
	dir := t.TempDir()
	p := launch(t, dir)
	long := `{"a":"` + strings.Repeat("x", 5000) + "\"}\n" // alone in its datagram
	text := strings.Repeat("{\"n\":1}\n", 300) + long + "{\"n\":NaN}\n" + long
	file := writeFile(t, "e", text)
	p.good(dir, "", []string{"send", file, "--udp", p.udp}, "sent 303 events in ",
		"UDP has no answers")
	a := p.received("udp", 303)
	if a.Evaluated != 302 || a.Rejected["malformed"] != 1 {
		t.Errorf("the ledger says %+v", a)
	}
	p.good(dir, text, []string{"send", "--udp", p.udp, "--batch", "50"}, "sent 303 events")
	p.received("udp", 606)
	if n := metricOf(t, p, "wasmeval_udp_datagrams_total"); n < 10 || n > 40 {
		t.Errorf("606 events came in %v datagrams", n)
	}
	code, out, errs := verb(t, "{}\n\n{\"a\":\""+strings.Repeat("x", 70_000)+"\"}\n{}", "send", "--udp", p.udp)
	if code != 1 || !strings.Contains(errs, "1 events were rejected") || !strings.Contains(out, "sent 2 events") ||
		!strings.Contains(out, "  line 3: 70008 bytes: expected at most 65507 in a datagram\n") {
		t.Errorf("exit code %d, %s %s", code, out, errs)
	}
	p.received("udp", 608)
}
