package ingest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// fields is where the plain events of these tests have their envelope.
var fields = event.Fields{ID: "id", Type: "kind", Source: "from", Time: "at", Key: "user.id"}

const (
	oneCloud    = "Content-Type: application/cloudevents+json"
	manyClouds  = "Content-Type: application/cloudevents-batch+json"
	cloudTime   = "2024-02-29T12:00:00.5+01:00"
	cloudTimeNS = 1_709_204_400_500_000_000
)

// cloud is a CloudEvent in JSON with more members.
func cloud(more string) string {
	return `{"specversion":"1.0","id":"i","source":"s","type":"t"` + more + `}`
}

// attributes are headers that make a body the data of a CloudEvent.
var attributes = []string{"Ce-Specversion: 1.0", "Ce-Id: i", "Ce-Source: s", "Ce-Type: t"}

// What a worker gets of one event in each of the ways in which it can come.
func TestEnvelope(t *testing.T) {
	full := took{id: "i", kind: "t", source: "s", key: "k", time: cloudTimeNS, arrival: noon}
	late := full
	late.time = noon // given at arrival
	without := func(e took, clear func(*took)) took {
		clear(&e)
		return e
	}
	noKey := func(e *took) { e.key = "" }
	for _, c := range []struct {
		name    string
		headers []string
		body    string
		json    string // or "" if it is the body
		want    took
	}{
		{"plain", nil, `{"id":"i","kind":"t","from":"s","user":{"id":"k"},"at":"` + cloudTime + `"}`,
			"", full},
		{"numbers", nil, `{"id":7,"kind":"t","from":"s","at":1709204400.5,"user":{"id":-1.5}}`, "",
			took{id: "7", kind: "t", source: "s", key: "-1.5", time: cloudTimeNS, arrival: noon}},
		{"escapes", nil, `{"id":"\u00e9\n","kind":"\"","user":{"\u0069d":"😀"}}`, "",
			took{id: "é\n", kind: `"`, key: "😀", time: noon, arrival: noon}},
		{"null", nil, `{"id":"i","kind":null,"at":null,"user":{"id":null}}`, "",
			took{id: "i", time: noon, arrival: noon}},
		{"structured", []string{oneCloud}, cloud(`,"time":"` + cloudTime +
			`","partitionkey":"k","data":{"n":0}`), `{"n":0}`, full},
		{"structured, charset", []string{oneCloud + "; charset=utf-8"},
			cloud(`,"data":{"user":{"id":"k"}}`), `{"user":{"id":"k"}}`, late},
		{"structured, both keys", []string{oneCloud},
			cloud(`,"partitionkey":"other","data":{"user":{"id":"k"}}`), `{"user":{"id":"k"}}`, late},
		{"structured, no key", []string{oneCloud}, cloud(`,"data":{}`), `{}`, without(late, noKey)},
		{"structured, with headers", []string{oneCloud, "Ce-Specversion: 1.0", "Ce-Id: x"},
			cloud(`,"data":{}`), `{}`, without(late, noKey)},
		{"batched", []string{manyClouds}, "[" + cloud(`,"partitionkey":"k","data":{"n":0}`) + "]",
			`{"n":0}`, late},
		{"binary", append(attributes, "Ce-Time: "+cloudTime, "Ce-Partitionkey: k"),
			` {"id":"not this"} `, `{"id":"not this"}`, full},
		{"binary, typed", append(attributes, "Content-Type: application/json"),
			`{"user":{"id":"k"}}`, "", late},
		{"binary, both keys", append(attributes, "Ce-Partitionkey: x"),
			`{"user":{"id":"k"}}`, "", late},
		{"binary, no key", attributes, `{}`, "", without(late, noKey)},
		{"binary, percent-encoded", append([]string{"Ce-Id: %E2%82%AC%25+"}, attributes...), `{}`, "",
			took{id: "€%+", kind: "t", source: "s", time: noon, arrival: noon}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, Config{Fields: fields}, 1, smallRing)
			a := w.post(c.body, c.headers...)
			a.expect(t, http.StatusAccepted, "")
			got := w.drain()
			if c.want.json = c.json; c.json == "" {
				c.want.json = c.body
			}
			if len(got) != 1 || got[0] != c.want {
				t.Errorf("a worker gets %+v\nexpected %+v", got, c.want)
			}
			w.expectLedger(bus.SourceHTTP, bus.SourceLedger{Received: 1, Accepted: 1})
		})
	}
}

// Ids that are given are new ones each time, and differ from those of another process.
func TestGivenIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 2 {
		w := newWorld(t, Config{Fields: fields}, 2, smallRing)
		for range 10 {
			a := w.post(`[{},{"id":""},{"id":null},{"user":{"id":"k"}}]`)
			a.expectCounts(t, 4, 4, 0)
		}
		for _, e := range w.drain() {
			if e.id == "" || seen[e.id] || e.time != noon {
				t.Errorf("an event has id %q and time %d", e.id, e.time)
			}
			seen[e.id] = true
		}
	}
	if len(seen) != 80 {
		t.Errorf("%d different ids for 80 events", len(seen))
	}
}

// Without a clock of its own an Ingest uses the system's.
func TestArrival(t *testing.T) {
	b, err := bus.New(bus.Config{Shards: 1, RingBytes: smallRing})
	if err != nil {
		t.Fatal(err)
	}
	in, err := New(Config{Bus: b})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, bus: b, in: in}
	before := time.Now().UnixNano()
	w.post(`{}`)
	after := time.Now().UnixNano()
	e := w.drain()[0]
	if e.arrival < before || e.arrival > after || e.time != e.arrival {
		t.Errorf("arrival %d, time %d: expected between %d and %d", e.arrival, e.time, before, after)
	}
}

// Envelopes that cannot be used.
func TestBadEnvelopes(t *testing.T) {
	long := strings.Repeat("x", event.MaxText+1)
	for _, c := range []struct {
		headers []string
		body    string
		reason  string
	}{
		{nil, `{"id":{}}`, "bad_envelope"},
		{nil, `{"kind":[]}`, "bad_envelope"},
		{nil, `{"user":{"id":[1]}}`, "bad_envelope"},
		{nil, `{"at":"yesterday"}`, "bad_envelope"},
		{nil, `{"at":1e300}`, "bad_envelope"},
		{nil, `{"id":"` + long + `"}`, "bad_envelope"},
		{nil, `{"user":{"id":"` + long + `"}}`, "bad_envelope"},
		{[]string{oneCloud}, `{}`, "bad_envelope"},
		{[]string{oneCloud}, `{"specversion":"0.3","id":"i","source":"s","type":"t","data":{}}`,
			"bad_envelope"},
		{[]string{oneCloud}, `{"specversion":"1.0","source":"s","type":"t","data":{}}`, "bad_envelope"},
		{[]string{oneCloud}, `{"specversion":"1.0","id":"i","type":"t","data":{}}`, "bad_envelope"},
		{[]string{oneCloud}, `{"specversion":"1.0","id":"i","source":"s","data":{}}`, "bad_envelope"},
		{[]string{oneCloud}, cloud(`,"time":1709204400,"data":{}`), "bad_envelope"},
		{[]string{oneCloud}, cloud(``), "not_object"},
		{[]string{oneCloud}, cloud(`,"data":[]`), "not_object"},
		{[]string{oneCloud}, cloud(`,"data_base64":"e30="`), "not_object"},
		{[]string{oneCloud}, "[" + cloud(`,"data":{}`) + "]", "not_object"},
		{[]string{manyClouds}, cloud(`,"data":{}`), "malformed"},
		{attributes, `[{}]`, "not_object"},
		{attributes, `{`, "malformed"},
		{append([]string{"Ce-Specversion: 0.3"}, attributes[1:]...), `{}`, "bad_envelope"},
		{attributes[:3], `{}`, "bad_envelope"},
		{append([]string{"Ce-Id: "}, attributes...), `{}`, "bad_envelope"},
		{append([]string{"Ce-Id: %"}, attributes...), `{}`, "bad_envelope"},
		{append([]string{"Ce-Id: %ff"}, attributes...), `{}`, "bad_envelope"},
		{append([]string{"Ce-Id: \xff"}, attributes...), `{}`, "bad_envelope"},
		{append([]string{"Ce-Id: " + long}, attributes...), `{}`, "bad_envelope"},
		{append(attributes, "Ce-Partitionkey: %zz"), `{}`, "bad_envelope"},
		{append(attributes, "Ce-Partitionkey: "+long), `{}`, "bad_envelope"},
		{append(attributes, "Ce-Time: 1709204400"), `{}`, "bad_envelope"},
	} {
		w := newWorld(t, Config{Fields: fields}, 1, smallRing)
		a := w.post(c.body, c.headers...)
		name := fmt.Sprintf("%.100q %.100q", c.headers, c.body)
		if a.status != http.StatusBadRequest || len(a.Errors) != 1 || a.Errors[0].Reason != c.reason {
			t.Errorf("%s: %d %v, expected %s", name, a.status, a.Errors, c.reason)
		}
		w.drain()
		w.expectLedger(bus.SourceHTTP, itemsOf(c.reason).ledger(t))
	}
}

// One bad CloudEvent of a batch does not hurt the others.
func TestCloudBatch(t *testing.T) {
	w := newWorld(t, Config{}, 1, smallRing)
	list := itemsOf("ok bad_envelope ok not_object ok")
	body := array([]string{cloud(`,"data":{"n":0}`), `{"id":"i"}`, cloud(`,"data":{"n":2}`),
		cloud(`,"data":7`), cloud(`,"data":{"n":4}`)})
	a := w.post(body, manyClouds)
	a.expect(t, http.StatusAccepted, "")
	a.expectCounts(t, 5, 3, 2)
	expectErrors(t, a.Errors, list.errors())
	list.expectNumbers(t, w.drain())
	w.expectLedger(bus.SourceHTTP, list.ledger(t))
}
