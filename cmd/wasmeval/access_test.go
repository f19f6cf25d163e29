package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wasmeval/httpapi"
	"wasmeval/internal/auth"
)

// request sends a request with a token (none if empty) and returns status and body.
func (p *program) request(method, path, token string, header map[string]string, body []byte) (int, string) {
	p.t.Helper()
	r, err := http.NewRequest(method, p.url+path, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for k, v := range header {
		if k == "Host" {
			r.Host = v
		}
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp.StatusCode, "" // it does not end by itself
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Every route of the table, with no token, an unknown one, and one of each role: who may come in is
// exactly what the table says.
func TestAccess(t *testing.T) {
	dir := t.TempDir()
	tokens := map[auth.Role]string{auth.Ingest: "ingest-0123456789012345", auth.Read: "read-01234567890123456789"}
	file := filepath.Join(dir, "tokens")
	text := fmt.Sprintf("# who may do what\nsensors ingest %s\ndashboard read %s\n", tokens[auth.Ingest], tokens[auth.Read])
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, eventTokens := range []bool{false, true} {
		p := launch(t, filepath.Join(dir, fmt.Sprint("data", eventTokens)), "--token-files", file,
			fmt.Sprintf("--require-token-for-events=%v", eventTokens))
		tokens[auth.Admin] = p.token
		for _, route := range routes() {
			path := strings.NewReplacer("{name}", "none", "{n}", "1").Replace(route.Pattern)
			open := route.Role == auth.None || route.Role == auth.Ingest && !eventTokens
			check := func(who, token string, refused int) {
				status, body := p.request(route.Method, path, token, nil, nil)
				if refused != 0 && status != refused || refused == 0 && (status == 401 || status == 403) {
					t.Errorf("%s %s with %s: %d %s, expected refusal %d", route.Method, path, who, status, body, refused)
				}
			}
			want := 401
			if open {
				want = 0
			}
			check("no token", "", want)
			check("an unknown token", "wev_0123456789", 401)
			for role, token := range tokens {
				want := 403
				if role == route.Role || role == auth.Admin || route.Role == auth.None {
					want = 0
				}
				check(role.String(), token, want)
			}
		}
		p.end()
	}
}

// routes is the table, of an API that is never called.
func routes() []httpapi.Route {
	none := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	return httpapi.New(httpapi.Config{Guard: auth.NewGuard(&auth.Keys{}, auth.Options{}), Metrics: none,
		Tail: none, OpenMetrics: true}).Routes()
}

// What a client can get wrong has its own status, and a detail that names it.
func TestBadRequests(t *testing.T) {
	p := launch(t, t.TempDir())
	p.upload("r", "always")
	js, wasm := map[string]string{"Content-Type": "application/json"}, map[string]string{"Content-Type": "application/wasm"}
	nd := map[string]string{"Content-Type": "application/x-ndjson"}
	deep := strings.Repeat("[", 100_000)
	for _, c := range []struct {
		method, path string
		header       map[string]string
		body         string
		status       int
		want         string
	}{
		{"GET", "/v1/nothing", nil, "", 404, "no such route"},
		{"PATCH", "/v1/rules/r", nil, "", 405, "expected GET or HEAD or PUT or DELETE"},
		{"GET", "/v1/rules/none", nil, "", 404, `no rule \"none\"`},
		{"PUT", "/v1/rules/UPPER", wasm, "\x00asm\x01\x00\x00\x00", 400, "not a rule name"},
		{"PUT", "/v1/rules/x", js, "{}", 415, "application/wasm"},
		{"PUT", "/v1/rules/x", wasm, "hello", 422, "no WebAssembly module"},
		{"PUT", "/v1/rules/x?activate=maybe", wasm, "hello", 400, "activate=maybe: expected true or false"},
		{"PUT", "/v1/rules/x?speed=9", wasm, "hello", 400, `\"speed\" is not known`},
		{"PUT", "/v1/rules/x", wasm, strings.Repeat("x", 9<<20), 413, "8388608 bytes"},
		{"POST", "/v1/rules/r/activate", js, `{"version":9}`, 404, "no version 9"},
		{"POST", "/v1/rules/r/activate", js, `{"versions":1}`, 400, "versions"},
		{"POST", "/v1/rules/r/activate", js, `{"version":1} x`, 400, "something after it"},
		{"POST", "/v1/rules/r/rollback", nil, "", 409, "active before"},
		{"PUT", "/v1/rules/r/config", js, `{"on_failure":"explode"}`, 422, "fail_open or fail_closed"},
		{"PUT", "/v1/rules/r/config", js, `{"params":{"x":1}}`, 422, `param \"x\" is not declared`},
		{"GET", "/v1/rules/r/versions/0/module", nil, "", 400, "a number from 1"},
		{"GET", "/v1/audit?limit=0", nil, "", 400, `limit=\"0\"`},
		{"POST", "/v1/rules/r/test", js, `[]`, 400, "0 events"},
		{"POST", "/v1/rules/r/test", js, `[{"a":1},3]`, 422, "event 1"},
		{"POST", "/v1/events", map[string]string{"Content-Type": "image/png"}, "{}", 415, "application/x-ndjson"},
		{"POST", "/v1/events?source=a", js, "{}", 400, `\"source\" is not known`},
		{"POST", "/v1/evaluate?foo=1", js, "{}", 400, `\"foo\" is not known: expected timeout`},
		{"POST", "/v1/rules/r/evaluate?timeout=0s", js, "{}", 400, "cannot use timeout"},
		{"POST", "/v1/events", js, "", 400, "expected events"},
		{"POST", "/v1/events", js, deep, 400, "not_taken"},
		{"POST", "/v1/events", js, `{"a":NaN}`, 400, "malformed"},
		{"POST", "/v1/events", js, `{"a":1,"a":2}`, 400, "duplicate_key"},
		{"POST", "/v1/events", js, "{\"a\":\"\xff\"}", 400, "bad_utf8"},
		{"POST", "/v1/events", js, `7`, 400, "not_object"},
		{"POST", "/v1/events", js, `{"a":` + deep + `1` + strings.Repeat("]", 100_000) + `}`, 400, "too_deep"},
		{"POST", "/v1/events", nd, "{\"a\":1}\n{\"a\":01}\n{\"a\":2}\n", 202, `"index":1,"reason":"malformed"`},
		{"POST", "/v1/rules/none/evaluate", js, `{}`, 404, "none"},
		{"GET", "/livez", map[string]string{"Host": "evil.example"}, "", 421, "evil.example"},
		{"GET", "/livez", map[string]string{"Origin": "https://evil.example"}, "", 403, "evil.example"},
	} {
		status, body := p.request(c.method, c.path, p.token, c.header, []byte(c.body))
		if status != c.status || !strings.Contains(body, c.want) && c.want != "not_taken" {
			t.Errorf("%s %s %.40q: %d %s, expected %d with %q", c.method, c.path, c.body, status, body, c.status, c.want)
		}
	}
	a := p.ledger()
	a.holds(t)
}
