package event

import (
	"fmt"
	"strconv"
)

// Fault says what is wrong with the bytes of an event.
type Fault uint8

// The faults. Their order and names are those of the bus's first reasons.
const (
	Malformed    Fault = iota // not JSON as RFC 8259 has it
	NotObject                 // JSON, but not an object
	TooDeep                   // nested deeper than the limit
	TooLarge                  // larger than the limit
	BadUTF8                   // not UTF-8, or an escape that stands for half a character
	DuplicateKey              // an object has the same key twice
	BadEnvelope               // an id, type, source, time or key that cannot be used
	Faults                    // how many there are
)

var faultNames = [Faults]string{
	"malformed", "not_object", "too_deep", "too_large", "bad_utf8", "duplicate_key", "bad_envelope",
}

// String is the fault's name in error replies.
func (f Fault) String() string { return faultNames[f] }

// Error says why bytes are no event. It holds no memory of its own: a scanner makes one without
// allocating, and overwrites it with its next call.
type Error struct {
	Reason Fault
	Offset int    // bytes before the fault; see Body and Scan for where they are counted from
	Msg    string // what was expected

	found int // the byte at Offset, or one of the two below
}

const (
	foundEnd     = -1 // the text ends at Offset
	foundNothing = -2 // the byte at Offset is not to blame by itself
)

// Error is the message for a reply: offset, what was expected, and what was found instead.
func (e *Error) Error() string {
	switch e.found {
	case foundNothing:
		return fmt.Sprintf("at byte %d: %s", e.Offset, e.Msg)
	case foundEnd:
		return fmt.Sprintf("at byte %d: %s, found the end", e.Offset, e.Msg)
	}
	if e.found >= 0x80 {
		return fmt.Sprintf("at byte %d: %s, found byte 0x%x", e.Offset, e.Msg, e.found)
	}
	return fmt.Sprintf("at byte %d: %s, found %s", e.Offset, e.Msg, strconv.QuoteRune(rune(e.found)))
}
