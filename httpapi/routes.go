package httpapi

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"wasmeval/internal/auth"
	"wasmeval/internal/problem"
)

// Route is one row of the table.
type Route struct {
	Method, Pattern string
	Role            auth.Role
	Body            Body
	Query           string // names of the values that it knows, with spaces; "*": any
	Does            string // for people
	handler         http.HandlerFunc
}

// Body is what a route takes. The zero value is no body; what is sent all the same is not read.
type Body struct {
	Bytes int // at most
	// Types are the content types, the usual one first; nil: the handler checks it itself. A body
	// without a type is taken as the usual one.
	Types []string
}

const (
	jsonType  = "application/json"
	linesType = "application/x-ndjson"

	tailPattern = "/v1/tail"
)

func (a *API) table() []Route {
	var (
		none   Body
		module = Body{a.c.ModuleBytes, []string{"application/wasm", "application/octet-stream"}}
		json   = Body{a.c.JSONBytes, []string{jsonType}}
		tests  = Body{a.c.JSONBytes, []string{jsonType, linesType, "application/ndjson"}}
		events = Body{a.c.EventBytes, nil}
	)
	metrics := auth.Read
	if a.c.OpenMetrics || a.c.Guard.Loopback() {
		metrics = auth.None
	}
	return []Route{
		{"GET", "/", auth.None, none, "", "lists these routes", a.index},
		{"GET", "/openapi.json", auth.None, none, "", "describes them to programs", a.openAPI},
		{"GET", "/livez", auth.None, none, "*", "200 while the process lives", a.livez},
		{"GET", "/readyz", auth.None, none, "*", "200 while events are taken, 503 else", a.readyz},
		{"GET", "/version", auth.None, none, "", "tells what runs here", a.version},
		{"GET", "/metrics", metrics, none, "*", "metrics for Prometheus", a.c.Metrics.ServeHTTP},

		{"POST", "/v1/events", auth.Ingest, events, "", "takes events", a.c.Events},
		{"POST", "/v1/evaluate", auth.Ingest, events, "timeout",
			"takes events and answers with their verdicts", a.c.Evaluate},
		{"POST", "/v1/rules/{name}/evaluate", auth.Ingest, events, "timeout",
			"the same, by one rule", a.evaluateRule},
		{"GET", tailPattern, auth.Read, none, "*", "verdicts as server-sent events",
			a.c.Tail.ServeHTTP},
		{"GET", "/v1/ledger", auth.Read, none, "", "the accounting of all events", a.ledger},
		{"GET", "/v1/audit", auth.Read, none, "limit rule", "who changed what", a.audit},

		{"GET", "/v1/rules", auth.Read, none, "", "lists rules", a.list},
		{"POST", "/v1/rules/validate", auth.Admin, module, "", "checks a module and keeps nothing",
			a.validate},
		{"PUT", "/v1/rules/{name}", auth.Admin, module,
			"activate config params fuel on_failure fail_code", "uploads a module as a version", a.put},
		{"GET", "/v1/rules/{name}", auth.Read, none, "", "describes a rule", a.get},
		{"DELETE", "/v1/rules/{name}", auth.Admin, none, "", "deletes a rule with its versions",
			a.change(Engine.Delete)},
		{"GET", "/v1/rules/{name}/versions", auth.Read, none, "", "lists a rule's versions", a.versions},
		{"GET", "/v1/rules/{name}/versions/{n}/module", auth.Read, none, "", "a version's bytes",
			a.module},
		{"GET", logsPattern, auth.Read, none, "follow lines after", "what a rule logs, as it comes",
			a.logs},
		{"GET", "/v1/rules/{name}/audit", auth.Read, none, "limit", "who changed this rule", a.audit},
		{"PUT", "/v1/rules/{name}/config", auth.Admin, json, "", "sets the active version's params, fuel, failure policy",
			a.configure},
		{"POST", "/v1/rules/{name}/activate", auth.Admin, json, "version", "makes a version active",
			a.activate},
		{"POST", "/v1/rules/{name}/rollback", auth.Admin, none, "", "back to the version before, with its config",
			a.change(Engine.Rollback)},
		{"POST", "/v1/rules/{name}/enable", auth.Admin, none, "", "puts a rule to work",
			a.change(Engine.Enable)},
		{"POST", "/v1/rules/{name}/disable", auth.Admin, none, "", "takes a rule out of work",
			a.change(Engine.Disable)},
		{"POST", "/v1/rules/{name}/test", auth.Admin, tests, "version",
			"explains verdicts, without effects", a.test},
	}
}

// endless reports whether an answer has no end: a HEAD would wait for it.
func (r *Route) endless() bool { return r.Pattern == tailPattern || r.Pattern == logsPattern }

// direct reports whether a route is that of events, which come so often that they go past the router.
func (r *Route) direct() bool {
	return r.Method == http.MethodPost && r.Role == auth.Ingest && !strings.Contains(r.Pattern, "{")
}

// straight hands POSTs with one of these paths to its handler, and all else to the router, which makes
// a copy of the request with a context of its own. Answers of the former go without the headers of
// the latter: no cache keeps an answer to a POST that does not say how long it is fresh (RFC 9110,
// 9.3.3), and no page runs one as a script.
func straight(direct map[string]http.Handler, router http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.RawPath == "" {
			if h := direct[r.URL.Path]; h != nil {
				h.ServeHTTP(w, r)
				return
			}
		}
		router.ServeHTTP(w, r)
	})
}

func (a *API) notFound(w http.ResponseWriter, r *http.Request) {
	problem.Write(w, r, http.StatusNotFound, "no_route",
		"there is no such route; GET / lists them", nil)
}

// methodNotAllowed answers a known path with another method, and names those that it has.
func (a *API) methodNotAllowed(routes chi.Routes) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.RawPath // as chi chooses
		if path == "" {
			path = r.URL.Path
		}
		var allowed []string
		for _, m := range []string{"GET", "HEAD", "POST", "PUT", "DELETE"} {
			if routes.Match(chi.NewRouteContext(), m, path) {
				allowed = append(allowed, m)
			}
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		problem.Write(w, r, http.StatusMethodNotAllowed, "method", "method "+r.Method+
			" is not offered here: expected "+strings.Join(allowed, " or "), nil)
	}
}
