package bus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

func ringAt(t testing.TB, size int, start uint64) *Ring {
	t.Helper()
	r, err := newRingAt(size, start)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What producers and the consumer write must not share a cache line.
var _ = [1]struct{}{}[boolToInt(
	unsafe.Offsetof(Ring{}.headSeen)-unsafe.Offsetof(Ring{}.tail) < cellBytes ||
		unsafe.Offsetof(Ring{}.head)-unsafe.Offsetof(Ring{}.headSeen) < cellBytes ||
		unsafe.Offsetof(Ring{}.waiting)-unsafe.Offsetof(Ring{}.head) < cellBytes)]

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// starts are positions just below those at which something wraps: the ring, the bits of a position in
// a meta word, and positions themselves.
var starts = []uint64{0, 1<<10 - 3, 1<<47 - 5, 1<<48 - 5, 1<<62 - 5, 1<<63 - 5}

// The ring does what a slice would, for random operations.
func TestModel(t *testing.T) {
	for _, start := range starts {
		t.Run(fmt.Sprint(start), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(start, 7))
			r := ringAt(t, minRingBytes, start)
			var model [][]byte // what was taken and not yet handed out
			open := 0          // handed out and not released
			dst := make([][]byte, 50)
			for step := range 5_000 {
				switch rnd.IntN(4) {
				case 0, 1:
					recs := make([]Record, rnd.IntN(20))
					for i := range recs {
						recs[i] = randomRecord(rnd)
					}
					n, err := r.Publish(recs)
					if (err == nil) != (n == len(recs)) || err != nil && !errors.Is(err, ErrFull) {
						t.Fatalf("step %d: took %d of %d, %v", step, n, len(recs), err)
					}
					if err != nil && len(model) == 0 && open == 0 {
						t.Fatalf("step %d: an empty ring is full", step)
					}
					for _, rec := range recs[:n] {
						model = append(model, append(append([]byte{}, rec.Head...), rec.Body...))
					}
				case 2:
					n := r.Next(dst[:rnd.IntN(len(dst))])
					for i := range n {
						if !bytes.Equal(dst[i], model[i]) {
							t.Fatalf("step %d: record %d of %d is not what was published", step, i, n)
						}
					}
					model = model[n:]
					open += n
				case 3:
					r.Release()
					open = 0
				}
			}
			r.Close()
			for r.Wait() {
				n := r.Next(dst)
				model = model[n:]
				r.Release()
			}
			r.Release() // what was handed out before Close
			if len(model) != 0 || r.UsedBytes() != 0 {
				t.Errorf("%d records are left, %d bytes used", len(model), r.UsedBytes())
			}
		})
	}
}

func randomRecord(rnd *rand.Rand) Record {
	size := rnd.IntN(300)
	if rnd.IntN(50) == 0 {
		size = rnd.IntN(minRingBytes/8 - 100)
	}
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	cut := rnd.IntN(size + 1)
	return Record{Head: b[:cut], Body: b[cut:]}
}

// A record of the largest size goes into an empty ring at every position; one byte more never does.
func TestMaxRecord(t *testing.T) {
	for start := range uint64(1024) {
		r := ringAt(t, minRingBytes, start)
		rec := []Record{{Body: make([]byte, r.MaxRecord())}}
		if n, err := r.Publish(rec); n != 1 || err != nil {
			t.Fatalf("at %d: took %d, %v", start, n, err)
		}
		rec[0].Head = []byte{0}
		if _, err := r.Publish(rec); !errors.Is(err, ErrTooLarge) {
			t.Fatalf("at %d: %v for a record that is too large", start, err)
		}
	}
}

// checker consumes sealed records and looks for what must never occur.
type checker struct {
	t    *testing.T
	next map[uint32]uint32 // by producer
	n    int
}

// seal makes a record that says who sent it, which one it is, and a checksum of itself.
func seal(buf []byte, producer, number uint32, size int) []byte {
	buf = binary.LittleEndian.AppendUint32(buf[:0], producer)
	buf = binary.LittleEndian.AppendUint32(buf, number)
	for i := range size {
		buf = append(buf, byte(i)^byte(number))
	}
	return binary.LittleEndian.AppendUint32(buf, crc32.ChecksumIEEE(buf))
}

func (c *checker) Handle(recs [][]byte) {
	for _, b := range recs {
		end := len(b) - 4
		if crc32.ChecksumIEEE(b[:end]) != binary.LittleEndian.Uint32(b[end:]) {
			c.t.Error("a record is torn")
			return
		}
		p, n := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		if want := c.next[p]; n != want {
			c.t.Errorf("producer %d: record %d came, expected %d: lost, doubled or out of order", p, n, want)
		}
		c.next[p] = n + 1
		c.n++
	}
}

// Four producers and one consumer, until each has sent its records or the ring was closed under them:
// none may be lost, doubled, torn or out of its producer's order.
func TestHammer(t *testing.T) {
	for _, start := range starts {
		for _, closeEarly := range []bool{false, true} {
			t.Run(fmt.Sprint(start, closeEarly), func(t *testing.T) { hammer(t, start, closeEarly) })
		}
	}
}

func hammer(t *testing.T, start uint64, closeEarly bool) {
	r := ringAt(t, minRingBytes, start)
	c := &checker{t: t, next: map[uint32]uint32{}}
	done := make(chan struct{})
	go func() {
		r.Consume(c, 100)
		close(done)
	}()
	const each = 20_000
	var taken atomic.Int64
	var producers sync.WaitGroup
	for p := range uint32(4) {
		producers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(p), start))
			bufs := make([][]byte, 8)
			for sent := uint32(0); sent < each; {
				recs := make([]Record, 1+rnd.IntN(len(bufs)))
				for i := range recs {
					bufs[i] = seal(bufs[i], p, sent+uint32(i), rnd.IntN(400))
					recs[i] = Record{Head: bufs[i][:5], Body: bufs[i][5:]}
				}
				n, err := r.Publish(recs)
				sent += uint32(n)
				taken.Add(int64(n))
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					goruntime.Gosched()
				}
			}
		})
	}
	if closeEarly {
		time.Sleep(2 * time.Millisecond)
		r.Close()
	}
	producers.Wait()
	r.Close()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("the consumer did not end after Close")
	}
	if c.n != int(taken.Load()) || r.Released() != uint64(c.n) {
		t.Errorf("%d records taken, %d drained, %d released", taken.Load(), c.n, r.Released())
	}
}

func TestCloseOnFullRing(t *testing.T) {
	r := ringAt(t, minRingBytes, 0)
	taken := 0
	for {
		n, err := r.Publish([]Record{{Body: make([]byte, 1000)}})
		if err != nil {
			break
		}
		taken += n
	}
	r.Close()
	if _, err := r.Publish([]Record{{}}); !errors.Is(err, ErrClosed) {
		t.Errorf("publish after Close: %v", err)
	}
	c := countHandler(0)
	r.Consume(&c, 7)
	if int(c) != taken {
		t.Errorf("%d drained of %d taken", c, taken)
	}
}

// Each position has a meta word of its own, and neighbours' are on different cache lines.
func TestWords(t *testing.T) {
	r := ringAt(t, minRingBytes, 0)
	used := map[*atomic.Uint64]bool{}
	last := uintptr(0)
	for pos := range r.mask + 1 {
		w := r.word(pos)
		if used[w] || r.word(pos+r.mask+1) != w {
			t.Fatalf("position %d has the word of another, or another one lap later", pos)
		}
		used[w] = true
		at := uintptr(unsafe.Pointer(w))
		if pos > 0 && max(at, last)-min(at, last) < cellBytes {
			t.Fatalf("the words of positions %d and %d are %d bytes apart", pos-1, pos, max(at, last)-min(at, last))
		}
		last = at
	}
}

// A record that comes alone takes what its bytes need, up to the size that a meta word has room for.
func TestRecordAlone(t *testing.T) {
	r := ringAt(t, 4<<20, 0)
	dst := make([][]byte, 2)
	for size, cells := range map[int]int{0: 1, 1: 1, 63: 1, 64: 1, 65: 2, maxBare: 512, maxBare + 1: 513} {
		body := bytes.Repeat([]byte{byte(size)}, size)
		if n, err := r.Publish([]Record{{Head: body[:size/3], Body: body[size/3:]}}); n != 1 || err != nil {
			t.Fatalf("%d bytes: took %d, %v", size, n, err)
		}
		if got := r.UsedBytes() / cellBytes; got != cells {
			t.Errorf("%d bytes take %d cells, expected %d", size, got, cells)
		}
		if n := r.Next(dst); n != 1 || !bytes.Equal(dst[0], body) || cap(dst[0]) != size {
			t.Errorf("%d bytes: %d records, the first of %d bytes and capacity %d", size, n, len(dst[0]),
				cap(dst[0]))
		}
		r.Release()
	}
}

// What was released is free, also while the consumer is in the middle of a frame.
func TestReleaseWithinFrames(t *testing.T) {
	r := ringAt(t, minRingBytes, 0)
	frame := make([]Record, 100) // 101 cells
	for i := range frame {
		frame[i].Body = make([]byte, cellBytes-lengthBytes)
	}
	dst := make([][]byte, 130)
	for consumed, published := 0, 0; published < 100_000; {
		n, err := r.Publish(frame)
		if published += n; err != nil {
			t.Fatalf("after %d records: %v, though only %d were not released, and %d cells are used",
				published, err, published-consumed, r.UsedBytes()/cellBytes)
		}
		if published-consumed > 300 { // of the 1,024 that there is room for
			consumed += r.Next(dst)
			r.Release()
		}
	}
}

type countHandler int

func (c *countHandler) Handle(recs [][]byte) { *c += countHandler(len(recs)) }

// A single event after idle, 100,000 times: if one wake-up were lost, the consumer would sleep on.
func TestWakeups(t *testing.T) {
	r := ringAt(t, minRingBytes, 0)
	got := make(chan struct{})
	go r.Consume(handlerFunc(func([][]byte) { got <- struct{}{} }), 10)
	defer r.Close()
	watchdog := time.NewTimer(time.Minute)
	for i := range 100_000 {
		// Every third time it is about to park or has parked; else its last look and this publication
		// race.
		for i%3 == 0 && r.waiting.Load() == 0 {
			goruntime.Gosched()
		}
		if _, err := r.Publish([]Record{{Body: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-got:
		case <-watchdog.C:
			t.Fatalf("event %d was never handled", i)
		}
	}
	if r.Parked() == 0 {
		t.Error("the consumer never parked: this test proves nothing")
	}
}

type handlerFunc func([][]byte)

func (f handlerFunc) Handle(recs [][]byte) { f(recs) }

// An idle consumer stays parked.
func TestIdle(t *testing.T) {
	r := ringAt(t, minRingBytes, 0)
	go r.Consume(handlerFunc(func([][]byte) {}), 10)
	defer r.Close()
	for r.Parked() == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond)
	if n := r.Parked(); n != 1 {
		t.Errorf("parked %d times while idle, expected once", n)
	}
}

func TestNoAllocation(t *testing.T) {
	b, err := New(Config{Shards: 1, RingBytes: minRingBytes})
	if err != nil {
		t.Fatal(err)
	}
	p, r := b.NewProducer(SourceHTTP), b.Ring(0)
	recs := []Record{{Head: make([]byte, 40), Body: make([]byte, 200)}, {Body: make([]byte, 4096)}}
	dst := make([][]byte, 4)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := p.Submit(0, recs); err != nil {
			t.Fatal(err)
		}
		if r.Next(dst) != 2 {
			t.Fatal("expected two records")
		}
		r.Release()
	}); n != 0 {
		t.Errorf("%v allocations for submit, next and release", n)
	}
}

func TestSizes(t *testing.T) {
	for _, size := range []int{-1, 0, minRingBytes - 1, maxRingBytes + 1} {
		if _, err := NewRing(size); err == nil {
			t.Errorf("a ring of %d bytes is made", size)
		}
	}
	if r := ringAt(t, minRingBytes+1, 0); r.SizeBytes() != 2*minRingBytes {
		t.Errorf("%d bytes, expected the next power of two", r.SizeBytes())
	}
	for _, shards := range []int{0, 257} {
		if _, err := New(Config{Shards: shards, RingBytes: minRingBytes}); err == nil {
			t.Errorf("a bus of %d shards is made", shards)
		}
	}
}

// RingMemory is what a ring has.
func TestRingMemory(t *testing.T) {
	for _, size := range []int{minRingBytes, minRingBytes + 1, 3 << 20} {
		r, err := NewRing(size)
		if err != nil {
			t.Fatal(err)
		}
		have := uint64(len(r.cells)) + uint64(len(r.meta))*uint64(unsafe.Sizeof(r.meta[0]))
		if RingMemory(size) != have {
			t.Errorf("a ring of %d bytes takes %d, expected %d", size, RingMemory(size), have)
		}
	}
}
