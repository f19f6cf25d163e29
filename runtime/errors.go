package runtime

import "fmt"

// Kind says what sort of fault an Error is, for the caller to choose an HTTP status by.
type Kind string

// The kinds.
const (
	NotFound      Kind = "not_found"      // no such rule, version or module
	BadName       Kind = "bad_name"       // not a rule name
	BadModule     Kind = "bad_module"     // the module is refused; Msg names what was expected
	BadParams     Kind = "bad_params"     // the rule's configuration does not fit its manifest
	BadEvent      Kind = "bad_event"      // an event given to Test cannot be read
	Conflict      Kind = "conflict"       // the rule is not in a state for this
	LimitExceeded Kind = "limit_exceeded" // too many rules, versions or bytes
	Busy          Kind = "busy"           // too many modules wait to be compiled: try again later
	ShuttingDown  Kind = "shutting_down"  // the engine is closed
	Damaged       Kind = "damaged"        // the registry file cannot be read
)

// Error is a fault of a request to the engine. Everything else that an Engine returns is a fault
// of the server: a disk that is full, say.
type Error struct {
	Kind Kind
	Msg  string
	Err  error // the cause, or nil
}

// Error names the thing and what was expected.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Msg + ": " + e.Err.Error()
	}
	return e.Msg
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func errorf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...)}
}
