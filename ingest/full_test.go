package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// An event that a full ring does not take is named in the answer, and no other: sent again, each
// comes to a worker exactly once.
func TestFullRing(t *testing.T) {
	const rounds, each = 60, 40
	w := newWorld(t, Config{Fields: fields}, 3, smallRing)
	rnd := rand.New(rand.NewPCG(1, 2))
	var want bus.SourceLedger
	got := map[int]int{} // how often each number came
	take := func() {
		for _, e := range w.drain() {
			var o struct{ N int }
			if err := json.Unmarshal([]byte(e.json), &o); err != nil {
				t.Fatal(err)
			}
			got[o.N]++
		}
	}
	full, good := 0, 0
	for round := range rounds {
		body := make([]string, each)
		what := make(items, each)
		for i := range body {
			body[i], what[i] = randomEvent(rnd, round*each+i, w.bus.MaxRecord())
		}
		good += each - what.bad()
		for indexes := allOf(each); len(indexes) > 0; {
			a := w.post(lines(pick(body, indexes)), ndjson)
			if indexes = again(t, a, indexes, what, &want); len(indexes) > 0 {
				full++
				take()
			}
		}
	}
	take()
	if full == 0 {
		t.Error("no ring was ever full: this test proves nothing")
	}
	for n, times := range got {
		if times != 1 {
			t.Errorf("event %d came %d times", n, times)
		}
	}
	if len(got) != good {
		t.Errorf("%d events came of %d good ones", len(got), good)
	}
	w.expectLedger(bus.SourceHTTP, want)
}

// randomEvent is an event with that number, and what becomes of it.
func randomEvent(rnd *rand.Rand, n, most int) (text, what string) {
	pad := rnd.IntN(1500)
	what = "ok"
	switch rnd.IntN(20) {
	case 0:
		return `{"n":`, "malformed"
	case 1:
		pad, what = most, "too_large" // for a ring, not for a scanner
	}
	key := ""
	if rnd.IntN(4) > 0 {
		key = fmt.Sprintf(`"user":{"id":%d},`, rnd.IntN(10))
	}
	return fmt.Sprintf(`{"n":%d,%s"pad":"%s"}`, n, key, strings.Repeat("x", pad)), what
}

// again checks an answer to a request that had the given events, adds its part to the ledger, and
// returns the events to send again. An event that is too large for a ring may be one of them, if it
// stands behind the first one for which there was no room.
func again(t *testing.T, a reply, sent []int, what items, want *bus.SourceLedger) []int {
	t.Helper()
	var left []int
	last := -2
	for _, r := range a.NotTaken {
		if r[0] <= last+1 || r[1] < r[0] || r[1] >= len(sent) {
			t.Fatalf("not_taken is %v for %d events", a.NotTaken, len(sent))
		}
		last = r[1]
		left = append(left, sent[r[0]:r[1]+1]...)
	}
	named := []itemError{}
	for i, n := range sent {
		if what[n] == "ok" || what[n] == "too_large" && slices.Contains(left, n) {
			continue
		}
		named = append(named, itemError{Index: i, Reason: what[n]})
		want.Lost[reasonOf(t, what[n])]++
	}
	slices.SortFunc(a.Errors, func(x, y itemError) int { return x.Index - y.Index })
	expectErrors(t, a.Errors, named)
	taken := len(sent) - len(named) - len(left)
	switch {
	case len(left) > 0:
		a.expect(t, http.StatusTooManyRequests, "ring_full")
		if a.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
		}
	case taken == 0:
		a.expect(t, http.StatusBadRequest, "no_good_event")
	default:
		a.expect(t, http.StatusAccepted, "")
	}
	a.expectCounts(t, len(sent), taken, len(named))
	want.Received += uint64(len(sent))
	want.Accepted += uint64(taken)
	want.Lost[bus.RingFull] += uint64(len(left))
	return left
}

func allOf(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func pick(list []string, indexes []int) []string {
	some := make([]string, len(indexes))
	for i, index := range indexes {
		some[i] = list[index]
	}
	return some
}

// When nothing at all can be taken, everything is named.
func TestFullRingTakesNothing(t *testing.T) {
	w := newWorld(t, Config{}, 1, smallRing)
	big := `{"pad":"` + strings.Repeat("x", 8000) + `"}`
	for w.post(big).status == http.StatusAccepted {
		if w.bus.Ring(0).UsedBytes() > smallRing-8000 {
			break
		}
	}
	before := w.bus.Ledger().Sources[bus.SourceHTTP]
	a := w.post(array([]string{big, "1", big, big}))
	a.expect(t, http.StatusTooManyRequests, "ring_full")
	a.expectCounts(t, 4, 0, 1)
	if fmt.Sprint(a.NotTaken) != "[[0 0] [2 3]]" {
		t.Errorf("not_taken is %v", a.NotTaken)
	}
	before.Received += 4
	before.Lost[bus.NotObject]++
	before.Lost[bus.RingFull] += 3
	w.drain()
	w.expectLedger(bus.SourceHTTP, before)
}

// An event that no ring could ever take is the client's fault, and not to be sent again.
func TestTooLargeForRing(t *testing.T) {
	w := newWorld(t, Config{}, 1, smallRing)
	big := `{"n":1,"pad":"` + strings.Repeat("x", w.bus.MaxRecord()) + `"}`
	a := w.post(big)
	a.expect(t, http.StatusBadRequest, "no_good_event")
	a = w.post(array([]string{`{"n":0}`, big, `{"n":2}`, "x"}))
	a.expect(t, http.StatusAccepted, "")
	// The answer has what was wrong with the bytes first.
	slices.SortFunc(a.Errors, func(x, y itemError) int { return x.Index - y.Index })
	expectErrors(t, a.Errors, itemsOf("ok too_large ok malformed").errors())
	itemsOf("ok too_large ok").expectNumbers(t, w.drain())
	w.expectLedger(bus.SourceHTTP, itemsOf("too_large ok too_large ok malformed").ledger(t))
}

// order is the worker of one shard. It holds that each key's numbers come one after the other.
type order struct {
	t     *testing.T
	bus   *bus.Bus
	shard int
	next  map[string]int
	n     int
	view  event.View
}

func (o *order) Handle(recs [][]byte) {
	for _, rec := range recs {
		o.view.Decode(rec)
		key := string(o.view.Key)
		var e struct{ N int }
		if err := json.Unmarshal(o.view.JSON, &e); err != nil {
			o.t.Errorf("a worker gets %.100q: %v", o.view.JSON, err)
		}
		if e.N != o.next[key] {
			o.t.Errorf("key %s: number %d came, expected %d", key, e.N, o.next[key])
		}
		if shard := o.bus.ShardOf(o.view.Key); shard != o.shard {
			o.t.Errorf("key %s came to shard %d, expected %d", key, o.shard, shard)
		}
		o.next[key] = e.N + 1
		o.n++
	}
}

// Several clients, each with keys of its own, against a worker for each shard and rings that are
// full at times: no event may come twice, get lost, or overtake another one of its key.
func TestKeyOrder(t *testing.T) {
	const clients, keys, each = 4, 5, 400
	w := newWorld(t, Config{Fields: fields}, 3, smallRing)
	workers := make([]*order, w.bus.Shards())
	var running, sending sync.WaitGroup
	for i := range workers {
		workers[i] = &order{t: t, bus: w.bus, shard: i, next: map[string]int{}}
		running.Go(func() { w.bus.Ring(i).Consume(workers[i], 50) })
	}
	for client := range clients {
		sending.Go(func() { sendInOrder(w, client, keys, each) })
	}
	sending.Wait()
	w.bus.Close()
	running.Wait()
	next := map[string]int{}
	for _, worker := range workers {
		for key, n := range worker.next {
			next[key] += n
		}
		w.drained += uint64(worker.n)
	}
	for client := range clients {
		for key := range keys {
			if name := fmt.Sprintf("%d-%d", client, key); next[name] != each {
				t.Errorf("key %s: %d events came of %d", name, next[name], each)
			}
		}
	}
	l := w.bus.Ledger()
	if got := l.Sources[bus.SourceHTTP]; got.Accepted != clients*keys*each ||
		got.Received != got.Accepted+got.Lost[bus.RingFull] || l.Difference() != 0 ||
		l.Evaluated != w.drained {
		t.Errorf("the ledger has %s and %d evaluated", ledgerText(got), l.Evaluated)
	}
}

// sendInOrder sends the numbers of a client's keys in requests of random size, and again what was
// not taken, before anything new.
func sendInOrder(w *world, client, keys, each int) {
	rnd := rand.New(rand.NewPCG(uint64(client), 3))
	next := make([]int, keys)
	pad := strings.Repeat("x", 700)
	left := keys * each
	var body []string
	for left > 0 || len(body) > 0 {
		for more := rnd.IntN(60); left > 0 && len(body) < more; {
			key := rnd.IntN(keys)
			if next[key] == each {
				continue
			}
			body = append(body, fmt.Sprintf(`{"user":{"id":"%d-%d"},"n":%d,"pad":"%s"}`,
				client, key, next[key], pad[:rnd.IntN(len(pad))]))
			next[key]++
			left--
		}
		if len(body) == 0 {
			continue
		}
		var err error
		if body, err = send(w.in.Events, body); err != nil {
			w.t.Error(err)
			return
		}
	}
}

// send posts events and returns those that were not taken. It is for goroutines of their own.
func send(h http.HandlerFunc, body []string) (left []string, err error) {
	rec := httptest.NewRecorder()
	h(rec, request(strings.NewReader(lines(body)), ndjson))
	if rec.Code == http.StatusAccepted {
		return nil, nil
	}
	var a reply
	if err := json.Unmarshal(rec.Body.Bytes(), &a); err != nil {
		return nil, err
	}
	if rec.Code != http.StatusTooManyRequests || len(a.NotTaken) == 0 {
		return nil, errors.New(rec.Body.String())
	}
	for _, r := range a.NotTaken {
		left = append(left, body[r[0]:r[1]+1]...)
	}
	return left, nil
}

// Without keys, requests spread over the shards, and the events of one request stay together in
// their order.
func TestNoKeySpreads(t *testing.T) {
	const requests, each = 100, 5
	w := newWorld(t, Config{}, 4, 1<<20)
	for range requests {
		a := w.post(lines(numbered(each)), ndjson)
		a.expectCounts(t, each, each, 0)
	}
	shards := map[int]int{}
	for i, e := range w.drain() {
		if e.index != i%each {
			t.Fatalf("event %d of shard %d has index %d", i, e.shard, e.index)
		}
		shards[e.shard]++
	}
	for shard, n := range shards {
		if n != requests*each/w.bus.Shards() {
			t.Errorf("shard %d got %d events", shard, n)
		}
	}
	if len(shards) != w.bus.Shards() {
		t.Errorf("%d shards got events", len(shards))
	}
	w.expectLedger(bus.SourceHTTP, bus.SourceLedger{Received: requests * each,
		Accepted: requests * each})
}

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		indexes []uint32
		want    string
	}{
		{nil, "[]"},
		{[]uint32{4}, "[[4 4]]"},
		{[]uint32{3, 1, 2}, "[[1 3]]"},
		{[]uint32{9, 0, 7, 1, 8, 4}, "[[0 1] [4 4] [7 9]]"},
	} {
		if got := fmt.Sprint(ranges(c.indexes)); got != c.want {
			t.Errorf("%v: %s, expected %s", c.indexes, got, c.want)
		}
	}
}
