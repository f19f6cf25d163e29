//go:build !linux

package runtime

import (
	"bytes"
	"errors"
)

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

// window would be memory that instances share.
type window struct{ bytes []byte }

var errNoWindow = errors.New("instances share no memory on this system")

func newWindow(int) (*window, error)           { return nil, errNoWindow }
func (w *window) close()                       {}
func (m *guestMemory) show(*window, int) error { return errNoWindow }
func (m *guestMemory) hide() error             { return nil }
func (m *guestMemory) clean() error            { return errNoWindow }

// image is what a memory held at one moment.
type image struct {
	bytes []byte
	size  int
}

func newImage(mem []byte) (*image, error) {
	return &image{bytes: bytes.Clone(mem), size: len(mem)}, nil
}

func (img *image) close() {}
