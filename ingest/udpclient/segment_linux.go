package udpclient

import (
	"encoding/binary"
	"errors"
	"syscall"
	"unsafe"
)

const udpSegment = 103 // UDP_SEGMENT

// segmentMessage is a control message that asks the kernel to cut what is sent into datagrams: a
// cmsghdr with level IPPROTO_UDP and type UDP_SEGMENT, then the size of a datagram as a u16.
func segmentMessage(size int) []byte {
	b := make([]byte, syscall.CmsgSpace(2))
	h := (*syscall.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = syscall.IPPROTO_UDP, udpSegment
	h.SetLen(syscall.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[syscall.CmsgLen(0):], uint16(size))
	return b
}

// cannotSegment tells the errors of a system, device or path without segmentation from others.
// Nothing was sent then.
func cannotSegment(err error) bool {
	for _, e := range []syscall.Errno{syscall.EINVAL, syscall.EIO, syscall.EMSGSIZE,
		syscall.EOPNOTSUPP, syscall.ENOPROTOOPT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
