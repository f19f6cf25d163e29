package ingest

import (
	"encoding/json"
	"fmt"
	"net/http"
	goruntime "runtime"
	"strings"
	"testing"
	"weak"

	"wasmeval/bus"
)

// A batch that has read a large body and then a small one keeps nothing of the large one alive.
func TestBodyIsFreed(t *testing.T) {
	w := newWorld(t, Config{}, 1, 64<<20)
	b := w.in.batch(maxItemErrors)
	text := `{"n":"` + strings.Repeat("x", 500_000) + "\"}\n"
	serve := func(body string) {
		if err := b.read(request(strings.NewReader(body)), false); err != nil {
			t.Fatal(err)
		}
		b.reset(noon, 0)
		b.scan(formatLines, nil, 10)
		b.submit(w.in.events[0])
	}
	serve(strings.Repeat(text, 5))
	if b.taken != 5 {
		t.Fatalf("%d events were taken", b.taken)
	}
	body := weak.Make(&b.body[0])
	b.release()
	serve(`{"n":0}`)
	goruntime.GC()
	if body.Value() != nil {
		t.Error("the body is still there")
	}
	goruntime.KeepAlive(b)
}

// What a large request made grow is not kept for small ones.
func TestBatchKeepsLittle(t *testing.T) {
	const events = 2 * keepRecords
	w := newWorld(t, Config{}, 1, 8<<20)
	b := w.in.batch(maxItemErrors)
	body := strings.NewReader(lines(numbered(events)) + strings.Repeat(" ", keepBody))
	if err := b.read(request(body), false); err != nil {
		t.Fatal(err)
	}
	b.reset(noon, 0)
	b.scan(formatLines, nil, events)
	if b.submit(w.in.events[0]); b.taken != events {
		t.Fatalf("%d events of %d were taken", b.taken, events)
	}
	verdicts := make([]json.RawMessage, events)
	for i := range verdicts {
		verdicts[i] = json.RawMessage(`["` + strings.Repeat("x", 40) + `"]`)
	}
	b.results(&nowhere{header: http.Header{}}, verdicts)
	sizes := func() [4]bool {
		return [4]bool{
			cap(b.body) > keepBody, cap(b.out) > keepOut, cap(b.heads) > keepHeads,
			cap(b.groups[0].recs) > keepRecords,
		}
	}
	if got := sizes(); got != [4]bool{true, true, true, true} {
		t.Errorf("what grew is %v: this test proves nothing", got)
	}
	b.release()
	b.reset(noon, 0)
	if got := sizes(); got != [4]bool{} {
		t.Errorf("what is kept is %v", got)
	}
}

// A bus that closes in the middle of a request: what was taken is no longer to be sent again.
func TestClosedBetween(t *testing.T) {
	list := itemsOf("closed ok not_object ok closed")
	w, rs := newEvaluate(t, Config{Fields: fields}, 2)
	body := make([]string, len(list))
	for i, what := range list {
		shard := 0
		if what == "closed" {
			shard = 1
		}
		body[i] = fmt.Sprintf(`{"n":%d,"user":{"id":%d}}`, i, w.keyOf(shard))
	}
	body[2] = "7"
	w.bus.Ring(1).Close() // the second of two
	a := w.post(array(body))
	a.expect(t, http.StatusServiceUnavailable, "closed")
	a.expectCounts(t, 5, 2, 1)
	if fmt.Sprint(a.NotTaken) != "[[0 0] [4 4]]" {
		t.Errorf("not_taken is %v", a.NotTaken)
	}
	list.expectNumbers(t, w.drain())

	a = w.evaluate(array(body))
	a.expect(t, http.StatusOK, "")
	list.expectResults(t, a.Results)
	list.expectNumbers(t, rs.got)
	l := w.bus.Ledger()
	want := list.ledger(t)
	if l.Sources[bus.SourceHTTP] != want || l.Sources[bus.SourceEvaluate] != want {
		t.Errorf("the ledger has %s", ledgerText(l.Total()))
	}
}

// keyOf is a number that is a key of that shard.
func (w *world) keyOf(shard int) (key int) {
	for w.bus.ShardOf(fmt.Append(nil, key)) != shard {
		key++
	}
	return key
}
