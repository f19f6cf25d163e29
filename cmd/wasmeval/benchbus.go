package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"wasmeval/bus"
)

// queue is what bench bus compares. Each producer goroutine has a put of its own for the memory that its
// messages are in, in whatever form the queue wants that; put waits while the queue is full, as the
// channels do, and copies the messages. All are made before the first is called. The consumer goroutine
// runs drain, which ends after close.
type queue interface {
	producer(msgs [][]byte) (put func())
	close()
	drain(take func(msg []byte))
}

const (
	benchMessage    = 256 // bytes
	benchQueueLen   = 16 << 10
	benchQueueBytes = benchQueueLen * benchMessage
	benchSlice      = 64 // messages in a slice, at most
)

// queueKind is one that bench bus compares.
type queueKind struct {
	name string
	make func() (queue, error)
}

var queues = []queueKind{
	{"ring", newRingQueue},
	{"mutex ring", func() (queue, error) { return newMutexRing(), nil }},
	{"chan unbuffered", func() (queue, error) { return chanQueue{make(chan []byte)}, nil }},
	{"chan buffered", func() (queue, error) { return chanQueue{make(chan []byte, benchQueueLen)}, nil }},
	{"chan of slices", func() (queue, error) {
		return &sliceQueue{c: make(chan [][]byte, benchQueueLen/benchSlice)}, nil
	}},
}

// pollers are queues whose consumer never rests, so they are measured only as fast as they take
// messages.
var pollers = []queueKind{
	{"Vyukov's queue", func() (queue, error) { return newSlotQueue(), nil }},
}

// slotQueue is the bounded queue of Dmitry Vyukov: slots of one size, each with the number of the turn
// that it is for.
type slotQueue struct {
	_      [64]byte
	tail   atomic.Uint64 // next slot to claim
	_      [64 - 8]byte
	slots  []slot
	closed atomic.Bool
}

type slot struct {
	turn  atomic.Uint64
	_     [64 - 8]byte
	bytes [benchMessage]byte
}

func newSlotQueue() *slotQueue {
	q := &slotQueue{slots: make([]slot, benchQueueLen)}
	for i := range q.slots {
		q.slots[i].turn.Store(uint64(i))
	}
	return q
}

func (q *slotQueue) producer(msgs [][]byte) func() {
	return func() {
		for _, m := range msgs {
			for !q.offer(m) {
				goruntime.Gosched()
			}
		}
	}
}

// offer reports whether there was room.
func (q *slotQueue) offer(m []byte) bool {
	for {
		at := q.tail.Load()
		s := &q.slots[at%benchQueueLen]
		switch turn := s.turn.Load(); {
		case turn == at && q.tail.CompareAndSwap(at, at+1):
			copy(s.bytes[:], m)
			s.turn.Store(at + 1)
			return true
		case turn < at:
			return false
		}
	}
}

func (q *slotQueue) close() { q.closed.Store(true) }

func (q *slotQueue) drain(take func([]byte)) {
	for head := uint64(0); ; head++ {
		s := &q.slots[head%benchQueueLen]
		for s.turn.Load() != head+1 {
			if q.closed.Load() && head == q.tail.Load() {
				return
			}
			goruntime.Gosched()
		}
		take(s.bytes[:])
		s.turn.Store(head + benchQueueLen)
	}
}

// ringQueue is the ring of the server.
type ringQueue struct{ r *bus.Ring }

func newRingQueue() (queue, error) {
	r, err := bus.NewRing(benchQueueBytes)
	return ringQueue{r}, err
}

func (q ringQueue) producer(msgs [][]byte) func() {
	recs := recordsOf(msgs)
	return func() {
		todo := recs
		for {
			n, err := q.r.Publish(todo)
			if err != bus.ErrFull {
				return
			}
			todo = todo[n:]
			goruntime.Gosched()
		}
	}
}

func recordsOf(msgs [][]byte) []bus.Record {
	recs := make([]bus.Record, len(msgs))
	for i, m := range msgs {
		recs[i].Body = m
	}
	return recs
}

func (q ringQueue) close() { q.r.Close() }

func (q ringQueue) drain(take func([]byte)) { q.r.Consume(takeAll(take), 256) }

type takeAll func([]byte)

func (t takeAll) Handle(recs [][]byte) {
	for _, m := range recs {
		t(m)
	}
}

// mutexRing is the simplest ring: slots of one size under one lock.
type mutexRing struct {
	mu            sync.Mutex
	filled, freed sync.Cond
	slots         [][]byte
	head, tail    int // of all time
	closed        bool
}

func newMutexRing() *mutexRing {
	q := &mutexRing{slots: make([][]byte, benchQueueLen)}
	q.filled.L, q.freed.L = &q.mu, &q.mu
	memory := make([]byte, benchQueueBytes)
	for i := range q.slots {
		q.slots[i] = memory[i*benchMessage : (i+1)*benchMessage]
	}
	return q
}

func (q *mutexRing) producer(msgs [][]byte) func() { return func() { q.put(msgs) } }

func (q *mutexRing) put(msgs [][]byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range msgs {
		for q.tail-q.head == len(q.slots) {
			q.freed.Wait()
		}
		copy(q.slots[q.tail%len(q.slots)], m)
		if q.tail++; q.tail-q.head == 1 {
			q.filled.Signal()
		}
	}
}

func (q *mutexRing) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.filled.Signal()
}

// drain takes all that is there at once, and frees it together.
func (q *mutexRing) drain(take func([]byte)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for q.head == q.tail && !q.closed {
			q.filled.Wait()
		}
		from, to := q.head, q.tail
		if from == to {
			return
		}
		q.mu.Unlock()
		for i := from; i < to; i++ {
			take(q.slots[i%len(q.slots)])
		}
		q.mu.Lock()
		q.head = to
		q.freed.Broadcast()
	}
}

// chanQueue copies each message, as whoever hands over memory that is used again must.
type chanQueue struct{ c chan []byte }

func (q chanQueue) producer(msgs [][]byte) func() {
	return func() {
		for _, m := range msgs {
			q.c <- append([]byte(nil), m...)
		}
	}
}

func (q chanQueue) close() { close(q.c) }
func (q chanQueue) drain(take func([]byte)) {
	for m := range q.c {
		take(m)
	}
}

// sliceQueue sends messages in slices: when one is full.
type sliceQueue struct {
	c    chan [][]byte
	open []*openSlice
}

// openSlice is the slice that a producer fills, on cache lines of its own: it is written to all the time.
type openSlice struct {
	list [][]byte
	_    [128 - 24]byte
}

func (q *sliceQueue) producer(msgs [][]byte) func() {
	own := &openSlice{}
	q.open = append(q.open, own)
	return func() {
		for _, m := range msgs {
			own.list = append(own.list, append([]byte(nil), m...))
			if len(own.list) == benchSlice {
				q.c <- own.list
				own.list = make([][]byte, 0, benchSlice)
			}
		}
	}
}

func (q *sliceQueue) close() {
	for _, own := range q.open {
		q.c <- own.list
	}
	close(q.c)
}

func (q *sliceQueue) drain(take func([]byte)) {
	for s := range q.c {
		for _, m := range s {
			take(m)
		}
	}
}

// busPart measures the ring against other queues.
type busPart struct{ producers int }

func (p *busPart) flags(cmd *cobra.Command) {
	cmd.Long = `Producers offer messages of 256 bytes to one consumer, by the ring, a ring under a lock,
an unbuffered channel, a buffered channel and a channel of slices: as fast as they are taken, one by
one and 16 at once, where a queue whose consumer never rests is compared, too; at light loads; at a
quarter of what the buffered channel takes; and at a load that the channel does not hold and the ring
does. Each message carries the time at which it was
meant to be sent; the latency counts from then. As fast as they are taken there are no latencies,
which cost more to measure than a message.`
	cmd.Flags().IntVar(&p.producers, "producers", p.producers, "producers")
}

// busLoad is a load on a queue.
type busLoad struct {
	rate   float64 // messages a second; 0: as fast as they are taken
	batch  int     // messages in each put
	length time.Duration
}

func (p *busPart) check() error {
	if p.producers < 1 || p.producers > 64 {
		return fmt.Errorf("--producers is %d: expected 1 to 64", p.producers)
	}
	return nil
}

func (p *busPart) run(ctx context.Context, b *bench) error {
	for range b.runs {
		for _, batch := range []int{1, 16} {
			full := &busLoad{0, batch, b.length}
			if err := p.each(ctx, b, slices.Concat(pollers, queues), full); err != nil {
				return err
			}
			p.alone(ctx, b, full)
		}
	}
	at := func(name string, rate float64) *measurement { return b.report.measured("bus", name, rate) }
	ring, channel := at("ring", 0), at("chan buffered", 0)
	// What a queue takes is less with a clock on both sides: the channel holds a quarter for sure, and
	// all of it never.
	holds := rounded(channel.median(rateOfRun) / 4)
	beyond := max(2*holds, rounded(min(channel.median(rateOfRun), ring.median(rateOfRun)*0.7)))
	rates := []float64{lightLoad, 100_000, holds, beyond}
	// Many short ones: what disturbs one of them is no figure then.
	short := b.length / shortRuns
	for i := range shortRuns * b.runs {
		first := i % len(queues) // each in turn, as what went before leaves threads and pages behind
		turn := slices.Concat(queues[first:], queues[:first])
		for _, rate := range rates {
			if err := p.each(ctx, b, turn, &busLoad{rate, 1, short}); err != nil {
				return err
			}
		}
		if err := p.pacing(ctx, b, short); err != nil {
			return err
		}
		if err := p.pingPong(ctx, b, short); err != nil {
			return err
		}
	}
	p.judge(b, holds, beyond)
	return nil
}

const shortRuns = 3

// lightLoad is a load between whose messages the consumer comes to rest.
const lightLoad = 10_000

// rounded is a rate in hundreds of thousands, and never one of the light ones.
func rounded(rate float64) float64 { return max(2, math.Floor(rate/1e5)) * 1e5 }

// each measures some queues under one load.
func (p *busPart) each(ctx context.Context, b *bench, kinds []queueKind, l *busLoad) error {
	for _, q := range kinds {
		made, err := q.make()
		if err != nil {
			return err
		}
		r, err := p.measure(ctx, made, l)
		if err != nil {
			return err
		}
		m := b.report.measured("bus", l.name(q.name), l.rate)
		m.silent = l.rate == 0
		m.add(r)
	}
	return nil
}

const ringAlone = "ring, one goroutine"

// alone measures what a message costs where nobody else uses the ring: one goroutine puts 64 messages
// and takes them again.
func (p *busPart) alone(ctx context.Context, b *bench, l *busLoad) {
	r, err := bus.NewRing(benchQueueBytes)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	recs, views := recordsOf(l.messages()), make([][]byte, 64)
	m := &loadRun{}
	begun, cpu := time.Now(), processCPU()
	for time.Since(begun) < l.length && ctx.Err() == nil {
		for range 64 / l.batch {
			n, _ := r.Publish(recs) // there is room
			m.Sent += uint64(n)
		}
		m.Taken += uint64(r.Next(views))
		r.Release()
	}
	m.Seconds = time.Since(begun).Seconds()
	m.Missing = int64(m.Sent) - int64(m.Taken)
	m.CPU = float64(processCPU()-cpu) / float64(max(m.Taken, 1))
	to := b.report.measured("bus", l.name(ringAlone), 0)
	to.silent = true
	to.add(m)
}

// name is what a queue under this load is called in the report.
func (l *busLoad) name(queue string) string {
	if l.batch == 1 {
		return queue
	}
	return fmt.Sprintf("%s x%d", queue, l.batch)
}

// measure offers messages for a time and takes the latency of each. A producer that is late sends
// at once until it has caught up: the messages keep their intended times.
func (p *busPart) measure(ctx context.Context, q queue, l *busLoad) (*loadRun, error) {
	goruntime.GC()
	m, h := &loadRun{}, newHistogram()
	begun, cpu := time.Now(), processCPU()
	take := func(msg []byte) {
		m.Taken++
		record(h, time.Since(begun)-time.Duration(binary.LittleEndian.Uint64(msg)))
	}
	if l.rate == 0 {
		take = func([]byte) { m.Taken++ }
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		q.drain(take)
	}()
	var all sync.WaitGroup
	var sent atomic.Uint64
	errs := make([]error, p.producers)
	msgs, puts := make([][][]byte, p.producers), make([]func(), p.producers)
	for i := range puts {
		msgs[i] = l.messages()
		puts[i] = q.producer(msgs[i])
	}
	for i, put := range puts {
		all.Go(func() {
			n, err := l.produce(ctx, msgs[i], put, i, p.producers, begun)
			sent.Add(n)
			errs[i] = err
		})
	}
	all.Wait()
	q.close()
	<-ended
	m.Sent, m.Seconds = sent.Load(), time.Since(begun).Seconds()
	m.Missing = int64(m.Sent) - int64(m.Taken)
	m.CPU = float64(processCPU()-cpu) / float64(max(m.Taken, 1))
	m.quantiles(h)
	return m, errors.Join(append(errs, ctx.Err())...)
}

// messages is the memory for what one producer puts at once.
func (l *busLoad) messages() [][]byte {
	msgs := make([][]byte, l.batch)
	for i := range msgs {
		msgs[i] = make([]byte, benchMessage)
	}
	return msgs
}

// produce is one producer, number p; it returns how many messages it has put.
func (l *busLoad) produce(ctx context.Context, msgs [][]byte, put func(), p, producers int,
	begun time.Time) (sent uint64, err error) {
	clock, err := newPacer(begun)
	if err != nil {
		return 0, err
	}
	defer clock.close()
	for i := p; ctx.Err() == nil; i += producers {
		intended := time.Duration(0)
		if l.rate > 0 {
			intended = time.Duration(float64(i*l.batch) / l.rate * 1e9)
			clock.until(ctx, intended)
			for _, m := range msgs {
				binary.LittleEndian.PutUint64(m, uint64(intended))
			}
		} else if i&63 == p&63 { // the clock costs more than a message
			intended = time.Since(begun)
		}
		if intended > l.length {
			break
		}
		put()
		sent += uint64(len(msgs))
	}
	return sent, nil
}

// nowhere is a queue that does not take anything.
type nowhere chan struct{}

func (q nowhere) producer([][]byte) func() { return func() {} }
func (q nowhere) close()                   { close(q) }
func (q nowhere) drain(func([]byte))       { <-q }

const noQueue = "no queue, only the producers' clocks"

// pacing measures what producers alone cost at a light load.
func (p *busPart) pacing(ctx context.Context, b *bench, length time.Duration) error {
	r, err := p.measure(ctx, make(nowhere), &busLoad{lightLoad, 1, length})
	if err != nil {
		return err
	}
	r.CPU /= float64(max(r.Sent, 1))
	r.Taken, r.Missing = r.Sent, 0
	m := b.report.measured("bus", noQueue, lightLoad)
	m.silent = true
	m.add(r)
	return nil
}

// pingPong sends one message there and back, again and again, and takes half of the time.
func (p *busPart) pingPong(ctx context.Context, b *bench, length time.Duration) error {
	for _, q := range queues {
		if q.name == "chan of slices" {
			continue // one message does not fill a slice
		}
		there, err := q.make()
		if err != nil {
			return err
		}
		back, err := q.make()
		if err != nil {
			return err
		}
		one := &busLoad{batch: 1}
		ping, pong := there.producer(one.messages()), back.producer(one.messages())
		go func() {
			there.drain(func([]byte) { pong() })
			back.close()
		}()
		r, h := &loadRun{}, newHistogram()
		begun, cpu := time.Now(), processCPU()
		last := begun
		ping()
		back.drain(func([]byte) {
			now := time.Now()
			r.Taken++
			record(h, now.Sub(last)/2)
			if last = now; now.Sub(begun) < length && ctx.Err() == nil {
				ping()
			} else {
				there.close()
			}
		})
		r.Sent, r.Seconds = r.Taken, time.Since(begun).Seconds()
		r.CPU = float64(processCPU()-cpu) / float64(r.Taken)
		r.quantiles(h)
		b.report.measured("bus", q.name+", ping-pong", 0).add(r)
	}
	return ctx.Err()
}

func (p *busPart) judge(b *bench, holds, beyond float64) {
	at := func(name string, rate float64) *measurement { return b.report.measured("bus", name, rate) }
	nsEach := func(r *loadRun) float64 { return 1e9 / r.rate() }
	median := func(name string) string { return number(at(name, 0).median(nsEach)) }
	b.report.judge("ring-single", at("ring", 0).all(nsEach), nil, fmt.Sprintf(
		"one goroutine %s, Vyukov's queue %s, mutex ring %s, buffered channel %s", median(ringAlone),
		median("Vyukov's queue"), median("mutex ring"), median("chan buffered")))
	b.report.judge("ring-batch", at("ring x16", 0).all(nsEach), nil, fmt.Sprintf(
		"one goroutine %s, Vyukov's queue %s, mutex ring %s", median(ringAlone+" x16"),
		median("Vyukov's queue x16"), median("mutex ring x16")))
	clocks := at(noQueue, lightLoad)
	beyondClocks := func(m *measurement) []float64 {
		list := m.all(cpuOfRun)
		for i := range list {
			list[i] = max(list[i]-clocks.Runs[i].CPU, 1)
		}
		return list
	}
	b.report.judge("ring-light", beyondClocks(at("ring", lightLoad)),
		beyondClocks(at("chan buffered", lightLoad)), fmt.Sprintf("a message at %s/s, without the "+
			"%s ns of its producer's clock", number(lightLoad), number(clocks.median(cpuOfRun))))
	b.report.judge("tail-beyond", micros(at("chan buffered", beyond).all(p99OfRun)),
		micros(at("ring", beyond).all(p99OfRun)), fmt.Sprintf("at %s/s", number(beyond)))
	b.report.judge("tail-below", micros(at("ring", holds).all(p99OfRun)),
		micros(at("chan buffered", holds).all(p99OfRun)), fmt.Sprintf("at %s/s", number(holds)))
	plot := func(file string, rate float64) {
		var list []*measurement
		for _, q := range queues {
			list = append(list, at(q.name, rate))
		}
		b.report.plots = append(b.report.plots, latencyPlot("bus", file,
			fmt.Sprintf("Latency at %s messages/s", number(rate)), list...))
	}
	plot("latency-bus-below.svg", holds)
	plot("latency-bus-beyond.svg", beyond)
}

func processCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
