package ingest

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"testing"

	"wasmeval/bus"
)

const zipped = "Content-Encoding: gzip"

// compress makes one gzip member, which a flush lets be read up to its last byte.
func compress(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	z.Flush()
	z.Close()
	return b.String()
}

func TestGzip(t *testing.T) {
	three := lines(numbered(3))
	whole := compress(three)
	wrongSum := []byte(whole)
	wrongSum[len(whole)-8] ^= 1
	wrongSize := []byte(whole)
	wrongSize[len(whole)-1] ^= 1
	half := compress(`{"n":0}` + "\n" + `{"n":`)
	for _, c := range []struct {
		name, body, encoding string
		status               int
		code                 string
		taken, lost          int // events; what is lost is malformed
	}{
		{"whole", whole, "gzip", 202, "", 3, 0},
		{"whole, old name", whole, "x-gzip", 202, "", 3, 0},
		{"whole, in capitals", whole, "GZIP", 202, "", 3, 0},
		{"none", three, "identity", 202, "", 3, 0},
		{"two members", half + compress("1}"), "gzip", 202, "", 2, 0},
		{"with a bad event", compress(three + "x"), "gzip", 202, "", 3, 1},
		{"no bytes", "", "gzip", 400, "no_body", 0, 0},
		{"nothing inside", compress(""), "gzip", 400, "no_body", 0, 0},
		{"blank lines inside", compress("\n\n"), "gzip", 202, "", 0, 0},
		{"not gzip", three, "gzip", 400, "body_incomplete", 0, 1},
		{"header cut off", whole[:5], "gzip", 400, "body_incomplete", 0, 1},
		{"cut off at the first byte", whole[:10], "gzip", 400, "body_incomplete", 0, 1},
		{"trailer cut off", whole[:len(whole)-1], "gzip", 400, "body_incomplete", 0, 3},
		{"wrong checksum", string(wrongSum), "gzip", 400, "body_incomplete", 0, 3},
		{"wrong size", string(wrongSize), "gzip", 400, "body_incomplete", 0, 3},
		{"something after it", whole + "x", "gzip", 400, "body_incomplete", 0, 3},
		{"gzip in gzip", compress(whole), "gzip", 400, "no_good_event", 0, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, Config{}, 1, smallRing)
			if c.lost < 0 { // the compressor decides in how many lines
				c.lost = strings.Count(whole, "\n") + 1
			}
			a := w.post(c.body, ndjson, "Content-Encoding: "+c.encoding)
			a.expect(t, c.status, c.code)
			if c.code != "no_body" {
				a.expectCounts(t, c.taken+c.lost, c.taken, c.lost)
			}
			if got := w.drain(); len(got) != c.taken {
				t.Errorf("a worker gets %+v", got)
			}
			want := bus.SourceLedger{Received: uint64(c.taken + c.lost), Accepted: uint64(c.taken)}
			want.Lost[bus.Malformed] = uint64(c.lost)
			w.expectLedger(bus.SourceHTTP, want)
		})
	}
}

// A batch that a broken gzip went through reads the next one as a new one would.
func TestGzipAfterBroken(t *testing.T) {
	w := newWorld(t, Config{}, 1, smallRing)
	whole := compress(lines(numbered(3)))
	b, err := w.in.newBatch()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		b.body = b.body[:0]
		body := whole
		if i%2 == 0 {
			body = whole[:i]
		}
		err := b.read(request(strings.NewReader(body), ndjson), true)
		if (err == nil) != (i%2 == 1) {
			t.Errorf("read %d: %v", i, err)
		}
		if err == nil && string(b.body) != lines(numbered(3)) {
			t.Errorf("read %d gave %q", i, b.body)
		}
	}
}

// Of a bomb only as much is decompressed as a body may have.
func TestGzipBomb(t *testing.T) {
	const limit = 1000
	bomb := compress(strings.Repeat("{\"n\":0}\n", 1<<18))
	w := newWorld(t, Config{BodyBytes: 100 * limit}, 1, smallRing)
	b, err := w.in.newBatch()
	if err != nil {
		t.Fatal(err)
	}
	w.in.config.BodyBytes = limit
	if err := b.read(request(strings.NewReader(bomb[:limit]), ndjson), true); err != errBodyTooLarge {
		t.Errorf("read: %v", err)
	}
	if len(b.body) != limit+1 || cap(b.body) > 10*limit {
		t.Errorf("a bomb becomes %d bytes in %d", len(b.body), cap(b.body))
	}

	w = newWorld(t, Config{BodyBytes: 1 << 20}, 1, smallRing)
	a := w.post(bomb, ndjson, zipped)
	a.expect(t, http.StatusRequestEntityTooLarge, "body_too_large")
	const seen = 1<<20/8 + 1 // the last one by its first byte
	a.expectCounts(t, seen, 0, seen)
	want := bus.SourceLedger{Received: seen}
	want.Lost[bus.TooLarge] = seen
	w.expectLedger(bus.SourceHTTP, want)
}
