package state

import (
	"math"
	"slices"
)

// All operations take the time of the event in ns since 1970, which may be any, also one before
// that of the last call.

// Add adds an amount to a counter and returns the sum over the window, which ends with the newest
// bucket that the key has seen. An amount of 0 only asks; for a key that has nothing it leaves
// nothing. Sums that leave the range of a float64 stay infinite until their bucket goes.
func (t *Table) Add(k Key, at int64, amount float64) float64 {
	n := t.steps(at)
	p, ok := t.find(k)
	if !ok {
		if amount == 0 {
			return 0
		}
		e := t.insert(k, n)
		e[headWords] = math.Float64bits(amount) // the newest bucket is the first one
		return amount
	}
	e := t.touch(p)
	sums, newest, slot := e[headWords:], int64(e[stampWord]), sizeOf(e)
	switch {
	case n > newest:
		slot = pass(sums, slot, uint64(n)-uint64(newest))
		e[stampWord] = uint64(n)
		setSize(e, slot)
	case past(newest, n, t.life):
		if amount != 0 {
			t.now.late++
		}
		return total(sums)
	default:
		if slot -= int(newest - n); slot < 0 {
			slot += len(sums)
		}
	}
	if amount != 0 {
		sums[slot] = math.Float64bits(math.Float64frombits(sums[slot]) + amount)
	}
	return total(sums)
}

// pass goes on by so many buckets, and empties each; it returns where the last of them is.
func pass(sums []uint64, slot int, steps uint64) int {
	if steps >= uint64(len(sums)) {
		clear(sums)
		return slot
	}
	for range steps {
		if slot++; slot == len(sums) {
			slot = 0
		}
		sums[slot] = 0
	}
	return slot
}

// total adds in four chains, as in one each addition would wait for the last: with 60 buckets that
// takes 60 ns.
func total(sums []uint64) float64 {
	var a, b, c, d float64
	for ; len(sums) >= 8; sums = sums[8:] {
		s := (*[8]uint64)(sums)
		a += math.Float64frombits(s[0]) + math.Float64frombits(s[4])
		b += math.Float64frombits(s[1]) + math.Float64frombits(s[5])
		c += math.Float64frombits(s[2]) + math.Float64frombits(s[6])
		d += math.Float64frombits(s[3]) + math.Float64frombits(s[7])
	}
	for _, s := range sums {
		a += math.Float64frombits(s)
	}
	return a + b + (c + d)
}

// Distinct adds a value to a distinct and returns how many different ones the window has, which
// ends with the newest time that the key has seen. A value that is older than it is not added.
func (t *Table) Distinct(k Key, at int64, value []byte) int {
	hash, _ := sipHash(k.ID[0], k.ID[1], value)
	p, ok := t.find(k)
	if !ok {
		e := t.insert(k, at)
		setSize(e, 1)
		e[headWords], e[headWords+t.spec.Limit] = hash, uint64(at)
		return 1
	}
	e := t.touch(p)
	newest := max(at, int64(e[stampWord]))
	e[stampWord] = uint64(newest)
	v := values{e[headWords : headWords+t.spec.Limit], e[headWords+t.spec.Limit:], sizeOf(e)}
	v.forget(newest, t.life)
	if past(newest, at, t.life) {
		t.now.late++
	} else {
		v.add(hash, at)
	}
	setSize(e, v.n)
	return v.n
}

// values are the n values of an entry: their hashes, and when each came last. The oldest is first;
// of two that came at one time, the one that was added first.
type values struct {
	hashes, times []uint64
	n             int
}

// forget drops the values that are older than the window.
func (v *values) forget(newest int64, life uint64) {
	gone := 0
	for gone < v.n && past(newest, int64(v.times[gone]), life) {
		gone++
	}
	if gone > 0 {
		copy(v.hashes, v.hashes[gone:v.n])
		copy(v.times, v.times[gone:v.n])
		v.n -= gone
	}
}

// add adds a value, or says that it came again. If there is no room the oldest goes, which may be
// the value itself.
func (v *values) add(hash uint64, at int64) {
	i := slices.Index(v.hashes[:v.n], hash)
	switch {
	case i >= 0:
		if at <= int64(v.times[i]) {
			return
		}
	case v.n == len(v.hashes):
		if i = 0; at < int64(v.times[0]) {
			return
		}
	default:
		i = v.n
		v.n++
	}
	// What was at i makes room, and the value goes behind all that are not newer.
	for ; i > 0 && int64(v.times[i-1]) > at; i-- {
		v.hashes[i], v.times[i] = v.hashes[i-1], v.times[i-1]
	}
	to := v.n - 1
	for to > i && int64(v.times[to]) > at {
		to--
	}
	copy(v.hashes[i:to], v.hashes[i+1:to+1])
	copy(v.times[i:to], v.times[i+1:to+1])
	v.hashes[to], v.times[to] = hash, uint64(at)
}

func sizeOf(e []uint64) int { return int(e[sizeWord] >> sizeShift) }

func setSize(e []uint64, n int) { e[sizeWord] = e[sizeWord]&spreadMask | uint64(n)<<sizeShift }

// Seen tells whether a key was seen within the state's life, and when that was first: now, if it
// was not.
func (t *Table) Seen(k Key, at int64) (first int64, seen bool) {
	p, ok := t.find(k)
	if !ok {
		t.insert(k, at)
		return at, false
	}
	e := t.touch(p)
	if t.expired(e, at) {
		e[stampWord] = uint64(at)
		return at, false
	}
	return int64(e[stampWord]), true
}

// Set keeps a copy of a value, which must not be longer than the state's Bytes.
func (t *Table) Set(k Key, at int64, value []byte) {
	var e []uint64
	if p, ok := t.find(k); ok {
		e = t.touch(p)
		e[stampWord] = uint64(at)
	} else {
		e = t.insert(k, at)
	}
	setSize(e, copy(bytesOf(e[headWords:])[:t.spec.Bytes], value))
}

// Get gives the value that was set last, unless its time is over. It is a view of the table, valid
// until the next operation.
func (t *Table) Get(k Key, at int64) (value []byte, ok bool) {
	e := t.living(k, at)
	if e == nil {
		return nil, false
	}
	return bytesOf(e[headWords:])[:sizeOf(e)], true
}

// SetAt gives the time at which the value was set that Get gives.
func (t *Table) SetAt(k Key, at int64) (setAt int64, ok bool) {
	e := t.living(k, at)
	if e == nil {
		return 0, false
	}
	return int64(e[stampWord]), true
}

// living touches the entry of a key and returns it, or nil if it has none or its time is over.
func (t *Table) living(k Key, at int64) []uint64 {
	p, ok := t.find(k)
	if !ok {
		return nil
	}
	e := t.touch(p)
	if t.expired(e, t.steps(at)) {
		return nil
	}
	return e
}

// Delete forgets a key, and tells whether there was something whose time was not over.
func (t *Table) Delete(k Key, at int64) bool {
	p, ok := t.find(k)
	if !ok {
		return false
	}
	e := t.touch(p) // for the journal
	*t.tag(p) = 0
	t.now.keys--
	return !t.expired(e, t.steps(at))
}
