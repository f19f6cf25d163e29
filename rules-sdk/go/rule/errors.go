package rule

import "errors"

// What Emit and Set return.
var (
	// ErrTooLarge is returned when a payload is larger than the server's limit, or a value larger
	// than the state declares.
	ErrTooLarge = errors.New("cannot hand over payload or value: it is too large")
	// ErrNotJSON is returned when the payload is not one JSON value.
	ErrNotJSON = errors.New("cannot emit payload: it is not JSON")
	// ErrNoKey is returned when the event has no key, and so no state.
	ErrNoKey = errors.New("cannot set value: the event has no key")
	// ErrRefused is returned when the server refuses a payload or value for another reason.
	ErrRefused = errors.New("cannot hand over payload or value: the server refuses it")
)
