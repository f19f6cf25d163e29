package httpapi

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"wasmeval/internal/auth"
	"wasmeval/runtime"
)

var (
	near     = auth.Options{Loopback: true}
	strictly = auth.Options{Loopback: true, EventTokens: true}
	far      = auth.Options{EventTokens: true}
)

// sample is a request that a route takes.
func sample(r Route) request {
	path := strings.NewReplacer("{name}", "x", "{n}", "1").Replace(r.Pattern)
	q := request{method: r.Method, path: path}
	switch {
	case r.Pattern == logsPattern:
		q.path += "?follow=false" // else it has no end
	case strings.HasSuffix(r.Pattern, "/test"):
		q.body = `[{"a":1}]`
	case strings.HasSuffix(r.Pattern, "/activate"):
		q.body = `{"version":1}`
	case r.Body.Bytes > 0:
		q.body = "{}"
	}
	return q
}

// Every route answers each kind of caller as its role in the table says.
func TestEveryRouteAsksForItsRole(t *testing.T) {
	callers := []struct {
		name   string
		role   auth.Role
		header string
	}{
		{"no token", auth.None, ""}, {"bad token", auth.None, "Bearer wev_00000000000000000000"},
		{"ingest", auth.Ingest, ""}, {"read", auth.Read, ""}, {"admin", auth.Admin, ""},
	}
	// What each caller gets, in their order, by the route's role.
	closed := map[auth.Role][]int{
		auth.None:   {2, 401, 2, 2, 2},
		auth.Ingest: {401, 401, 2, 403, 2},
		auth.Read:   {401, 401, 403, 2, 2},
		auth.Admin:  {401, 401, 403, 403, 2},
	}
	openEvents := []int{2, 401, 2, 403, 2}
	for name, o := range map[string]auth.Options{"near": near, "strict": strictly, "far": far} {
		s := newStand(t, o, nil)
		for _, route := range s.Routes() {
			want := closed[route.Role]
			if route.Role == auth.Ingest && o.Loopback && !o.EventTokens {
				want = openEvents
			}
			for i, c := range callers {
				q := sample(route)
				if c.header != "" {
					q.header = map[string]string{"Authorization": c.header}
				}
				w := s.send(c.role, q)
				got := w.Code
				if got/100 == 2 {
					got = 2
				} else {
					problemOf(t, w)
				}
				if got != want[i] {
					t.Errorf("%s: %s %s with %s: %d %s: expected %d", name, route.Method, route.Pattern,
						c.name, w.Code, w.Body, want[i])
				}
				if calls := s.engine.take(); calls != "" && want[i] != 2 {
					t.Errorf("%s: %s %s with %s reached the engine: %s", name, route.Method,
						route.Pattern, c.name, calls)
				}
			}
		}
	}
}

// The roles themselves are held here, so that a slip in the table is seen.
func TestRolesOfRoutes(t *testing.T) {
	open := "/ /openapi.json /livez /readyz /version"
	events := "/v1/events /v1/evaluate /v1/rules/{name}/evaluate"
	for _, c := range []struct {
		o       auth.Options
		metrics bool
		want    auth.Role
	}{{near, false, auth.None}, {far, false, auth.Read}, {far, true, auth.None}} {
		s := newStand(t, c.o, func(cfg *Config) { cfg.OpenMetrics = c.metrics })
		for _, r := range s.Routes() {
			want := auth.Admin
			switch {
			case r.Pattern == "/metrics":
				want = c.want
			case strings.Contains(" "+open+" ", " "+r.Pattern+" "):
				want = auth.None
			case strings.Contains(" "+events+" ", " "+r.Pattern+" "):
				want = auth.Ingest
			case r.Method == http.MethodGet:
				want = auth.Read
			}
			if r.Role != want {
				t.Errorf("%s %s has role %s: expected %s", r.Method, r.Pattern, r.Role, want)
			}
		}
	}
}

// The timeout of requests that wait for verdicts is ingest's to read, and an empty query is none.
func TestQueriesOfEvents(t *testing.T) {
	s := newStand(t, near, nil)
	for _, path := range []string{"/v1/events?", "/v1/evaluate?timeout=1s", "/v1/evaluate?timeout=x",
		"/v1/rules/x/evaluate?timeout=1s"} {
		if w := s.send(auth.Ingest, request{method: "POST", path: path, body: "{}"}); w.Code != 200 {
			t.Errorf("POST %s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestHostAndOrigin(t *testing.T) {
	s := newStand(t, near, nil)
	for _, c := range []struct {
		host, origin string
		status       int
	}{
		{"localhost:1", "", 200}, {"evil.example", "", 421}, {"localhost:1", "http://localhost:1", 200},
		{"localhost:1", "http://evil.example", 403},
	} {
		for _, path := range []string{"/livez", "/no/such/route"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = c.host
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			want := c.status
			if want == 200 && path != "/livez" {
				want = 404
			}
			if w.Code != want {
				t.Errorf("%s from %s at %s: %d: expected %d", path, c.origin, c.host, w.Code, want)
			}
		}
	}
}

func TestWrongRoutesAndMethods(t *testing.T) {
	s := newStand(t, near, nil)
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/nothing", 404, ""},
		{"GET", "/v1/rules/", 404, ""},
		{"GET", "/v1/rules/x/", 404, ""},
		{"POST", "/v1/rules/x/evaluate/more", 404, ""},
		{"GET", "//livez", 404, ""},
		{"POST", "/livez", 405, "GET, HEAD"},
		{"GET", "/v1/events", 405, "POST"},
		{"HEAD", "/v1/tail", 405, "GET"},
		{"HEAD", "/v1/rules/x/logs", 405, "GET"},
		{"POST", "/v1/rules/x", 405, "GET, HEAD, PUT, DELETE"},
		{"PATCH", "/v1/rules/validate", 405, "GET, HEAD, POST, PUT, DELETE"},
		{"BREW", "/v1/rules", 405, "GET, HEAD"},
		{"POST", "/v1/rules/a%2fb", 405, "GET, HEAD, PUT, DELETE"},
		{"OPTIONS", "/v1/rules/x/activate", 405, "POST"},
	} {
		w := s.send(auth.Admin, request{method: c.method, path: c.path})
		if w.Code != c.status || w.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow %q: expected %d, %q", c.method, c.path, w.Code,
				w.Header().Get("Allow"), c.status, c.allow)
		}
		problemOf(t, w)
	}
}

func TestErrorsBecomeStatuses(t *testing.T) {
	s := newStand(t, near, nil)
	cause := errors.New("the cause")
	known := map[runtime.Kind]int{
		runtime.NotFound: 404, runtime.BadName: 400, runtime.BadModule: 422, runtime.BadParams: 422,
		runtime.BadEvent: 422, runtime.Conflict: 409, runtime.LimitExceeded: 409,
		runtime.ShuttingDown: 503, runtime.Busy: 429,
	}
	for kind, want := range known {
		s.engine.err = fmt.Errorf("around: %w", &runtime.Error{Kind: kind, Msg: "what", Err: cause})
		w := s.send(auth.Admin, request{method: "GET", path: "/v1/rules/x"})
		code, detail := problemOf(t, w)
		if w.Code != want || code != string(kind) || detail != "what: the cause" {
			t.Errorf("kind %s: %d %s %q: expected %d", kind, w.Code, code, detail, want)
		}
		if again := w.Header().Get("Retry-After"); (again != "") != (kind == runtime.Busy) {
			t.Errorf("kind %s: Retry-After %q", kind, again)
		}
	}
	if len(statuses) != len(known) {
		t.Errorf("the table has %d kinds, this test %d", len(statuses), len(known))
	}
	if s.log.Len() > 0 {
		t.Errorf("faults of requests are in the log: %s", s.log)
	}
	for _, err := range []error{
		errors.New("disk /secret is full"),
		&runtime.Error{Kind: runtime.Damaged, Msg: "cannot read /secret"},
		&runtime.Error{Kind: "new kind", Msg: "/secret"},
	} {
		s.log.Reset()
		s.engine.err = err
		w := s.send(auth.Admin, request{method: "GET", path: "/v1/rules/x"})
		if code, _ := problemOf(t, w); w.Code != 500 || code != "internal" {
			t.Errorf("%v: %d %s", err, w.Code, code)
		}
		id := w.Header().Get(requestIDHeader)
		if strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), id) {
			t.Errorf("%v: the client is told %s", err, w.Body)
		}
		if !strings.Contains(s.log.String(), "/secret") || !strings.Contains(s.log.String(), id) {
			t.Errorf("%v: the log has %s", err, s.log)
		}
	}
}

func TestPanicsAre500(t *testing.T) {
	s := newStand(t, near, func(c *Config) {
		c.Events = func(http.ResponseWriter, *http.Request) { panic("BUG: a secret") }
	})
	w := s.send(auth.None, request{method: "POST", path: "/v1/events"})
	if code, _ := problemOf(t, w); w.Code != 500 || code != "internal" {
		t.Errorf("%d %s", w.Code, code)
	}
	if strings.Contains(w.Body.String(), "secret") {
		t.Errorf("the client is told %s", w.Body)
	}
	id := w.Header().Get(requestIDHeader)
	for _, want := range []string{"BUG: a secret", "TestPanicsAre500", id} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log has no %q: %s", want, s.log)
		}
	}
	if w := s.send(auth.None, request{method: "GET", path: "/livez"}); w.Code != 200 {
		t.Errorf("after the panic: %d", w.Code)
	}
}

// An answer that has begun when the handler panics must not look like a whole one.
func TestPanicInAnAnswerCutsIt(t *testing.T) {
	s := newStand(t, near, func(c *Config) {
		c.Events = func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"received":1`)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error("the handler cannot flush:", err)
			}
			panic("BUG: in the middle")
		}
	})
	server := NewServer(s)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	defer server.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(new(any)); err == nil || answer.StatusCode != http.StatusOK {
		t.Errorf("%d, read error %v: expected half an answer", answer.StatusCode, err)
	}
}

func TestHeadersOfAll(t *testing.T) {
	s := newStand(t, near, nil)
	seen := map[string]bool{}
	for given, kept := range map[string]bool{
		"": false, "abc-123": true, "a b": false, "a\"b": false, "a\\b": false, "ü": false,
		strings.Repeat("x", 128): true, strings.Repeat("x", 129): false,
	} {
		w := s.send(auth.None, request{method: "GET", path: "/livez",
			header: map[string]string{requestIDHeader: given}})
		id := w.Header().Get(requestIDHeader)
		if (id == given) != kept || id == "" || seen[id] {
			t.Errorf("id %q becomes %q", given, id)
		}
		seen[id] = true
		if w.Header().Get("X-Content-Type-Options") != "nosniff" ||
			w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("headers are %v", w.Header())
		}
	}
}

// Answers to events go without headers that mean nothing for them; their problems have them.
func TestHeadersOfEvents(t *testing.T) {
	s := newStand(t, near, nil)
	for token, kept := range map[string]bool{"": false, "Bearer unknown": true} {
		header := map[string]string{}
		if token != "" {
			header["Authorization"] = token
		}
		w := s.send(auth.None, request{method: "POST", path: "/v1/events", body: "{}", header: header})
		h := w.Header()
		if (w.Code == http.StatusUnauthorized) != kept || h.Get(requestIDHeader) == "" ||
			(h.Get("Cache-Control") == "no-store") != kept ||
			(h.Get("X-Content-Type-Options") == "nosniff") != kept {
			t.Errorf("%q: %d with %v", token, w.Code, h)
		}
	}
}

func TestServerHasEveryTimeout(t *testing.T) {
	s := NewServer(http.NotFoundHandler())
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= s.ReadHeaderTimeout ||
		s.WriteTimeout < s.ReadTimeout+30*time.Second || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Errorf("timeouts are %v %v %v %v, header %d bytes", s.ReadHeaderTimeout, s.ReadTimeout,
			s.WriteTimeout, s.IdleTimeout, s.MaxHeaderBytes)
	}
}
