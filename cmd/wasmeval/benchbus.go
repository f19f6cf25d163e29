package main

import (
	"context"
	"encoding/binary"
	"fmt"
	goruntime "runtime"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"wasmeval/bus"
)

// queue is what bench bus compares. Producers call put; it waits while the queue is full, as the
// channels do. The consumer goroutine runs drain, which ends after close.
type queue interface {
	put(producer int, msg []byte)
	close()
	drain(take func(msg []byte))
}

const (
	benchQueueBytes = 4 << 20
	benchQueueLen   = 16 << 10 // messages in a buffered channel: about as many as the ring holds
	benchSlice      = 64       // messages in a slice
)

var queues = []struct {
	name string
	make func(producers int) (queue, error)
}{
	{"ring", newRingQueue},
	{"chan unbuffered", func(int) (queue, error) { return chanQueue{make(chan []byte)}, nil }},
	{"chan buffered", func(int) (queue, error) { return chanQueue{make(chan []byte, benchQueueLen)}, nil }},
	{"chan of slices", func(n int) (queue, error) {
		return &sliceQueue{c: make(chan [][]byte, benchQueueLen/benchSlice), open: make([][][]byte, n)}, nil
	}},
}

type ringQueue struct{ r *bus.Ring }

func newRingQueue(int) (queue, error) {
	r, err := bus.NewRing(benchQueueBytes)
	return ringQueue{r}, err
}

func (q ringQueue) put(_ int, msg []byte) {
	for {
		if _, err := q.r.Publish([]bus.Record{{Body: msg}}); err != bus.ErrFull {
			return
		}
		goruntime.Gosched()
	}
}

func (q ringQueue) close() { q.r.Close() }

func (q ringQueue) drain(take func([]byte)) { q.r.Consume(takeAll(take), 256) }

type takeAll func([]byte)

func (t takeAll) Handle(recs [][]byte) {
	for _, m := range recs {
		t(m)
	}
}

// chanQueue copies each message, as whoever hands over memory that is used again must.
type chanQueue struct{ c chan []byte }

func (q chanQueue) put(_ int, msg []byte) { q.c <- append([]byte(nil), msg...) }
func (q chanQueue) close()                { close(q.c) }
func (q chanQueue) drain(take func([]byte)) {
	for m := range q.c {
		take(m)
	}
}

// sliceQueue sends messages in slices: when one is full.
type sliceQueue struct {
	c    chan [][]byte
	open [][][]byte // by producer
}

func (q *sliceQueue) put(p int, msg []byte) {
	q.open[p] = append(q.open[p], append([]byte(nil), msg...))
	if len(q.open[p]) == benchSlice {
		q.c <- q.open[p]
		q.open[p] = make([][]byte, 0, benchSlice)
	}
}

func (q *sliceQueue) close() {
	for _, s := range q.open {
		q.c <- s
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

// measured is the result for one queue at one rate.
type measured struct {
	h        *hdrhistogram.Histogram
	achieved float64 // messages a second
	cpuNS    float64 // of the whole process, for each message
}

func (m *measured) quantiles() []string {
	list := make([]string, 0, 4)
	for _, p := range []float64{50, 99, 99.9, 100} {
		list = append(list, time.Duration(m.h.ValueAtQuantile(p)).Round(100*time.Nanosecond).String())
	}
	return list
}

// measure offers messages for a time and takes the latency of each. A producer that is late sends at
// once until it has caught up: the messages keep their intended times.
func measure(ctx context.Context, create func(int) (queue, error), rate float64, producers int,
	length time.Duration) (*measured, error) {
	if producers < 1 || producers > 64 {
		return nil, fmt.Errorf("--producers is %d: expected 1 to 64", producers)
	}
	q, err := create(producers)
	if err != nil {
		return nil, err
	}
	goruntime.GC()
	m := &measured{h: newHistogram()}
	begun, cpu := time.Now(), processCPU()
	ended := make(chan struct{})
	count := 0
	go func() {
		defer close(ended)
		q.drain(func(msg []byte) {
			count++
			record(m.h, time.Since(begun)-time.Duration(binary.LittleEndian.Uint64(msg)))
		})
	}()
	var all sync.WaitGroup
	for p := range producers {
		all.Go(func() { produce(ctx, q, p, rate/float64(producers), begun, length) })
	}
	all.Wait()
	q.close()
	<-ended
	took := time.Since(begun)
	m.achieved = float64(count) / took.Seconds()
	m.cpuNS = float64(processCPU()-cpu) / float64(max(count, 1))
	return m, ctx.Err()
}

func produce(ctx context.Context, q queue, p int, rate float64, begun time.Time,
	length time.Duration) {
	small, large := make([]byte, 200), make([]byte, 4<<10)
	for i := 0; ctx.Err() == nil; i++ {
		intended := time.Since(begun)
		if rate > 0 {
			intended = time.Duration(float64(i) / rate * 1e9)
			for now := time.Since(begun); now < intended; now = time.Since(begun) {
				if intended-now > 2*time.Millisecond {
					time.Sleep(time.Millisecond) // a sleep is long: only when there is time
				} else {
					goruntime.Gosched()
				}
			}
		}
		if intended > length {
			return
		}
		msg := small
		if i%100 == 0 {
			msg = large
		}
		binary.LittleEndian.PutUint64(msg, uint64(intended))
		q.put(p, msg)
	}
}

func processCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail with these arguments
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
