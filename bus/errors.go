package bus

import "errors"

var (
	// ErrFull is returned when the ring has no room for the next record. Nothing waits: the caller
	// decides whether to try again or to drop.
	ErrFull = errors.New("ring is full")
	// ErrClosed is returned when records come after Close.
	ErrClosed = errors.New("ring is closed")
	// ErrTooLarge is returned when one record is larger than the ring's MaxRecord.
	ErrTooLarge = errors.New("record is larger than the ring takes")
)
