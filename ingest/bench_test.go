package ingest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"wasmeval/bus"
)

// sample is an event of about 200 bytes with everything that an envelope can have.
const sample = `{"id":"7d1c4a52-01","kind":"payment.authorized","from":"till-17",` +
	`"at":"2024-02-29T12:00:00.5Z","user":{"id":"user-12345","country":"DE"},` +
	`"amount":129.95,"currency":"EUR","card":{"bin":"411111","new":true}}`

// rereader is a body that can be read again.
type rereader struct{ bytes.Reader }

func (*rereader) Close() error { return nil }

// Reading, scanning, submitting and acknowledging a request's events allocates nothing once the
// batch has grown.
func TestBatchAllocations(t *testing.T) {
	for _, c := range []struct {
		name, text string
		f          format
		compressed bool
	}{
		{"object", sample, formatJSON, false},
		{"lines", strings.Repeat(sample+"\n", 100), formatLines, false},
		{"lines that lack everything", strings.Repeat("{}\n", 100), formatLines, false},
		{"gzip", compress(strings.Repeat(sample+"\n", 100)), formatLines, true},
		{"clouds", array([]string{cloud(`,"data":{"user":{"id":"k"}}`), cloud(`,"data":{}`)}),
			formatCloudBatch, false},
	} {
		w := newWorld(t, Config{Fields: fields}, 2, 1<<20)
		b, err := w.in.newBatch()
		if err != nil {
			t.Fatal(err)
		}
		text, body := []byte(c.text), &rereader{}
		r := request(nil)
		r.Body = body
		answer := &nowhere{header: http.Header{}}
		once := func() {
			body.Reset(text)
			b.body = b.body[:0]
			b.events, b.taken = 0, 0
			if err := b.read(r, c.compressed); err != nil {
				t.Fatal(err)
			}
			b.reset(noon, 0)
			b.scan(c.f, nil, 1000)
			if b.submit(w.in.events[0]); b.taken != b.events {
				t.Fatalf("%s: %d of %d events were taken", c.name, b.taken, b.events)
			}
			b.accept(answer)
			w.discard()
		}
		once()
		if n := testing.AllocsPerRun(100, once); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

// Receiving a datagram, or many that were joined, allocates nothing either.
func TestReceiveAllocations(t *testing.T) {
	w := newWorld(t, Config{Fields: fields}, 2, 1<<20)
	for _, c := range []struct {
		text    string
		segment int
	}{
		{sample, 0},
		{strings.Repeat(sample+"\n", 5), 0},
		{strings.Repeat(sample, 100), len(sample)},
		{strings.Repeat("{}x", 100), 3}, // malformed
	} {
		r := w.unread()
		list := []packet{{data: []byte(c.text), segment: c.segment}}
		if a := testing.AllocsPerRun(100, func() {
			r.receive(list)
			w.discard()
		}); a != 0 {
			t.Errorf("%d bytes in datagrams of %d: %v allocations", len(c.text), c.segment, a)
		}
	}
}

// nowhere is where benchmarks write answers to.
type nowhere struct {
	header http.Header
	status int
}

func (w *nowhere) Header() http.Header         { return w.header }
func (w *nowhere) WriteHeader(status int)      { w.status = status }
func (w *nowhere) Write(b []byte) (int, error) { return len(b), nil }

// perEvent reports what an event costs, since a benchmark's own figure is that of a request.
func perEvent(b *testing.B, events int) {
	b.ReportMetric(float64(b.Elapsed())/float64(b.N*events), "ns/event")
}

// BenchmarkEvents is the handler with one goroutine, without a network, and with the ring emptied
// by the same goroutine. The baseline of a body is what it costs only to read it.
func BenchmarkEvents(b *testing.B) {
	hundred := strings.Repeat(sample+"\n", 100)
	for _, c := range []struct {
		name, body, kind, encoding string
		events                     int
	}{
		{"object", sample, plain, "", 1},
		{"array100", "[" + strings.Repeat(sample+",", 99) + sample + "]", plain, "", 100},
		{"ndjson100", hundred, byLine, "", 100},
		{"ndjson100/gzip", compress(hundred), byLine, "gzip", 100},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b, Config{Fields: fields}, 2, 1<<20)
			body, text := &rereader{}, []byte(c.body)
			r := request(nil, "Content-Type: "+c.kind, "Content-Encoding: "+c.encoding)
			r.Body = body
			answer := &nowhere{header: http.Header{}}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				body.Reset(text)
				w.in.Events(answer, r)
				w.discard()
			}
			if answer.status != http.StatusAccepted {
				b.Errorf("the status is %d", answer.status)
			}
			perEvent(b, c.events)
		})
	}
	b.Run("baseline/read", func(b *testing.B) {
		body, text := &rereader{}, []byte(hundred)
		buf := make([]byte, len(text))
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			body.Reset(text)
			if _, err := io.ReadFull(body, buf); err != nil {
				b.Fatal(err)
			}
		}
		perEvent(b, 100)
	})
}

// BenchmarkReceive is what a UDP reader does with a buffer that is full of events, without a
// socket, and with the ring emptied by the same goroutine.
func BenchmarkReceive(b *testing.B) {
	for _, c := range []struct {
		name, text      string
		segment, events int
	}{
		{"datagram1", sample, 0, 1},
		{"datagram5", strings.Repeat(sample+"\n", 5), 0, 5},
		{"joined100", strings.Repeat(sample, 100), len(sample), 100},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b, Config{Fields: fields}, 2, 1<<20)
			r := w.unread()
			list := []packet{{data: []byte(c.text), segment: c.segment}}
			b.SetBytes(int64(len(c.text)))
			b.ReportAllocs()
			for b.Loop() {
				r.receive(list)
				w.discard()
			}
			l := w.bus.Ledger().Sources[bus.SourceUDP]
			if l.Accepted != l.Received {
				b.Errorf("the ledger has %s", ledgerText(l))
			}
			perEvent(b, c.events)
		})
	}
}
