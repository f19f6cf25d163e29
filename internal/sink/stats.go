package sink

import "time"

// Stat is what one sink says of itself. Counters are in verdicts and begin with 0 at New, unless
// they say otherwise. Routed = Delivered + Dropped() + DeadLettered + Left + Pending.
type Stat struct {
	Name, Type string

	QueuedBytes int // in use in the queue, the batch that is being delivered included
	QueueBytes  int // the size of the queue

	Routed        uint64
	Delivered     uint64
	DeadLettered  uint64
	DroppedFull   uint64 // the queue was full
	DroppedLarge  uint64 // larger than the queue takes
	DroppedAfter  uint64 // came after Close
	DroppedFailed uint64 // could not be delivered, and there is no dead-letter file or it failed
	Left          uint64 // not delivered when Close aborted
	Pending       uint64 // in the queue or being delivered

	FailedAttempts uint64 // deliveries tried in vain
	Retries        uint64 // of those, tried again

	LastError     string // empty: there was none
	LastErrorTime time.Time
}

// Dropped is the sum of all drops.
func (s *Stat) Dropped() uint64 {
	return s.DroppedFull + s.DroppedLarge + s.DroppedAfter + s.DroppedFailed
}

// Stats returns the figures of every sink, in the order of the configuration. Any goroutine may
// call it. Counters are read one after the other while verdicts flow: Pending is never too small.
func (r *Router) Stats() []Stat {
	s := make([]Stat, len(r.queues))
	for i, q := range r.queues {
		s[i] = q.stat()
	}
	return s
}

func (q *queue) stat() Stat {
	s := Stat{
		Name: q.name, Type: q.kind,
		QueuedBytes: q.ring.UsedBytes(), QueueBytes: q.ring.SizeBytes(),
		Delivered: q.delivered.Load(), DeadLettered: q.deadLettered.Load(),
		DroppedFull: q.droppedFull.Load(), DroppedLarge: q.droppedLarge.Load(),
		DroppedAfter: q.droppedAfter.Load(), DroppedFailed: q.droppedFailed.Load(),
		Left: q.left.Load(), FailedAttempts: q.failed.Load(), Retries: q.retries.Load(),
	}
	// Read last: every verdict is in routed before it is in any other counter.
	s.Routed = q.routed.Load()
	s.Pending = s.Routed - s.Delivered - s.DeadLettered - s.Dropped() - s.Left
	q.mu.Lock()
	s.LastError, s.LastErrorTime = q.lastErr, q.lastErrAt
	q.mu.Unlock()
	return s
}

// TailStat is what the tail says of itself.
type TailStat struct {
	Listeners int    // now
	Sent      uint64 // verdicts, counted for each listener
	Dropped   uint64 // verdicts, counted for each listener: its queue was full, or closed
	Refused   uint64 // requests for which there was no place
}
