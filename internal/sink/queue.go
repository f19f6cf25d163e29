package sink

import (
	"bytes"
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"wasmeval/bus"
)

// output delivers batches. Only the queue's goroutine calls it.
type output interface {
	// deliver takes n lines, each with its newline, valid until it returns. When ctx ends it returns
	// soon. The numbers of the outcome add up to n.
	deliver(ctx context.Context, lines []byte, n int) outcome
	close() error
}

// outcome is what became of a batch, in verdicts.
type outcome struct {
	delivered, deadLettered, dropped, left int
	err                                    error // the last one, or nil
}

// queue is one sink: a ring that Route fills, and a goroutine that empties it into an output.
type queue struct {
	name, kind string
	ring       *bus.Ring
	out        output
	batchMax   int           // verdicts
	batchBytes int           // exceeded only by a single verdict
	batchWait  time.Duration // how long the first verdict waits for more; 0: not at all

	ctx      context.Context // ends when deliveries are to be aborted
	stopping chan struct{}   // closed when there will be no more verdicts
	done     chan struct{}   // closed when run has returned

	// routed is added to before the ring is tried, so that the other counters never run ahead of
	// it. Publishers write this group; the padding keeps the consumer's group off its lines.
	routed       atomic.Uint64
	droppedFull  atomic.Uint64
	droppedLarge atomic.Uint64
	droppedAfter atomic.Uint64
	// fullAt is the value of routed with which a batch is full while the consumer waits for one,
	// else the largest number. See gather.
	fullAt atomic.Uint64
	full   chan struct{}
	_      [64]byte

	delivered, deadLettered, droppedFailed, left atomic.Uint64
	failed, retries                              atomic.Uint64 // attempts

	mu        sync.Mutex // guards the two below
	lastErr   string
	lastErrAt time.Time
}

func newQueue(ctx context.Context, stopping chan struct{}, c *SinkConfig) (*queue, error) {
	ring, err := bus.NewRing(c.QueueBytes)
	if err != nil {
		return nil, err
	}
	q := &queue{
		name: c.Name, kind: c.Type, ring: ring,
		batchMax: writeMax, batchBytes: writeBytes,
		ctx: ctx, stopping: stopping,
		done: make(chan struct{}), full: make(chan struct{}, 1),
	}
	q.fullAt.Store(math.MaxUint64)
	return q, nil
}

// put copies a line into the ring, or counts why it could not.
func (q *queue) put(line []byte) {
	n := q.routed.Add(1)
	rec := [1]bus.Record{{Head: line}}
	if _, err := q.ring.Publish(rec[:]); err != nil {
		switch {
		case errors.Is(err, bus.ErrTooLarge):
			q.droppedLarge.Add(1)
		case errors.Is(err, bus.ErrClosed):
			q.droppedAfter.Add(1)
		default:
			q.droppedFull.Add(1)
		}
		return
	}
	mark := q.fullAt.Load()
	if n >= mark || mark != math.MaxUint64 && q.crowded() {
		select {
		case q.full <- struct{}{}:
		default: // the consumer has been told already
		}
	}
}

// run is the queue's goroutine. It ends when the ring is closed and drained.
func (q *queue) run() {
	defer close(q.done)
	recs := make([][]byte, q.batchMax)
	var buf []byte
	for q.ring.Wait() {
		q.gather()
		n := q.ring.Next(recs)
		buf = q.handle(recs[:n], buf[:0])
		q.ring.Release()
	}
	if err := q.out.close(); err != nil {
		q.fail(err)
	}
}

// crowded reports whether the ring has so many bytes that waiting for more verdicts would fill it,
// or would not make the batch larger.
func (q *queue) crowded() bool {
	return q.ring.UsedBytes() >= min(q.batchBytes, q.ring.SizeBytes()/2)
}

// gather waits until a batch is full, batchWait is over, or the sink is to stop.
func (q *queue) gather() {
	if q.batchWait == 0 {
		return
	}
	select {
	case <-q.full: // left from the last time
	default:
	}
	// The mark goes up before the look at routed and at the ring, and put adds to both before it
	// looks at the mark: one of the two sees that the batch is full.
	target := q.dropped() + q.ring.Released() + uint64(q.batchMax)
	q.fullAt.Store(target)
	if q.routed.Load() < target && !q.crowded() {
		t := time.NewTimer(q.batchWait)
		select {
		case <-q.full:
		case <-t.C:
		case <-q.stopping:
		}
		t.Stop()
	}
	q.fullAt.Store(math.MaxUint64)
}

// dropped is how many verdicts never came into the ring.
func (q *queue) dropped() uint64 {
	return q.droppedFull.Load() + q.droppedLarge.Load() + q.droppedAfter.Load()
}

// handle delivers records in batches of at most batchBytes, and returns buf for the next time.
func (q *queue) handle(recs [][]byte, buf []byte) []byte {
	n := 0
	for _, rec := range recs {
		if n > 0 && len(buf)+len(rec)+1 > q.batchBytes {
			q.flush(buf, n)
			buf, n = buf[:0], 0
		}
		buf = append(appendLine(buf, rec), '\n')
		n++
	}
	if n > 0 {
		q.flush(buf, n)
	}
	return buf
}

func (q *queue) flush(lines []byte, n int) {
	o := q.out.deliver(q.ctx, lines, n)
	q.delivered.Add(uint64(o.delivered))
	q.deadLettered.Add(uint64(o.deadLettered))
	q.droppedFailed.Add(uint64(o.dropped))
	q.left.Add(uint64(o.left))
	if o.err != nil {
		q.fail(o.err)
	}
}

// fail keeps an error for Stats.
func (q *queue) fail(err error) {
	q.mu.Lock()
	q.lastErr, q.lastErrAt = err.Error(), time.Now()
	q.mu.Unlock()
}

// appendLine appends a JSON object and makes sure that it is one line. In JSON a raw line break can
// only be white space between tokens, so a blank says the same.
func appendLine(buf, object []byte) []byte {
	at := len(buf)
	buf = append(buf, object...)
	for _, c := range []byte{'\n', '\r'} {
		line := buf[at:]
		for i := bytes.IndexByte(line, c); i >= 0; i = bytes.IndexByte(line, c) {
			line[i] = ' '
			line = line[i+1:]
		}
	}
	return buf
}
