package state

import (
	"encoding/binary"
	"math/bits"
)

// Secret keys the hashes, so that nobody can choose event keys that meet. Saved tables belong to
// it.
type Secret [16]byte

// Hasher makes keys. It does not change, so it may be used by any number of goroutines.
type Hasher struct{ a, b uint64 }

// Key is the identity of what a state keeps something for. Only a Hasher makes one.
type Key struct {
	ID     [2]uint64
	Spread uint32 // decides the shard; see Load
}

// NewHasher makes a Hasher.
func NewHasher(s Secret) *Hasher {
	return &Hasher{a: binary.LittleEndian.Uint64(s[:]), b: binary.LittleEndian.Uint64(s[8:])}
}

// Key is the key of an event's key. spread is its hash that decides the shard, and only carried.
func (h *Hasher) Key(eventKey []byte, spread uint32) Key {
	return Key{ID: identity(h.a, h.b, eventKey), Spread: spread}
}

// Sub is the key that the bytes divide k into; k itself if there are none.
func (h *Hasher) Sub(k Key, sub []byte) Key {
	if len(sub) == 0 {
		return k
	}
	return Key{ID: identity(k.ID[0], k.ID[1], sub), Spread: k.Spread}
}

// identity is a hash whose first half is not 0, which says in a table that a place is empty.
func identity(a, b uint64, p []byte) [2]uint64 {
	x, y := sipHash(a, b, p)
	return [2]uint64{max(x, 1), y}
}

// sipHash is SipHash-2-4 with 128 bits of result, keyed with a and b.
func sipHash(a, b uint64, p []byte) (x, y uint64) {
	v0, v1 := a^0x736f6d6570736575, b^0x646f72616e646f6d^0xee
	v2, v3 := a^0x6c7967656e657261, b^0x7465646279746573
	last := uint64(len(p)) << 56
	for ; len(p) >= 8; p = p[8:] {
		m := binary.LittleEndian.Uint64(p)
		v3 ^= m
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0 ^= m
	}
	for i, c := range p {
		last |= uint64(c) << (8 * i)
	}
	v3 ^= last
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0 ^= last
	v2 ^= 0xee
	for range 4 {
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	}
	x = v0 ^ v1 ^ v2 ^ v3
	v1 ^= 0xdd
	for range 4 {
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	}
	return x, v0 ^ v1 ^ v2 ^ v3
}

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v2 += v3
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 = bits.RotateLeft64(v0, 32) + v3
	v2 += v1
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	return v0, v1, bits.RotateLeft64(v2, 32), v3
}
