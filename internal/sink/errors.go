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

// Fault is one fault of a configuration, as Check returns them.
type Fault struct {
	Key string // where it is: sinks[0].type, or sinks[0] if the key is missing
	err error
}

// Error names the sink or the route, and what was expected.
func (f *Fault) Error() string { return f.err.Error() }

// Unwrap returns the fault without its place.
func (f *Fault) Unwrap() error { return f.err }

// faultList gathers the faults of one sink or route.
type faultList struct {
	where string // for people
	key   string
	list  []error
}

// add adds a fault of one of its keys, or of the whole if that is empty.
func (f *faultList) add(key, format string, args ...any) {
	f.list = append(f.list, &Fault{strings.TrimSuffix(f.key+"."+key, "."),
		fmt.Errorf("%s: %w", f.where, fmt.Errorf(format, args...))})
}

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
