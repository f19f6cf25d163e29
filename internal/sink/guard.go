package sink

import (
	"fmt"
	"net/netip"
	"syscall"
)

// special are the blocks that are not public although they look so to the methods of netip.Addr.
var special = prefixes(
	"0.0.0.0/8",       // this network
	"100.64.0.0/10",   // carrier-grade NAT
	"192.0.0.0/24",    // protocol assignments
	"192.0.2.0/24",    // documentation
	"192.88.99.0/24",  // 6to4 relays
	"198.18.0.0/15",   // benchmarks
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"240.0.0.0/4",     // reserved, and broadcast
	"2001::/23",       // protocol assignments; Teredo, which wraps an IPv4 address
	"2001:db8::/32",   // documentation
	"2002::/16",       // 6to4, which wraps an IPv4 address
	"3fff::/20",       // documentation
)

// globalV6 is all of IPv6 that is given out as global unicast. What is outside (loopback, NAT64,
// unique local, link-local, site-local, multicast) is not public.
var globalV6 = netip.MustParsePrefix("2000::/3")

func prefixes(texts ...string) []netip.Prefix {
	p := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		p[i] = netip.MustParsePrefix(s)
	}
	return p
}

// public reports whether an address is one of the public internet.
func public(ip netip.Addr) bool {
	// An IPv4 address in IPv6 clothes is the IPv4 address; and no prefix contains one with a zone.
	ip = ip.Unmap().WithZone("")
	if !ip.IsValid() || ip.IsLoopback() || ip.IsPrivate() || ip.IsUnspecified() || ip.IsMulticast() ||
		ip.IsLinkLocalUnicast() || ip.Is6() && !globalV6.Contains(ip) {
		return false
	}
	for _, p := range special {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// refusePrivate is for net.Dialer.Control, which is called with the address that will be connected
// to, after the name was resolved: a name that resolves differently each time gains nothing.
func refusePrivate(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("cannot read address %q: %w", address, err)
	}
	if !public(a.Addr()) {
		return fmt.Errorf("cannot connect to %s: %w", a, ErrPrivateAddress)
	}
	return nil
}
