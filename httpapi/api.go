// Package httpapi is the server's HTTP API: one table of routes, each with its method, role and
// handler; the handlers of rules; the one place where errors become statuses.
//
//	api := httpapi.New(httpapi.Config{Engine: engine, Guard: guard, Ledger: bus.Ledger, ...})
//	server := httpapi.NewServer(api)
//	err := server.Serve(listener)
//
// An API does not change once it is made, and serves any number of requests at once.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"wasmeval/bus"
	"wasmeval/internal/auth"
	"wasmeval/internal/problem"
	"wasmeval/runtime"
)

// Engine is what the API needs of *runtime.Engine, which documents the methods.
type Engine interface {
	Put(context.Context, runtime.RuleName, []byte, runtime.PutOptions) (runtime.PutResult, error)
	Rules() []runtime.Rule
	Rule(runtime.RuleName) (runtime.Rule, error)
	Versions(runtime.RuleName) ([]runtime.Version, error)
	Module(runtime.RuleName, runtime.VersionNumber) ([]byte, error)
	Activate(context.Context, runtime.RuleName, runtime.VersionNumber, string) (runtime.Swap, error)
	Rollback(context.Context, runtime.RuleName, string) (runtime.Swap, error)
	Enable(context.Context, runtime.RuleName, string) (runtime.Swap, error)
	Disable(context.Context, runtime.RuleName, string) (runtime.Swap, error)
	Delete(context.Context, runtime.RuleName, string) (runtime.Swap, error)
	Configure(context.Context, runtime.RuleName, runtime.RuleConfig, string) (runtime.Swap, error)
	Validate(context.Context, []byte) (runtime.Manifest, error)
	Test(context.Context, runtime.RuleName, runtime.VersionNumber, []runtime.TestEvent,
		*runtime.RuleConfig) ([]runtime.TestVerdict, error)
	Audit(runtime.RuleName, int) ([]runtime.Audit, error)
}

// Config is what an API is made of. All fields are required, but for the limits.
type Config struct {
	Engine Engine
	Guard  *auth.Guard
	Ledger func() bus.Ledger
	Ready  func() error // why the server is not ready, or nil

	Events, Evaluate http.HandlerFunc
	EvaluateRule     func(w http.ResponseWriter, r *http.Request, rule string)
	Tail, Metrics    http.Handler
	OpenMetrics      bool // metrics need no token

	Version     string
	ModuleBytes int // of an uploaded module; default 8 MiB
	JSONBytes   int // of any other body of the rules' routes; default 4 MiB
}

// Route is one row of the table.
type Route struct {
	Method, Pattern string
	Role            auth.Role
	Does            string // for people
	handler         http.HandlerFunc
}

// API is the handler of all routes.
type API struct {
	c      Config
	routes []Route
	http.Handler
}

// New makes an API.
func New(c Config) *API {
	if c.ModuleBytes == 0 {
		c.ModuleBytes = 8 << 20
	}
	if c.JSONBytes == 0 {
		c.JSONBytes = 4 << 20
	}
	a := &API{c: c}
	a.routes = a.table()
	r := chi.NewRouter()
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, r, http.StatusNotFound, "no_route", "there is no such route; GET / lists them", nil)
	})
	r.MethodNotAllowed(a.methodNotAllowed)
	for _, route := range a.routes {
		r.Method(route.Method, route.Pattern, c.Guard.Require(route.Role, route.handler))
	}
	a.Handler = recovered(c.Guard.CheckHost(r))
	return a
}

// Routes is the table, for tests and the list at /.
func (a *API) Routes() []Route { return slices.Clone(a.routes) }

func (a *API) table() []Route {
	metricsRole := auth.Read
	if a.c.OpenMetrics {
		metricsRole = auth.None
	}
	return []Route{
		{"GET", "/", auth.None, "lists these routes", a.index},
		{"GET", "/livez", auth.None, "200 while the process lives", a.livez},
		{"GET", "/readyz", auth.None, "200 while events are taken, 503 with the reason else", a.readyz},
		{"GET", "/version", auth.None, "the server's version", a.version},
		{"GET", "/metrics", metricsRole, "metrics for Prometheus", a.c.Metrics.ServeHTTP},

		{"POST", "/v1/events", auth.Ingest, "takes events", a.c.Events},
		{"POST", "/v1/evaluate", auth.Ingest, "takes events and answers with their verdicts", a.c.Evaluate},
		{"POST", "/v1/rules/{name}/evaluate", auth.Ingest, "the same, by one rule", a.evaluateRule},
		{"GET", "/v1/tail", auth.Read, "verdicts as server-sent events", a.c.Tail.ServeHTTP},
		{"GET", "/v1/ledger", auth.Read, "the accounting of all events", a.ledger},
		{"GET", "/v1/audit", auth.Read, "who changed what", a.audit},

		{"GET", "/v1/rules", auth.Read, "lists rules", a.list},
		{"POST", "/v1/rules/validate", auth.Admin, "checks a module and keeps nothing", a.validate},
		{"PUT", "/v1/rules/{name}", auth.Admin, "uploads a module as a version", a.put},
		{"GET", "/v1/rules/{name}", auth.Read, "describes a rule", a.get},
		{"DELETE", "/v1/rules/{name}", auth.Admin, "deletes a rule with its versions", a.delete},
		{"GET", "/v1/rules/{name}/versions", auth.Read, "lists a rule's versions", a.versions},
		{"GET", "/v1/rules/{name}/versions/{n}/module", auth.Read, "a version's bytes", a.module},
		{"GET", "/v1/rules/{name}/audit", auth.Read, "who changed this rule", a.audit},
		{"PUT", "/v1/rules/{name}/config", auth.Admin, "sets params, fuel, failure policy", a.configure},
		{"POST", "/v1/rules/{name}/activate", auth.Admin, "makes a version active", a.activate},
		{"POST", "/v1/rules/{name}/rollback", auth.Admin, "back to the version before", a.rollback},
		{"POST", "/v1/rules/{name}/enable", auth.Admin, "puts a rule to work", a.enable},
		{"POST", "/v1/rules/{name}/disable", auth.Admin, "takes a rule out of work", a.disable},
		{"POST", "/v1/rules/{name}/test", auth.Admin, "explains verdicts, without effects", a.test},
	}
}

// methodNotAllowed answers a known path with another method, and names those that it has.
func (a *API) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, route := range a.routes {
		if route.matches(r.URL.Path) {
			allowed = append(allowed, route.Method)
		}
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	problem.Write(w, r, http.StatusMethodNotAllowed, "method", "method "+r.Method+
		" is not offered here: expected "+strings.Join(allowed, " or "), nil)
}

// matches reports whether a path has the form of the route's pattern.
func (rt *Route) matches(path string) bool {
	want, got := strings.Split(rt.Pattern, "/"), strings.Split(path, "/")
	return slices.EqualFunc(want, got, func(a, b string) bool {
		return a == b || strings.HasPrefix(a, "{") && b != ""
	})
}

// recovered turns a panic, which is our bug, into a 500 for this one request.
func recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p)
			}
			slog.Error("BUG: a handler panicked", "path", r.URL.Path, "panic", p,
				"stack", string(debug.Stack()))
			problem.Write(w, r, http.StatusInternalServerError, "internal", "the server failed", nil)
		}()
		next.ServeHTTP(w, r)
	})
}

// NewServer makes a server with every timeout set.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h,
		// A client that trickles its header holds a connection and nothing else; a header is small.
		ReadHeaderTimeout: 5 * time.Second,
		// A body of 16 MiB over a slow line of 4 Mbit/s takes 34 s.
		ReadTimeout: 60 * time.Second,
		// A reply comes at most 30 s (the longest evaluation) after the body. The tail lifts this for
		// itself.
		WriteTimeout: 100 * time.Second,
		// Clients that send an event now and then keep their connection.
		IdleTimeout: 120 * time.Second,
		// A token, a content type and CloudEvents attributes fit many times.
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
}
