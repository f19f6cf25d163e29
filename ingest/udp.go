package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// UDPConfig is what ListenUDP needs. A zero is the default, but for the address.
type UDPConfig struct {
	Addr               string // host:port; port 0 lets the system choose
	Readers            int    // sockets, each with one reader goroutine; default 1
	ReceiveBufferBytes int    // to ask the kernel for, for each socket; default 4 MiB
	DatagramBytes      int    // largest datagram; default 64 KiB, which is all that UDP has
	NoGRO              bool   // do not let the kernel hand over many datagrams at once
}

const (
	maxDatagram = 64 << 10
	dropsEvery  = time.Second
	memInfo     = 9 // words of SO_MEMINFO
	memDrops    = 8 // the word that counts drops; source: linux/sock_diag.h, SK_MEMINFO_DROPS
)

// UDP receives events: each datagram holds one, or several separated by newlines. Nothing is ever
// sent back.
type UDP struct {
	in      *Ingest
	readers []*reader
	running sync.WaitGroup
	stop    chan struct{}
	once    sync.Once
}

// reader is one socket. Its fields but the atomics belong to its goroutine.
type reader struct {
	u        *UDP
	conn     *net.UDPConn
	raw      syscall.RawConn
	granted  int
	lane     *bus.Producer
	buf, oob []byte
	scanner  *event.Scanner
	env      event.Envelope
	events   collector

	datagrams, bytes atomic.Uint64
	drops            sync.Mutex // guards dropped, and that each drop is counted once
	dropped          uint32     // what the kernel said last
}

// ListenUDP opens sockets that share one port (SO_REUSEPORT) and reads from them until Close. Events
// without a key keep the order of their socket, and the kernel keeps a sender on one socket.
func (in *Ingest) ListenUDP(c UDPConfig) (*UDP, error) {
	if c.Readers == 0 {
		c.Readers = 1
	}
	if c.ReceiveBufferBytes == 0 {
		c.ReceiveBufferBytes = 4 << 20
	}
	if c.DatagramBytes == 0 {
		c.DatagramBytes = maxDatagram
	}
	if c.DatagramBytes < maxDatagram {
		c.NoGRO = true // the kernel would cut off what it puts together
	}
	u := &UDP{in: in, stop: make(chan struct{})}
	for i := range c.Readers {
		r, err := u.open(&c, i)
		if err != nil {
			u.closeConns()
			return nil, fmt.Errorf("cannot listen for UDP on %q: %w", c.Addr, err)
		}
		u.readers = append(u.readers, r)
		c.Addr = r.conn.LocalAddr().String() // the next ones share the port that the first got
	}
	if got := u.readers[0].granted; got < c.ReceiveBufferBytes {
		in.config.Log.Warn("the kernel granted a smaller receive buffer: bursts may be dropped; "+
			"raise net.core.rmem_max", "asked_bytes", c.ReceiveBufferBytes, "granted_bytes", got)
	}
	for _, r := range u.readers {
		u.running.Go(r.run)
	}
	u.running.Go(u.watch)
	return u, nil
}

func (u *UDP) open(c *UDPConfig, i int) (*reader, error) {
	var optErr error
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		err := raw.Control(func(fd uintptr) { optErr = setOptions(int(fd), c) })
		return errors.Join(err, optErr)
	}}
	conn, err := lc.ListenPacket(context.Background(), "udp", c.Addr)
	if err != nil {
		return nil, err
	}
	r := &reader{u: u, conn: conn.(*net.UDPConn), lane: u.in.config.Bus.NewProducer(bus.SourceUDP),
		buf: make([]byte, c.DatagramBytes), oob: make([]byte, 128), events: newCollector(u.in)}
	if r.scanner, err = event.NewScanner(u.in.config.Fields, u.in.config.Limits); err == nil {
		r.raw, err = r.conn.SyscallConn()
	}
	if err == nil {
		err = r.raw.Control(func(fd uintptr) {
			r.granted, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
			r.granted /= 2 // the kernel doubles what it was asked for, for its own needs
		})
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	r.events.reset(0, i%len(r.events.groups))
	r.events.shard = i % len(r.events.groups)
	return r, nil
}

func setOptions(fd int, c *UDPConfig) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	// The first needs a privilege, the second is cut to net.core.rmem_max; what was granted is read
	// back.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, c.ReceiveBufferBytes) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, c.ReceiveBufferBytes); err != nil {
			return err
		}
	}
	if !c.NoGRO {
		_ = unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) // an old kernel has none: slower
	}
	return nil
}

// Addr is the address that all sockets share.
func (u *UDP) Addr() netip.AddrPort {
	return u.readers[0].conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// run reads until the socket is closed or Close asks for what is left in it.
func (r *reader) run() {
	for {
		n, oobn, flags, _, err := r.conn.ReadMsgUDPAddrPort(r.buf, r.oob)
		if err == nil {
			r.receive(n, r.oob[:oobn], flags)
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			r.drain()
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		// Such as ECONNREFUSED of an answer that we never sent: the socket lives on.
		r.u.in.config.Log.Warn("cannot read from a UDP socket", "error", err)
		select {
		case <-r.u.stop:
			r.drain()
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// drain reads what the kernel has already taken, without waiting for more.
func (r *reader) drain() {
	_ = r.raw.Control(func(fd uintptr) {
		for range 1 << 20 {
			n, oobn, flags, _, err := unix.Recvmsg(int(fd), r.buf, r.oob, unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			r.receive(n, r.oob[:oobn], flags)
		}
	})
}

// receive takes what one call of the kernel gave: a datagram, or with GRO several of one size, of
// which the last may be shorter.
func (r *reader) receive(n int, oob []byte, flags int) {
	r.bytes.Add(uint64(n))
	if flags&unix.MSG_TRUNC != 0 {
		r.datagrams.Add(1)
		r.lane.Lose(bus.Truncated, 1)
		return
	}
	size := segment(oob)
	if size <= 0 || size > n {
		size = n
	}
	r.events.reset(r.u.in.config.Now(), r.events.shard)
	for at := 0; at < n; at += size {
		r.datagrams.Add(1)
		r.datagram(r.buf[at:min(at+size, n)])
	}
	r.events.submit(r.lane) // counts what it cannot place
}

// segment reads the size of the datagrams that GRO put together; 0 if it did not.
func segment(oob []byte) int {
	// A cmsghdr of 16 bytes (length, level, type), then an int.
	if len(oob) < unix.CmsgSpace(4) {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	if h.Level != unix.SOL_UDP || h.Type != unix.UDP_GRO {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(oob[unix.CmsgLen(0):])))
}

// datagram scans the events of one datagram.
func (r *reader) datagram(data []byte) {
	body := r.scanner.Body(data, event.Lines)
	for body.Next(&r.env) {
		if body.Err != nil {
			r.lane.Lose(bus.Reason(body.Err.Reason), 1)
			continue
		}
		if err := r.events.add(&r.env, body.JSON, body.Index); err != nil {
			r.lane.Lose(bus.BadEnvelope, 1)
		}
	}
	if body.Index < 0 {
		r.lane.Lose(bus.Malformed, 1) // an empty datagram is one event that says nothing
	}
}

// watch counts the kernel's drops now and then, so that they show even if nobody asks.
func (u *UDP) watch() {
	tick := time.NewTicker(dropsEvery)
	defer tick.Stop()
	for {
		select {
		case <-u.stop:
			return
		case <-tick.C:
			u.Poll()
		}
	}
}

// Poll asks the kernel for its drops and counts those that are new, each datagram as one event.
func (u *UDP) Poll() {
	for _, r := range u.readers {
		r.poll()
	}
}

func (r *reader) poll() {
	r.drops.Lock()
	defer r.drops.Unlock()
	now, ok := r.dropped, false
	_ = r.raw.Control(func(fd uintptr) { now, ok = kernelDrops(int(fd)) })
	if ok && now != r.dropped {
		r.lane.Lose(bus.Kernel, int(now-r.dropped)) // the difference is right across a wrap too
		r.dropped = now
	}
}

// kernelDrops reads a socket's drop counter from SO_MEMINFO, which is never late.
func kernelDrops(fd int) (uint32, bool) {
	var info [memInfo]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return info[memDrops], e == 0 && size > memDrops*4
}

// UDPStats are the figures of all readers since ListenUDP.
type UDPStats struct {
	Sockets            int
	Datagrams, Bytes   uint64
	ReceiveBufferBytes int // granted, for each socket
}

// Stats reads the figures, and counts the kernel's drops.
func (u *UDP) Stats() UDPStats {
	u.Poll()
	s := UDPStats{Sockets: len(u.readers), ReceiveBufferBytes: u.readers[0].granted}
	for _, r := range u.readers {
		s.Datagrams += r.datagrams.Load()
		s.Bytes += r.bytes.Load()
	}
	return s
}

// Close stops taking datagrams: what the kernel has already is read, what it dropped is counted, and
// the sockets are closed. It returns when all readers have ended, and may be called more than once.
func (u *UDP) Close() {
	u.once.Do(func() {
		close(u.stop)
		for _, r := range u.readers {
			_ = r.conn.SetReadDeadline(time.Unix(1, 0))
		}
		u.running.Wait()
		u.Poll()
		u.closeConns()
	})
}

func (u *UDP) closeConns() {
	for _, r := range u.readers {
		_ = r.conn.Close()
	}
}
