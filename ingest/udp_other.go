//go:build !linux

package ingest

import (
	"net"
	"syscall"
)

// Other systems get one plain socket: no joined datagrams, no count of what the kernel dropped.
const (
	manySockets  = false
	controlBytes = 0
)

func shareAddress(*net.UDPConn) {}

func joinAddress(_, _ string, _ syscall.RawConn) error { return nil }

func joinDatagrams(*net.UDPConn) {}

func askBuffer(conn *net.UDPConn, size int) { conn.SetReadBuffer(size) }

func bufferOf(*net.UDPConn) int { return 0 }

func kernelDrops(*net.UDPConn) (uint32, bool) { return 0, false }

func segmentBytes([]byte) int { return 0 }

func cutOff(int) bool { return false }

func receiveNow(*net.UDPConn, []byte, []byte) (n, oobn, flags int, ok bool) { return }
