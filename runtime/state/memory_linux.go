package state

import (
	"syscall"
	"unsafe"
)

// claim gives so many words of zeros. They are address space until they are touched.
func claim(words int) ([]uint64, error) {
	b, err := syscall.Mmap(-1, 0, words*wordBytes, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	// A table with few keys would cost a huge page for each. Kernels without huge pages refuse this,
	// and need it not.
	_ = syscall.Madvise(b, syscall.MADV_NOHUGEPAGE)
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), words), nil
}

// free gives back what claim gave.
func free(mem []uint64) error { return syscall.Munmap(bytesOf(mem)) }
