package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"wasmeval/internal/auth"
	"wasmeval/runtime"
)

func name(r *http.Request) runtime.RuleName {
	n := chi.URLParam(r, "name")
	if u, err := url.PathUnescape(n); err == nil {
		n = u
	}
	return runtime.RuleName(n)
}

func version(s string) (runtime.VersionNumber, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, bad("version", "version %.100q: expected a number from 1", s)
	}
	return runtime.VersionNumber(n), nil
}

func (a *API) put(w http.ResponseWriter, r *http.Request) {
	res, err := a.upload(r)
	if err == nil && res.Created {
		w.Header().Set("Location", "/v1/rules/"+url.PathEscape(string(res.Rule)))
		writeJSON(w, http.StatusCreated, res)
		return
	}
	a.answer(w, r, res, err)
}

func (a *API) upload(r *http.Request) (runtime.PutResult, error) {
	o, err := putOptions(r.URL.Query())
	if err != nil {
		return runtime.PutResult{}, err
	}
	o.By = auth.Caller(r.Context())
	code, err := readBody(r)
	if err != nil {
		return runtime.PutResult{}, err
	}
	return a.c.Engine.Put(r.Context(), name(r), code, o)
}

// putOptions reads the query of an upload. The version's configuration is the JSON of config, in which
// the others set one key each; without any of them the version has the one it had, or else the rule's.
func putOptions(q url.Values) (runtime.PutOptions, error) {
	o := runtime.PutOptions{Activate: true}
	c := &runtime.RuleConfig{}
	failCode := func(text string) error {
		n, err := strconv.ParseInt(text, 10, 32)
		c.FailCode = int32(n)
		return err
	}
	for _, value := range []struct {
		name, expected string
		parse          func(text string) error
	}{
		{"activate", "true or false", func(s string) (err error) {
			o.Activate, err = strconv.ParseBool(s)
			return err
		}},
		{"config", "a JSON object", func(s string) error { return strict([]byte(s), c) }},
		{"params", "a JSON object", func(s string) error { return strict([]byte(s), &c.Params) }},
		{"fuel", "a number from 0", func(s string) (err error) {
			c.Fuel, err = strconv.ParseUint(s, 10, 64)
			return err
		}},
		{"on_failure", "a policy", func(s string) error { c.OnFailure = runtime.Policy(s); return nil }},
		{"fail_code", "a number of 32 bits", failCode},
	} {
		if !q.Has(value.name) {
			continue
		}
		if err := value.parse(q.Get(value.name)); err != nil {
			if number := new(strconv.NumError); errors.As(err, &number) {
				err = number.Err // without Go's names
			}
			return o, bad("query", "%s=%.100s: expected %s: %v", value.name, q.Get(value.name),
				value.expected, err)
		}
		if value.name != "activate" {
			o.Config = c
		}
	}
	return o, nil
}

func (a *API) validate(w http.ResponseWriter, r *http.Request) {
	code, err := readBody(r)
	var m runtime.Manifest
	if err == nil {
		m, err = a.c.Engine.Validate(r.Context(), code)
	}
	a.answer(w, r, map[string]any{"valid": true, "manifest": m}, err)
}

func (a *API) list(w http.ResponseWriter, r *http.Request) {
	a.answer(w, r, map[string]any{"rules": a.c.Engine.Rules()}, nil)
}

func (a *API) get(w http.ResponseWriter, r *http.Request) {
	rule, err := a.c.Engine.Rule(name(r))
	a.answer(w, r, rule, err)
}

func (a *API) versions(w http.ResponseWriter, r *http.Request) {
	list, err := a.c.Engine.Versions(name(r))
	a.answer(w, r, map[string]any{"versions": list}, err)
}

func (a *API) module(w http.ResponseWriter, r *http.Request) {
	n, err := version(chi.URLParam(r, "n"))
	var code []byte
	if err == nil {
		code, err = a.c.Engine.Module(name(r), n)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	sum := sha256.Sum256(code)
	h := w.Header()
	h.Set("Content-Type", "application/wasm")
	h.Set("Etag", `"`+hex.EncodeToString(sum[:])+`"`)
	h.Set("Cache-Control", "private, no-cache") // a rule that is deleted and made again counts from 1
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(code))
}

// change makes the handler of a method that needs a rule, who asks, and nothing else.
func (a *API) change(
	f func(_ Engine, _ context.Context, _ runtime.RuleName, by string) (runtime.Swap, error),
) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		swap, err := f(a.c.Engine, r.Context(), name(r), auth.Caller(r.Context()))
		a.answer(w, r, swap, err)
	}
}

func (a *API) configure(w http.ResponseWriter, r *http.Request) {
	var c runtime.RuleConfig
	var swap runtime.Swap
	err := readJSON(r, &c)
	if err == nil {
		swap, err = a.c.Engine.Configure(r.Context(), name(r), c, auth.Caller(r.Context()))
	}
	a.answer(w, r, swap, err)
}

func (a *API) activate(w http.ResponseWriter, r *http.Request) {
	n, err := wantedVersion(r)
	var swap runtime.Swap
	if err == nil {
		swap, err = a.c.Engine.Activate(r.Context(), name(r), n, auth.Caller(r.Context()))
	}
	a.answer(w, r, swap, err)
}

// wantedVersion takes the version from the query, or else from a body {"version": n}.
func wantedVersion(r *http.Request) (runtime.VersionNumber, error) {
	if q := r.URL.Query(); q.Has("version") {
		return version(q.Get("version"))
	}
	var want struct {
		Version runtime.VersionNumber `json:"version"`
	}
	if err := readJSON(r, &want); err != nil {
		return 0, err
	}
	if want.Version == 0 {
		return 0, bad("version", `expected a version from 1: {"version": 1} or ?version=1`)
	}
	return want.Version, nil
}

// maxTestEvents bounds one request for an explanation, which runs beside the workers.
const maxTestEvents = 1000

type testRequest struct {
	Version runtime.VersionNumber `json:"version"`
	Events  []runtime.TestEvent   `json:"events"`
	Config  *runtime.RuleConfig   `json:"config"`
}

func (a *API) test(w http.ResponseWriter, r *http.Request) {
	in, err := readTest(r)
	var verdicts []runtime.TestVerdict
	if err == nil {
		verdicts, err = a.c.Engine.Test(r.Context(), name(r), in.Version, in.Events, in.Config)
	}
	a.answer(w, r, map[string]any{"verdicts": verdicts}, err)
}

// readTest reads {"version": n, "events": [...], "config": {...}}, or the events alone: as an
// array, or one a line.
func readTest(r *http.Request) (in testRequest, err error) {
	text, err := readBody(r)
	if err != nil {
		return in, err
	}
	text = bytes.TrimSpace(text)
	switch t := mediaType(r.Header.Get("Content-Type")); {
	case t != "" && t != jsonType:
		for line := range bytes.Lines(text) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				in.Events = append(in.Events, line)
			}
		}
	case bytes.HasPrefix(text, []byte("[")):
		err = strict(text, &in.Events)
	default:
		err = strict(text, &in)
	}
	if q := r.URL.Query(); err == nil && q.Has("version") {
		in.Version, err = version(q.Get("version"))
	}
	if n := len(in.Events); err == nil && (n == 0 || n > maxTestEvents) {
		err = bad("events", "there are %d events: expected 1 to %d", n, maxTestEvents)
	}
	return in, err
}

const (
	standardAudit = 100 // entries
	maxAudit      = 10_000
)

func (a *API) audit(w http.ResponseWriter, r *http.Request) {
	limit := standardAudit
	q := r.URL.Query()
	if q.Has("limit") {
		n, err := strconv.Atoi(q.Get("limit"))
		if err != nil || n < 1 || n > maxAudit {
			a.fail(w, r, bad("query", "limit=%.100q: expected 1 to %d", q.Get("limit"), maxAudit))
			return
		}
		limit = n
	}
	rule := name(r)
	if rule == "" {
		rule = runtime.RuleName(q.Get("rule"))
	}
	list, err := a.c.Engine.Audit(rule, limit)
	a.answer(w, r, map[string]any{"audit": list}, err)
}
