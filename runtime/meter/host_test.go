package meter

import (
	"context"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// hostMemory is the memory that a host of rewritten modules gives them: it grows to most bytes. If the
// guest pauses, it gets the next portion of its fuel. With portions of 0 it has all of its fuel at first,
// and one unit after its memory has grown, until it pauses.
type hostMemory struct {
	bytes []byte
	most  uint64

	fuel             api.MutableGlobal
	reserve, portion int64
	pauses           int
}

// within is a context in which instances get this memory.
func (m *hostMemory) within(ctx context.Context) context.Context {
	return experimental.WithMemoryAllocator(ctx,
		experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return m }))
}

// hosted is a context in which instances get memories as large as the default limits allow.
func hosted() context.Context {
	most := uint64(DefaultLimits().MemoryPages) << 16
	return experimental.WithMemoryAllocator(context.Background(),
		experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory {
			return &hostMemory{most: most}
		}))
}

// give hands out fuel, a portion at a time.
func (m *hostMemory) give(fuel api.MutableGlobal, given, portion int64) {
	first := given
	if portion > 0 {
		first = min(given, portion)
	}
	m.fuel, m.reserve, m.portion = fuel, given-first, portion
	fuel.Set(uint64(first))
}

// leave puts all but n units of the fuel into the reserve, or takes from there what is missing.
func (m *hostMemory) leave(n int64) {
	m.reserve += int64(m.fuel.Get()) - n
	m.fuel.Set(uint64(n))
}

// Reallocate implements experimental.LinearMemory.
func (m *hostMemory) Reallocate(size uint64) []byte {
	if size == PauseBytes {
		m.pauses++
		if m.reserve > 0 {
			left := int64(m.fuel.Get())
			m.leave(min(left+m.reserve, max(m.portion, 1)))
		}
		return nil
	}
	if size > m.most {
		return nil
	}
	if m.fuel != nil && m.portion == 0 && int64(m.fuel.Get()) > 1 {
		m.leave(1)
	}
	m.bytes = append(m.bytes, make([]byte, size-uint64(len(m.bytes)))...)
	return m.bytes
}

// Free implements experimental.LinearMemory.
func (m *hostMemory) Free() {}
