package ingest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// Whatever a client sends is answered with one of the known statuses; answer, ledger and workers
// agree on what became of it; and what a worker gets is an event.
func FuzzEvents(f *testing.F) {
	for _, c := range bodies {
		if len(c.body) < 1000 {
			f.Add([]byte(c.body), c.kind, "", "")
			f.Add([]byte(compress(c.body)), c.kind, "gzip", "")
			f.Add([]byte(c.body), c.kind, "", "1.0")
		}
	}
	for _, suffix := range []string{"+json", "-batch+json"} {
		kind := "application/cloudevents" + suffix
		one := cloud(`,"time":"` + cloudTime + `","partitionkey":"k","data":{"user":{"id":1}}`)
		f.Add([]byte(one), kind, "", "")
		f.Add([]byte("["+one+",7,"+one+"]"), kind, "", "")
		f.Add([]byte(`{"id":"i","specversion":"1.0","data_base64":""}`), kind+"; charset=utf-8", "", "")
	}
	for _, n := range []int{1900, 2500, 3000} { // for a ring, in events, in bytes too many
		f.Add(bytes.Repeat([]byte("{}\n"), n), byLine, "", "")
	}
	f.Add([]byte(`{"id":"i","kind":1,"from":null,"at":1709204400,"user":{"id":"\u00e9"}}`), plain,
		"", "")
	f.Add([]byte("{}"), "text/plain; charset=\"", "", "")
	f.Add([]byte("{}"), plain, "br", "")
	config := Config{Fields: fields, Limits: event.Limits{EventBytes: 1000, Depth: 10},
		BodyBytes: 8000, MaxEvents: 2000}
	f.Fuzz(func(t *testing.T, body []byte, kind, encoding, version string) {
		w := newWorld(t, config, 2, smallRing)
		r := request(bytes.NewReader(body))
		for name, value := range map[string]string{"Content-Type": kind, "Content-Encoding": encoding,
			"Ce-Specversion": version, "Ce-Id": "i", "Ce-Source": "s", "Ce-Type": "t"} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		a := w.serve(w.in.Events, r)
		checkAnswer(t, &a, w.drain(), w.bus.Ledger())
	})
}

// checkAnswer holds an answer against what a worker got and the ledger has.
func checkAnswer(t *testing.T, a *reply, got []took, l bus.Ledger) {
	t.Helper()
	total := l.Total()
	if l.Difference() != 0 || l.Evaluated != uint64(len(got)) || total.Accepted != l.Evaluated {
		t.Fatalf("the ledger has %s, %d evaluated: a worker got %d", ledgerText(total), l.Evaluated,
			len(got))
	}
	switch a.status {
	case http.StatusAccepted, http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
	case http.StatusBadRequest, http.StatusUnsupportedMediaType:
		if len(got) > 0 {
			t.Errorf("a worker got %d events of a request that was refused", len(got))
		}
	default:
		t.Fatalf("the status is %d: %s", a.status, a.text)
	}
	if a.Received == nil {
		if total.Received != 0 {
			t.Errorf("the ledger has %s, and the answer counts nothing", ledgerText(total))
		}
		return
	}
	left := 0
	var indexes []int
	for _, r := range a.NotTaken {
		left += r[1] - r[0] + 1
		for i := r[0]; i <= r[1]; i++ {
			indexes = append(indexes, i)
		}
	}
	if *a.Received != a.Accepted+a.Rejected+left || uint64(*a.Received) != total.Received ||
		a.Accepted != len(got) || uint64(left) != total.Lost[bus.RingFull] {
		t.Errorf("the ledger has %s, the answer is %s", ledgerText(total), a.text)
	}
	for _, e := range a.Errors {
		indexes = append(indexes, e.Index)
	}
	for _, e := range got {
		indexes = append(indexes, e.index)
		if !json.Valid([]byte(e.json)) || e.json[0] != '{' || e.id == "" || e.time == 0 {
			t.Errorf("a worker got %+v", e)
		}
	}
	slices.Sort(indexes)
	if n := len(indexes); n != len(slices.Compact(indexes)) || n > 0 && indexes[n-1] >= *a.Received {
		t.Errorf("of %d events, those with something to say are %v", *a.Received, indexes)
	}
}
