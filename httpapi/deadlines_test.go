package httpapi

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener of connections that are pipes, for tests whose clock is the bubble's.
type pipes struct {
	conns   chan net.Conn
	applied atomic.Int64 // deadlines that reached the pipes
}

func (p *pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p *pipes) Close() error {
	close(p.conns)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

type countedConn struct {
	net.Conn
	applied *atomic.Int64
}

func (c countedConn) SetReadDeadline(t time.Time) error {
	c.applied.Add(1)
	return c.Conn.SetReadDeadline(t)
}

func (c countedConn) SetWriteDeadline(t time.Time) error {
	c.applied.Add(1)
	return c.Conn.SetWriteDeadline(t)
}

// lazyPipe is a connection with lazy deadlines, and its other end.
func lazyPipe(t *testing.T) (here, there net.Conn) {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn, 1)}
	inner, there := net.Pipe()
	p.conns <- inner
	here, err := LazyDeadlines(p).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

// later does something after a while.
func later(d time.Duration, f func()) {
	go func() {
		time.Sleep(d)
		f()
	}()
}

func TestReadDeadlines(t *testing.T) {
	none := time.Duration(0) // no deadline
	for name, c := range map[string]struct {
		earlier, wanted, changed time.Duration // changed comes one second into the read, if not -1
		data                     time.Duration // when it comes
		ends                     time.Duration
		timeout                  bool
	}{
		"none":                     {none, none, -1, 90 * time.Second, 90 * time.Second, false},
		"met":                      {none, 60 * time.Second, -1, 90 * time.Second, 60 * time.Second, true},
		"data before":              {none, 60 * time.Second, -1, 59 * time.Second, 59 * time.Second, false},
		"passed at once":           {none, -time.Second, -1, 90 * time.Second, 0, true},
		"passed after another":     {60 * time.Second, -time.Second, -1, 90 * time.Second, 0, true},
		"later than before":        {5 * time.Second, 60 * time.Second, -1, 90 * time.Second, 60 * time.Second, true},
		"later than before, data":  {5 * time.Second, 60 * time.Second, -1, 30 * time.Second, 30 * time.Second, false},
		"earlier than before":      {60 * time.Second, 5 * time.Second, -1, 90 * time.Second, 5 * time.Second, true},
		"lifted":                   {5 * time.Second, none, -1, 90 * time.Second, 90 * time.Second, false},
		"set under way":            {none, none, 7 * time.Second, 90 * time.Second, 8 * time.Second, true},
		"lifted under way":         {none, 5 * time.Second, none, 90 * time.Second, 90 * time.Second, false},
		"drawn near under way":     {none, 60 * time.Second, 7 * time.Second, 90 * time.Second, 8 * time.Second, true},
		"put off under way":        {none, 5 * time.Second, 60 * time.Second, 90 * time.Second, 61 * time.Second, true},
		"put off under way, again": {3 * time.Second, 5 * time.Second, 60 * time.Second, 90 * time.Second, 61 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := lazyPipe(t)
				set := func(d time.Duration) {
					at := time.Time{}
					if d != none {
						at = time.Now().Add(d)
					}
					if err := here.SetDeadline(at); err != nil {
						t.Error(err)
					}
				}
				if c.earlier != none { // it gets to the pipe, as something is read under it
					set(c.earlier)
					later(0, func() { there.Write([]byte("0")) })
					if _, err := here.Read(make([]byte, 1)); err != nil {
						t.Fatal(err)
					}
				}
				set(c.wanted)
				if c.changed != -1 {
					later(time.Second, func() { set(c.changed) })
				}
				later(c.data, func() { there.Write([]byte("1")) })
				begun := time.Now()
				n, err := here.Read(make([]byte, 1))
				if took := time.Since(begun); took != c.ends || errors.Is(err, os.ErrDeadlineExceeded) != c.timeout {
					t.Errorf("after %v: %d bytes, %v", took, n, err)
				}
				set(none)
				if c.timeout { // what timed out can go on
					if _, err := here.Read(make([]byte, 1)); err != nil || time.Since(begun) != c.data {
						t.Errorf("second read after %v: %v", time.Since(begun), err)
					}
				}
				synctest.Wait()
			})
		})
	}
}

func TestWriteDeadlines(t *testing.T) {
	for name, c := range map[string]struct {
		wanted  time.Duration
		arrives int // of the six bytes, one of which is read each second
	}{
		"met": {3500 * time.Millisecond, 3}, "far": {time.Minute, 6}, "none": {0, 6}, "passed": {-1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := lazyPipe(t)
				here.SetDeadline(time.Now().Add(1500 * time.Millisecond)) // passes within the second write
				later(0, func() { there.Read(make([]byte, 1)) })
				if n, err := here.Write([]byte("0")); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				wanted := time.Time{}
				if c.wanted != 0 {
					wanted = time.Now().Add(c.wanted)
				}
				here.SetDeadline(wanted)
				arrived := make(chan string)
				go func() {
					var got []byte
					for range 6 {
						time.Sleep(time.Second)
						p := make([]byte, 1)
						n, _ := there.Read(p)
						got = append(got, p[:n]...)
					}
					arrived <- string(got)
				}()
				n, err := here.Write([]byte("123456"))
				if errors.Is(err, os.ErrDeadlineExceeded) != (c.arrives < 6) || n != c.arrives {
					t.Errorf("wrote %d: %v", n, err)
				}
				here.Close()
				if got := <-arrived; got != "123456"[:c.arrives] {
					t.Errorf("%q arrived", got)
				}
			})
		})
	}
}

// servePipes serves pipes with the timeouts that NewServer sets, until the end of the test.
func servePipes(t *testing.T, wrap func(net.Listener) net.Listener, h http.HandlerFunc) (dial func() net.Conn, applied *atomic.Int64) {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn)}
	s := NewServer(h)
	done := make(chan error)
	go func() { done <- s.Serve(wrap(p)) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return func() net.Conn {
		inner, conn := net.Pipe()
		p.conns <- countedConn{inner, &p.applied}
		t.Cleanup(func() { conn.Close() })
		return conn
	}, &p.applied
}

func echo(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }

func post(t *testing.T, conn net.Conn, in *bufio.Reader, body string) {
	t.Helper()
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if got, err := io.ReadAll(answer.Body); string(got) != body || err != nil {
		t.Fatalf("answer is %q, %v", got, err)
	}
}

// Each timeout of the server ends a connection when it says, also after other requests.
func TestServerTimeoutsAreMet(t *testing.T) {
	for name, c := range map[string]struct {
		send string
		ends time.Duration
	}{
		"idle":   {"", 120 * time.Second},
		"header": {"POST / HTTP/1.1\r\nHo", 5 * time.Second},
		"body":   {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc", 60 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial, _ := servePipes(t, LazyDeadlines, echo)
				conn := dial()
				in := bufio.NewReader(conn)
				for range 50 {
					post(t, conn, in, "abc")
					time.Sleep(7 * time.Second)
				}
				post(t, conn, in, "abc")
				begun := time.Now()
				io.WriteString(conn, c.send)
				rest, err := io.ReadAll(in)
				if took := time.Since(begun); took != c.ends || err != nil {
					t.Errorf("ends after %v with %q, %v: expected %v", took, rest, err, c.ends)
				}
			})
		})
	}
}

// A handler learns that its client has gone, and one that takes long is not cut.
func TestSlowHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan time.Time, 1)
		dial, _ := servePipes(t, LazyDeadlines, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			select {
			case <-time.After(100 * time.Second):
				w.Write(body)
			case <-r.Context().Done():
				gone <- time.Now()
			}
		})
		conn := dial()
		in := bufio.NewReader(conn)
		post(t, conn, in, "abc")
		post(t, conn, in, "def")
		fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\na")
		time.Sleep(time.Second)
		conn.Close()
		if closed := time.Now(); !(<-gone).Equal(closed) {
			t.Error("the handler learnt late that the client has gone")
		}
	})
}

// What they are for: requests that follow each other change few timers. A read that waits while a
// handler works is ended by a change of its timer, which happens to some of the requests.
func TestDeadlinesAreLazy(t *testing.T) {
	const requests = 1000
	count := func(wrap func(net.Listener) net.Listener) (n int64) {
		synctest.Test(t, func(t *testing.T) {
			dial, applied := servePipes(t, wrap, echo)
			conn := dial()
			in := bufio.NewReader(conn)
			for range requests {
				post(t, conn, in, strings.Repeat("x", 200))
			}
			n = applied.Load()
		})
		return n
	}
	plain := count(func(lis net.Listener) net.Listener { return lis })
	lazy := count(LazyDeadlines)
	if plain < 6*requests || lazy > 2*requests+10 {
		t.Errorf("%d deadlines for %d requests, %d if lazy", plain, requests, lazy)
	}
}

func TestWriteTimeoutIsMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error)
		dial, _ := servePipes(t, LazyDeadlines, func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength == 3 {
				echo(w, r)
				return
			}
			_, err := w.Write(make([]byte, 1<<20))
			ended <- err
		})
		conn := dial()
		in := bufio.NewReader(conn)
		post(t, conn, in, "abc")
		time.Sleep(time.Minute)
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		begun := time.Now()
		err := <-ended // nobody reads the answer
		if took := time.Since(begun); took != 120*time.Second || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %v: %v", took, err)
		}
	})
}
