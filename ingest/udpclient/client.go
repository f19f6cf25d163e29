// Package udpclient sends events to a wasmeval server by UDP, many in one system call.
//
//	c, err := udpclient.Dial("127.0.0.1:8081", 0)
//	...
//	for _, e := range events {
//		if err := c.Send(e); err != nil { ... }
//	}
//	err = c.Flush() // now they are on their way
//	c.Close()
//
// Events are put into datagrams, with newlines between them, and datagrams into batches of up to
// 64 KiB. Where the system has UDP segmentation offload (Linux, UDP_SEGMENT), a batch is one system
// call and passes the network stack as one packet: about ten times as many events for the same CPU
// time. The datagrams of a batch then have one size, to which they are filled up with spaces.
// Elsewhere each datagram is a call of its own.
//
// UDP has no answers: what is lost on the way is lost. The server's ledger has what came in. A
// Client is for one goroutine; Clients share nothing.
package udpclient

import (
	"bytes"
	"fmt"
	"net"
)

const (
	// DatagramBytes is the default size of a datagram: an Ethernet frame has room for it, also in a
	// tunnel.
	DatagramBytes = 1400

	// MaxEvent is the size in bytes of the largest event, which goes alone.
	MaxEvent = 65_507

	maxSegments = 64 // UDP_MAX_SEGMENTS of kernels before 6.9
)

// Client is a socket and a batch of datagrams. Make one with Dial.
type Client struct {
	conn    *net.UDPConn
	size    int    // of a datagram, at most
	batch   []byte // full datagrams of size bytes, and one that is open
	open    int    // where that begins
	most    int    // bytes of a batch
	segment []byte // the control message that asks for segmentation, or nil if it cannot be had
}

// Dial makes a client that sends to addr, such as "127.0.0.1:8081", in datagrams of at most
// datagramBytes; 0 means DatagramBytes. Smaller ones have fewer events each: with a size just above
// that of an event, one. It is an error if the address cannot be had or the size is above MaxEvent.
func Dial(addr string, datagramBytes int) (*Client, error) {
	if datagramBytes == 0 {
		datagramBytes = DatagramBytes
	}
	if datagramBytes < 1 || datagramBytes > MaxEvent {
		return nil, fmt.Errorf("cannot send datagrams of %d bytes: expected 1 to %d", datagramBytes,
			MaxEvent)
	}
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return nil, err
	}
	return &Client{conn: conn.(*net.UDPConn), size: datagramBytes,
		segment: segmentMessage(datagramBytes),
		most:    datagramBytes * min(maxSegments, MaxEvent/datagramBytes)}, nil
}

// Send adds one event, a JSON object without newlines, to the batch, and sends the batch if it is
// full. The event is copied. An error of an earlier batch may come now: the peer's refusal does.
// After an error the batch is empty.
func (c *Client) Send(event []byte) error {
	if len(event) > MaxEvent {
		return fmt.Errorf("cannot send an event of %d bytes: expected at most %d", len(event), MaxEvent)
	}
	used := len(c.batch) - c.open
	if used > 0 && used+1+len(event) > c.size {
		if err := c.next(); err != nil {
			return err
		}
		used = 0
	}
	if len(event) > c.size {
		if err := c.Flush(); err != nil {
			return err
		}
		_, err := c.conn.Write(event)
		return err
	}
	if used > 0 {
		c.batch = append(c.batch, '\n')
	}
	c.batch = append(c.batch, event...)
	return nil
}

// next closes the open datagram, and sends the batch if it has no room for another.
func (c *Client) next() error {
	if c.open+c.size >= c.most {
		return c.Flush()
	}
	for len(c.batch) < c.open+c.size {
		c.batch = append(c.batch, ' ')
	}
	c.open = len(c.batch)
	return nil
}

// Flush sends what Send has collected. Call it when no more events come for a while.
func (c *Client) Flush() error {
	batch := c.batch
	c.batch, c.open = c.batch[:0], 0
	if len(batch) > c.size && c.segment != nil {
		_, _, err := c.conn.WriteMsgUDP(batch, c.segment, nil)
		if err == nil || !cannotSegment(err) {
			return err
		}
		c.segment = nil // the device, or the path, cannot: from now on one by one
	}
	for len(batch) > 0 {
		n := min(len(batch), c.size)
		if _, err := c.conn.Write(bytes.TrimRight(batch[:n], " ")); err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// Segments reports whether batches are sent by segmentation offload, as far as is known: it turns
// out when the first one is sent.
func (c *Client) Segments() bool { return c.segment != nil }

// Close sends what is left and closes the socket.
func (c *Client) Close() error {
	err := c.Flush()
	if e := c.conn.Close(); err == nil {
		err = e
	}
	return err
}
