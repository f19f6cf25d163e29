package sink

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrPrivateAddress is returned when a webhook's host resolves to an address that is not public
	// and the sink does not allow that.
	ErrPrivateAddress = errors.New("address is not public (allow_private is not set)")
	// ErrAnswer is returned when a webhook answers with a status other than 2xx.
	ErrAnswer = errors.New("webhook did not accept the batch")
)

// LeftError is returned by Close when verdicts were taken but neither delivered, dropped nor
// dead-lettered.
type LeftError struct {
	Left  uint64   // verdicts, over all sinks
	Stuck []string // sinks whose write did not return, so that their goroutine still runs
}

// Error says how many verdicts were left, and which sinks hang.
func (e *LeftError) Error() string {
	msg := fmt.Sprintf("cannot deliver %d verdicts before the deadline", e.Left)
	if len(e.Stuck) > 0 {
		msg += "; still writing: " + strings.Join(e.Stuck, ", ")
	}
	return msg
}
