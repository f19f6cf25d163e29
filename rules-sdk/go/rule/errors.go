package rule

import "errors"

// What Emit returns.
var (
	// ErrTooLarge is returned when the payload is larger than the server's limit.
	ErrTooLarge = errors.New("cannot emit payload: it is too large")
	// ErrNotJSON is returned when the payload is not one JSON value.
	ErrNotJSON = errors.New("cannot emit payload: it is not JSON")
	// ErrRefused is returned when the server refuses the payload for another reason.
	ErrRefused = errors.New("cannot emit payload: the server refuses it")
)
