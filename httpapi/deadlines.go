package httpapi

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// LazyDeadlines is a listener whose connections leave a deadline with the runtime's timers only
// when it could matter. net/http sets five deadlines for a request, each of them a change of a
// timer, and a small request is over long before any. Here a deadline that is later than the one
// which the timers have is noted only; when the earlier one passes while a read or a write waits,
// the one that was noted takes its place. Deadlines are met as exactly as before.
func LazyDeadlines(lis net.Listener) net.Listener { return lazyListener{lis} }

type lazyListener struct{ net.Listener }

func (l lazyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &lazyConn{Conn: conn}
	c.read.apply, c.write.apply = conn.SetReadDeadline, conn.SetWriteDeadline
	return c, nil
}

// lazyConn is one connection. Its methods may be called at any time, as those of any net.Conn.
type lazyConn struct {
	net.Conn
	read, write lazyDeadline
}

// lazyDeadline is the deadline of a connection's reads, or that of its writes.
type lazyDeadline struct {
	apply func(time.Time) error // leaves one with the timers

	mu      sync.Mutex
	wanted  time.Time // what the connection's user set last; zero is none
	applied time.Time // what the timers have
	waiting int       // reads or writes under way
}

func (d *lazyDeadline) set(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = t
	if d.waiting == 0 {
		return nil
	}
	return d.applyWanted() // one under way must learn of it: net/http ends reads so
}

func (d *lazyDeadline) applyWanted() error {
	d.applied = d.wanted
	return d.apply(d.wanted)
}

// begin makes ready for a read or a write, which end must follow if there is no error.
func (d *lazyDeadline) begin() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.wanted.IsZero() && (d.applied.IsZero() || d.applied.After(d.wanted)) {
		if d.passed() {
			return os.ErrDeadlineExceeded
		}
		if err := d.applyWanted(); err != nil {
			return err
		}
	}
	d.waiting++
	return nil
}

// end takes what a read or a write returned, and says whether to go on: what passed was a deadline
// of before, and the wanted one is with the timers now.
func (d *lazyDeadline) end(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting--
	return errors.Is(err, os.ErrDeadlineExceeded) && !d.passed() && d.applyWanted() == nil
}

func (d *lazyDeadline) passed() bool { return !d.wanted.IsZero() && !time.Now().Before(d.wanted) }

func (c *lazyConn) SetDeadline(t time.Time) error {
	return errors.Join(c.read.set(t), c.write.set(t))
}

func (c *lazyConn) SetReadDeadline(t time.Time) error { return c.read.set(t) }

func (c *lazyConn) SetWriteDeadline(t time.Time) error { return c.write.set(t) }

func (c *lazyConn) Read(p []byte) (int, error) {
	for {
		if err := c.read.begin(); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(p)
		if !c.read.end(err) || n > 0 {
			return n, err
		}
	}
}

func (c *lazyConn) Write(p []byte) (int, error) {
	for done := 0; ; {
		if err := c.write.begin(); err != nil {
			return done, err
		}
		n, err := c.Conn.Write(p[done:])
		done += n
		if !c.write.end(err) {
			return done, err
		}
	}
}

// CloseWrite is what net/http uses for a connection's orderly end.
func (c *lazyConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
