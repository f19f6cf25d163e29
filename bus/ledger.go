package bus

import (
	"errors"
	"sync"
)

// Source is where events come from.
type Source uint8

// The sources.
const (
	SourceHTTP     Source = iota // POST /v1/events
	SourceEvaluate               // POST /v1/evaluate, /v1/rules/{name}/evaluate
	SourceUDP
	Sources // how many there are
)

var sourceNames = [Sources]string{"http", "evaluate", "udp"}

// String is the source's name in metrics and in the ledger.
func (s Source) String() string { return sourceNames[s] }

// Reason says why an event was not evaluated.
type Reason uint8

// The reasons. Those before firstDropped reject an event for what it is; the others drop an event
// that was good.
const (
	Malformed    Reason = iota // not JSON as RFC 8259 has it
	NotObject                  // JSON, but not an object
	TooDeep                    // nested deeper than the limit
	TooLarge                   // larger than the limit
	BadUTF8                    // not UTF-8
	DuplicateKey               // an object has the same key twice
	BadEnvelope                // an id, type, time or key that cannot be used, or no CloudEvent
	Truncated                  // a datagram larger than the reader's buffer, cut off by the kernel
	RingFull                   // the shard's ring had no room
	Closed                     // the server was stopping
	Kernel                     // a datagram dropped by the kernel; counts as one event
	Reasons                    // how many there are

	firstDropped = RingFull
)

var reasonNames = [Reasons]string{
	"malformed", "not_object", "too_deep", "too_large", "bad_utf8", "duplicate_key", "bad_envelope",
	"truncated", "ring_full", "closed", "kernel",
}

// String is the reason's name in metrics, in the ledger and in error replies.
func (r Reason) String() string { return reasonNames[r] }

// Dropped reports whether the reason is one for which good events are dropped; else it is one for
// which bad ones are rejected.
func (r Reason) Dropped() bool { return r >= firstDropped }

// Producer is the way into a bus for one source. It counts each event exactly once: as taken, or
// under a Reason. Several goroutines may share one, at the price of waiting for each other; give
// each busy goroutine its own. Producers live as long as their bus.
type Producer struct {
	bus    *Bus
	source Source

	mu       sync.Mutex // held from the first count to the last one of a call; see Bus.Ledger
	received uint64
	accepted uint64
	lost     [Reasons]uint64
	_        [cellBytes]byte // so that two producers never share a cache line
}

// NewProducer adds a producer to the bus.
func (b *Bus) NewProducer(source Source) *Producer {
	p := &Producer{bus: b, source: source}
	b.mu.Lock()
	b.producers = append(b.producers, p)
	b.mu.Unlock()
	return p
}

// Submit counts len(recs) events as received, publishes them to one shard, and returns how many
// it took. Those that were not taken are counted as dropped if the error is ErrFull or ErrClosed,
// and as rejected if recs[taken] is ErrTooLarge: then that one record is counted, the ones after it
// are not yet, and the caller goes on with recs[taken+1:]. It never waits for room.
func (p *Producer) Submit(shard int, recs []Record) (taken int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken, err = p.bus.rings[shard].Publish(recs)
	p.accepted += uint64(taken)
	p.received += uint64(taken)
	rest := uint64(len(recs) - taken)
	switch {
	case err == nil:
	case errors.Is(err, ErrTooLarge):
		p.count(TooLarge, 1)
	case errors.Is(err, ErrClosed):
		p.count(Closed, rest)
	default:
		p.count(RingFull, rest)
	}
	return taken, err
}

// Lose counts n events as received and, for the given reason, not evaluated.
func (p *Producer) Lose(why Reason, n int) {
	p.mu.Lock()
	p.count(why, uint64(n))
	p.mu.Unlock()
}

func (p *Producer) count(why Reason, n uint64) {
	p.received += n
	p.lost[why] += n
}

// SourceLedger is one source's part of the ledger, in events.
type SourceLedger struct {
	Received uint64
	Accepted uint64          // taken by a ring
	Lost     [Reasons]uint64 // by reason
}

// Ledger is the accounting of all events up to one moment, in events.
type Ledger struct {
	Sources   [Sources]SourceLedger
	Evaluated uint64 // released by the workers
}

// Ledger takes a snapshot that is exact: every producer is between two calls.
func (b *Bus) Ledger() Ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.producers {
		p.mu.Lock()
	}
	var l Ledger
	for _, p := range b.producers {
		s := &l.Sources[p.source]
		s.Received += p.received
		s.Accepted += p.accepted
		for i, n := range p.lost {
			s.Lost[i] += n
		}
	}
	// While no producer publishes, released can only come closer to accepted.
	for _, r := range b.rings {
		l.Evaluated += r.Released()
	}
	for _, p := range b.producers {
		p.mu.Unlock()
	}
	return l
}

// Total is the sum over all sources.
func (l *Ledger) Total() SourceLedger {
	var t SourceLedger
	for i := range l.Sources {
		s := &l.Sources[i]
		t.Received += s.Received
		t.Accepted += s.Accepted
		for r, n := range s.Lost {
			t.Lost[r] += n
		}
	}
	return t
}

// InFlight is the number of events that a ring took and no worker has released yet.
func (l *Ledger) InFlight() uint64 { return l.Total().Accepted - l.Evaluated }

// Difference is received - evaluated - rejected - dropped - in flight: 0, or events were lost or
// counted twice.
func (l *Ledger) Difference() int64 {
	t := l.Total()
	d := int64(t.Received) - int64(l.Evaluated) - int64(l.InFlight())
	for _, n := range t.Lost {
		d -= int64(n)
	}
	return d
}
