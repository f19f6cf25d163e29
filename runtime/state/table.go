package state

import (
	"fmt"
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// ways is the number of places in a set.
const ways = 8

// A table has a tag and an entry for each place, and eight places a set. The tag is the first half
// of the identity of the key, 0 where there is none. Those of a set are one cache line, and those
// of 10,000 keys are near the processor even where the entries are not. An entry is, in words, a
// head and what its kind keeps:
const (
	idWord    = iota // second half of the identity
	tickWord         // Table.tick when it was used last
	sizeWord         // spread and size
	stampWord        // time in steps: newest bucket, newest value, when seen first, when set
	headWords
)

// The size is the length of a value, the number of distinct ones, or which bucket is the newest.
const (
	sizeShift  = 32
	spreadMask = 1<<sizeShift - 1
)

// Table keeps one state for the keys of one shard. It belongs to one goroutine, but for Stats.
type Table struct {
	spec    Spec
	mem     []uint64 // tags and entries
	tags    [][ways]uint64
	entries []uint64
	entry   int    // words of an entry
	step    int64  // ns
	life    uint64 // steps, 0 for ever

	tick      uint64   // goes up with each use of an entry
	committed uint64   // tick at the last Commit: an entry whose tick is above is in the journal
	journal   []uint64 // places with what they held at the last Commit
	now, kept counts   // kept is that of the last Commit

	keys, evicted, late, bytes atomic.Uint64 // kept, for Stats; each stands alone
}

type counts struct{ keys, evicted, late uint64 }

// place is the index of a tag and its entry.
type place int

// Stats is what a table holds, and what it has lost, at its last Commit.
type Stats struct {
	Keys    int    // entries, also those that are past their time and have not made room yet
	Evicted uint64 // keys that made room for others before their time
	Late    uint64 // additions that were older than their window
	Bytes   int    // size of the table and its journal
}

// NewTable makes an empty table for so many keys. The Spec must be normal.
func NewTable(s Spec, keys int) (*Table, error) {
	size := s.TableBytes(keys)
	mem, err := claim(size / wordBytes)
	if err != nil {
		return nil, fmt.Errorf("cannot reserve %d bytes for state %q: %w", size, s.Name, err)
	}
	t := &Table{spec: s, mem: mem, entry: s.entryWords()}
	t.step, t.life = s.times()
	n := sets(keys)
	t.tags = unsafe.Slice((*[ways]uint64)(unsafe.Pointer(unsafe.SliceData(mem))), n)
	t.entries = mem[n*ways:]
	t.publish()
	return t, nil
}

// Close gives the memory back. The table must not be used any more, but for Stats and Close.
func (t *Table) Close() error {
	mem := t.mem
	t.mem, t.tags, t.entries = nil, nil, nil
	if mem == nil {
		return nil
	}
	return free(mem)
}

// Stats may be called by any goroutine at any time.
func (t *Table) Stats() Stats {
	return Stats{Keys: int(t.keys.Load()), Evicted: t.evicted.Load(), Late: t.late.Load(),
		Bytes: int(t.bytes.Load())}
}

// Commit lets everything that was changed stay.
func (t *Table) Commit() {
	if t.tick == t.committed {
		return
	}
	t.committed = t.tick
	t.journal = t.journal[:0]
	if t.now != t.kept || t.bytes.Load() != t.size() {
		t.publish()
	}
}

func (t *Table) publish() {
	t.kept = t.now
	t.keys.Store(t.now.keys)
	t.evicted.Store(t.now.evicted)
	t.late.Store(t.now.late)
	t.bytes.Store(t.size())
}

func (t *Table) size() uint64 { return uint64(len(t.mem)+cap(t.journal)) * wordBytes }

// Rollback undoes everything since the last Commit: changes, inserts, evictions, counts and what
// was used last.
func (t *Table) Rollback() {
	for j := t.journal; len(j) > 0; {
		p := place(j[0])
		*t.tag(p) = j[1]
		j = j[2+copy(t.at(p), j[2:]):]
	}
	t.journal = t.journal[:0]
	t.tick, t.now = t.committed, t.kept
}

// at is the entry of a place.
func (t *Table) at(p place) []uint64 {
	i := int(p) * t.entry
	return t.entries[i : i+t.entry : i+t.entry]
}

func (t *Table) tag(p place) *uint64 { return &t.tags[p/ways][p%ways] }

// touch makes an entry ready to be changed, and the one that was used last.
func (t *Table) touch(p place) []uint64 {
	e := t.at(p)
	if e[tickWord] <= t.committed {
		t.journal = append(t.journal, uint64(p), *t.tag(p))
		t.journal = append(t.journal, e...)
	}
	t.tick++
	e[tickWord] = t.tick
	return e
}

// choice gives one of the two sets of a key.
func (t *Table) choice(half uint64) int {
	i, _ := bits.Mul64(half, uint64(len(t.tags)))
	return int(i)
}

// find gives the place of a key. It looks at both sets without a branch that the processor would
// have to guess: in which of 16 places a key is cannot be guessed.
func (t *Table) find(k Key) (p place, ok bool) {
	a, b := t.choice(k.ID[0]), t.choice(k.ID[1])
	found := match(&t.tags[a], k.ID[0]) | match(&t.tags[b], k.ID[0])<<ways
	for ; found != 0; found &= found - 1 {
		i := bits.TrailingZeros(found)
		p = place(a*ways + i)
		if i >= ways {
			p = place(b*ways + i - ways)
		}
		if t.entries[int(p)*t.entry+idWord] == k.ID[1] {
			return p, true
		}
	}
	return 0, false
}

// match gives a bit for each of the tags that is the one.
func match(tags *[ways]uint64, tag uint64) (found uint) {
	for i := ways - 1; i >= 0; i-- {
		x := tags[i] ^ tag
		found = found<<1 | uint((x|-x)>>63) // x|-x is below 0 unless x is 0
	}
	return found ^ (1<<ways - 1)
}

// insert gives a key that has none a new entry of zeros at a time.
func (t *Table) insert(k Key, now int64) []uint64 {
	p, live := t.room(k, now)
	e := t.touch(p)
	t.take(p, k, live)
	clear(e[sizeWord:])
	e[idWord], e[sizeWord], e[stampWord] = k.ID[1], uint64(k.Spread), uint64(now)
	return e
}

// take gives a place to a key, and counts.
func (t *Table) take(p place, k Key, live bool) {
	if *t.tag(p) == 0 {
		t.now.keys++
	}
	if live {
		t.now.evicted++
	}
	*t.tag(p) = k.ID[0]
}

// room finds a place for a key: an empty one in the emptier one of its sets, else that of an entry
// past its time, else of any; of several that which was used longest ago. live tells whether
// somebody must go for it before his time.
func (t *Table) room(k Key, now int64) (p place, live bool) {
	most := 0
	for _, half := range k.ID {
		set := t.choice(half)
		empty := match(&t.tags[set], 0)
		if n := bits.OnesCount(empty); n > most {
			most, p = n, place(set*ways+bits.TrailingZeros(empty))
		}
	}
	if most > 0 {
		return p, false
	}
	return t.victim(k, now)
}

func (t *Table) victim(k Key, now int64) (p place, live bool) {
	live = true
	var tick uint64
	for n, half := range k.ID {
		set := t.choice(half)
		for i := range ways {
			q := place(set*ways + i)
			e := t.at(q)
			l := !t.expired(e, now)
			if n+i == 0 || live && !l || live == l && e[tickWord] < tick {
				p, live, tick = q, l, e[tickWord]
			}
		}
	}
	return p, live
}

// steps is a time in steps of the state, rounded down, also before 1970.
func (t *Table) steps(at int64) int64 {
	if t.step == 1 {
		return at
	}
	n := at / t.step
	if n*t.step > at {
		n--
	}
	return n
}

// expired tells whether an entry means nothing any more, at a time in steps.
func (t *Table) expired(e []uint64, now int64) bool {
	return t.life != 0 && past(now, int64(e[stampWord]), t.life)
}

// past tells whether a time is life or more after another. Their difference may be more than an
// int64 holds, but not more than a uint64.
func past(now, then int64, life uint64) bool {
	return now > then && uint64(now)-uint64(then) >= life
}

func bytesOf(words []uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(words)*wordBytes)
}
