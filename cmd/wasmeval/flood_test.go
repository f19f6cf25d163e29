package main

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// malformed are texts that are no JSON, each in its own way. Each counts as one event.
var malformed = []string{
	`{"type":"x","bad":nan}`, `{"type":"x",}`, `{"a":01}`, `{"a":1}}`, `{"a":"\x"}`, `{"a":1`,
	`{]`, `nope`, `{"a" 1}`, "{\"a\":\"\x01\"}", `{"a":1}{"a":2}`, `{'a':1}`, `{"a":tru}`, "\x00\xff",
}

// 100,000 malformed datagrams as fast as they can be sent, and events by HTTP beside them: not one
// of these is refused or lost, and each datagram is counted, by the reader or by the kernel.
func TestFlood(t *testing.T) {
	p := launch(t, t.TempDir())
	p.upload("r", "always")
	const datagrams, clients, perRequest = 100_000, 2, 20
	flooded := make(chan struct{})
	var posted atomic.Int64 // events
	var senders sync.WaitGroup
	for range clients {
		senders.Go(func() {
			body := bytes.Repeat([]byte("{\"type\":\"x\"}\n"), perRequest)
			want := fmt.Appendf(nil, `"accepted":%d,`, perRequest)
			for over := false; !over; {
				select {
				case <-flooded:
					over = true // and one more, after the flood
				default:
				}
				status, text := p.call("POST", "/v1/events", "application/x-ndjson", body)
				if status != 202 || !bytes.Contains(text, want) {
					t.Errorf("a good request in the flood: %d %s", status, text)
					return
				}
				posted.Add(perRequest)
			}
		})
	}
	senders.Go(func() {
		defer close(flooded)
		flood(t, p.udp, datagrams)
	})
	senders.Wait()

	a := p.received("udp", datagrams)
	udp, http := a.Sources["udp"], a.Sources["http"]
	refused, dropped := udp.Rejected["malformed"], udp.Dropped["kernel"]
	if refused+dropped != datagrams || refused == 0 {
		t.Errorf("rejected %v, dropped %v: expected %d malformed or dropped by the kernel", udp.Rejected,
			udp.Dropped, datagrams)
	}
	if n := posted.Load(); n < 2*clients*perRequest || http.Received != n || a.Evaluated != n ||
		sum(http.Rejected)+sum(http.Dropped) != 0 {
		t.Errorf("%d events were posted, the ledger says %+v", n, a)
	}
	_, text := p.call("GET", "/metrics", "", nil)
	line := fmt.Sprintf("\nwasmeval_rule_evaluations_total{outcome=\"matched\",rule=\"r\"} %d\n",
		posted.Load())
	if !bytes.Contains(text, []byte(line)) {
		t.Errorf("the metrics do not have %s", line)
	}
	t.Logf("%d events posted; %d datagrams rejected, %d dropped by the kernel", posted.Load(),
		refused, dropped)
}

func flood(t *testing.T, addr string, datagrams int) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	for i := range datagrams {
		if _, err := c.Write([]byte(malformed[i%len(malformed)])); err != nil {
			t.Errorf("datagram %d: %v", i, err)
			return
		}
	}
}
