package httpapi

import (
	"fmt"
	"net/http"
	goruntime "runtime"
	"runtime/debug"
	"strings"

	"wasmeval/bus"
	"wasmeval/internal/problem"
)

// abiVersion is the version of rules-sdk/ABI.md by which rules are called.
const abiVersion = 1

func (a *API) index(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	fmt.Fprintf(&b, "wasmeval %s\n\n", a.c.Version)
	for _, r := range a.routes {
		fmt.Fprintf(&b, "%-6s %-38s %-6s %s\n", r.Method, r.Pattern, r.Role, r.Does)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte(b.String())) // an error means that the client has gone
}

func (a *API) livez(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
}

func (a *API) readyz(w http.ResponseWriter, r *http.Request) {
	if err := a.c.Ready(); err != nil {
		problem.Write(w, r, http.StatusServiceUnavailable, "not_ready", err.Error(), nil)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

func (a *API) version(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"version": a.c.Version, "go": goruntime.Version(),
		"abi": abiVersion, "revision": revision()})
}

// revision is the commit that this program was built from, or "" if the build did not say.
func revision() (text string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			text = s.Value + text
		case s.Key == "vcs.modified" && s.Value == "true":
			text += "+changes"
		}
	}
	return text
}

func (a *API) evaluateRule(w http.ResponseWriter, r *http.Request) {
	a.c.EvaluateRule(w, r, string(name(r)))
}

// account is one source's part of the ledger, or the whole, in events. It has all reasons, also
// those that are 0, so that a reader knows them.
type account struct {
	Received uint64            `json:"received"`
	Rejected map[string]uint64 `json:"rejected"`
	Dropped  map[string]uint64 `json:"dropped"`
}

func accountOf(s *bus.SourceLedger) account {
	c := account{Received: s.Received, Rejected: map[string]uint64{}, Dropped: map[string]uint64{}}
	for r := range bus.Reasons {
		if r.Dropped() {
			c.Dropped[r.String()] = s.Lost[r]
		} else {
			c.Rejected[r.String()] = s.Lost[r]
		}
	}
	return c
}

func (a *API) ledger(w http.ResponseWriter, _ *http.Request) {
	l := a.c.Ledger()
	total := l.Total()
	sources := map[string]account{}
	for s := range bus.Sources {
		sources[s.String()] = accountOf(&l.Sources[s])
	}
	writeJSON(w, http.StatusOK, struct {
		account
		Evaluated  uint64             `json:"evaluated"`
		InFlight   uint64             `json:"in_flight"`
		Difference int64              `json:"difference"`
		Sources    map[string]account `json:"sources"`
	}{accountOf(&total), l.Evaluated, l.InFlight(), l.Difference(), sources})
}
