package udpclient

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// receiver reads datagrams of a socket of its own until the wanted number of events has come, or
// none comes any more.
type receiver struct {
	t    *testing.T
	conn *net.UDPConn
}

func listen(t *testing.T) *receiver {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &receiver{t, conn}
}

func (r *receiver) events(n int) (events []string, datagrams [][]byte) {
	r.t.Helper()
	buf := make([]byte, 1<<16)
	for len(events) < n {
		if err := r.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			r.t.Fatal(err)
		}
		size, err := r.conn.Read(buf)
		if err != nil {
			r.t.Fatalf("after %d of %d events: %v", len(events), n, err)
		}
		datagrams = append(datagrams, bytes.Clone(buf[:size]))
		for line := range strings.Lines(string(buf[:size])) {
			events = append(events, strings.TrimSpace(line))
		}
	}
	return events, datagrams
}

func dial(t *testing.T, r *receiver, size int) *Client {
	t.Helper()
	c, err := Dial(r.conn.LocalAddr().String(), size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Events of all sizes come once, whole and in their order, whether the system cuts the batches or
// not; no datagram is larger than was asked for, but for an event that is.
func TestSend(t *testing.T) {
	for _, size := range []int{0, 1, 100, 300, 9000, MaxEvent} {
		for _, offload := range []bool{true, false} {
			t.Run(fmt.Sprint(size, offload), func(t *testing.T) {
				r := listen(t)
				c := dial(t, r, size)
				if !offload {
					c.segment = nil
				}
				var want []string
				for i := range 500 {
					want = append(want, fmt.Sprintf(`{"n":%d,"text":"%s"}`, i, strings.Repeat("x", i*i%700)))
				}
				for _, e := range want {
					if err := c.Send([]byte(e)); err != nil {
						t.Fatal(err)
					}
				}
				if err := c.Flush(); err != nil {
					t.Fatal(err)
				}
				got, datagrams := r.events(len(want))
				for i := range want {
					if got[i] != want[i] {
						t.Fatalf("event %d is %q, expected %q", i, got[i], want[i])
					}
				}
				for _, d := range datagrams {
					if len(d) > c.size && bytes.IndexByte(d, '\n') >= 0 {
						t.Errorf("a datagram of several events has %d bytes, expected at most %d", len(d), c.size)
					}
				}
				if size == 0 && len(datagrams) > 200 {
					t.Errorf("500 events came in %d datagrams", len(datagrams))
				}
			})
		}
	}
}

// A batch goes when it is full, not before, and the receiver sees datagrams of one size.
func TestSegments(t *testing.T) {
	r := listen(t)
	c := dial(t, r, 200)
	event := []byte(`{"a":"` + strings.Repeat("x", 150) + `"}`)
	for range 64 {
		if err := c.Send(event); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.batch); n != 63*200+len(event) {
		t.Fatalf("the batch has %d bytes, so it was sent too early", n)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	_, datagrams := r.events(64)
	for i, d := range datagrams[:63] {
		if c.Segments() && len(d) != 200 {
			t.Errorf("datagram %d has %d bytes, expected 200", i, len(d))
		}
	}
}

// What a path cannot cut goes one by one.
func TestFallback(t *testing.T) {
	r := listen(t)
	c := dial(t, r, 100)
	if !c.Segments() {
		return // this system never cuts: TestSend has shown the rest
	}
	c.segment = segmentMessage(1) // more segments than the kernel cuts
	for range 50 {
		if err := c.Send([]byte(`{"a":1,"b":"` + strings.Repeat("y", 60) + `"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.events(50); len(got) != 50 || c.Segments() {
		t.Errorf("%d events came, and Segments says %v", len(got), c.Segments())
	}
}

func TestRefused(t *testing.T) {
	if _, err := Dial("127.0.0.1:1", MaxEvent+1); err == nil {
		t.Error("datagrams that are too large are taken")
	}
	if _, err := Dial("127.0.0.1", 0); err == nil {
		t.Error("an address without a port is taken")
	}
	c := dial(t, listen(t), 0)
	if err := c.Send(make([]byte, MaxEvent+1)); err == nil {
		t.Error("an event that is too large is taken")
	}
}

func TestNoAllocation(t *testing.T) {
	r := listen(t)
	c := dial(t, r, 0)
	event := []byte(`{"a":"` + strings.Repeat("x", 190) + `"}`)
	if n := testing.AllocsPerRun(2000, func() {
		if err := c.Send(event); err != nil {
			t.Fatal(err)
		}
	}); n > 0.1 {
		t.Errorf("%v allocations an event", n)
	}
}
