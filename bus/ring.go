package bus

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync/atomic"
)

const (
	cellBytes = 64 // the unit of space: one cache line on amd64 and arm64

	// A frame begins with its records, and ends with the length of each as u32, and their number as u32.
	countBytes  = 4
	lengthBytes = 4

	// A meta word is position<<16 | cells, or position<<16 | bare | bytes. A bare frame is one record and
	// nothing else; one of no bytes is a pad.
	sizeBits   = 15
	maxFrame   = 1<<sizeBits - 1 // cells in one frame
	maxBare    = 1<<sizeBits - 1 // bytes in a bare one
	bareBit    = 1 << sizeBits
	metaShift  = sizeBits + 1
	positionOf = 1<<(64-metaShift) - 1 // the bits of a position that a meta word keeps

	positionMask = 1<<63 - 1 // positions are counted modulo 2^63, since tail has a bit for closed
	closedBit    = 1

	wordBytes = 8 // of a meta word
	wordsBits = 3 // as many meta words as this has values are on a cache line

	minRingBytes = 64 << 10
	maxRingBytes = 1 << 30
)

// Record is one record as a producer hands it over: the ring stores Head and Body one after the
// other. Both are copied; the caller keeps them.
type Record struct {
	Head, Body []byte
}

func (r *Record) size() int { return len(r.Head) + len(r.Body) }

// Ring is a fixed-size, lock-free, multi-producer, single-consumer queue of records.
//
// The memory is an array of cells of 64 bytes. Producers own the cells from head to tail plus one
// lap that are not claimed yet: all of them may claim, by one compare-and-swap of tail. Between a
// claim and its publication the cells belong to the producer that claimed them; from the store of
// the meta word on they belong to the consumer; and with the store of head they go back to the
// producers.
//
// A claim covers one frame: a run of cells that holds one or more records and never crosses the
// end of the array. A frame that would cross it claims the rest of the array as well, as a pad,
// with the same compare-and-swap.
//
// The meta words stand apart from the cells, one for each. The word of a frame's first cell says
// how large the frame is, and for which position it was written. Since the position is part
// of the word, one left behind by an earlier lap can never be taken for a new one, whatever bytes
// the records hold, and the consumer has nothing to zero. A record that comes alone needs no more than
// that: the consumer finds it without a look into its cells, which are in another processor's cache.
//
// The atomics of this file are sequentially consistent, as sync/atomic promises.
type Ring struct {
	cells []byte
	meta  []atomic.Uint64
	mask  uint64 // number of cells, minus one
	apart int    // see word

	_ [cellBytes]byte
	// tail is the next position to claim, shifted left by one, and the closed bit. That both are in
	// one word is what makes Close exact: a claim either came before it or fails.
	tail atomic.Uint64
	_    [cellBytes - 8]byte
	// headSeen is a copy of head that producers share. It may be old, which only makes the ring look
	// fuller than it is, and saves them the cache line that the consumer keeps writing.
	headSeen atomic.Uint64
	_        [cellBytes - 8]byte
	// head is the first position that is not free. Stored by the consumer (Release), which hands
	// the cells before it to the producers; loaded by a producer that found headSeen too old.
	head     atomic.Uint64
	released atomic.Uint64 // records released; stored by the consumer only, next to head
	_        [cellBytes - 16]byte
	// waiting is 1 while the consumer is parked or about to be. See Wait.
	waiting atomic.Uint32
	parked  atomic.Uint64 // times that the consumer parked
	_       [cellBytes - 16]byte

	wake chan struct{}

	// The rest belongs to the consumer.
	next    uint64 // position of the frame to read next
	open    uint64 // position of the frame that is being read
	frame   []byte // the records that are left of the frame that is being read
	lengths []byte // and their lengths
	pending uint64 // records handed out since the last Release
}

// NewRing allocates a ring of sizeBytes, rounded up to a power of two. It is an error if that is
// not between 64 KiB and 1 GiB.
func NewRing(sizeBytes int) (*Ring, error) {
	return newRingAt(sizeBytes, 0)
}

// newRingAt is NewRing with the position that the first claim gets, so that tests can begin just
// below the values at which positions and meta words wrap.
func newRingAt(sizeBytes int, start uint64) (*Ring, error) {
	if sizeBytes < minRingBytes || sizeBytes > maxRingBytes {
		return nil, fmt.Errorf("cannot make a ring of %d bytes: expected %d to %d",
			sizeBytes, minRingBytes, maxRingBytes)
	}
	n := cellsOfRing(sizeBytes)
	r := &Ring{
		cells: make([]byte, n*cellBytes),
		meta:  make([]atomic.Uint64, n),
		mask:  n - 1,
		apart: bits.Len64(n-1) - wordsBits,
		wake:  make(chan struct{}, 1),
	}
	start &= positionMask
	for i := range n {
		// A word for the position one lap back is stale for every position that can come.
		p := start + i
		r.word(p).Store((p - n) << metaShift)
	}
	r.next = start
	r.tail.Store(start << 1)
	r.head.Store(start)
	r.headSeen.Store(start)
	return r, nil
}

func cellsOfRing(sizeBytes int) uint64 { return 1 << bits.Len64(uint64(sizeBytes-1)/cellBytes) }

// RingMemory is how many bytes of memory a ring of sizeBytes takes once it has been full.
func RingMemory(sizeBytes int) uint64 { return cellsOfRing(sizeBytes) * (cellBytes + wordBytes) }

// MaxRecord is the size in bytes of the largest record that the ring takes: an eighth of the ring,
// and not more than 2 MiB, less what a frame has beside one record.
func (r *Ring) MaxRecord() int {
	return r.frameCells()*cellBytes - countBytes - lengthBytes
}

// frameCells is the largest number of cells in a frame.
func (r *Ring) frameCells() int { return min(len(r.meta)/8, maxFrame) }

// SizeBytes is the size of the ring's cells in bytes.
func (r *Ring) SizeBytes() int { return len(r.cells) }

// UsedBytes is how much of the ring is claimed at the moment. Any goroutine may ask.
func (r *Ring) UsedBytes() int {
	head := r.head.Load()
	used := (r.tail.Load()>>1 - head) & positionMask
	return int(min(used, r.mask+1)) * cellBytes
}

// Released is the number of records that the consumer released so far. Any goroutine may ask.
func (r *Ring) Released() uint64 { return r.released.Load() }

// Parked is how often the consumer parked for want of records. Any goroutine may ask.
func (r *Ring) Parked() uint64 { return r.parked.Load() }

// word is the meta word of a position. Neighbours are never on one cache line: frames that follow each
// other are mostly those of different producers, who would take the line from each other.
func (r *Ring) word(pos uint64) *atomic.Uint64 {
	i := pos & r.mask
	return &r.meta[(i<<wordsBits|i>>r.apart)&r.mask]
}

// Publish copies recs into the ring, in order, and returns how many it took. If it took fewer than
// all, the error says why: ErrFull, ErrClosed or ErrTooLarge for recs[taken]. It never waits. Any
// number of goroutines may publish at once; records of one call keep their order, with those of
// other calls between frames.
func (r *Ring) Publish(recs []Record) (taken int, err error) {
	for taken < len(recs) {
		n, err := r.publishFrame(recs[taken:])
		taken += n
		if err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// publishFrame publishes as many of recs as fit into one frame.
func (r *Ring) publishFrame(recs []Record) (int, error) {
	if recs[0].size() > r.MaxRecord() {
		return 0, ErrTooLarge
	}
	limit := r.frameCells()
	for {
		n, cells, meta := fit(recs, limit)
		if n == 0 {
			return 0, ErrFull
		}
		pos, room, err := r.claim(uint64(cells))
		if err == nil {
			// From here on only the copy stands between the claim and its publication: a producer
			// that is preempted here holds up the worker.
			b := r.cells[pos&r.mask*cellBytes:][:cells*cellBytes]
			if meta&bareBit != 0 {
				copyRecord(b, &recs[0])
			} else {
				copyFrame(b, recs[:n])
			}
			r.word(pos).Store(pos<<metaShift | meta) // publishes the cells
			if r.waiting.Load() != 0 {
				r.wakeConsumer()
			}
			return n, nil
		}
		if err != ErrFull || room == 0 {
			return 0, err
		}
		limit = int(min(room, uint64(cells)-1))
	}
}

// fit returns how many of recs, from the first, go into a frame of at most limit cells, how many cells
// they need, and what the meta word says of them.
func fit(recs []Record, limit int) (n, cells int, meta uint64) {
	size, most := countBytes, limit*cellBytes
	for i := range recs {
		next := size + lengthBytes + recs[i].size()
		if next > most {
			break
		}
		size, n = next, i+1
	}
	if n < 2 {
		if bare := recs[0].size(); bare > 0 && bare <= min(most, maxBare) {
			return 1, cellsFor(bare), bareBit | uint64(bare)
		}
	}
	cells = cellsFor(size)
	return n, cells, uint64(cells)
}

func cellsFor(size int) int { return (size + cellBytes - 1) / cellBytes }

// claim takes n cells in a row and returns the position of the first. With ErrFull, room is the
// number of cells in a row that could have been had.
func (r *Ring) claim(n uint64) (pos, room uint64, err error) {
	capacity := r.mask + 1
	for {
		t := r.tail.Load()
		if t&closedBit != 0 {
			return 0, 0, ErrClosed
		}
		pos = t >> 1
		toEnd := capacity - pos&r.mask
		need, pad := n, uint64(0)
		if n > toEnd {
			need, pad = n+toEnd, toEnd
		}
		used := (pos - r.headSeen.Load()) & positionMask
		if used+need > capacity {
			head := r.head.Load()
			r.headSeen.Store(head)
			used = (pos - head) & positionMask
			if used > capacity {
				continue // t is so old that head has passed it
			}
			if free := capacity - used; need > free {
				room = min(free, toEnd)
				if free > toEnd {
					room = max(room, free-toEnd)
				}
				return 0, room, ErrFull
			}
		}
		// The closed bit is 0 in both words, so this fails if Close came between.
		if r.tail.CompareAndSwap(t, t+need<<1) {
			if pad != 0 {
				r.word(pos).Store(pos<<metaShift | bareBit)
				pos = (pos + pad) & positionMask
			}
			return pos, 0, nil
		}
	}
}

// copyFrame writes a frame that is not bare.
func copyFrame(b []byte, recs []Record) {
	end := len(b) - countBytes
	binary.LittleEndian.PutUint32(b[end:], uint32(len(recs)))
	lengths := b[end-lengthBytes*len(recs):]
	for i := range recs {
		binary.LittleEndian.PutUint32(lengths[lengthBytes*i:], uint32(recs[i].size()))
		b = copyRecord(b, &recs[i])
	}
}

// copyRecord returns what is left of b.
func copyRecord(b []byte, rec *Record) []byte {
	if len(rec.Head) > 0 {
		b = b[copy(b, rec.Head):]
	}
	return b[copy(b, rec.Body):]
}

func (r *Ring) wakeConsumer() {
	if r.waiting.Swap(0) != 0 {
		select {
		case r.wake <- struct{}{}:
		default: // a token is there already, and the consumer will look at the ring after taking it
		}
	}
}

// Close makes every later Publish fail with ErrClosed, and Wait return false once what was
// published before has been drained. It returns at once, also on a full ring, and may be called
// more than once.
func (r *Ring) Close() {
	r.tail.Or(closedBit)
	r.wakeConsumer()
}

// Closed reports whether Close was called.
func (r *Ring) Closed() bool { return r.tail.Load()&closedBit != 0 }

// Next fills dst with views of the next published records and returns how many; 0 means that
// there are none at the moment. The views are valid until Release. Only the consumer may call it.
func (r *Ring) Next(dst [][]byte) int {
	n := 0
	for n < len(dst) {
		if len(r.lengths) > 0 {
			n += r.nextOfFrame(dst[n:])
			continue
		}
		bare, ok := r.openFrame()
		if !ok {
			break
		}
		if len(bare) > 0 {
			dst[n] = bare
			n++
		}
	}
	r.pending += uint64(n)
	return n
}

// nextOfFrame is Next for the frame that is being read, which has records left.
func (r *Ring) nextOfFrame(dst [][]byte) int {
	dst = dst[:min(len(dst), len(r.lengths)/lengthBytes)]
	frame, lengths := r.frame, r.lengths
	for i := range dst {
		size := binary.LittleEndian.Uint32(lengths)
		lengths = lengths[lengthBytes:]
		dst[i] = frame[:size:size]
		frame = frame[size:]
	}
	r.frame, r.lengths = frame, lengths
	return len(dst)
}

// openFrame goes to the next published frame, and reports whether there is one. It returns the record of a
// bare one, and nothing of a pad.
func (r *Ring) openFrame() (bare []byte, ok bool) {
	i := r.next & r.mask
	m := r.word(r.next).Load() // acquires the cells that the producer published
	if m>>metaShift != r.next&positionOf {
		return nil, false
	}
	b := r.cells[i*cellBytes:]
	r.open = r.next
	size := m & (bareBit - 1)
	cells := size
	switch {
	case m&bareBit == 0:
		end := cells*cellBytes - countBytes
		begin := end - lengthBytes*uint64(binary.LittleEndian.Uint32(b[end:]))
		r.frame, r.lengths = b[:begin], b[begin:end]
	case size == 0:
		cells = r.mask + 1 - i
	default:
		bare = b[:size:size]
		cells = uint64(cellsFor(int(size)))
	}
	r.next = (r.next + cells) & positionMask
	return bare, true
}

// Release gives back everything that Next has handed out: those views are no longer valid. The
// cells of a frame that was handed out only in part stay until the rest is released. Only the
// consumer may call it.
func (r *Ring) Release() {
	if r.pending == 0 {
		return
	}
	if len(r.lengths) == 0 {
		r.head.Store(r.next) // frees the cells
	} else {
		r.head.Store(r.open) // frees those of the frames before the one that is being read
	}
	r.released.Store(r.released.Load() + r.pending)
	r.pending = 0
}

// Wait returns true when Next has something to return, and false when the ring is closed and
// drained. Between these it parks and uses no CPU: a consumer that spins or yields first takes the core
// that producers want. Only the consumer may call it.
func (r *Ring) Wait() bool {
	if r.ready() {
		return true
	}
	for {
		// The flag goes up before the last look at the ring, and a producer publishes before it
		// looks at the flag. In the one order of all these operations, either this look sees the
		// record or that one sees the flag: no wake-up is lost.
		r.waiting.Store(1)
		if r.ready() {
			r.waiting.Store(0)
			return true
		}
		if r.drained() {
			r.waiting.Store(0)
			return false
		}
		r.parked.Add(1)
		<-r.wake
	}
}

func (r *Ring) ready() bool {
	return len(r.lengths) > 0 || r.word(r.next).Load()>>metaShift == r.next&positionOf
}

func (r *Ring) drained() bool { return r.tail.Load() == r.next<<1|closedBit }

// Handler takes a batch of records in the order of the ring. The views are valid until it returns.
type Handler interface {
	Handle(recs [][]byte)
}

// Consume drains the ring into h, at most batch records at a time, and returns when the ring is
// closed and drained. It is the consumer: call it once, on a goroutine of its own.
func (r *Ring) Consume(h Handler, batch int) {
	recs := make([][]byte, batch)
	for r.Wait() {
		n := r.Next(recs)
		if n == 0 {
			continue // only a pad was published so far
		}
		h.Handle(recs[:n])
		r.Release()
	}
}
