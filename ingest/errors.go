package ingest

import "errors"

var (
	// ErrNoRule is returned by an OpenReply when there is no rule of that name; the client gets 404.
	ErrNoRule = errors.New("there is no such rule")
	// ErrBusy is returned by an OpenReply when too many requests wait for verdicts already; the
	// client gets 429, and the events count as dropped.
	ErrBusy = errors.New("too many requests wait for verdicts")
	// ErrAnswerTooLarge is returned by Wait when the verdicts are too large for one answer; the client
	// gets 413. The events are evaluated all the same, as with ErrAnswersFull.
	ErrAnswerTooLarge = errors.New("the verdicts are too large for one answer")
	// ErrAnswersFull is returned by Wait when the verdicts of all requests take too much memory; the
	// client gets 503.
	ErrAnswersFull = errors.New("the verdicts of all requests take too much memory")
)

var (
	errBodyTooLarge = errors.New("the body is larger than the limit")
	errNoBody       = errors.New("the body is empty")
	errBodiesFull   = errors.New("there is no room for this body now")
)
