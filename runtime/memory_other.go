//go:build !linux

package runtime

import "bytes"

// guestMemory is the linear memory of one instance. Elsewhere than on Linux it is Go's memory.
type guestMemory struct {
	bytes []byte
	memoryState
}

func newGuestMemory(s memoryState) (*guestMemory, error) { return &guestMemory{memoryState: s}, nil }

// Reallocate makes the memory size bytes large, or returns nil if it may not be so large. It
// implements experimental.LinearMemory.
func (m *guestMemory) Reallocate(size uint64) []byte {
	if !m.grants(size) {
		return nil
	}
	m.bytes = append(m.bytes, make([]byte, size-uint64(len(m.bytes)))...)
	m.size = size
	m.in.grown()
	return m.bytes
}

// Free gives the memory back.
func (m *guestMemory) Free() { m.bytes = nil }

func (m *guestMemory) reset(img *image) error {
	copy(m.bytes, img.bytes)
	return nil
}

// image is what a memory held at one moment.
type image struct {
	bytes []byte
	size  int
}

func newImage(mem []byte) (*image, error) {
	return &image{bytes: bytes.Clone(mem), size: len(mem)}, nil
}

func (img *image) close() {}
