package bus

import (
	"fmt"
	"sync"
)

// Config sizes a Bus.
type Config struct {
	Shards    int // rings, each with one worker; 1 to 256
	RingBytes int // of each ring, rounded up to a power of two; see NewRing
}

// Bus is a set of shards, each with one ring, and the ledger of all events that came in. All
// methods may be called from any goroutine.
type Bus struct {
	rings []*Ring

	mu        sync.Mutex // guards producers, and orders ledger snapshots
	producers []*Producer
}

// New allocates a bus with all its memory. It returns an error for sizes out of range.
func New(c Config) (*Bus, error) {
	if c.Shards < 1 || c.Shards > 256 {
		return nil, fmt.Errorf("cannot make a bus of %d shards: expected 1 to 256", c.Shards)
	}
	b := &Bus{rings: make([]*Ring, c.Shards)}
	for i := range b.rings {
		r, err := NewRing(c.RingBytes)
		if err != nil {
			return nil, err
		}
		b.rings[i] = r
	}
	return b, nil
}

// Shards is the number of shards.
func (b *Bus) Shards() int { return len(b.rings) }

// Ring returns the ring of one shard.
func (b *Bus) Ring(shard int) *Ring { return b.rings[shard] }

// MaxRecord is the size in bytes of the largest record that a shard takes.
func (b *Bus) MaxRecord() int { return b.rings[0].MaxRecord() }

// ShardOf returns the shard of a key: the same for the same key in every run, so that events with
// one key keep their order.
func (b *Bus) ShardOf(key []byte) int {
	if len(b.rings) == 1 {
		return 0
	}
	return int(uint64(Spread(key)) * uint64(len(b.rings)) >> 32)
}

// Spread is the hash of a key that decides its shard: Spread * shards >> 32. It is the same in every
// run, so what was kept for a key can go to the key's shard when there are other shards.
func Spread(key []byte) uint32 {
	// FNV-1a, then a multiplication, since its high bits mix best.
	h := uint64(14695981039346656037)
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return uint32(h * 0x9E3779B97F4A7C15 >> 32)
}

// Close closes all rings: what was taken will still be drained, what comes later gets ErrClosed.
func (b *Bus) Close() {
	for _, r := range b.rings {
		r.Close()
	}
}

// RingStats is what one ring says of itself at one moment.
type RingStats struct {
	SizeBytes, UsedBytes int
	Released             uint64 // records
	Parked               uint64 // times
}

// Stats returns the figures of every ring.
func (b *Bus) Stats() []RingStats {
	s := make([]RingStats, len(b.rings))
	for i, r := range b.rings {
		s[i] = RingStats{r.SizeBytes(), r.UsedBytes(), r.Released(), r.Parked()}
	}
	return s
}
