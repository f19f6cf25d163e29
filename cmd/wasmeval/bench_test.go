package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
)

func TestBenchBus(t *testing.T) {
	code, out, errs := verb(t, "", "bench", "bus", "--for", "20ms", "--producers", "2")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	for _, rate := range []string{"100000", "500000", "1000000", "max"} {
		for _, q := range queues {
			row := regexp.MustCompile(`(?m)^ *` + rate + ` +` + q.name +
				` +(\d+) +\d+( +[\d.]+(ns|µs|ms|s)){4} *$`)
			m := row.FindStringSubmatch(out)
			if m == nil || m[1] == "0" {
				t.Errorf("bench bus has no figures of %s at %s: %s", q.name, rate, out)
			}
		}
	}
	for _, args := range []string{"--producers 0", "--producers 65", "--for x"} {
		code, _, _ := verb(t, "", append([]string{"bench", "bus"}, strings.Fields(args)...)...)
		if code != 1 {
			t.Errorf("bench bus %s: exit code %d", args, code)
		}
	}
}

// Every queue hands over each message once, in each producer's order.
func TestBenchQueues(t *testing.T) {
	const producers, each = 2, 5000
	for _, kind := range queues {
		q, err := kind.make(producers)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for p := range producers {
			all.Go(func() {
				msg := make([]byte, 200) // used again for each message
				for i := range each {
					copy(msg, fmt.Appendf(nil, "%d %d ", p, i))
					q.put(p, msg)
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

// The load drivers start a server of their own, which here is this test binary, and its ledger
// holds what they sent.
func TestBenchServer(t *testing.T) {
	t.Setenv(childEnv, "1")
	t.Setenv("TMPDIR", t.TempDir())
	for _, args := range []string{
		"http --for 100ms --rate 400 --workers 2 --batch 3",
		"http --for 300ms --rate 0 --workers 1 --rule " + modulePath("always"),
		"udp --for 100ms --rate 400 --workers 2 --batch 3",
		"http --for 50ms --rate 1 --workers 500", // all but one worker have nothing to do
	} {
		code, out, errs := verb(t, "", append([]string{"bench"}, strings.Fields(args)...)...)
		if code != 0 {
			t.Errorf("bench %s: exit code %d: %s", args, code, errs)
			continue
		}
		var sent, taken, received, evaluated, difference int64
		_, after, _ := strings.Cut(out, "\nsent ")
		after = regexp.MustCompile(`\(.*?\)`).ReplaceAllString(after, "")
		_, err := fmt.Sscanf(after, "%d , %d events taken", &sent, &taken)
		_, after, _ = strings.Cut(out, "\nledger ")
		_, err2 := fmt.Sscanf(regexp.MustCompile(`map\[.*?\], `).ReplaceAllString(after, ""),
			" received %d, evaluated %d, dropped difference %d", &received, &evaluated, &difference)
		if err != nil || err2 != nil {
			t.Errorf("bench %s printed %q: %v, %v", args, out, err, err2)
			continue
		}
		isHTTP := strings.HasPrefix(args, "http")
		if sent == 0 || taken == 0 || difference != 0 || isHTTP && received != taken ||
			received > taken {
			t.Errorf("bench %s: sent %d, taken %d, received %d, difference %d", args, sent, taken,
				received, difference)
		}
	}
	for args, want := range map[string]string{
		"http --rate -1":         "expected --rate 0 or more",
		"udp --batch 0":          "expected --rate 0 or more",
		"http --for 0s":          "expected --rate 0 or more",
		"http --workers 5000":    "expected --rate 0 or more",
		"http --rule none":       `cannot read module "none"`,
		"udp --rule cli_test.go": "no WebAssembly module",
	} {
		code, _, errs := verb(t, "", append([]string{"bench"}, strings.Fields(args)...)...)
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("bench %s: exit code %d, %s", args, code, errs)
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("bench left something behind: %v, %v", left, err)
	}
}
