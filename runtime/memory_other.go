//go:build !linux

package runtime

import (
	"bytes"

	"wasmeval/runtime/meter"
)

// guestMemory is the linear memory of one instance. Elsewhere than on Linux it is Go's memory.
type guestMemory struct {
	bytes []byte
	most  uint64

	refused int         // times that it may not grow
	pause   func() bool // is called when the guest asks for meter.PauseBytes, and tells whether it pauses
}

func newGuestMemory(most uint64, pause func() bool) (*guestMemory, error) {
	return &guestMemory{most: max(most, wasmPage), pause: pause}, nil
}

// Reallocate makes the memory size bytes large, or returns nil if it may not be so large. It
// implements experimental.LinearMemory.
func (m *guestMemory) Reallocate(size uint64) []byte {
	if size > m.most {
		if size != meter.PauseBytes || !m.pause() {
			m.refused++
		}
		return nil
	}
	m.bytes = append(m.bytes, make([]byte, size-uint64(len(m.bytes)))...)
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
