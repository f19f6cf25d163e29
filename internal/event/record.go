package event

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Envelope is what an event says of itself beside its JSON object. The slices belong to whoever
// made it; Encode copies them. Nil or empty means absent.
type Envelope struct {
	ID, Type, Source, Key []byte // text, unescaped
	Time                  int64  // nanoseconds since 1970-01-01 UTC; 0 if the event has none

	Arrival int64  // nanoseconds since 1970-01-01 UTC, when the server read it
	Reply   uint64 // 0, or the number of the request that waits for the verdicts
	Index   uint32 // position among the events of that request
}

// A record's head, little-endian:
//
//	 0  i64 arrival    8  i64 time    16  u64 reply    24  u32 index
//	28  u16 id, type, source, key lengths (4 x u16)    36  bytes of id, type, source, key
//
// The body is the event's JSON object.
const headBytes = 36

// MaxText is the limit for an id, type, source or key, in bytes.
const MaxText = 1024

// AppendHead appends the head of a record for e to dst and returns it; the event's JSON follows as
// the record's body. It fails if a text is longer than MaxText.
func AppendHead(dst []byte, e *Envelope) ([]byte, error) {
	if max(len(e.ID), len(e.Type), len(e.Source), len(e.Key)) > MaxText {
		return dst, tooLong(e)
	}
	at := len(dst)
	dst = slices.Grow(dst, headBytes+len(e.ID)+len(e.Type)+len(e.Source)+len(e.Key))
	head := dst[at : at+headBytes]
	binary.LittleEndian.PutUint64(head, uint64(e.Arrival))
	binary.LittleEndian.PutUint64(head[8:], uint64(e.Time))
	binary.LittleEndian.PutUint64(head[16:], e.Reply)
	binary.LittleEndian.PutUint32(head[24:], e.Index)
	binary.LittleEndian.PutUint16(head[28:], uint16(len(e.ID)))
	binary.LittleEndian.PutUint16(head[30:], uint16(len(e.Type)))
	binary.LittleEndian.PutUint16(head[32:], uint16(len(e.Source)))
	binary.LittleEndian.PutUint16(head[34:], uint16(len(e.Key)))
	dst = append(dst[:at+headBytes], e.ID...)
	dst = append(dst, e.Type...)
	dst = append(dst, e.Source...)
	return append(dst, e.Key...), nil
}

func tooLong(e *Envelope) error {
	for _, f := range [...]struct {
		name string
		text []byte
	}{{"id", e.ID}, {"type", e.Type}, {"source", e.Source}, {"key", e.Key}} {
		if len(f.text) > MaxText {
			return fmt.Errorf("the event's %s has %d bytes, expected at most %d",
				f.name, len(f.text), MaxText)
		}
	}
	panic("BUG: no text is too long")
}

// View is a decoded record. Its slices are parts of the record that it was decoded from, and valid
// as long as that is.
type View struct {
	Envelope
	JSON []byte // the event's object
}

// Decode reads a record that AppendHead began. Only the server itself makes records, so bytes that
// are none are our bug.
func (v *View) Decode(rec []byte) {
	if len(rec) < headBytes {
		panic(fmt.Sprintf("BUG: a record of %d bytes", len(rec)))
	}
	v.Arrival = int64(binary.LittleEndian.Uint64(rec))
	v.Time = int64(binary.LittleEndian.Uint64(rec[8:]))
	v.Reply = binary.LittleEndian.Uint64(rec[16:])
	v.Index = binary.LittleEndian.Uint32(rec[24:])
	at := uint32(headBytes)
	text := func(i int) []byte {
		n := uint32(binary.LittleEndian.Uint16(rec[i:]))
		t := rec[at : at+n : at+n]
		at += n
		return t
	}
	v.ID, v.Type, v.Source, v.Key = text(28), text(30), text(32), text(34)
	v.JSON = rec[at:]
}

// SetReply changes the number of the waiting request in a head that AppendHead made.
func SetReply(head []byte, reply uint64) { binary.LittleEndian.PutUint64(head[16:], reply) }
