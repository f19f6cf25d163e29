package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// replies are the requests for verdicts, by their number. One that no longer waits stays until the last of
// its events was evaluated, since it says by which rule that is to be.
type replies struct {
	last    atomic.Uint64
	mu      sync.RWMutex
	open    map[uint64]*Reply
	waiting int
	held    atomic.Int64  // bytes of verdicts that wait for others, or to be sent
	stale   atomic.Uint64 // events whose request no longer waited
}

// answersHeld is how many of the largest answers the verdicts of all requests may take together.
const answersHeld = 4

// Reply collects the verdicts of one request's events.
type Reply struct {
	id   uint64
	rule string // or "" for all that match
	all  *replies
	most int // bytes of verdicts

	mu       sync.Mutex // before all.mu
	verdicts []json.RawMessage
	held     int // bytes of verdicts
	left     int // events that have none yet
	err      error
	closed   atomic.Bool   // written under mu
	done     chan struct{} // closed when there is nothing to wait for
}

// ErrNoRule is returned by OpenReply when the named rule is not active, and by Wait when it went
// meanwhile.
var ErrNoRule = errors.New("no such rule is active")

// ErrBusy is returned by OpenReply when Limits.Waiting requests wait already.
var ErrBusy = errors.New("too many requests wait for verdicts")

// ErrAnswerTooLarge is returned by Wait when the verdicts take more than Limits.AnswerBytes.
var ErrAnswerTooLarge = errors.New("the verdicts take more bytes than an answer may have")

// ErrAnswersFull is returned by Wait when the verdicts of all requests take too much memory.
var ErrAnswersFull = errors.New("the verdicts that wait to be sent take all the memory that they may have")

// OpenReply makes a reply for n events. If rule is not empty, the events are evaluated by that rule
// alone, whatever it matches, also if the request no longer waits then. The caller puts ID into the
// events' envelopes, with their index, says Skip of those that are not evaluated, and must Close the reply.
func (e *Engine) OpenReply(n int, rule string) (*Reply, error) {
	if rule != "" {
		if _, ok := e.set.Load().byName[rule]; !ok {
			return nil, &Error{Kind: NotFound, Msg: "rule " + rule, Err: ErrNoRule}
		}
	}
	r := &Reply{
		id: e.replies.last.Add(1), rule: rule, all: &e.replies, most: e.limits.AnswerBytes,
		verdicts: make([]json.RawMessage, n), left: n, done: make(chan struct{}),
	}
	if n == 0 {
		close(r.done)
	}
	e.replies.mu.Lock()
	defer e.replies.mu.Unlock()
	if e.replies.waiting >= e.limits.Waiting {
		return nil, ErrBusy
	}
	e.replies.waiting++
	e.replies.open[r.id] = r
	return r, nil
}

// find returns the reply that an event of the ring is for. It is there as long as that waits for one.
func (rs *replies) find(id uint64) *Reply {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return rs.open[id]
}

// ID is the number for the envelopes of the request's events; never 0.
func (r *Reply) ID() uint64 { return r.id }

// Skip says that the event with this index was not taken and will have no verdicts.
func (r *Reply) Skip(index int) { r.set(uint32(index), nil) }

// wanted reports whether the request still waits for verdicts.
func (r *Reply) wanted() bool { return !r.closed.Load() }

// hold takes room for so many bytes of verdicts, and reports whether there is any, and somebody who waits
// for them.
func (r *Reply) hold(bytes int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed.Load() || r.err != nil:
		return false
	case r.held+bytes > r.most:
		r.fail(ErrAnswerTooLarge)
		return false
	case r.all.held.Add(int64(bytes)) > answersHeld*int64(r.most):
		r.all.held.Add(int64(-bytes))
		r.fail(ErrAnswersFull)
		return false
	}
	r.held += bytes
	return true
}

// refuse ends the wait with an error.
func (r *Reply) refuse(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail(err)
}

// fail is refuse for who holds mu.
func (r *Reply) fail(err error) {
	if r.err != nil || r.closed.Load() || r.left == 0 {
		return
	}
	r.err, r.verdicts = err, nil
	r.release()
	close(r.done)
}

// release gives the room of the verdicts back.
func (r *Reply) release() {
	r.all.held.Add(int64(-r.held))
	r.held = 0
}

// set stores the verdicts of one event, a JSON array, each index once.
func (r *Reply) set(index uint32, list json.RawMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left == 0 {
		return
	}
	if int64(index) < int64(len(r.verdicts)) {
		r.verdicts[index] = list
	}
	if r.left--; r.left > 0 {
		return
	}
	switch {
	case r.closed.Load():
		r.all.forget(r.id)
	case r.err == nil:
		close(r.done)
	}
}

func (rs *replies) forget(id uint64) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.open, id)
}

// timers are used again: a context with a timeout would allocate several things for each request.
var timers = sync.Pool{New: func() any { return time.NewTimer(time.Hour) }}

// Wait returns, for each event by its index, a JSON array of verdicts, nil for those that were
// skipped. It returns ErrAnswerTooLarge, ErrAnswersFull or ErrNoRule, ctx's error if that ends first, and
// context.DeadlineExceeded after the timeout.
func (r *Reply) Wait(ctx context.Context, timeout time.Duration) ([]json.RawMessage, error) {
	late := timers.Get().(*time.Timer)
	late.Reset(timeout)
	defer timers.Put(late)
	defer late.Stop()
	select {
	case <-r.done:
		return r.verdicts, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-late.C:
		return nil, context.DeadlineExceeded
	}
}

// Close ends the reply, once: verdicts that come later are thrown away, and their events counted.
func (r *Reply) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed.Store(true)
	r.verdicts = nil
	r.release()
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	r.all.waiting--
	if r.left == 0 {
		delete(r.all.open, r.id)
	}
}
