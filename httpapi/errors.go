package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"wasmeval/internal/problem"
	"wasmeval/runtime"
)

// statuses turns kinds of errors into HTTP statuses. What it does not have is a 500, of which the
// client learns nothing; runtime.Damaged is left out for that, since its text has paths of this
// machine.
var statuses = map[runtime.Kind]int{
	runtime.NotFound:      http.StatusNotFound,
	runtime.BadName:       http.StatusBadRequest,
	runtime.BadModule:     http.StatusUnprocessableEntity,
	runtime.BadParams:     http.StatusUnprocessableEntity,
	runtime.BadEvent:      http.StatusUnprocessableEntity,
	runtime.Conflict:      http.StatusConflict,
	runtime.LimitExceeded: http.StatusConflict, // goes away when something is deleted
	runtime.Busy:          http.StatusTooManyRequests,
	runtime.ShuttingDown:  http.StatusServiceUnavailable,
}

// refusal is a fault of the request itself.
type refusal struct {
	status       int
	code, detail string
}

func (e *refusal) Error() string { return e.detail }

func refuse(status int, code, format string, args ...any) error {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

func bad(code, format string, args ...any) error {
	return refuse(http.StatusBadRequest, code, format, args...)
}

// answer writes v, or the problem that err is.
func (a *API) answer(w http.ResponseWriter, r *http.Request, v any, err error) {
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, v)
}

// fail writes the problem that err is.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	var fault *runtime.Error
	var refused *refusal
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &refused):
		problem.Write(w, r, refused.status, refused.code, refused.detail, nil)
	case errors.As(err, &large):
		problem.Write(w, r, http.StatusRequestEntityTooLarge, "body_too_large",
			fmt.Sprintf("the body has more than %d bytes", large.Limit), nil)
	case errors.Is(err, os.ErrDeadlineExceeded):
		problem.Write(w, r, http.StatusRequestTimeout, "body_timeout", "the body did not come in time",
			nil)
	case errors.As(err, &fault) && statuses[fault.Kind] != 0:
		if fault.Kind == runtime.Busy {
			w.Header().Set("Retry-After", "5") // about what a large module takes to compile
		}
		problem.Write(w, r, statuses[fault.Kind], string(fault.Kind), fault.Error(), nil)
	case r.Context().Err() != nil: // the client is gone
	default:
		a.c.Log.Error("cannot answer a request", "method", r.Method, "path", r.URL.Path,
			"request", w.Header().Get(requestIDHeader), "error", err)
		internalError(w, r)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	text := problem.Encode(v)
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	w.Write(text) // an error means that the client has gone
}
