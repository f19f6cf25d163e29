package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

const anyPort = "127.0.0.1:0"

// listen opens sockets that are closed with the test.
func (w *world) listen(readers int) *UDP {
	w.t.Helper()
	u, err := w.in.ListenUDP(anyPort, readers, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { u.Close() })
	return u
}

// dial makes a sender, with a port of its own.
func dial(t testing.TB, to net.Addr) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, to.(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func sendTo(t testing.TB, conn *net.UDPConn, datagram string) {
	t.Helper()
	if _, err := conn.Write([]byte(datagram)); err != nil {
		t.Fatal(err)
	}
}

// received waits until that many events were counted by UDP, in whatever way.
func (w *world) received(n int) {
	w.t.Helper()
	until(w.t, fmt.Sprintf("%d events are received", n), func() bool {
		return w.bus.Ledger().Sources[bus.SourceUDP].Received >= uint64(n)
	})
}

// Each datagram has events whose member n is their index, and lines that are none.
var datagrams = []struct{ text, items string }{
	{`{"n":0}`, "ok"},
	{"{\"n\":0}\n", "ok"},
	{"{\"n\":0}\n{\"n\":1}\n{\"n\":2}", "ok ok ok"},
	{"\r\n{\"n\":0}\r\n\n \n{\"n\":1}\r\n", "ok ok"},
	{"", ""},
	{"\n", ""},
	{"x", "malformed"},
	{"{\"n\":0}\nx\n{\"n\":2}\n", "ok malformed ok"},
	{`[{"n":0}]`, "not_object"},
	{"7\n\"x\"\nnull\n{\"n\":3}", "not_object not_object not_object ok"},
	{strings.Repeat("[", 1400), "too_deep"},
	{"{\"n\":\"\xff\"}", "bad_utf8"},
	{`{"n":0,"n":0}`, "duplicate_key"},
	{`{"n":NaN}`, "malformed"},
	{`{"id":{}}`, "bad_envelope"},
	{`{"n":"` + strings.Repeat("x", 20_000) + `"}`, "too_large"},
	{`{"n":"` + strings.Repeat("x", 9_000) + `"}`, "too_large"}, // for the ring alone
	{lines(numbered(200)), strings.Repeat("ok ", 200)},
}

func TestUDP(t *testing.T) {
	limits := event.Limits{EventBytes: 10_000}
	w := newWorld(t, Config{Fields: fields, Limits: limits}, 1, smallRing)
	u := w.listen(1)
	conn := dial(t, u.Addr())
	var all items
	size := 0
	for _, c := range datagrams {
		list := itemsOf(c.items)
		sendTo(t, conn, c.text)
		all = append(all, list...)
		size += len(c.text)
		w.received(len(all))
		list.expectNumbers(t, w.drain())
	}
	u.Close()
	w.expectLedger(bus.SourceUDP, all.ledger(t))
	s := u.Stats()
	s.BufferGot = 0 // is for another test
	want := UDPStats{Sockets: 1, Datagrams: uint64(len(datagrams)), Bytes: uint64(size)}
	if s != want {
		t.Errorf("the figures are %+v: expected %+v", s, want)
	}
}

// A worker gets the same of an event by UDP as by HTTP.
func TestUDPEnvelope(t *testing.T) {
	w := newWorld(t, Config{Fields: fields}, 4, smallRing)
	u := w.listen(1)
	conn := dial(t, u.Addr())
	full := `{"id":"i","kind":"t","from":"s","at":"` + cloudTime + `","user":{"id":"k"}}`
	sendTo(t, conn, full+"\n{}\n {} ")
	w.received(3)
	w.post(full)
	var got []took
	var given []string
	for _, e := range w.drain() {
		if e.json == full {
			e.index = 0
			got = append(got, e)
			continue
		}
		given = append(given, e.id)
		if e.shard != 0 || e.time != noon || e.arrival != noon || e.json != "{}" {
			t.Errorf("a worker gets %+v", e)
		}
	}
	want := took{shard: w.bus.ShardOf([]byte("k")), id: "i", kind: "t", source: "s", key: "k",
		json: full, time: cloudTimeNS, arrival: noon}
	if len(got) != 2 || got[0] != want || got[1] != want {
		t.Errorf("a worker gets %+v\nexpected twice %+v", got, want)
	}
	if len(given) != 2 || given[0] == given[1] || given[0] == "" {
		t.Errorf("ids are %q", given)
	}
}

// Over UDP what finds no room is lost, and counted.
func TestUDPFullRing(t *testing.T) {
	const events = 200
	w := newWorld(t, Config{}, 1, smallRing)
	u := w.listen(1)
	conn := dial(t, u.Addr())
	for i := range events {
		sendTo(t, conn, fmt.Sprintf(`{"n":%d,"pad":"%s"}`, i, strings.Repeat("x", 1000)))
		w.received(i + 1)
	}
	got := w.drain()
	if len(got) < 50 || len(got) > 65 {
		t.Errorf("a worker gets %d events of 1,000 bytes from 64 KiB", len(got))
	}
	want := bus.SourceLedger{Received: events, Accepted: uint64(len(got))}
	want.Lost[bus.RingFull] = events - want.Accepted
	w.expectLedger(bus.SourceUDP, want)

	w.bus.Close()
	sendTo(t, conn, "{}\n{}\nx")
	w.received(events + 3)
	want.Received += 3
	want.Lost[bus.Closed], want.Lost[bus.Malformed] = 2, 1
	w.expectLedger(bus.SourceUDP, want)
}

func TestUDPRefuses(t *testing.T) {
	w := newWorld(t, Config{}, 1, smallRing)
	for _, c := range []struct {
		addr            string
		readers, buffer int
	}{
		{anyPort, 0, 0}, {anyPort, -1, 0}, {anyPort, maxReaders + 1, 0}, {anyPort, 1, -1},
		{anyPort, 1, 1<<30 + 1}, {"127.0.0.1", 1, 0}, {"127.0.0.1:99999", 1, 0},
		{"127.0.0.1:x", 1, 0}, {"256.0.0.1:0", 1, 0},
	} {
		u, err := w.in.ListenUDP(c.addr, c.readers, c.buffer)
		if err == nil {
			u.Close()
			t.Errorf("%+v: expected an error", c)
		} else if !strings.HasPrefix(err.Error(), "cannot ") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// An address that somebody has cannot be had, also not beside another server of the same kind.
func TestUDPAddressInUse(t *testing.T) {
	w := newWorld(t, Config{}, 1, smallRing)
	other, err := net.ListenPacket("udp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, taken := range []string{
		other.LocalAddr().String(), w.listen(1).Addr().String(), w.listen(2).Addr().String(),
	} {
		for readers := 1; readers <= 2; readers++ {
			u, err := w.in.ListenUDP(taken, readers, 0)
			if err == nil {
				u.Close()
			}
			if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), taken) {
				t.Errorf("%s with %d readers: %v", taken, readers, err)
			}
		}
	}
}

// Close may be called more than once and at the same time as everything else; after it the address
// is free again, and the figures stay.
func TestUDPClose(t *testing.T) {
	w := newWorld(t, Config{}, 1, 1<<20)
	u := w.listen(2)
	conn := dial(t, u.Addr())
	for range 100 {
		sendTo(t, conn, "{}")
	}
	w.received(100)
	before := u.Stats()
	var closing sync.WaitGroup
	for range 4 {
		closing.Go(func() {
			if err := u.Close(); err != nil {
				t.Error(err)
			}
		})
		closing.Go(func() { u.Stats() })
	}
	closing.Wait()
	after := u.Stats()
	if after.Datagrams != 100 || after.Bytes != 200 || before.Datagrams > 100 {
		t.Errorf("the figures were %+v, and are %+v after Close", before, after)
	}
	again, err := w.in.ListenUDP(u.Addr().String(), 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	w.drain()
	w.expectLedger(bus.SourceUDP, bus.SourceLedger{Received: 100, Accepted: 100})
}

// A socket that fails ends its reader, and Close still returns.
func TestUDPSocketFails(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, 1, smallRing)
	u := w.listen(1)
	u.readers[0].conn.Close()
	u.done.Wait()
	if err := u.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Close: %v", err)
	}
	if !strings.Contains(log.String(), "cannot receive from UDP") {
		t.Errorf("the log is %q", log.String())
	}
}

// What the system gave is read back, and too little is a warning.
func TestUDPBuffer(t *testing.T) {
	for _, asked := range []int{0, 100_000, 1 << 30} {
		var log bytes.Buffer
		w := newWorld(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, 1, smallRing)
		u, err := w.in.ListenUDP(anyPort, 2, asked)
		if err != nil {
			t.Fatal(err)
		}
		s := u.Stats()
		u.Close()
		warned := strings.Contains(log.String(), "smaller than asked")
		if s.BufferAsked != asked || warned != (s.BufferGot < asked) {
			t.Errorf("asked for %d, got %+v, and the log is %q", asked, s, log.String())
		}
	}
}

// unread is a reader without a socket, whose buffer a test fills itself.
func (w *world) unread() *reader {
	scan, err := event.NewScanner(w.in.config.Fields, w.in.config.Limits)
	if err != nil {
		w.t.Fatal(err)
	}
	return &reader{
		udp: &UDP{in: w.in}, producer: w.bus.NewProducer(bus.SourceUDP), collector: newCollector(w.in),
		scan:   scan,
		polled: noon, // so that it does not ask a socket for drops
	}
}

// What the kernel joined is taken apart again, each datagram as if it had come alone.
func TestReceive(t *testing.T) {
	for _, c := range []struct {
		text      string
		segment   int
		cut       bool
		datagrams int
		items     string
		indexes   string
	}{
		{`{}`, 0, false, 1, "ok", "[0]"},
		{``, 0, false, 1, "", "[]"},
		{``, 5, false, 1, "", "[]"},
		{`{}{}{}`, 2, false, 3, "ok ok ok", "[0 0 0]"},
		{`{}{}{`, 2, false, 3, "ok ok malformed", "[0 0]"},
		{"{}\n{}{}\n{}x", 5, false, 3, "ok ok ok ok malformed", "[0 1 0 1]"},
		{`{}{}`, 4, false, 1, "malformed", "[]"},
		{`{}`, 100, false, 1, "ok", "[0]"},
		{`{}`, -1, false, 1, "ok", "[0]"},
		{"{}\n{}\n{}", 0, true, 1, "ok ok truncated", "[0 1]"},
		{"{}\n{}\n", 0, true, 1, "ok ok truncated", "[0 1]"},
		{"{}", 0, true, 1, "truncated", "[]"},
		{"{}\n{}\n{}\n{}", 3, true, 4, "ok ok ok truncated", "[0 0 0]"},
	} {
		w := newWorld(t, Config{}, 2, smallRing)
		r := w.unread()
		r.receive([]packet{{[]byte(c.text), c.segment, c.cut}})
		indexes := []int{}
		for _, e := range w.drain() {
			indexes = append(indexes, e.index)
		}
		name := fmt.Sprintf("%q in datagrams of %d", c.text, c.segment)
		if got := fmt.Sprint(indexes); got != c.indexes {
			t.Errorf("%s: indexes are %s", name, got)
		}
		n, size := r.datagrams.Load(), r.bytes.Load()
		if n != uint64(c.datagrams) || size != uint64(len(c.text)) {
			t.Errorf("%s: %d datagrams of %d bytes", name, n, size)
		}
		w.expectLedger(bus.SourceUDP, itemsOf(c.items).ledger(t))
	}
}

// Packets that come at once are taken together, in their order, each with its own datagrams.
func TestReceiveMany(t *testing.T) {
	w := newWorld(t, Config{}, 1, smallRing)
	r := w.unread()
	r.receive([]packet{
		{data: []byte("{\"n\":0}\n{\"n\":1}")},
		{data: []byte(`{"n":2}{"n":3}{}`), segment: 7},
		{data: []byte(`{"n":4}{"`), cut: true},
		{data: []byte(`x`)},
		{data: []byte(`{"n":5}`)},
	})
	text := ""
	for _, e := range w.drain() {
		text += e.json + " "
	}
	if want := `{"n":0} {"n":1} {"n":2} {"n":3} {} {"n":5} `; text != want {
		t.Errorf("received %s, expected %s", text, want)
	}
	if n, size := r.datagrams.Load(), r.bytes.Load(); n != 7 || size != 15+16+9+1+7 {
		t.Errorf("%d datagrams of %d bytes", n, size)
	}
	w.expectLedger(bus.SourceUDP, itemsOf("ok ok ok ok ok truncated malformed ok").ledger(t))
}
