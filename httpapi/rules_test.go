package httpapi

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"wasmeval/internal/auth"
)

const swapJSON = `{"generation":7,"drained":3,"took_us":12,"lost":0,"running":2}`

func TestRequestsReachTheEngine(t *testing.T) {
	s := newStand(t, near, nil)
	lines := map[string]string{"Content-Type": "application/x-ndjson; charset=utf-8"}
	const (
		put   = `{"rule":"x","version":2,"sha256":"","created":true,"active":0,"swap":` + swapJSON + `}`
		tests = `{"verdicts":[{"index":0,"matched":false,"code":5,"fuel":0,"took_ns":0}]}`
		plain = `"Config":null,"By":"admin"}`
	)
	for _, c := range []struct {
		request
		status int
		calls  string
		answer string // empty: not compared
	}{
		{request{"PUT", "/v1/rules/x", "wasm", nil}, 201, `put x wasm {"Activate":true,` + plain, put},
		{request{"PUT", "/v1/rules/validate", "wasm", nil}, 201,
			`put validate wasm {"Activate":true,` + plain, ""},
		{request{"PUT", "/v1/rules/x?activate=false", "old", nil}, 200,
			`put x old {"Activate":false,` + plain, strings.Replace(put, "true", "false", 1)},
		{request{"PUT", "/v1/rules/x?fuel=9&on_failure=fail_closed&fail_code=-3&params={\"a\":1.50}",
			"wasm", nil}, 201, `put x wasm {"Activate":true,"Config":{"params":{"a":1.50},"fuel":9,` +
			`"on_failure":"fail_closed","fail_code":-3},"By":"admin"}`, ""},
		{request{"PUT", `/v1/rules/x?fuel=9&config={"fuel":1,"fail_code":2}`, "wasm", nil}, 201,
			`put x wasm {"Activate":true,"Config":{"fuel":9,"fail_code":2},"By":"admin"}`, ""},
		{request{"PUT", "/v1/rules/a%2fb", "wasm", nil}, 201,
			`put a/b wasm {"Activate":true,` + plain, ""},
		{request{"GET", "/v1/rules", "", nil}, 200, "rules", `{"rules":[]}`},
		{request{"GET", "/v1/rules/x", "", nil}, 200, "rule x", ""},
		{request{"DELETE", "/v1/rules/x", "", nil}, 200, "delete x by admin", swapJSON},
		{request{"GET", "/v1/rules/x/versions", "", nil}, 200, "versions x", ""},
		{request{"GET", "/v1/rules/x/versions/3/module", "", nil}, 200, "module x 3", "the module"},
		{request{"POST", "/v1/rules/x/activate", `{"version":4}`, nil}, 200,
			"activate x 4 by admin", swapJSON},
		{request{"POST", "/v1/rules/x/activate?version=4", "", nil}, 200, "activate x 4 by admin", ""},
		{request{"POST", "/v1/rules/x/rollback", "", nil}, 200, "rollback x by admin", swapJSON},
		{request{"POST", "/v1/rules/x/enable", "", nil}, 200, "enable x by admin", swapJSON},
		{request{"POST", "/v1/rules/x/disable", "", nil}, 200, "disable x by admin", swapJSON},
		{request{"PUT", "/v1/rules/x/config", `{"fuel":5}`, nil}, 200,
			`configure x {"fuel":5} by admin`, swapJSON},
		{request{"POST", "/v1/rules/validate", "wasm", nil}, 200, "validate wasm",
			`{"manifest":{"description":"good"},"valid":true}`},
		{request{"GET", "/v1/audit", "", nil}, 200, `audit "" 100`, `{"audit":[]}`},
		{request{"GET", "/v1/audit?rule=x&limit=7", "", nil}, 200, `audit "x" 7`, ""},
		{request{"GET", "/v1/rules/x/audit?limit=1", "", nil}, 200, `audit "x" 1`, ""},
		{request{"POST", "/v1/rules/x/test", `{"version":2,"events":[{"a":1},{}],"config":{"fuel":5}}`,
			nil}, 200, `test x 2 {"a":1}|{} {"fuel":5}`, tests},
		{request{"POST", "/v1/rules/x/test?version=3", ` [{"a":1}] `, nil}, 200,
			`test x 3 {"a":1} null`, tests},
		{request{"POST", "/v1/rules/x/test", "\n{\"a\":1}\r\n\n {}\n", lines}, 200,
			`test x 0 {"a":1}|{} null`, tests},
	} {
		w := s.send(auth.Admin, c.request)
		answer := strings.TrimSpace(w.Body.String())
		if w.Code != c.status || c.answer != "" && answer != c.answer {
			t.Errorf("%s %s: %d %s: expected %d %s", c.method, c.path, w.Code, answer, c.status, c.answer)
		}
		if calls := s.engine.take(); calls != c.calls {
			t.Errorf("%s %s calls %s: expected %s", c.method, c.path, calls, c.calls)
		}
		if l := w.Header().Get("Location"); (l != "") != (w.Code == 201) {
			t.Errorf("%s %s: %d with Location %q", c.method, c.path, w.Code, l)
		}
	}
	w := s.send(auth.Ingest, request{"POST", "/v1/rules/a%2eb/evaluate", "{}", nil})
	if w.Code != 200 || w.Body.String() != "a.b" {
		t.Errorf("evaluate by a rule: %d %s", w.Code, w.Body)
	}
}

func TestRequestsAreRefused(t *testing.T) {
	s := newStand(t, near, nil)
	typed := func(t string) map[string]string { return map[string]string{"Content-Type": t} }
	zipped := map[string]string{"Content-Encoding": "gzip"}
	many := "[" + strings.Repeat("0,", maxTestEvents) + "0]"
	const wasm = "application/wasm or application/octet-stream"
	for _, c := range []struct {
		method, path, body string
		header             map[string]string
		status             int
		code, detail       string
	}{
		{"PUT", "/v1/rules/x?actvate=false", "w", nil, 400, "query",
			`"actvate" is not known: expected activate,`},
		{"PUT", "/v1/rules/x?activate=false;x", "w", nil, 400, "query",
			"cannot read the query: invalid semicolon"},
		{"PUT", "/v1/rules/x?activate=%zz", "w", nil, 400, "query", "cannot read the query: invalid URL"},
		{"POST", "/v1/events?foo=1", "{}", nil, 400, "query", `"foo" is not known: expected none`},
		{"POST", "/v1/events?timeout=1s", "{}", nil, 400, "query", "expected none"},
		{"POST", "/v1/evaluate?timout=1s", "{}", nil, 400, "query",
			`"timout" is not known: expected timeout`},
		{"POST", "/v1/evaluate?timeout=1s&timeout=2s", "{}", nil, 400, "query", "2 times"},
		{"POST", "/v1/rules/x/evaluate?foo=1", "{}", nil, 400, "query", "expected timeout"},
		{"PUT", "/v1/rules/x?activate=maybe", "w", nil, 400, "query", "activate=maybe"},
		{"PUT", "/v1/rules/x?activate=", "w", nil, 400, "query", "activate="},
		{"PUT", "/v1/rules/x?fuel=-1", "w", nil, 400, "query", "fuel=-1"},
		{"PUT", "/v1/rules/x?fuel=1&fuel=2", "w", nil, 400, "query", "2 times"},
		{"PUT", "/v1/rules/x?fail_code=2147483648", "w", nil, 400, "query", "out of range"},
		{"PUT", "/v1/rules/x?params=[]", "w", nil, 400, "query", "it cannot be array"},
		{"PUT", `/v1/rules/x?config={"feul":1}`, "w", nil, 400, "query", `unknown field "feul"`},
		{"PUT", "/v1/rules/x", "w", typed("text/plain"), 415, "content_type", wasm},
		{"PUT", "/v1/rules/x", "w", typed("application/x-www-form-urlencoded"), 415,
			"content_type", wasm},
		{"PUT", "/v1/rules/x", "w", typed("/;"), 415, "content_type", wasm},
		{"PUT", "/v1/rules/x", "w", zipped, 415, "content_encoding", `"gzip": expected none`},
		{"POST", "/v1/rules/validate", "w", typed(jsonType), 415, "content_type", wasm},
		{"POST", "/v1/rules/x/activate", "", nil, 400, "bad_json", "nothing"},
		{"POST", "/v1/rules/x/activate", "{}", nil, 400, "version", `{"version": 1}`},
		{"POST", "/v1/rules/x/activate", `{"version":-1}`, nil, 400, "bad_json",
			`"version" cannot be number -1`},
		{"POST", "/v1/rules/x/activate", `{"version":1`, nil, 400, "bad_json", "too early"},
		{"POST", "/v1/rules/x/activate", `{"version":1}{}`, nil, 400, "bad_json", "at byte 14"},
		{"POST", "/v1/rules/x/activate", `{"version":1}]`, nil, 400, "bad_json", "after it"},
		{"POST", "/v1/rules/x/activate", `{"n":1}`, nil, 400, "bad_json", `unknown field "n"`},
		{"POST", "/v1/rules/x/activate?version=0", "", nil, 400, "version", `"0"`},
		{"POST", "/v1/rules/x/activate?version=4294967296", "", nil, 400, "version", "from 1"},
		{"POST", "/v1/rules/x/activate", "{}", typed("text/json"), 415, "content_type", jsonType},
		{"POST", "/v1/rules/x/enable?now=1", "", nil, 400, "query", "expected none"},
		{"PUT", "/v1/rules/x/config", `{"feul":1}`, nil, 400, "bad_json", `"feul"`},
		{"PUT", "/v1/rules/x/config", `{"fuel":"1"}`, nil, 400, "bad_json", "fuel"},
		{"GET", "/v1/rules/x/versions/0/module", "", nil, 400, "version", "from 1"},
		{"GET", "/v1/rules/x/versions/latest/module", "", nil, 400, "version", `"latest"`},
		{"GET", "/v1/audit?limit=0", "", nil, 400, "query", "1 to 10000"},
		{"GET", "/v1/audit?limit=10001", "", nil, 400, "query", "1 to 10000"},
		{"GET", "/v1/rules/x/audit?rule=y", "", nil, 400, "query", `"rule"`},
		{"POST", "/v1/rules/x/test", `{"events":[]}`, nil, 400, "events", "0 events"},
		{"POST", "/v1/rules/x/test", `{"a":1}`, nil, 400, "bad_json", `unknown field "a"`},
		{"POST", "/v1/rules/x/test", many, nil, 413, "body_too_large", "200 bytes"},
	} {
		w := s.send(auth.Admin, request{c.method, c.path, c.body, c.header})
		code, detail := problemOf(t, w)
		if w.Code != c.status || code != c.code || !strings.Contains(detail, c.detail) {
			t.Errorf("%s %s: %d %s %q: expected %d %s %q", c.method, c.path, w.Code, code, detail,
				c.status, c.code, c.detail)
		}
		if calls := s.engine.take(); calls != "" {
			t.Errorf("%s %s reached the engine: %s", c.method, c.path, calls)
		}
	}
	s = newStand(t, near, func(c *Config) { c.JSONBytes = 1 << 20 })
	w := s.send(auth.Admin, request{"POST", "/v1/rules/x/test", many, nil})
	if code, _ := problemOf(t, w); w.Code != 400 || code != "events" {
		t.Errorf("%d events: %d %s", maxTestEvents+1, w.Code, code)
	}
}

// Each route that takes a body takes one of its limit and refuses one of a byte more, whether the
// length is told or not. The handlers of events have their own answers, but read no more either.
func TestBodyLimits(t *testing.T) {
	s := newStand(t, near, nil)
	for _, route := range s.Routes() {
		if route.Body.Bytes == 0 || strings.HasSuffix(route.Pattern, "{name}/evaluate") {
			continue
		}
		for _, told := range []bool{true, false} {
			for over := range 2 {
				q := sample(route)
				q.body += strings.Repeat(" ", route.Body.Bytes+over-len(q.body))
				w := s.sendLength(auth.Admin, q, told)
				what := fmt.Sprintf("%s %s, %d over, told %v: %d %s", route.Method, route.Pattern, over,
					told, w.Code, w.Body)
				limit := fmt.Sprintf("%d bytes", route.Body.Bytes)
				switch {
				case over == 0 && w.Code/100 != 2:
					t.Error(what)
				case over == 1 && route.Role == auth.Ingest:
					if !strings.Contains(w.Body.String(), "body too large") {
						t.Error(what)
					}
				case over == 1 && (w.Code != 413 || !strings.Contains(w.Body.String(), limit)):
					t.Error(what)
				}
			}
		}
	}
}

func TestModuleIsCachedByItsHash(t *testing.T) {
	s := newStand(t, near, nil)
	q := request{method: "GET", path: "/v1/rules/x/versions/1/module"}
	w := s.send(auth.Read, q)
	tag := w.Header().Get("Etag")
	want := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte("the module")))
	if tag != want || w.Header().Get("Content-Type") != "application/wasm" {
		t.Fatalf("headers are %v", w.Header())
	}
	q.header = map[string]string{"If-None-Match": tag}
	if w := s.send(auth.Read, q); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("with its own tag: %d %s", w.Code, w.Body)
	}
	q.header = map[string]string{"If-None-Match": `"another"`}
	if w := s.send(auth.Read, q); w.Code != http.StatusOK {
		t.Errorf("with another tag: %d", w.Code)
	}
}

func TestLedger(t *testing.T) {
	s := newStand(t, near, nil)
	w := s.send(auth.Read, request{method: "GET", path: "/v1/ledger"})
	rejected := func(malformed int) string {
		return fmt.Sprintf(`"rejected":{"bad_envelope":0,"bad_utf8":0,"duplicate_key":0,"malformed":%d,`+
			`"not_object":0,"too_deep":0,"too_large":0,"truncated":0}`, malformed)
	}
	dropped := func(kernel, full int) string {
		return fmt.Sprintf(`"dropped":{"closed":0,"kernel":%d,"ring_full":%d}`, kernel, full)
	}
	want := `{"received":15,` + rejected(1) + `,` + dropped(5, 2) +
		`,"evaluated":4,"in_flight":3,"difference":0,"sources":{` +
		`"evaluate":{"received":0,` + rejected(0) + `,` + dropped(0, 0) + `},` +
		`"http":{"received":10,` + rejected(1) + `,` + dropped(0, 2) + `},` +
		`"udp":{"received":5,` + rejected(0) + `,` + dropped(5, 0) + `}}}` + "\n"
	if w.Body.String() != want {
		t.Errorf("ledger is\n%s expected\n%s", w.Body, want)
	}
}

func TestHealth(t *testing.T) {
	s := newStand(t, near, nil)
	for _, path := range []string{"/livez", "/readyz"} {
		for _, method := range []string{"GET", "HEAD"} {
			if w := s.send(auth.None, request{method: method, path: path + "?verbose"}); w.Code != 200 {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
		}
	}
	s.ready = errors.New("the server is stopping")
	w := s.send(auth.None, request{method: "GET", path: "/readyz"})
	if code, detail := problemOf(t, w); w.Code != 503 || code != "not_ready" ||
		detail != "the server is stopping" {
		t.Errorf("not ready: %d %s", w.Code, w.Body)
	}
	if w := s.send(auth.None, request{method: "GET", path: "/livez"}); w.Code != 200 {
		t.Errorf("alive, not ready: %d", w.Code)
	}
	var v struct {
		Version, Go string
		ABI         int
		Revision    *string
	}
	w = s.send(auth.None, request{method: "GET", path: "/version"})
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || v.Version != "1.2.3" || v.Go == "" ||
		v.ABI != 1 || v.Revision == nil {
		t.Errorf("version is %s", w.Body)
	}
}

// The two descriptions of the table have all of it.
func TestDescriptionsAreComplete(t *testing.T) {
	s := newStand(t, near, nil)
	index := s.send(auth.None, request{method: "GET", path: "/"}).Body.String()
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Summary    string
			Parameters []struct {
				Name, In string
				Required bool
			}
			Responses map[string]struct{ Description string }
		}
	}
	w := s.send(auth.None, request{method: "GET", path: "/openapi.json"})
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatalf("%v: %s", err, w.Body)
	}
	operations := 0
	for _, r := range s.Routes() {
		if line := fmt.Sprintf("%-6s %s ", r.Method, r.Pattern); !strings.Contains(index, line) {
			t.Errorf("the list has no %q", line)
		}
		op, ok := doc.Paths[r.Pattern][strings.ToLower(r.Method)]
		if !ok || op.Summary != r.Does || len(op.Responses) == 0 {
			t.Errorf("%s %s is described as %+v", r.Method, r.Pattern, op)
		}
		inPath := 0
		for _, p := range op.Parameters {
			if p.In == "path" && p.Required && strings.Contains(r.Pattern, "{"+p.Name+"}") {
				inPath++
			}
		}
		if inPath != strings.Count(r.Pattern, "{") {
			t.Errorf("%s %s has parameters %+v", r.Method, r.Pattern, op.Parameters)
		}
		operations++
	}
	found := 0
	for _, path := range doc.Paths {
		found += len(path)
	}
	if found != operations {
		t.Errorf("%d operations are described: expected %d", found, operations)
	}
}
