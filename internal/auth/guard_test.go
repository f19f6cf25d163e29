package auth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// ask sends a request through h and returns the status, and the problem's code or the caller.
func ask(t *testing.T, h http.Handler, edit func(*http.Request)) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://localhost/x", nil)
	edit(r)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code == http.StatusOK {
		return w.Code, w.Body.String()
	}
	var p struct{ Code string }
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if got := w.Header().Get("WWW-Authenticate"); (got != "") != (w.Code == 401 || p.Code == "role") {
		t.Errorf("%d %s with WWW-Authenticate %q", w.Code, p.Code, got)
	}
	return w.Code, p.Code
}

var sayCaller = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, Caller(r.Context()))
})

func TestRequire(t *testing.T) {
	keys, admin := newKeys(t)
	near := Options{Loopback: true}
	strict := Options{Loopback: true, EventTokens: true}
	far := Options{EventTokens: true}
	careless := Options{} // CheckBind refuses this; a token is needed all the same
	for _, c := range []struct {
		o      Options
		want   Role
		header string
		status int
		text   string
	}{
		{near, None, "", 200, "loopback"},
		{near, None, "Bearer " + readToken, 200, "reader"},
		{near, None, "Bearer wrong", 401, "bad_token"},
		{near, Ingest, "", 200, "loopback"},
		{near, Ingest, "Bearer " + ingestToken, 200, "sender"},
		{near, Ingest, "Bearer " + readToken, 403, "role"},
		{near, Ingest, "Bearer wrong", 401, "bad_token"},
		{near, Read, "", 401, "no_token"},
		{near, Admin, "", 401, "no_token"},
		{strict, Ingest, "", 401, "no_token"},
		{strict, Ingest, "Bearer " + ingestToken, 200, "sender"},
		{far, None, "", 200, "loopback"},
		{far, Ingest, "", 401, "no_token"},
		{careless, Ingest, "", 401, "no_token"},
		{far, Read, "Bearer " + ingestToken, 403, "role"},
		{far, Read, "Bearer " + readToken, 200, "reader"},
		{far, Read, "Bearer " + bothToken, 200, "both"},
		{far, Ingest, "Bearer " + bothToken, 200, "both"},
		{far, Admin, "Bearer " + bothToken, 403, "role"},
		{far, Admin, "Bearer " + admin, 200, "admin"},
		{far, Read, "Bearer " + admin, 200, "admin"},
		{far, Admin, "bearer  " + admin + " ", 200, "admin"},
		{far, Admin, admin, 401, "bad_token"},
		{far, Admin, "Basic " + admin, 401, "bad_token"},
		{far, Admin, "Bearer", 401, "bad_token"},
		{far, Admin, "Bearer " + admin + " " + admin, 401, "bad_token"},
		{near, Ingest, " ", 401, "bad_token"},
	} {
		h := NewGuard(keys, c.o).Require(c.want, sayCaller)
		status, text := ask(t, h, func(r *http.Request) {
			if c.header != "" {
				r.Header.Set("Authorization", c.header)
			}
		})
		if status != c.status || text != c.text {
			t.Errorf("%+v, role %s, %q: %d %s: expected %d %s", c.o, c.want, c.header, status, text,
				c.status, c.text)
		}
	}
	h := NewGuard(keys, far).Require(Admin, sayCaller)
	status, _ := ask(t, h, func(r *http.Request) {
		r.Header["Authorization"] = []string{"Bearer " + admin, "Bearer " + admin}
	})
	if status != 401 {
		t.Errorf("two headers: %d", status)
	}
}

func TestCheckHost(t *testing.T) {
	keys, _ := newKeys(t)
	near := Options{Loopback: true}
	named := Options{Loopback: true, AllowedHosts: []string{"Rules.example"}}
	far := Options{EventTokens: true, AllowedHosts: []string{"rules.example"}}
	for _, c := range []struct {
		o            Options
		host, origin string
		status       int
	}{
		{near, "localhost", "", 200},
		{near, "LOCALHOST:8080", "", 200},
		{near, "localhost.:8080", "", 200},
		{near, "127.0.0.1:9", "", 200},
		{near, "127.8.9.10", "", 200},
		{near, "[::1]:8080", "", 200},
		{near, "[::1]", "", 200},
		{near, "", "", 421},
		{near, ":8080", "", 421},
		{near, "evil.example", "", 421},
		{near, "evil.example:8080", "", 421},
		{near, "localhost.evil.example", "", 421},
		{near, "127.0.0.1.evil.example", "", 421},
		{near, "localhost@evil.example", "", 421},
		{near, "0.0.0.0:8080", "", 421},
		{near, "10.0.0.1", "", 421},
		{near, "0x7f.1", "", 421},
		{near, "rules.example", "", 421},
		{named, "rules.example:1", "", 200},
		{named, "RULES.example", "", 200},
		{named, "localhost:1", "", 200},
		{named, "x.rules.example", "", 421},
		{far, "10.0.0.1:443", "", 200},
		{far, "rules.example", "", 200},
		{far, "evil.example", "", 421},

		{near, "localhost:8080", "http://localhost:8080", 200},
		{near, "localhost:8080", "http://LOCALHOST:8080", 200},
		{near, "localhost:8080", "http://localhost:3000", 403},
		{near, "localhost:8080", "http://localhost", 403},
		{near, "localhost:8080", "http://127.0.0.1:8080", 403},
		{near, "localhost:8080", "http://evil.example", 403},
		{near, "localhost:8080", "null", 403},
		{near, "localhost:8080", "localhost:8080", 403},
		{near, "localhost:8080", "file://localhost:8080", 403},
		{near, "localhost:8080", "http://%zz", 403},
		{named, "localhost:8080", "https://rules.example", 200},
		{named, "localhost:8080", "https://evil.example", 403},
	} {
		status, _ := ask(t, NewGuard(keys, c.o).CheckHost(sayCaller), func(r *http.Request) {
			r.Host = c.host
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
		})
		if status != c.status {
			t.Errorf("%+v, host %q, origin %q: %d: expected %d", c.o, c.host, c.origin, status, c.status)
		}
	}
}

func TestCheckBind(t *testing.T) {
	const needsTLS, needsTokens = "TLS", "tokens for events"
	for _, c := range []struct {
		addr        string
		tls, tokens bool
		loopback    bool
		want        []string // in the error; nil: none
	}{
		{"127.0.0.1:8080", false, false, true, nil},
		{"127.1.2.3:0", false, false, true, nil},
		{"[::1]:8080", false, false, true, nil},
		{"[::ffff:127.0.0.1]:8080", false, false, true, nil},
		{"localhost:8080", false, false, true, nil},
		{"127.0.0.1:8080", true, true, true, nil},
		{":8080", false, false, false, []string{needsTLS, needsTokens}},
		{"0.0.0.0:8080", true, false, false, []string{needsTokens}},
		{"[::]:8080", false, true, false, []string{needsTLS}},
		{"rules.example:8080", false, true, false, []string{needsTLS}},
		{"10.0.0.1:443", true, true, false, nil},
		{":443", true, true, false, nil},
		{"127.0.0.1", false, false, false, []string{"host:port"}},
		{"127.0.0.1:65536", false, false, false, []string{"host:port"}},
		{"127.0.0.1:", false, false, false, []string{"host:port"}},
		{"::1:8080", false, false, false, []string{"host:port"}},
	} {
		loopback, err := CheckBind(c.addr, c.tls, c.tokens)
		if loopback != c.loopback || (err == nil) != (c.want == nil) {
			t.Errorf("%q, TLS %v, tokens %v: loopback %v, error %v", c.addr, c.tls, c.tokens, loopback, err)
			continue
		}
		for _, want := range append(c.want, "") {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%q: error is %v: expected %q", c.addr, err, want)
			}
		}
		for _, not := range []string{needsTLS, needsTokens} {
			if err != nil && strings.Contains(err.Error(), not) &&
				!strings.Contains(strings.Join(c.want, ";"), not) {
				t.Errorf("%q: error is %v: it speaks of %s", c.addr, err, not)
			}
		}
	}
}
