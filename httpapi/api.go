// Package httpapi is the server's HTTP API: one table of routes, each with its method, role, body
// and handler; the handlers of rules; the one place where errors become statuses.
//
//	api := httpapi.New(httpapi.Config{Engine: engine, Guard: guard, Ledger: bus.Ledger, ...})
//	server := httpapi.NewServer(api)
//	err := server.Serve(listener)
//
// Every request goes the same way: it gets an id, its Host and Origin are checked, the table gives
// its route, then its token, its query and its body are held against what the table says, and at
// last the handler has it. Whatever is refused is a problem+json.
//
// An API does not change once it is made, and serves any number of requests at once. The bodies of
// modules and of JSON are held in memory, up to the limits of Config.
//
// Of third-party code this package carries chi, for patterns with names in them that tell a path
// that is unknown from a method that is.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"

	"github.com/go-chi/chi/v5"

	"wasmeval/bus"
	"wasmeval/internal/auth"
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
	Logs(runtime.RuleName) (*runtime.Logs, error)
}

// Config is what an API is made of. All fields are required, but for OpenMetrics, Log and the
// limits.
type Config struct {
	Engine Engine
	Guard  *auth.Guard
	Ledger func() bus.Ledger
	Ready  func() error // why the server is not ready, or nil

	Events, Evaluate http.HandlerFunc
	EvaluateRule     func(w http.ResponseWriter, r *http.Request, rule string)
	Tail, Metrics    http.Handler
	OpenMetrics      bool // metrics need no token; on loopback they never do

	Version     string
	Log         *slog.Logger // default is slog.Default()
	ModuleBytes int          // of an uploaded module; default 8 MiB
	JSONBytes   int          // of any other body of the rules' routes; default 4 MiB
	// EventBytes is the most of a body with events as it is sent; default 1 GiB, the most that any
	// ingest takes. How much it may be after decompression is ingest's to say.
	EventBytes int
}

// API is the handler of all routes.
type API struct {
	c      Config
	routes []Route
	ids    requestIDs

	stopping chan struct{} // closed when streams are to end
	stopOnce sync.Once
	http.Handler
}

// New makes an API.
func New(c Config) *API {
	for _, limit := range []struct {
		bytes   *int
		initial int
	}{{&c.ModuleBytes, 8 << 20}, {&c.JSONBytes, 4 << 20}, {&c.EventBytes, 1 << 30}} {
		if *limit.bytes == 0 {
			*limit.bytes = limit.initial
		}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	a := &API{c: c, ids: newRequestIDs(), stopping: make(chan struct{})}
	a.routes = a.table()
	r := chi.NewRouter()
	direct := map[string]http.Handler{}
	r.NotFound(a.notFound)
	r.MethodNotAllowed(a.methodNotAllowed(r))
	for i := range a.routes {
		route := &a.routes[i]
		h := c.Guard.Require(route.Role, a.checked(route))
		r.Method(route.Method, route.Pattern, h)
		if route.direct() {
			direct[route.Pattern] = h
		}
		if route.Method == http.MethodGet && !route.endless() {
			r.Method(http.MethodHead, route.Pattern, h)
		}
	}
	a.Handler = a.identified(a.recovered(c.Guard.CheckHost(straight(direct, notKept(r)))))
	return a
}

// Routes is the table, for tests and documents. A HEAD goes with each GET but those whose answers
// have no end.
func (a *API) Routes() []Route { return slices.Clone(a.routes) }
