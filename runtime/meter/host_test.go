package meter

import (
	"context"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// hostMemory is the memory that a host of rewritten modules gives them: it grows to most bytes. If the
// guest pauses, it gets the next portion of its fuel.
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
	first := min(given, portion)
	m.fuel, m.reserve, m.portion = fuel, given-first, portion
	fuel.Set(uint64(first))
}

// Reallocate implements experimental.LinearMemory.
func (m *hostMemory) Reallocate(size uint64) []byte {
	if size == PauseBytes {
		m.pauses++
		if m.reserve > 0 {
			left := int64(m.fuel.Get())
			more := min(m.reserve, m.portion-left)
			m.reserve -= more
			m.fuel.Set(uint64(left + more))
		}
		return nil
	}
	if size > m.most {
		return nil
	}
	m.bytes = append(m.bytes, make([]byte, size-uint64(len(m.bytes)))...)
	return m.bytes
}

// Free implements experimental.LinearMemory.
func (m *hostMemory) Free() {}
