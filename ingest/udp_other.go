//go:build !linux

package ingest

import (
	"net"
	"syscall"
)

// Other systems get one plain socket: no joined datagrams, no count of what the kernel dropped.
const (
	manySockets = false
)

func shareAddress(*net.UDPConn) {}

func joinAddress(_, _ string, _ syscall.RawConn) error { return nil }

func joinDatagrams(*net.UDPConn) {}

func askBuffer(conn *net.UDPConn, size int) { conn.SetReadBuffer(size) }

func bufferOf(*net.UDPConn) int { return 0 }

func kernelDrops(*net.UDPConn) (uint32, bool) { return 0, false }

// inbox receives datagrams from a socket, one at a time. It belongs to one goroutine.
type inbox struct {
	conn    *net.UDPConn
	buffer  []byte
	packets [1]packet
}

func newInbox(conn *net.UDPConn, size int) (*inbox, error) {
	return &inbox{conn: conn, buffer: make([]byte, size)}, nil
}

func (b *inbox) wait() ([]packet, error) {
	n, _, err := b.conn.ReadFromUDPAddrPort(b.buffer)
	b.packets[0].data = b.buffer[:n]
	return b.packets[:], err
}

func (b *inbox) now() []packet { return nil }
