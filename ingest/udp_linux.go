package ingest

import (
	"encoding/binary"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// manySockets says that the kernel spreads datagrams over sockets with one address.
const manySockets = true

const (
	controlBytes = 64 // for one control message of an int, and more

	memInfoVars  = 9 // SK_MEMINFO_VARS: u32 values that SO_MEMINFO gives
	memInfoDrops = 8 // SK_MEMINFO_DROPS
)

// shareAddress lets later sockets have the address of conn as well. The first socket gets its
// address before this, and alone: a second server that asks for the same one gets an error, not
// half of the datagrams, and port 0 never stands for a port that another one shares.
func shareAddress(conn *net.UDPConn) {
	control(conn, func(fd int) { setOption(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
}

// setOption sets an option of a socket as far as the kernel has it: what came of it shows where it
// matters, in the next bind, in bufferOf and in the segments of a receive.
func setOption(fd, level, option, value int) { _ = unix.SetsockoptInt(fd, level, option, value) }

// joinAddress makes a socket one of those that share an address. It is a Control function of
// net.ListenConfig.
func joinAddress(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); e != nil {
		return e
	}
	return err
}

// control calls f with the socket's descriptor. A socket that is closed is left alone.
func control(conn *net.UDPConn, f func(fd int)) {
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) }) // fails for one that is closed
	}
}

// joinDatagrams turns UDP_GRO on, if the kernel has it: one receive then gives many datagrams of
// one size.
func joinDatagrams(conn *net.UDPConn) {
	control(conn, func(fd int) { setOption(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) })
}

// askBuffer asks for a receive buffer, past the system's limit if the process may.
func askBuffer(conn *net.UDPConn, size int) {
	control(conn, func(fd int) {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
			setOption(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		}
	})
}

// bufferOf is the receive buffer that the socket has, as it was asked for: the kernel doubles it
// for its own needs.
func bufferOf(conn *net.UDPConn) (size int) {
	control(conn, func(fd int) {
		size, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	return size / 2
}

// kernelDrops is the number of datagrams that the kernel dropped at this socket. It wraps.
func kernelDrops(conn *net.UDPConn) (drops uint32, ok bool) {
	control(conn, func(fd int) {
		var vars [memInfoVars]uint32
		size := uint32(unsafe.Sizeof(vars))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET,
			unix.SO_MEMINFO, uintptr(unsafe.Pointer(&vars)), uintptr(unsafe.Pointer(&size)), 0)
		drops, ok = vars[memInfoDrops], errno == 0 && size > 4*memInfoDrops
	})
	return drops, ok
}

// inboxPackets is how many packets one receive takes at most. With 16 an event costs 2.4 µs as fast as
// one sender can send them, with one 2.7 (wasmeval bench udp).
const inboxPackets = 16

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	unix.Msghdr
	size uint32
}

// inbox receives packets from a socket, many at once. It belongs to one goroutine.
type inbox struct {
	raw     syscall.RawConn
	try     func(fd uintptr) bool // receive
	headers [inboxPackets]mmsghdr
	buffers [inboxPackets]unix.Iovec
	control [inboxPackets][controlBytes]byte
	packets [inboxPackets]packet // those of the last receive
	got     int
	errno   syscall.Errno
}

// newInbox makes an inbox for packets of at most so many bytes, which it reserves for each.
func newInbox(conn *net.UDPConn, size int) (*inbox, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	b := &inbox{raw: raw}
	b.try = b.receive
	for i := range b.headers {
		iov, h := &b.buffers[i], &b.headers[i]
		iov.Base = unsafe.SliceData(make([]byte, size))
		iov.SetLen(size)
		h.Iov, h.Control = iov, &b.control[i][0]
		h.SetIovlen(1)
	}
	return b, nil
}

// wait waits until there is something to receive. The packets are valid until the next receive.
func (b *inbox) wait() ([]packet, error) {
	if err := b.raw.Read(b.try); err != nil {
		return nil, err
	}
	if b.errno != 0 {
		return nil, b.errno
	}
	return b.take(), nil
}

// now is wait for what is there already, also past the socket's deadline; nothing after an error.
func (b *inbox) now() []packet {
	b.got = 0
	_ = b.raw.Control(func(fd uintptr) { b.try(fd) }) // fails for a socket that is closed
	return b.take()
}

// receive receives without waiting, and reports whether there is no need to.
func (b *inbox) receive(fd uintptr) bool {
	for i := range b.headers {
		b.headers[i].SetControllen(controlBytes)
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.headers)),
			inboxPackets, unix.MSG_DONTWAIT, 0, 0)
		if b.got, b.errno = int(n), errno; errno != 0 {
			b.got = 0
		}
		if errno != unix.EINTR {
			return errno != unix.EAGAIN
		}
	}
}

// take returns the packets of the last receive.
func (b *inbox) take() []packet {
	for i := range b.got {
		h := &b.headers[i]
		b.packets[i] = packet{
			data:    unsafe.Slice(b.buffers[i].Base, h.size),
			segment: segmentBytes(b.control[i][:h.Controllen]),
			cut:     h.Flags&unix.MSG_TRUNC != 0,
		}
	}
	return b.packets[:b.got]
}

// segmentBytes is the size of the datagrams that were joined, or 0 if there is only one.
func segmentBytes(oob []byte) int {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return 0
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4 {
			return int(binary.NativeEndian.Uint32(data))
		}
		oob = rest
	}
	return 0
}
