package sink

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

func TestPublic(t *testing.T) {
	for _, s := range []string{
		"1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.255.255",
		"172.32.0.0", "169.253.255.255", "192.0.1.0", "198.17.255.255", "198.20.0.0",
		"223.255.255.255", "::ffff:8.8.8.8", "2606:4700:4700::1111", "2001:4860:4860::8888",
		"2001:200::", "2003::1", "3ffe::1", "3fff:1000::",
		"2606:4700::1%eth0",
	} {
		if !public(netip.MustParseAddr(s)) {
			t.Errorf("%s counts as not public", s)
		}
	}
	for _, s := range []string{
		// loopback, also in IPv6 clothes
		"127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1",
		// this host
		"0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0",
		// private
		"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::ffff:192.168.1.1",
		"fc00::1", "fdff::1", "100.64.0.1", "100.127.255.255", "fec0::1",
		// link-local, with the metadata service of clouds
		"169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "fd00:ec2::254",
		// an IPv4 address wrapped in another way: NAT64, 6to4, Teredo
		"64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:7f00:1::", "192.88.99.1",
		// reserved, multicast, broadcast, documentation, benchmarks
		"192.0.0.8", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
		"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "ff02::1", "2001:db8::1",
		"3fff::1", "4000::1", "100::1", "5f00::1",
		// a zone does not hide an address
		"::1%lo", "2001:db8::1%eth0",
	} {
		if public(netip.MustParseAddr(s)) {
			t.Errorf("%s counts as public", s)
		}
	}
	if public(netip.Addr{}) {
		t.Error("no address counts as public")
	}
	if err := refusePrivate("tcp", "no address", nil); err == nil {
		t.Error("what is no address may be connected to")
	}
	if err := refusePrivate("tcp", "8.8.8.8:443", nil); err != nil {
		t.Error(err)
	}
}

// An address in the URL is refused at once, however it is written.
func TestPrivateURL(t *testing.T) {
	for _, host := range []string{
		"127.0.0.1", "127.0.0.1:8080", "10.1.2.3", "169.254.169.254", "0.0.0.0", "[::1]", "[::]:80",
		"[::ffff:10.0.0.1]", "[fe80::1%25eth0]", "user:secret@192.168.0.1",
	} {
		c := hook(func(s *SinkConfig) { s.URL, s.AllowPrivate = "http://"+host+"/in", false })
		err := c.Check()
		if !errors.Is(err, ErrPrivateAddress) {
			t.Errorf("host %s: %v, expected %v", host, err, ErrPrivateAddress)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("host %s: the error gives a password away: %v", host, err)
		}
		c.Sinks[0].AllowPrivate = true
		if err := c.Check(); err != nil {
			t.Errorf("host %s with leave: %v", host, err)
		}
	}
}

// A name is judged by what it resolves to, when it is connected to.
func TestPrivateName(t *testing.T) {
	var hits atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		hits.Add(1)
	}))
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var address atomic.Pointer[netip.Addr]
	resolveAll(t, &address)
	for _, c := range []struct {
		address string
		allow   bool
		reached int64
	}{
		{"127.0.0.1", true, 1}, // so the name is resolved, and the server is there
		{"127.0.0.1", false, 0},
		{"10.0.0.1", false, 0},
		{"169.254.169.254", false, 0},
		{"0.0.0.0", false, 0},
		{"::1", false, 0},
		{"::ffff:127.0.0.1", false, 0},
		{"fe80::1", false, 0},
	} {
		a := netip.MustParseAddr(c.address)
		address.Store(&a)
		hits.Store(0)
		// One attempt is made: another would meet the same address.
		r := open(t, hook(func(s *SinkConfig) {
			s.URL, s.AllowPrivate = "http://hook.wasmeval.test:"+port, c.allow
		}), io.Discard)
		send(r, 0, 5)
		mustClose(t, r)
		s := r.Stats()[0]
		if hits.Load() != c.reached {
			t.Errorf("%s: %d requests came, expected %d", c.address, hits.Load(), c.reached)
		}
		if c.reached > 0 {
			account(t, s, ledger{routed: 5, delivered: 5})
			continue
		}
		account(t, s, ledger{routed: 5, dropped: 5})
		if s.DroppedFailed != 5 || s.FailedAttempts != 1 || s.Retries != 0 {
			t.Errorf("%s: %+v, expected one attempt", c.address, s)
		}
		if !strings.Contains(s.LastError, ErrPrivateAddress.Error()) {
			t.Errorf("%s: the error is %q", c.address, s.LastError)
		}
	}
}

// resolveAll makes every name of this process resolve to one address.
func resolveAll(t *testing.T, address *atomic.Pointer[netip.Addr]) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	old := net.DefaultResolver
	ended := make(chan struct{})
	t.Cleanup(func() {
		net.DefaultResolver = old
		server.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		var query [1500]byte
		for {
			n, from, err := server.ReadFrom(query[:])
			if err != nil {
				return
			}
			server.WriteTo(resolved(query[:n], *address.Load()), from)
		}
	}()
	net.DefaultResolver = &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "udp", server.LocalAddr().String())
		},
	}
}

// resolved is the answer to a DNS query with one question.
func resolved(query []byte, a netip.Addr) []byte {
	const typeA, typeAAAA = 1, 28
	end := 12
	for query[end] != 0 { // labels
		end += 1 + int(query[end])
	}
	end += 5 // the last label, type and class
	reply := append([]byte{}, query[:end]...)
	copy(reply[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // an answer, no fault, one question
	kind := uint16(typeAAAA)
	if a.Is4() {
		kind = typeA
	}
	if binary.BigEndian.Uint16(query[end-4:]) != kind {
		return reply // there is no such address
	}
	reply[7] = 1
	reply = append(reply, 0xc0, 12) // the name stands at 12
	reply = binary.BigEndian.AppendUint16(reply, kind)
	reply = append(reply, 0, 1, 0, 0, 0, 0) // class, time to live
	data := a.AsSlice()
	reply = binary.BigEndian.AppendUint16(reply, uint16(len(data)))
	return append(reply, data...)
}
