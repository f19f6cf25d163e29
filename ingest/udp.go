package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

const (
	// datagramBytes is more than a datagram can have, and as much as the kernel joins.
	datagramBytes = 64 << 10

	// pollEvery is how often a busy reader asks the kernel how many datagrams it dropped.
	pollEvery = time.Second

	maxReaders = 64
)

// UDP receives events from sockets that share one address. Each datagram has one event, or several
// with newlines between them. Make one with ListenUDP.
type UDP struct {
	in      *Ingest
	addr    *net.UDPAddr
	readers []*reader
	asked   int
	closing atomic.Bool // readers end when they find it set, and their deadline has passed
	done    sync.WaitGroup
	once    sync.Once
}

// UDPStats is what the sockets received since they were opened.
type UDPStats struct {
	Sockets     int
	Datagrams   uint64 // without those that the kernel dropped
	Bytes       uint64
	Dropped     uint64 // by the kernel, which counts datagrams that it had joined as one
	BufferAsked int    // bytes for each socket; 0 means the system's default
	BufferGot   int    // bytes, of the socket that got least
}

// packet is what the kernel hands over at once: one datagram, or several that it joined.
type packet struct {
	data    []byte
	segment int  // bytes of each datagram, of which the last one may be shorter; 0: there is one
	cut     bool // the datagram was larger than what is read of one
}

// reader is one socket, and the goroutine that reads it.
type reader struct {
	udp      *UDP
	conn     *net.UDPConn
	producer *bus.Producer

	// These belong to the goroutine.
	collector
	scan   *event.Scanner
	env    event.Envelope
	inbox  *inbox
	lost   [bus.Reasons]int // in one receive
	polled int64            // when it polled last, in nanoseconds since 1970-01-01 UTC

	datagrams, bytes atomic.Uint64 // stored by the goroutine, loaded by Stats

	mu      sync.Mutex // guards the rest: the goroutine, Stats and Close all poll
	drops   uint32     // the kernel's count when it was last seen; it wraps
	dropped uint64
	closed  bool
}

// ListenUDP opens sockets for the same address, such as "127.0.0.1:9999" or "[::1]:0", each with a
// receive buffer of bufferBytes (0 leaves the system's default), and a goroutine that reads it. On
// systems without SO_REUSEPORT balancing it opens one. It returns an error if the address cannot
// be had. Close it before the bus.
func (in *Ingest) ListenUDP(addr string, readers, bufferBytes int) (*UDP, error) {
	return in.listenUDP(addr, readers, bufferBytes, datagramBytes)
}

func (in *Ingest) listenUDP(addr string, readers, bufferBytes, datagram int) (*UDP, error) {
	if readers < 1 || readers > maxReaders {
		return nil, fmt.Errorf("cannot listen with %d UDP readers: expected 1 to %d",
			readers, maxReaders)
	}
	if bufferBytes < 0 || bufferBytes > 1<<30 {
		return nil, fmt.Errorf("cannot ask for a UDP buffer of %d bytes: expected 0 to %d",
			bufferBytes, 1<<30)
	}
	if !manySockets {
		readers = 1
	}
	u := &UDP{in: in, asked: bufferBytes}
	for i := range readers {
		r, err := u.open(addr, i, datagram)
		if err != nil {
			for _, r := range u.readers {
				_ = r.conn.Close()
			}
			return nil, fmt.Errorf("cannot listen on UDP %q: %w", addr, err)
		}
		u.readers = append(u.readers, r)
		u.addr = r.conn.LocalAddr().(*net.UDPAddr)
		addr = u.addr.String() // the port that the first one got
		if i == 0 && readers > 1 {
			shareAddress(r.conn)
		}
	}
	if s := u.Stats(); s.BufferGot < bufferBytes {
		in.config.Log.Warn("the UDP receive buffer is smaller than asked for: bursts may be dropped",
			"asked", bufferBytes, "got", s.BufferGot, "raise", "net.core.rmem_max")
	}
	for _, r := range u.readers {
		u.done.Go(r.run)
	}
	return u, nil
}

func (u *UDP) open(addr string, i, datagram int) (*reader, error) {
	scan, err := event.NewScanner(u.in.config.Fields, u.in.config.Limits)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	if i > 0 {
		lc.Control = joinAddress
	}
	conn, err := lc.ListenPacket(context.Background(), "udp", addr)
	if err != nil {
		return nil, err
	}
	r := &reader{
		udp: u, conn: conn.(*net.UDPConn), producer: u.in.config.Bus.NewProducer(bus.SourceUDP),
		collector: newCollector(u.in), scan: scan,
	}
	if r.inbox, err = newInbox(r.conn, datagram); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	r.shard = i % u.in.config.Bus.Shards()
	if !u.in.config.SeparateDatagrams {
		joinDatagrams(r.conn)
	}
	if u.asked > 0 {
		askBuffer(r.conn, u.asked)
	}
	return r, nil
}

// Addr is the address that all sockets have.
func (u *UDP) Addr() *net.UDPAddr { return u.addr }

// Stats returns the figures of all sockets together, and brings the ledger's kernel drops up to
// date.
func (u *UDP) Stats() UDPStats {
	s := UDPStats{Sockets: len(u.readers), BufferAsked: u.asked}
	for i, r := range u.readers {
		s.Dropped += r.poll()
		s.Datagrams += r.datagrams.Load()
		s.Bytes += r.bytes.Load()
		if got := bufferOf(r.conn); i == 0 || got < s.BufferGot {
			s.BufferGot = got
		}
	}
	return s
}

// Close reads what the sockets have received so far, closes them, and returns after the readers
// ended. What arrives meanwhile may get lost, like all that comes later.
func (u *UDP) Close() error {
	var errs []error
	u.once.Do(func() {
		u.closing.Store(true)
		for _, r := range u.readers {
			errs = append(errs, r.conn.SetReadDeadline(time.Unix(1, 0))) // wakes the reader
		}
		u.done.Wait()
		for _, r := range u.readers {
			r.poll()
			r.mu.Lock()
			r.closed = true
			errs = append(errs, r.conn.Close())
			r.mu.Unlock()
		}
	})
	return errors.Join(errs...)
}

// run receives until the socket is closed.
func (r *reader) run() {
	for {
		packets, err := r.inbox.wait()
		switch {
		case err == nil:
			r.receive(packets)
		case r.udp.closing.Load():
			r.drain()
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.idle()
		default:
			// An error of one datagram, such as a refused port of a peer. It is the kernel's to say
			// when there is something to read again, so this does not spin.
			r.udp.in.config.Log.Warn("cannot receive from UDP", "error", err)
			if errors.Is(err, net.ErrClosed) {
				return
			}
		}
	}
}

// idle polls once after the last receive, since drops may have come after the poll before, and
// then waits without a deadline: an idle server does nothing.
func (r *reader) idle() {
	r.poll()
	r.setDeadline(time.Time{})
	r.polled = 0
}

// setDeadline does not touch the deadline by which Close wakes the reader. It fails only for a
// socket that is closed, which the next receive tells.
func (r *reader) setDeadline(t time.Time) {
	_ = r.conn.SetReadDeadline(t)
	if r.udp.closing.Load() {
		_ = r.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// drain receives what the socket holds when the reader ends: at most as much as its buffer takes,
// so that it ends also under load. The kernel doubles a buffer for its own needs, of which large
// datagrams leave nearly all to their bytes, and goes past its size by a datagram or two.
func (r *reader) drain() {
	for left := 2 * (bufferOf(r.conn) + datagramBytes); left > 0; {
		packets := r.inbox.now()
		if len(packets) == 0 {
			return
		}
		r.receive(packets)
		for i := range packets {
			left -= len(packets[i].data) + 1
		}
	}
}

// receive takes what came at once.
func (r *reader) receive(packets []packet) {
	now := r.in.config.Now()
	r.reset(now, r.shard)
	datagrams, size := 0, 0
	for i := range packets {
		datagrams += r.packet(&packets[i])
		size += len(packets[i].data)
	}
	for why, n := range r.lost {
		if n > 0 {
			r.producer.Lose(bus.Reason(why), n)
			r.lost[why] = 0
		}
	}
	r.submit(r.producer)
	r.datagrams.Add(uint64(datagrams))
	r.bytes.Add(uint64(size))
	if now-r.polled >= int64(pollEvery) || now < r.polled {
		r.polled = now
		r.poll()
		r.setDeadline(time.Now().Add(pollEvery))
	}
}

// packet collects the events of what the kernel joined, and returns how many datagrams that were.
func (r *reader) packet(p *packet) (datagrams int) {
	data := p.data
	for datagrams = 1; p.segment > 0 && len(data) > p.segment; datagrams++ {
		r.datagram(data[:p.segment], false)
		data = data[p.segment:]
	}
	r.datagram(data, p.cut)
	return datagrams
}

// datagram collects the events of one datagram. If it was cut off, so was its last event.
func (r *reader) datagram(data []byte, cut bool) {
	if cut {
		r.lost[bus.Truncated]++
		data = data[:bytes.LastIndexByte(data, '\n')+1]
	}
	for body := r.scan.Body(data, event.Lines); body.Next(&r.env); {
		if body.Err != nil {
			r.lost[body.Err.Reason]++
		} else if r.add(&r.env, body.JSON, body.Index) != nil {
			r.lost[bus.BadEnvelope]++
		}
	}
}

// poll counts what the kernel dropped since the last poll, and returns how much that is in all.
func (r *reader) poll() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return r.dropped
	}
	drops, ok := kernelDrops(r.conn)
	if !ok {
		return r.dropped
	}
	if more := drops - r.drops; more > 0 {
		r.drops = drops
		r.dropped += uint64(more)
		r.producer.Lose(bus.Kernel, int(more))
	}
	return r.dropped
}
