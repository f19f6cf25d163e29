package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmeval/bus"
)

// With a key, two shards, several sources that all use the same keys, and rules swapped all the
// time: what each source sends for one key is evaluated in the order in which it was accepted. A
// client that waits for each answer knows that order; so does the one socket's sender.
func TestOrder(t *testing.T) {
	dir := t.TempDir()
	sinkFile := filepath.Join(dir, "verdicts.ndjson")
	config := writeFile(t, "c.yaml", fmt.Sprintf("routes: [{rules: [ordered], sinks: [keep]}]\n"+
		"sinks: [{name: keep, type: file, path: %q, queue_bytes: 64MiB}]\n", sinkFile))
	p := launch(t, dir, "--config", config, "--shards", "2", "--key", "user.id", "--batch", "16")
	echo := readModule(t, "echo")
	again := append(bytes.Clone(echo), 0, 5, 4, 'n', 'o', 't', 'e') // with one more custom section
	for _, code := range [][]byte{again, echo} {
		if status, text := p.call("PUT", "/v1/rules/ordered", "application/wasm", code); status != 201 {
			t.Fatalf("%d %s", status, text)
		}
	}
	p.upload("beside", "v1")
	keys := orderKeys(t)

	const clients, datagrams = 3, 4000
	ctx, done := context.WithCancel(context.Background())
	var beside, senders sync.WaitGroup
	var swaps atomic.Int64
	var posted [clients]int
	beside.Go(func() { swapping(ctx, p, &swaps) })
	for source := range clients {
		senders.Go(func() { posted[source] = postInOrder(p, source, keys, &swaps) })
	}
	senders.Go(func() { sendInOrder(p, clients, keys, datagrams, &swaps) })
	senders.Wait()
	a := p.received("udp", datagrams) // those that the kernel dropped are among them
	done()
	beside.Wait()
	p.end()

	o := readOrder(t, sinkFile, len(keys))
	for source := range clients {
		for k := range keys {
			if got, want := o.seen[source][k].count, posted[source]/len(keys); got != want {
				t.Errorf("source %d, key %d: %d verdicts for %d events", source, k, got, want)
			}
		}
	}
	byUDP := 0
	for k := range keys {
		byUDP += o.seen[clients][k].count
	}
	taken := datagrams - sum(a.Sources["udp"].Dropped)
	if int64(byUDP) != taken || taken < datagrams/10 {
		t.Errorf("%d verdicts for %d events by UDP, of %d sent", byUDP, taken, datagrams)
	}
	if len(o.versions) != 2 || o.generations < rounds/2 {
		t.Errorf("versions %v in %d generations: the rule was not swapped meanwhile", o.versions,
			o.generations)
	}
	t.Logf("%d verdicts of %d generations, %d events by UDP", o.lines, o.generations, byUDP)
}

// Each client sends 100 requests of 50 events while there are 20 rounds of swaps.
const rounds, requests, perRequest = 20, 100, 50

// keepPace waits until there were as many swaps as belong to that part of the work.
func keepPace(swaps *atomic.Int64, part, of int) {
	for limit := 0; swaps.Load() < int64(rounds*part/of) && limit < 10_000; limit++ {
		time.Sleep(time.Millisecond)
	}
}

// settle waits until what was taken so far is evaluated, so that what comes after the next swaps is
// evaluated after them, also on a busy machine.
func settle(p *program) {
	for limit := 0; limit < 1000; limit++ {
		if a := p.ledger(); a.InFlight == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// orderKeys are keys for both shards.
func orderKeys(t *testing.T) []string {
	t.Helper()
	b, err := bus.New(bus.Config{Shards: 2, RingBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	var on [2]int
	for i := 0; len(keys) < 10; i++ {
		key := fmt.Sprint("user-", i)
		if shard := b.ShardOf([]byte(key)); on[shard] < 5 {
			on[shard]++
			keys = append(keys, key)
		}
	}
	return keys
}

// swapping switches between the versions of the rule, and a rule beside it on and off.
func swapping(ctx context.Context, p *program, swaps *atomic.Int64) {
	for i := 0; ctx.Err() == nil; i++ {
		swaps.Store(int64(i))
		change := func(path, body string) {
			status, text := p.call("POST", path, "application/json", []byte(body))
			if status != 200 || !bytes.Contains(text, []byte(`"lost":0`)) {
				p.t.Errorf("%s: %d %s", path, status, text)
			}
		}
		change("/v1/rules/ordered/activate", fmt.Sprintf(`{"version":%d}`, 1+i%2))
		change("/v1/rules/beside/"+[]string{"disable", "enable"}[i%2], "")
	}
}

// numbered is event n of a source; the keys take turns, so n/len(keys) counts those of one key.
func numbered(dst []byte, source, n int, keys []string) []byte {
	return fmt.Appendf(dst, `{"source":%d,"key":%d,"n":%d,"user":{"id":%q}}`+"\n", source, n%len(keys),
		n/len(keys), keys[n%len(keys)])
}

// postInOrder waits for each answer before the next request, as all events must be taken. It
// returns how many there were.
func postInOrder(p *program, source int, keys []string, swaps *atomic.Int64) (n int) {
	for request := range requests {
		keepPace(swaps, request, requests)
		var body []byte
		for range perRequest {
			body = numbered(body, source, n, keys)
			n++
		}
		status, text := p.call("POST", "/v1/events", "application/x-ndjson", body)
		if status != 202 || !bytes.Contains(text, fmt.Appendf(nil, `"accepted":%d,`, perRequest)) {
			p.t.Errorf("%d %s", status, text)
			return n
		}
		settle(p)
	}
	return n
}

// sendInOrder sends datagrams by one socket, so the server receives them in this order.
func sendInOrder(p *program, source int, keys []string, datagrams int, swaps *atomic.Int64) {
	c, err := net.Dial("udp", p.udp)
	if err != nil {
		p.t.Error(err)
		return
	}
	defer c.Close()
	var buf []byte
	for n := range datagrams {
		keepPace(swaps, n, datagrams)
		if buf = numbered(buf[:0], source, n, keys); n%2 == 0 {
			buf = buf[:len(buf)-1] // with and without a newline at the end
		}
		if _, err := c.Write(buf); err != nil {
			p.t.Error(err)
			return
		}
	}
}

// order is what the verdicts say.
type order struct {
	seen               [4][]struct{ last, count int } // by source and key
	versions           map[int]bool
	lines, generations int
}

// readOrder reads the verdicts as they came to the sink. For each source and key the numbers only
// grow, and for each key the generations do not go back.
func readOrder(t *testing.T, file string, keys int) *order {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o := &order{versions: make(map[int]bool)}
	for source := range o.seen {
		o.seen[source] = make([]struct{ last, count int }, keys)
		for k := range o.seen[source] {
			o.seen[source][k].last = -1
		}
	}
	generation := make([]int, keys)
	all := make(map[int]bool)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var v struct {
			Version, Generation int
			Error               json.RawMessage
			Payload             struct{ Source, Key, N int }
		}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil || v.Error != nil {
			t.Fatalf("verdict %s: %v", lines.Text(), err)
		}
		e := v.Payload
		s := &o.seen[e.Source][e.Key]
		if e.N <= s.last {
			t.Errorf("source %d, key %d: event %d was evaluated after event %d", e.Source, e.Key, e.N,
				s.last)
		}
		if v.Generation < generation[e.Key] {
			t.Errorf("key %d: generation %d came after %d", e.Key, v.Generation, generation[e.Key])
		}
		s.last, generation[e.Key] = e.N, v.Generation
		s.count++
		o.versions[v.Version] = true
		all[v.Generation] = true
		o.lines++
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	o.generations = len(all)
	return o
}
