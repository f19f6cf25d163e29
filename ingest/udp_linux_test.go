package ingest

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wasmeval/bus"
)

// A datagram larger than the buffer is cut off by the kernel, and with it its last event.
func TestUDPTruncated(t *testing.T) {
	const size = 24
	w := newWorld(t, Config{}, 1, smallRing)
	u, err := w.in.listenUDP(anyPort, 1, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, u.Addr())
	var all items
	for _, c := range datagramsOf24 {
		sendTo(t, conn, c.text)
		list := itemsOf(c.items)
		all = append(all, list...)
		w.received(len(all))
		list.expectNumbers(t, w.drain())
	}
	u.Close()
	w.expectLedger(bus.SourceUDP, all.ledger(t))
}

// datagramsOf24 is what comes of datagrams when 24 bytes are read.
var datagramsOf24 = []struct{ text, items string }{
	{`{"n":0,  "exactly":"24"}`, "ok"},
	{`{"n":0,   "exactly":"25"}`, "truncated"},
	{"{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n", "ok ok ok"},
	{"{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n", "ok ok ok truncated"},
	{"{\"n\":0}\n{\"n\":1}\n{\"n\":2, \"pad\":0}", "ok ok truncated"},
	{"x\n" + strings.Repeat("y", 60_000), "malformed truncated"},
	{`{"n":0}`, "ok"}, // as ever
}

// segmented makes a sender whose writes the kernel sends as datagrams of that size, and hands over
// joined if the receiver wants that.
func segmented(t *testing.T, to net.Addr, size int) *net.UDPConn {
	t.Helper()
	conn := dial(t, to)
	control(conn, func(fd int) {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, size); err != nil {
			t.Fatal(err)
		}
	})
	return conn
}

// Datagrams that the kernel joined are counted one by one.
func TestUDPJoined(t *testing.T) {
	const size, each, writes = 20, 50, 40
	var receives atomic.Int64
	w := newWorld(t, Config{Now: func() int64 { receives.Add(1); return noon }}, 1, 1<<20)
	u := w.listen(1)
	conn := segmented(t, u.Addr(), size)
	sent := 0
	for range writes {
		var b strings.Builder
		for range each {
			fmt.Fprintf(&b, "{\"n\":%*d}\n", size-len(`{"n":}`)-1, sent)
			sent++
		}
		fmt.Fprintf(&b, `{"n":%d}`, sent) // the last one is shorter
		sent++
		sendTo(t, conn, b.String())
		w.received(sent)
	}
	u.Close()
	got := w.drain()
	for i, e := range got {
		want := fmt.Sprintf(`{"n":%d}`, i)
		if strings.ReplaceAll(e.json, " ", "") != want || e.index != 0 {
			t.Fatalf("event %d is %q with index %d", i, e.json, e.index)
		}
	}
	s := u.Stats()
	if len(got) != sent || s.Datagrams != uint64(sent) || s.Dropped != 0 {
		t.Errorf("%d events came of %d, the figures are %+v", len(got), sent, s)
	}
	if n := receives.Load(); n >= int64(sent) {
		t.Errorf("%d receives for %d datagrams: this test proves nothing", n, sent)
	}
	w.expectLedger(bus.SourceUDP, bus.SourceLedger{Received: uint64(sent), Accepted: uint64(sent)})
}

// held makes a UDP with sockets that nobody reads until start.
func (w *world) held(buffer int) (u *UDP, start func()) {
	w.t.Helper()
	u = &UDP{in: w.in, asked: buffer}
	r, err := u.open(anyPort, 0, datagramBytes)
	if err != nil {
		w.t.Fatal(err)
	}
	u.readers = append(u.readers, r)
	u.addr = r.conn.LocalAddr().(*net.UDPAddr)
	return u, func() { u.done.Go(r.run) }
}

// What the kernel drops because nobody reads is counted: nothing of what was sent is missing.
func TestUDPKernelDrops(t *testing.T) {
	const datagrams = 5000
	w := newWorld(t, Config{}, 1, 4<<20)
	u, start := w.held(16 << 10)
	conn := dial(t, u.addr)
	for i := range datagrams {
		sendTo(t, conn, fmt.Sprintf(`{"n":%d}`, i))
		if i == datagrams/2 && u.Stats().Dropped == 0 {
			t.Error("nothing was dropped so far")
		}
	}
	dropped := u.Stats().Dropped
	if dropped == 0 || dropped >= datagrams {
		t.Fatalf("%d datagrams of %d were dropped: this test proves nothing", dropped, datagrams)
	}
	want := bus.SourceLedger{Received: dropped}
	want.Lost[bus.Kernel] = dropped
	w.expectLedger(bus.SourceUDP, want)
	start()
	u.Close()
	s := u.Stats()
	if s.Dropped != dropped || s.Datagrams+s.Dropped != datagrams {
		t.Errorf("the figures are %+v: expected %d dropped of %d", s, dropped, datagrams)
	}
	want.Received = datagrams
	want.Accepted = datagrams - dropped
	w.drain()
	w.expectLedger(bus.SourceUDP, want)
}

// Close counts what came before it, whatever the size of the datagrams, up to a full buffer. The
// kernel's own needs are most of a buffer of small datagrams, and next to nothing of large ones.
func TestUDPCloseDrains(t *testing.T) {
	for _, size := range []int{0, 8, 100, 1400, 8000, 30_000, 60_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w := newWorld(t, Config{}, 1, 1<<20)
			u, start := w.held(256 << 10)
			conn := dial(t, u.addr)
			datagram := fmt.Sprintf("%-*s", size, "{}")[:size]
			sent := 0
			for u.Stats().Dropped == 0 {
				sendTo(t, conn, datagram)
				sent++
			}
			start()
			u.Close()
			s := u.Stats()
			if s.Datagrams+s.Dropped != uint64(sent) {
				t.Errorf("%d datagrams were sent: the figures are %+v", sent, s)
			}
			want := bus.SourceLedger{Received: s.Dropped}
			want.Lost[bus.Kernel] = s.Dropped
			if size > 0 { // else there are no events in them
				want.Accepted = uint64(sent) - s.Dropped
				want.Received = uint64(sent)
			}
			w.drain()
			w.expectLedger(bus.SourceUDP, want)
		})
	}
}

// Drops are counted without anybody asking: by the first receive after a pause, a while after the
// last one, and by Close.
func TestUDPDropsWithoutStats(t *testing.T) {
	const flood = 2000
	var hold sync.RWMutex // held while the reader must not read
	now := func() int64 {
		hold.RLock()
		defer hold.RUnlock()
		return time.Now().UnixNano()
	}
	w := newWorld(t, Config{Now: now}, 1, 4<<20)
	u, err := w.in.ListenUDP(anyPort, 1, 16<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	conn := dial(t, u.Addr())
	sent, last := 0, uint64(0)
	for _, what := range []string{"the first receive", "the last receive", "Close"} {
		if what == "Close" {
			sendTo(t, conn, "{}") // so that no receive of what follows is the first one
			sent++
			w.received(sent)
		}
		hold.Lock()
		for range flood {
			sendTo(t, conn, "{}")
			sent++
		}
		var closing sync.WaitGroup
		if what == "Close" {
			closing.Go(func() { u.Close() })
		}
		hold.Unlock()
		closing.Wait()
		if what != "Close" {
			w.received(sent)
		}
		l := w.bus.Ledger().Sources[bus.SourceUDP]
		if l.Lost[bus.Kernel] == last || l.Received != uint64(sent) {
			t.Errorf("after %s the ledger has %s: %d were sent", what, ledgerText(l), sent)
		}
		last = l.Lost[bus.Kernel]
	}
}

// With separate datagrams the kernel's count of drops is exact, also of those that a sender joined.
func TestUDPSeparateDrops(t *testing.T) {
	const size, each, writes = 20, 50, 400
	var hold sync.RWMutex // held while the reader must not read
	now := func() int64 {
		hold.RLock()
		defer hold.RUnlock()
		return noon
	}
	w := newWorld(t, Config{Now: now, SeparateDatagrams: true}, 1, 8<<20)
	u, err := w.in.ListenUDP(anyPort, 1, 16<<10)
	if err != nil {
		t.Fatal(err)
	}
	conn := segmented(t, u.Addr(), size)
	text := []byte(strings.Repeat(fmt.Sprintf("{%*s}\n", size-3, ""), each))
	hold.Lock()
	for range writes {
		if _, err := conn.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	hold.Unlock()
	u.Close()
	s := u.Stats()
	if s.Dropped == 0 || s.Datagrams+s.Dropped != writes*each {
		t.Errorf("%d datagrams were sent: %d received, %d dropped", writes*each, s.Datagrams, s.Dropped)
	}
}

// Close returns while datagrams keep coming, and all that was received is counted.
func TestUDPCloseUnderLoad(t *testing.T) {
	w := newWorld(t, Config{}, 2, 1<<20)
	u, err := w.in.ListenUDP(anyPort, 2, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var sent atomic.Uint64
	var senders sync.WaitGroup
	for range 2 {
		conn := dial(t, u.Addr())
		senders.Go(func() {
			for !stop.Load() {
				if _, err := conn.Write([]byte("{}")); err == nil {
					sent.Add(1)
				}
			}
		})
	}
	w.received(2000)
	u.Close()
	stop.Store(true)
	senders.Wait()
	s := u.Stats()
	if s.Datagrams+s.Dropped > sent.Load() {
		t.Errorf("%d datagrams were sent: the figures are %+v", sent.Load(), s)
	}
	got := uint64(len(w.drain()))
	l := w.bus.Ledger().Sources[bus.SourceUDP]
	if got != l.Accepted || l.Accepted+l.Lost[bus.RingFull] != s.Datagrams ||
		l.Lost[bus.Kernel] != s.Dropped {
		t.Errorf("a worker gets %d, the figures are %+v, the ledger has %s", got, s, ledgerText(l))
	}
}

// Several sockets share the load of one address. Each sender's datagrams go to one of them, and
// keep their order; events without a key go to that socket's shard.
func TestUDPSockets(t *testing.T) {
	const sockets, senders, each = 4, 200, 5
	w := newWorld(t, Config{}, sockets, 1<<20)
	u := w.listen(sockets)
	sent := 0
	for sender := range senders {
		conn := dial(t, u.Addr())
		for n := range each {
			sendTo(t, conn, fmt.Sprintf(`{"sender":%d,"n":%d}`, sender, n))
			sent++
		}
		w.received(sent) // no buffer runs over
	}
	u.Close()
	next := map[string]int{} // by sender and shard
	shards := map[int]int{}
	for _, e := range w.drain() {
		var sender, n int
		if _, err := fmt.Sscanf(e.json, `{"sender":%d,"n":%d}`, &sender, &n); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint(sender, " in shard ", e.shard)
		if n != next[name] {
			t.Errorf("sender %s: %d came, expected %d", name, n, next[name])
		}
		next[name]++
		shards[e.shard]++
	}
	for i, r := range u.readers {
		if n := int(r.datagrams.Load()); n == 0 || n != shards[i] {
			t.Errorf("socket %d received %d, its shard %d", i, n, shards[i])
		}
	}
	if s := u.Stats(); s.Sockets != sockets || s.Datagrams != uint64(sent) {
		t.Errorf("the figures are %+v: expected %d", s, sent)
	}
	w.expectLedger(bus.SourceUDP, bus.SourceLedger{Received: uint64(sent), Accepted: uint64(sent)})
}

// The buffer that was asked for is the one that is read back, not the doubled one of the kernel.
func TestUDPBufferReadBack(t *testing.T) {
	w := newWorld(t, Config{}, 1, smallRing)
	u, err := w.in.ListenUDP(anyPort, 3, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if s := u.Stats(); s.BufferAsked != 100_000 || s.BufferGot != 100_000 || s.Sockets != 3 {
		t.Errorf("the figures are %+v", s)
	}
	if s := w.listen(1).Stats(); s.BufferAsked != 0 || s.BufferGot <= 0 {
		t.Errorf("the figures without asking are %+v", s)
	}
}
