package event

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"slices"
)

const (
	// linearKeys is the number of keys up to which an object's keys are compared one by one. They
	// are compared by their first eight bytes, mostly, so that this is faster than hashing.
	linearKeys = 16

	keepKeys = 1 << 14 // keys whose memory a scanner keeps between events
)

// key is one key of an object that is open.
type key struct {
	word    uint64 // its first eight bytes, little-endian, zeros behind
	at, n   uint32 // where it is, and its length
	hash    uint32
	slot    uint32 // its place in the table plus one, or 0
	scratch bool   // it is in the scratch, since it had escapes
}

// keySet holds the keys of all objects that are open, the innermost object's last. Keys of an
// object with more than linearKeys are in a hash table as well. Objects end in the reverse order
// of their beginning, so keys leave the table in the reverse order of their entering it; this is
// why a slot of this table, which probes linearly, can simply be emptied.
type keySet struct {
	seed           maphash.Seed
	input, scratch []byte // where the keys are

	list    []key
	table   []uint32 // indexes into list plus one, 0 is free; the length is a power of two
	inTable int
}

func (ks *keySet) text(k *key) []byte {
	if k.scratch {
		return ks.scratch[k.at : k.at+k.n]
	}
	return ks.input[k.at : k.at+k.n]
}

func (ks *keySet) equal(a, b *key) bool {
	return a.word == b.word && a.n == b.n && (a.n <= 8 || bytes.Equal(ks.text(a), ks.text(b)))
}

// next is room for a key after the last one. It is filled there, since to copy a key that was just
// made costs more than to compare it.
func (ks *keySet) next() *key {
	if len(ks.list) == cap(ks.list) {
		ks.list = slices.Grow(ks.list, 1)
	}
	ks.list = ks.list[:len(ks.list)+1]
	return &ks.list[len(ks.list)-1]
}

// bit is the bit of a key, of 64. A key whose bit was not seen is not among those that were: mostly
// that spares a look at each of them.
func bit(word uint64, n int) uint64 {
	return 1 << ((word + uint64(n)) * 0x9E3779B97F4A7C15 >> 58)
}

// add adds the last key to the object at the given depth whose first key is list[base], and reports
// whether that has it already. It need not be called for a key which is new by its bit, unless the
// object has linearKeys before it.
func (ks *keySet) add(base, depth int) (twice bool) {
	last := len(ks.list) - 1
	own, k := ks.list[base:last], &ks.list[last]
	if len(own) >= linearKeys {
		return ks.addHashed(k, base, depth)
	}
	for i := range own {
		if own[i].word == k.word && ks.equal(&own[i], k) {
			return true
		}
	}
	return false
}

func (ks *keySet) addHashed(k *key, base, depth int) (twice bool) {
	// The hash has room for all of this object's keys before any is inserted.
	if need := 2 * (ks.inTable + linearKeys + 1); need > len(ks.table) {
		ks.grow(need)
	}
	last := len(ks.list) - 1
	if own := ks.list[base:last]; len(own) == linearKeys {
		for i := range own {
			own[i].hash = ks.hash(&own[i], depth)
			ks.insert(base + i)
		}
	}
	k.hash = ks.hash(k, depth)
	mask := uint32(len(ks.table) - 1)
	for i := k.hash & mask; ks.table[i] != 0; i = (i + 1) & mask {
		at := int(ks.table[i] - 1)
		if at >= base && ks.list[at].hash == k.hash && ks.equal(&ks.list[at], k) {
			return true
		}
	}
	ks.insert(last)
	return false
}

// hash tells the same key at different depths apart, so that they do not collide. A key that is
// whole in its word needs no more than a multiplication to be mixed with the secrets.
func (ks *keySet) hash(k *key, depth int) uint32 {
	h := uint64(0)
	if k.n <= 8 {
		high, low := bits.Mul64(k.word^secrets[0], uint64(k.n)^secrets[1])
		h = high ^ low
	} else {
		h = maphash.Bytes(ks.seed, ks.text(k))
	}
	return uint32(h>>32) + uint32(depth)*0x9E3779B9
}

func (ks *keySet) insert(at int) {
	mask := uint32(len(ks.table) - 1)
	i := ks.list[at].hash & mask
	for ks.table[i] != 0 {
		i = (i + 1) & mask
	}
	ks.table[i] = uint32(at + 1)
	ks.list[at].slot = i + 1
	ks.inTable++
}

// grow makes a table of at least need slots. Inserting in the order of the list keeps the order
// that drop relies on.
func (ks *keySet) grow(need int) {
	size := 256
	for size < need {
		size *= 2
	}
	ks.table = make([]uint32, size)
	ks.inTable = 0
	for i := range ks.list {
		if ks.list[i].slot != 0 {
			ks.insert(i)
		}
	}
}

// drop removes the keys from list[base] on.
func (ks *keySet) drop(base int) {
	if ks.inTable > 0 {
		for i := len(ks.list) - 1; i >= base; i-- {
			if slot := ks.list[i].slot; slot != 0 {
				ks.table[slot-1] = 0
				ks.inTable--
			}
		}
	}
	ks.list = ks.list[:base]
}

// shrink gives back the memory that an unusual event needed. The set must be empty.
func (ks *keySet) shrink() {
	if cap(ks.list) > keepKeys {
		ks.list, ks.table = nil, nil
	}
}

// firstWord is the first eight bytes of b[at:at+n], with zeros behind if n is less.
func firstWord(b []byte, at, n int) uint64 {
	if at+8 <= len(b) {
		// For n above 7 all bits stay, since a shift by 64 or more leaves none.
		return binary.LittleEndian.Uint64(b[at:]) & (1<<(8*uint(n)) - 1)
	}
	x := uint64(0)
	for i := min(n, 8) - 1; i >= 0; i-- {
		x = x<<8 | uint64(b[at+i])
	}
	return x
}
