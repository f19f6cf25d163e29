package httpapi

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"wasmeval/internal/problem"
)

// checked holds a request against its route's query and body before the handler has it.
func (a *API) checked(route *Route) http.Handler {
	known := strings.Fields(route.Query)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" && route.Query != "*" {
			if err := checkQuery(r, known); err != nil {
				a.fail(w, r, err)
				return
			}
		}
		if route.Body.Types != nil {
			if err := checkBody(r, &route.Body); err != nil {
				a.fail(w, r, err)
				return
			}
		}
		r.Body = http.MaxBytesReader(w, r.Body, int64(route.Body.Bytes))
		route.handler(w, r)
	})
}

// checkQuery refuses values that the route does not know, and what is no query: a misspelt
// activate=false would activate.
func checkQuery(r *http.Request, known []string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return bad("query", "cannot read the query: %v", err)
	}
	for name, values := range query {
		if !slices.Contains(known, name) {
			expected := strings.Join(known, ", ")
			if len(known) == 0 {
				expected = "none"
			}
			return bad("query", "query value %.100q is not known: expected %s", name, expected)
		}
		if len(values) > 1 {
			return bad("query", "query value %q is given %d times: expected once", name, len(values))
		}
	}
	return nil
}

// requestIDHeader carries a request's id: that of the client, or else one made here. Answers and
// log lines have it.
const requestIDHeader = "X-Request-Id"

type requestIDs struct {
	prefix string // tells the ids of this process from those of others
	n      *atomic.Uint64
}

func newRequestIDs() requestIDs {
	return requestIDs{fmt.Sprintf("%08x-", rand.Uint32()), new(atomic.Uint64)}
}

// of is the request's id. One that could not stand in a log line as it is, is replaced.
func (ids *requestIDs) of(r *http.Request) string {
	const most = 128
	id := ""
	if given := r.Header[requestIDHeader]; len(given) > 0 {
		id = given[0]
	}
	odd := func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }
	if id == "" || len(id) > most || strings.ContainsFunc(id, odd) {
		return ids.prefix + strconv.FormatUint(ids.n.Add(1), 10)
	}
	return id
}

// identified gives each answer the id of its request.
func (a *API) identified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()[requestIDHeader] = []string{a.ids.of(r)} // its key is canonical
		next.ServeHTTP(w, r)
	})
}

// notKept gives answers the headers that keep them out of caches, and browsers from guessing their type.
func notKept(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// recovered turns a panic, which is our bug, into a 500 for this one request. Where the answer has
// begun already, the connection is cut, so that nobody takes half an answer for a whole one.
func (a *API) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := &tracked{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p)
			}
			a.c.Log.Error("BUG: a handler panicked", "method", r.Method, "path", r.URL.Path,
				"request", w.Header().Get(requestIDHeader), "panic", p, "stack", string(debug.Stack()))
			if t.begun {
				panic(http.ErrAbortHandler)
			}
			internalError(w, r)
		}()
		next.ServeHTTP(t, r)
	})
}

func internalError(w http.ResponseWriter, r *http.Request) {
	problem.Write(w, r, http.StatusInternalServerError, "internal",
		"the server failed; its log says why", map[string]any{
			"request_id": w.Header().Get(requestIDHeader),
		})
}

// tracked knows whether the answer has begun. http.ResponseController finds what is inside.
type tracked struct {
	http.ResponseWriter
	begun bool
}

func (t *tracked) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *tracked) WriteHeader(status int) {
	t.begun = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracked) Write(b []byte) (int, error) {
	t.begun = true
	return t.ResponseWriter.Write(b)
}

// NewServer makes a server with every timeout set. TLS is the caller's: ServeTLS, or TLSConfig.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h,
		// A client that trickles its header holds a connection and nothing else; a header is small.
		ReadHeaderTimeout: 5 * time.Second,
		// A body of 16 MiB over a slow line of 4 Mbit/s takes 34 s.
		ReadTimeout: 60 * time.Second,
		// Counts from the end of the header: the body's 60 s, then at most 30 s for the longest
		// evaluation, or for a module to wait for its turn and again to be compiled, and the answer. The
		// tail lifts this for itself.
		WriteTimeout: 120 * time.Second,
		// Clients that send an event now and then keep their connection.
		IdleTimeout: 120 * time.Second,
		// A token, a content type and CloudEvents attributes fit many times.
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
}
