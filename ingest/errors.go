package ingest

import "errors"

var (
	// ErrNoRule is returned by an OpenReply when there is no rule of that name; the client gets 404.
	ErrNoRule = errors.New("there is no such rule")
	// ErrBusy is returned by an OpenReply when too many requests wait for verdicts already; the
	// client gets 429, and the events count as dropped.
	ErrBusy = errors.New("too many requests wait for verdicts")
)

var (
	errBodyTooLarge = errors.New("the body is larger than the limit")
	errNoBody       = errors.New("the body is empty")
)
