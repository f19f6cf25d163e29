package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guestMemory is the linear memory of one instance: address space for all that it may grow to, so
// that it never moves, of which only pages that were touched cost memory. It belongs to the
// instance, and to the goroutine that has that.
type guestMemory struct {
	region []byte // nil once freed
	base   *image // what is mapped over its beginning, or nil
	memoryState
}

// newGuestMemory reserves a memory for an instance. The bytes are zero.
func newGuestMemory(s memoryState) (*guestMemory, error) {
	if err := budget.addMemory(); err != nil {
		return nil, err
	}
	region, err := unix.Mmap(-1, 0, int(max(s.most, wasmPage)), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		budget.memories.Add(-1)
		return nil, fmt.Errorf("cannot reserve %d bytes for a rule's memory: %w", s.most, err)
	}
	_ = smallPages(region) // it works without, with more memory
	return &guestMemory{region: region, memoryState: s}, nil
}

// smallPages keeps the kernel from huge pages: one for each touched byte would be 2 MiB for a rule that
// needs 64 KiB. Kernels without huge pages refuse this, and need it not. All of a memory that is no file's
// must have it, since mappings that differ in it stay apart for good.
func smallPages(b []byte) error {
	if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// Reallocate makes the memory size bytes large, or returns nil if it may not be so large. It
// implements experimental.LinearMemory.
func (m *guestMemory) Reallocate(size uint64) []byte {
	if !m.grants(size) {
		return nil
	}
	m.size = size
	m.in.grown()
	return m.region[:size:size]
}

// Free gives the memory back. Views of it are no longer valid. It may be called more than once.
func (m *guestMemory) Free() {
	if m.region != nil {
		_ = unix.Munmap(m.region) // it was mapped, so this cannot fail
		m.region = nil
		budget.memories.Add(-1)
		if m.shown != nil {
			m.shown = nil
			budget.shown.Add(-1)
		}
	}
}

// reset gives the memory the bytes of an image. It must have the image's size now.
func (m *guestMemory) reset(img *image) error {
	if m.base == img {
		// A private page that was written to is dropped, and the image shows again.
		return unix.Madvise(m.region[:img.size], unix.MADV_DONTNEED)
	}
	if err := m.mapAt(0, img.size, img.fd, 0, 0); err != nil {
		return err
	}
	m.base = img
	return nil
}

// mapAt maps a file copy-on-write over a part of the memory, or zeros with the flag MAP_ANON.
func (m *guestMemory) mapAt(at, size, fd, from, flag int) error {
	if at%osPage != 0 || size%osPage != 0 || at < 0 || at+size > len(m.region) {
		return fmt.Errorf("BUG: %d bytes at %d are no whole pages in a rule's memory", size, at)
	}
	_, err := unix.MmapPtr(fd, int64(from), unsafe.Pointer(&m.region[at]), uintptr(size),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE|flag)
	if err != nil {
		return fmt.Errorf("cannot map a part of a rule's memory: %w", err)
	}
	return nil
}

// memoryFile makes a file in memory, without a name, of so many bytes.
func memoryFile(label string, size int) (fd int, err error) {
	if fd, err = unix.MemfdCreate(label, unix.MFD_CLOEXEC); err != nil {
		return 0, err
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// image is what a memory held at one moment. Memories map it copy-on-write, so those that begin
// with the same image share the pages that they do not change.
type image struct {
	fd   int // of a file in memory, without a name
	size int // bytes, whole pages of 64 KiB
}

// newImage copies a memory; pages of zeros are left out.
func newImage(mem []byte) (*image, error) {
	fd, err := memoryFile("wasmeval-rule", len(mem))
	if err != nil {
		return nil, fmt.Errorf("cannot make the image of a rule's memory: %w", err)
	}
	img := &image{fd: fd, size: len(mem)}
	if err := img.fill(mem); err != nil {
		img.close()
		return nil, fmt.Errorf("cannot fill the image of a rule's memory: %w", err)
	}
	return img, nil
}

var zeroPage [osPage]byte

func (img *image) fill(mem []byte) error {
	for at := 0; at < len(mem); at += len(zeroPage) {
		page := mem[at : at+len(zeroPage)]
		if bytes.Equal(page, zeroPage[:]) {
			continue
		}
		for n := 0; n < len(page); {
			k, err := unix.Pwrite(img.fd, page[n:], int64(at+n))
			if err != nil {
				return err
			}
			n += k
		}
	}
	return nil
}

// close lets go of the image; memories that have mapped it keep it.
func (img *image) close() { _ = unix.Close(img.fd) }
