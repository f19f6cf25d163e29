package auth

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"wasmeval/internal/problem"
)

// Options say how strict a Guard is.
type Options struct {
	Loopback     bool     // the server is bound to the loopback interface only
	EventTokens  bool     // events need a token on loopback too
	AllowedHosts []string // names that clients may use for the server, beside its address
}

// Guard checks requests.
type Guard struct {
	keys *Keys
	o    Options
}

// NewGuard makes a guard.
func NewGuard(k *Keys, o Options) *Guard { return &Guard{keys: k, o: o} }

// Loopback reports whether the server is bound to the loopback interface only.
func (g *Guard) Loopback() bool { return g.o.Loopback }

// Require lets requests through to next that have a token of the role: else 401 for no token or an
// unknown one, 403 for one of another role. On loopback events need none, unless EventTokens is
// set; but a token that is given must be right.
func (g *Guard) Require(want Role, next http.Handler) http.Handler {
	open := want == None || want == Ingest && g.o.Loopback && !g.o.EventTokens
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers := r.Header["Authorization"]
		if len(headers) == 0 {
			if open {
				next.ServeHTTP(w, r)
				return
			}
			unauthorized(w, r, "", "no_token",
				"this needs a token: expected the header Authorization: Bearer <token>")
			return
		}
		scheme, token, _ := strings.Cut(headers[0], " ")
		k := g.keys.find(strings.TrimSpace(token))
		switch {
		case len(headers) > 1 || !strings.EqualFold(scheme, "Bearer"):
			unauthorized(w, r, "invalid_request", "bad_token",
				"expected one header Authorization: Bearer <token>")
		case k == nil:
			unauthorized(w, r, "invalid_token", "bad_token", "the token is not known")
		case !k.roles.allows(want):
			w.Header().Set("WWW-Authenticate", `Bearer realm="wasmeval", error="insufficient_scope"`)
			problem.Write(w, r, http.StatusForbidden, "role", fmt.Sprintf(
				"token %q has the role %s: expected %s", k.name, k.roles, want), nil)
		default:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, k.name)))
		}
	})
}

// unauthorized answers 401, with an error code of RFC 6750 unless it is empty.
func unauthorized(w http.ResponseWriter, r *http.Request, challenge, code, detail string) {
	value := `Bearer realm="wasmeval"`
	if challenge != "" {
		value += `, error="` + challenge + `"`
	}
	w.Header().Set("WWW-Authenticate", value)
	problem.Write(w, r, http.StatusUnauthorized, code, detail, nil)
}

// CheckHost refuses requests whose Host is not a name of this server with 421 (a page that rebinds
// its own name to a loopback address sends that name), and those of other servers' pages, which
// their Origin tells, with 403.
func (g *Guard) CheckHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.knows(r.Host) {
			problem.Write(w, r, http.StatusMisdirectedRequest, "host", fmt.Sprintf(
				"host %.200q is not a name of this server: expected its address, localhost, or one of "+
					"listen.allowed_hosts", r.Host), nil)
			return
		}
		for _, o := range r.Header["Origin"] {
			if !g.ownOrigin(o, r.Host) {
				problem.Write(w, r, http.StatusForbidden, "origin",
					fmt.Sprintf("origin %.200q is not this server", o), nil)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// ownOrigin reports whether an Origin is of this server: the request's own Host, port included,
// since a page from another port of this machine is a stranger too; or an allowed name, which the
// Host is not where a proxy changes it. "null" is nobody's.
func (g *Guard) ownOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return false
	}
	return strings.EqualFold(u.Host, host) || g.allowed(hostName(u.Host))
}

// knows reports whether host, with or without a port, is a name of this server. Bound to loopback
// these are loopback addresses and localhost; else any address, for no name can be rebound to it.
func (g *Guard) knows(host string) bool {
	name := hostName(host)
	if name == "localhost" || g.allowed(name) {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && (addr.IsLoopback() || !g.o.Loopback)
}

func (g *Guard) allowed(name string) bool {
	for _, a := range g.o.AllowedHosts {
		if hostName(a) == name {
			return name != ""
		}
	}
	return false
}

// hostName is a Host without port and brackets, in lower case.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// CheckBind refuses an address that others can reach unless TLS is on and tokens for events are
// asked for. It reports whether the address is a loopback one.
func CheckBind(addr string, tls, eventTokens bool) (loopback bool, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return false, fmt.Errorf("cannot listen on %q: expected host:port", addr)
	}
	ip, err := netip.ParseAddr(host)
	if host == "localhost" || err == nil && ip.IsLoopback() {
		return true, nil
	}
	var missing []string
	if !tls {
		missing = append(missing, "TLS (listen.tls_cert and listen.tls_key), since tokens would cross "+
			"the network in the clear")
	}
	if !eventTokens {
		missing = append(missing, "tokens for events (listen.require_token_for_events), since anyone "+
			"could send them")
	}
	if missing != nil {
		return false, fmt.Errorf("cannot listen on %q, which others can reach: it needs %s", addr,
			strings.Join(missing, "; and "))
	}
	return false, nil
}
