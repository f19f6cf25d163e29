package ingest

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// maxItemErrors is how many bad items a reply names one by one.
const maxItemErrors = 100

// What a batch keeps between requests, in bytes.
const (
	keepBody = 1 << 20
	keepOut  = 1 << 20
)

// smallBody is how many bytes a body may have without being counted in Ingest.bodies.
const smallBody = 64 << 10

// itemError is what a reply says of one event that was not taken.
type itemError struct {
	Index  int    `json:"index"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

// batch is the events of one request, with all the memory that reading them needs. Batches are
// used again.
type batch struct {
	collector
	plain  *event.Scanner
	cloud  *event.Scanner
	binary *event.Scanner // of the data of CloudEvents in binary mode
	gzip   *gzip.Reader
	body   []byte
	held   int // bytes of body that count in Ingest.bodies
	env    event.Envelope
	out    []byte

	events   int              // in the body, good or bad
	taken    int              // by the bus
	rejected [bus.Reasons]int // events, by reason
	errors   []itemError      // the first of the bad ones
	keep     int              // how many errors to keep
	cut      bool             // the rest of the body was not read
}

func (in *Ingest) newBatch() (*batch, error) {
	b := &batch{collector: newCollector(in), errors: []itemError{}}
	c := &in.config
	var err error
	if b.plain, err = event.NewScanner(c.Fields, c.Limits); err != nil {
		return nil, err
	}
	if b.cloud, err = event.NewCloudScanner(c.Fields, c.Limits); err != nil {
		return nil, err
	}
	b.binary, err = event.NewScanner(event.Fields{Key: c.Fields.Key}, c.Limits)
	return b, err
}

// batch returns a batch for one request, which goes back with release.
func (in *Ingest) batch(keep int) *batch {
	b, _ := in.batches.Get().(*batch)
	if b == nil {
		var err error
		if b, err = in.newBatch(); err != nil {
			panic("BUG: " + err.Error()) // New made one with the same configuration
		}
	}
	b.keep = keep
	b.events, b.taken, b.cut = 0, 0, false
	b.rejected = [bus.Reasons]int{}
	b.errors = b.errors[:0]
	return b
}

func (b *batch) release() {
	b.forget()
	b.unhold()
	if cap(b.body) > keepBody {
		b.body = nil
	}
	if cap(b.out) > keepOut {
		b.out = nil
	}
	b.body = b.body[:0]
	b.in.batches.Put(b)
}

// hold counts the body's memory once it is large, and reports whether there is room for it.
func (b *batch) hold() bool {
	if cap(b.body) <= smallBody {
		return true
	}
	more := cap(b.body) - b.held
	b.held += more
	return b.in.bodies.Add(int64(more)) <= int64(b.in.config.BodiesBytes)
}

// unhold gives back what hold has counted.
func (b *batch) unhold() {
	if b.held > 0 {
		b.in.bodies.Add(int64(-b.held))
		b.held = 0
	}
}

// read reads the body, decompressed. The error is errNoBody, errBodyTooLarge, errBodiesFull, or what a
// reader says; then body has what was read.
func (b *batch) read(r *http.Request, compressed bool) error {
	limit := b.in.config.BodyBytes
	if r.ContentLength > int64(limit) {
		return errBodyTooLarge
	}
	var src io.Reader = r.Body
	if compressed {
		if b.gzip == nil {
			b.gzip = new(gzip.Reader)
		}
		if err := b.gzip.Reset(r.Body); err != nil {
			if errors.Is(err, io.EOF) {
				return errNoBody
			}
			return fmt.Errorf("cannot read gzip: %w", err)
		}
		src = b.gzip
	}
	if !b.hold() { // what a large body left; a small one needs no room
		b.unhold()
		b.body = nil
	}
	for {
		if len(b.body) == cap(b.body) {
			b.body = append(b.body, 0)[:len(b.body)]
			if !b.hold() {
				return errBodiesFull
			}
		}
		// One byte more than the limit tells a body that is too large.
		room := b.body[len(b.body):min(cap(b.body), limit+1)]
		n, err := src.Read(room)
		b.body = b.body[:len(b.body)+n]
		switch {
		case len(b.body) > limit:
			return errBodyTooLarge
		case err == io.EOF && len(b.body) == 0:
			return errNoBody
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("cannot read the body: %w", err)
		}
	}
}

// countSeen counts the events of a body that is refused as a whole, as far as it was read.
func (b *batch) countSeen(f format) {
	s := b.scanner(f)
	for body := s.Body(b.body, shapes[f]); body.Next(&b.env); {
		b.events++
	}
	b.events = max(b.events, 1)
}

func (b *batch) scanner(f format) *event.Scanner {
	switch f {
	case formatCloud, formatCloudBatch:
		return b.cloud
	case formatCloudBinary:
		return b.binary
	}
	return b.plain
}

// scan collects the events of the body. Past most events it only counts them.
func (b *batch) scan(f format, h http.Header, most int) {
	s := b.scanner(f)
	body := s.Body(b.body, shapes[f])
	for body.Next(&b.env) {
		if b.events++; b.events > most {
			continue
		}
		if body.Err != nil {
			b.reject(body.Index, bus.Reason(body.Err.Reason), body.Err)
			continue
		}
		if f == formatCloudBinary {
			if wrong := cloudHeaders(h, &b.env); wrong != "" {
				b.reject(body.Index, bus.BadEnvelope, errors.New(wrong))
				continue
			}
		}
		if err := b.add(&b.env, body.JSON, body.Index); err != nil {
			b.reject(body.Index, bus.BadEnvelope, err)
		}
	}
	b.cut = body.Cut
}

func (b *batch) reject(index int, why bus.Reason, err error) {
	b.rejected[why]++
	b.addError(index, why, err)
}

func (b *batch) addError(index int, why bus.Reason, err error) {
	if len(b.errors) < b.keep {
		b.errors = append(b.errors, itemError{index, why.String(), err.Error()})
	}
}

// lose counts the rejected events in the ledger.
func (b *batch) lose(p *bus.Producer) {
	for why, n := range b.rejected {
		if n > 0 {
			p.Lose(bus.Reason(why), n)
		}
	}
}

// bad is how many events of the request were rejected.
func (b *batch) bad() int {
	sum := 0
	for _, n := range b.rejected {
		sum += n
	}
	return sum
}

// submit hands the good events to the bus. What a ring cannot take for its size is rejected; the
// bus has counted that already.
func (b *batch) submit(p *bus.Producer) {
	b.taken = b.collector.submit(p)
	for _, index := range b.tooLarge {
		b.rejected[bus.TooLarge]++
		b.addError(int(index), bus.TooLarge, bus.ErrTooLarge)
	}
}
