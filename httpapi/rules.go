package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"

	"github.com/go-chi/chi/v5"

	"wasmeval/internal/auth"
	"wasmeval/internal/problem"
	"wasmeval/runtime"
)

// statuses turns kinds of errors into HTTP statuses. What it does not know is a 500.
var statuses = map[runtime.Kind]int{
	runtime.NotFound:      http.StatusNotFound,
	runtime.BadName:       http.StatusBadRequest,
	runtime.BadModule:     http.StatusUnprocessableEntity,
	runtime.BadParams:     http.StatusUnprocessableEntity,
	runtime.BadEvent:      http.StatusUnprocessableEntity,
	runtime.Conflict:      http.StatusConflict,
	runtime.LimitExceeded: http.StatusUnprocessableEntity,
	runtime.ShuttingDown:  http.StatusServiceUnavailable,
}

// badRequest is a fault of the request itself.
type badRequest struct {
	status       int
	code, detail string
}

func (e *badRequest) Error() string { return e.detail }

func bad(code, format string, args ...any) error {
	return &badRequest{http.StatusBadRequest, code, fmt.Sprintf(format, args...)}
}

// answer writes v, or the problem that err is.
func answer(w http.ResponseWriter, r *http.Request, v any, err error) {
	var re *runtime.Error
	var br *badRequest
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, v)
	case errors.As(err, &br):
		problem.Write(w, r, br.status, br.code, br.detail, nil)
	case errors.As(err, &re) && statuses[re.Kind] != 0:
		problem.Write(w, r, statuses[re.Kind], string(re.Kind), re.Error(), nil)
	case r.Context().Err() != nil: // the client is gone
	default:
		slog.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		problem.Write(w, r, http.StatusInternalServerError, "internal",
			"the server failed; its log says why", nil)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: a reply cannot be encoded: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client may be gone
}

func name(r *http.Request) runtime.RuleName {
	n := chi.URLParam(r, "name")
	if u, err := url.PathUnescape(n); err == nil {
		n = u
	}
	return runtime.RuleName(n)
}

// body reads a body of one of the given content types, up to most bytes.
func body(w http.ResponseWriter, r *http.Request, most int, types ...string) ([]byte, error) {
	given := r.Header.Get("Content-Type")
	ok := false
	if t, _, err := mime.ParseMediaType(given); err == nil {
		for _, want := range types {
			ok = ok || t == want
		}
	}
	if !ok {
		return nil, &badRequest{http.StatusUnsupportedMediaType, "content_type", fmt.Sprintf(
			"content type %q: expected %s", given, types[0])}
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(most)))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, &badRequest{http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf(
			"the body has more than %d bytes", most)}
	}
	if err != nil {
		return nil, bad("body", "cannot read the body: %v", err)
	}
	return b, nil
}

const jsonType = "application/json"

// strict decodes exactly one JSON value without unknown keys.
func strict(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return bad("json", "cannot read the body: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("json", "the body has something after its JSON value")
	}
	return nil
}

func (a *API) wasm(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	return body(w, r, a.c.ModuleBytes, "application/wasm", "application/octet-stream")
}

func (a *API) put(w http.ResponseWriter, r *http.Request) {
	res, err := a.upload(w, r)
	if err == nil && res.Created {
		w.Header().Set("Location", fmt.Sprintf("/v1/rules/%s", res.Rule))
		writeJSON(w, http.StatusCreated, res)
		return
	}
	answer(w, r, res, err)
}

func (a *API) upload(w http.ResponseWriter, r *http.Request) (runtime.PutResult, error) {
	o := runtime.PutOptions{Activate: true, By: auth.Caller(r.Context())}
	q := r.URL.Query()
	if v := q.Get("activate"); v != "" {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return runtime.PutResult{}, bad("query", "activate=%s: expected true or false", v)
		}
		o.Activate = on
	}
	var err error
	if o.Config, err = configOf(q); err != nil {
		return runtime.PutResult{}, err
	}
	code, err := a.wasm(w, r)
	if err != nil {
		return runtime.PutResult{}, err
	}
	return a.c.Engine.Put(r.Context(), name(r), code, o)
}

// configOf reads a rule's configuration from the query of an upload; nil if it has none of it.
func configOf(q url.Values) (*runtime.RuleConfig, error) {
	c := &runtime.RuleConfig{}
	some := false
	for key := range q {
		var err error
		v := q.Get(key)
		switch key {
		case "activate":
			continue
		case "params":
			err = strict([]byte(v), &c.Params)
		case "fuel":
			c.Fuel, err = strconv.ParseUint(v, 10, 64)
		case "on_failure":
			c.OnFailure = runtime.Policy(v)
		case "fail_code":
			var n int64
			n, err = strconv.ParseInt(v, 10, 32)
			c.FailCode = int32(n)
		default:
			return nil, bad("query", "%s is not known: expected activate, params, fuel, on_failure or "+
				"fail_code", key)
		}
		if err != nil {
			return nil, bad("query", "%s=%s: %v", key, v, err)
		}
		some = true
	}
	if !some {
		return nil, nil
	}
	return c, nil
}

func (a *API) validate(w http.ResponseWriter, r *http.Request) {
	code, err := a.wasm(w, r)
	if err != nil {
		answer(w, r, nil, err)
		return
	}
	m, err := a.c.Engine.Validate(r.Context(), code)
	answer(w, r, map[string]any{"valid": true, "manifest": m}, err)
}

func (a *API) list(w http.ResponseWriter, r *http.Request) {
	answer(w, r, map[string]any{"rules": a.c.Engine.Rules()}, nil)
}

func (a *API) get(w http.ResponseWriter, r *http.Request) {
	rule, err := a.c.Engine.Rule(name(r))
	answer(w, r, rule, err)
}

func (a *API) versions(w http.ResponseWriter, r *http.Request) {
	list, err := a.c.Engine.Versions(name(r))
	answer(w, r, map[string]any{"versions": list}, err)
}

func (a *API) module(w http.ResponseWriter, r *http.Request) {
	n, err := version(chi.URLParam(r, "n"))
	var code []byte
	if err == nil {
		code, err = a.c.Engine.Module(name(r), n)
	}
	if err != nil {
		answer(w, r, nil, err)
		return
	}
	w.Header().Set("Content-Type", "application/wasm")
	w.Header().Set("Content-Length", strconv.Itoa(len(code)))
	_, _ = w.Write(code) // the client may be gone
}

func version(s string) (runtime.VersionNumber, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, bad("version", "version %q: expected a number from 1", s)
	}
	return runtime.VersionNumber(n), nil
}

func (a *API) delete(w http.ResponseWriter, r *http.Request) {
	s, err := a.c.Engine.Delete(r.Context(), name(r), auth.Caller(r.Context()))
	answer(w, r, s, err)
}

func (a *API) rollback(w http.ResponseWriter, r *http.Request) {
	s, err := a.c.Engine.Rollback(r.Context(), name(r), auth.Caller(r.Context()))
	answer(w, r, s, err)
}

func (a *API) enable(w http.ResponseWriter, r *http.Request) {
	s, err := a.c.Engine.Enable(r.Context(), name(r), auth.Caller(r.Context()))
	answer(w, r, s, err)
}

func (a *API) disable(w http.ResponseWriter, r *http.Request) {
	s, err := a.c.Engine.Disable(r.Context(), name(r), auth.Caller(r.Context()))
	answer(w, r, s, err)
}

func (a *API) configure(w http.ResponseWriter, r *http.Request) {
	var c runtime.RuleConfig
	text, err := body(w, r, a.c.JSONBytes, jsonType)
	if err == nil {
		err = strict(text, &c)
	}
	var s runtime.Swap
	if err == nil {
		s, err = a.c.Engine.Configure(r.Context(), name(r), c, auth.Caller(r.Context()))
	}
	answer(w, r, s, err)
}

// activate takes the version from the query or from a body {"version": n}.
func (a *API) activate(w http.ResponseWriter, r *http.Request) {
	s, err := a.activateVersion(w, r)
	answer(w, r, s, err)
}

func (a *API) activateVersion(w http.ResponseWriter, r *http.Request) (runtime.Swap, error) {
	var want struct{ Version runtime.VersionNumber }
	if v := r.URL.Query().Get("version"); v != "" {
		n, err := version(v)
		if err != nil {
			return runtime.Swap{}, err
		}
		want.Version = n
	} else {
		text, err := body(w, r, a.c.JSONBytes, jsonType)
		if err != nil {
			return runtime.Swap{}, err
		}
		if err := strict(text, &want); err != nil {
			return runtime.Swap{}, err
		}
	}
	if want.Version == 0 {
		return runtime.Swap{}, bad("version", `expected a version: {"version": 1} or ?version=1`)
	}
	return a.c.Engine.Activate(r.Context(), name(r), want.Version, auth.Caller(r.Context()))
}

// test takes {"version": n, "events": [...], "config": {...}}, or the events alone as an array.
func (a *API) test(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Version runtime.VersionNumber
		Events  []runtime.TestEvent
		Config  *runtime.RuleConfig
	}
	text, err := body(w, r, a.c.JSONBytes, jsonType)
	if t := bytes.TrimSpace(text); err == nil && len(t) > 0 && t[0] == '[' {
		err = strict(t, &in.Events)
	} else if err == nil {
		err = strict(text, &in)
	}
	if v := r.URL.Query().Get("version"); err == nil && v != "" {
		in.Version, err = version(v)
	}
	if err == nil && (len(in.Events) == 0 || len(in.Events) > maxTestEvents) {
		err = bad("events", "%d events: expected 1 to %d", len(in.Events), maxTestEvents)
	}
	var verdicts []runtime.TestVerdict
	if err == nil {
		verdicts, err = a.c.Engine.Test(r.Context(), name(r), in.Version, in.Events, in.Config)
	}
	answer(w, r, map[string]any{"verdicts": verdicts}, err)
}

// maxTestEvents bounds one request for an explanation, which runs beside the workers.
const maxTestEvents = 1000

func (a *API) audit(w http.ResponseWriter, r *http.Request) {
	limit := 100
	if v := r.URL.Query().Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 10_000 {
			answer(w, r, nil, bad("query", "limit=%s: expected 1 to 10000", v))
			return
		}
		limit = n
	}
	list, err := a.c.Engine.Audit(name(r), limit)
	answer(w, r, map[string]any{"audit": list}, err)
}
