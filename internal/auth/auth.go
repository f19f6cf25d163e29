// Package auth decides who may do what: tokens with roles, and the Host and Origin checks that keep
// a browser's pages away from a server on the loopback interface.
//
//	keys, created, err := auth.Load("data", nil)  // makes data/admin.token at the first start
//	guard := auth.NewGuard(keys, auth.Options{Loopback: true})
//	handler = guard.Require(auth.Admin, handler)  // 401 or 403, or the caller's name in the context
//	handler = guard.CheckHost(handler)            // around all routes
//	auth.Caller(r.Context())                      // "admin"
//
// Keys and Guard do not change once they are made, and may be used from any goroutine.
package auth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"wasmeval/internal/problem"
)

// Role is what a route asks of its caller, and what a token allows.
type Role uint8

// The roles.
const (
	None   Role = iota // needs no token: liveness and version
	Ingest             // may send events
	Read               // may see rules, verdicts and figures
	Admin              // may do everything
)

var roleNames = [...]string{"none", "ingest", "read", "admin"}

// String is the role's name in token files.
func (r Role) String() string { return roleNames[r] }

// allows reports whether a token of role r may use a route that asks for want.
func (r Role) allows(want Role) bool { return want == None || r == want || r == Admin }

type key struct {
	name string
	role Role
	sum  [sha256.Size]byte
}

// Keys are the tokens that the server knows, by their SHA-256.
type Keys struct {
	keys []key
}

// AdminFile is the name of the file in the data folder that holds the admin token.
const AdminFile = "admin.token"

const tokenPrefix = "wev_"

// Load reads the admin token from dataDir, and more tokens from files; at the first start it makes
// the former, and created is true. A token file has lines of a name, a role (ingest, read or admin)
// and a token, with # before comments. Files that others than their owner may read are refused.
func Load(dataDir string, files []string) (keys *Keys, created bool, err error) {
	path := filepath.Join(dataDir, AdminFile)
	text, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = create(path)
		created = true
	}
	if err != nil {
		return nil, false, err
	}
	k := &Keys{}
	token := strings.TrimSpace(string(text))
	if len(token) < 20 {
		return nil, false, fmt.Errorf("cannot use admin token file %q: expected one token of at least "+
			"20 characters; remove the file to get a new one", path)
	}
	k.add("admin", Admin, token)
	for _, f := range files {
		if err := k.addFile(f); err != nil {
			return nil, false, err
		}
	}
	return k, created, nil
}

// readPrivate reads a file that only its owner may read.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read token file %q: %w", path, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("cannot use token file %q: its mode is %04o, expected 0600, since "+
			"others may read it", path, mode)
	}
	return os.ReadFile(path)
}

// create makes the admin token: complete in a file of its own first, so that a crash leaves none or
// all of it.
func create(path string) ([]byte, error) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	text := []byte(tokenPrefix + hex.EncodeToString(b[:]) + "\n")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder of token file %q: %w", path, err)
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return nil, fmt.Errorf("cannot write token file %q: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, fmt.Errorf("cannot write token file %q: %w", path, err)
	}
	return text, nil
}

func (k *Keys) addFile(path string) error {
	text, err := readPrivate(path)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		role := -1
		if len(f) == 3 {
			role = slices.Index(roleNames[:], f[1])
		}
		if role <= int(None) || len(f[2]) < 20 {
			return fmt.Errorf("cannot use token file %q: line %d: expected a name, a role (ingest, read "+
				"or admin) and a token of at least 20 characters", path, n)
		}
		k.add(f[0], Role(role), f[2])
	}
	return lines.Err()
}

func (k *Keys) add(name string, role Role, token string) {
	k.keys = append(k.keys, key{name, role, sha256.Sum256([]byte(token))})
}

// find looks a token up. It compares with every key, each in constant time, so that the time tells
// nothing of how close a guess was.
func (k *Keys) find(token string) (found *key) {
	sum := sha256.Sum256([]byte(token))
	for i := range k.keys {
		if subtle.ConstantTimeCompare(sum[:], k.keys[i].sum[:]) == 1 {
			found = &k.keys[i]
		}
	}
	return found
}

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

type callerKey struct{}

// Caller is the name of the token that a request came with, or "loopback" if it needed none.
func Caller(ctx context.Context) string {
	if name, ok := ctx.Value(callerKey{}).(string); ok {
		return name
	}
	return "loopback"
}

// Require lets requests through to next that have a token of the role: else 401 for no token or an
// unknown one, 403 for one of another role. On loopback events need none, unless EventTokens is set;
// but a token that is given must be right.
func (g *Guard) Require(want Role, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Get("Authorization")
		open := want == None || want == Ingest && g.o.Loopback && !g.o.EventTokens
		if open && header == "" {
			next.ServeHTTP(w, r)
			return
		}
		scheme, token, _ := strings.Cut(header, " ")
		k := g.keys.find(strings.TrimSpace(token))
		switch {
		case header == "":
			unauthorized(w, r, "this needs a token: expected the header Authorization: Bearer <token>")
		case !strings.EqualFold(scheme, "Bearer") || k == nil:
			unauthorized(w, r, "the token is not known")
		case !k.role.allows(want):
			problem.Write(w, r, http.StatusForbidden, "role", fmt.Sprintf(
				"token %q has the role %s: expected %s", k.name, k.role, want), nil)
		default:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, k.name)))
		}
	})
}

func unauthorized(w http.ResponseWriter, r *http.Request, detail string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="wasmeval"`)
	problem.Write(w, r, http.StatusUnauthorized, "token", detail, nil)
}

// CheckHost refuses requests whose Host is not a name of this server (a page that rebinds its own
// name to a loopback address sends that name), and those whose Origin is another server's.
func (g *Guard) CheckHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.knows(r.Host) {
			problem.Write(w, r, http.StatusMisdirectedRequest, "host", fmt.Sprintf(
				"host %q is not a name of this server: expected its address, localhost, or one of "+
					"listen.allowed_hosts", r.Host), nil)
			return
		}
		if o := r.Header.Get("Origin"); o != "" {
			if u, err := url.Parse(o); err != nil || u.Host != r.Host {
				problem.Write(w, r, http.StatusForbidden, "origin",
					fmt.Sprintf("origin %q is not this server", o), nil)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// knows reports whether host, with or without a port, is a name of this server. Bound to loopback
// these are loopback addresses and localhost; else any address.
func (g *Guard) knows(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if strings.EqualFold(name, "localhost") {
		return true
	}
	for _, a := range g.o.AllowedHosts {
		if strings.EqualFold(a, name) {
			return true
		}
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && (addr.IsLoopback() || !g.o.Loopback)
}

// CheckBind refuses an address that others can reach unless TLS is on and tokens for events are
// asked for. It reports whether the address is a loopback one.
func CheckBind(addr string, tls, eventTokens bool) (loopback bool, err error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false, fmt.Errorf("cannot listen on %q: expected host:port", addr)
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if host == "localhost" || err == nil && ip.IsLoopback() {
		return true, nil
	}
	var missing []string
	if !tls {
		missing = append(missing, "TLS (listen.tls_cert and listen.tls_key), since tokens would cross "+
			"the network in the clear")
	}
	if !eventTokens {
		missing = append(missing, "tokens for events (listen.require_token_for_events), since anyone could send them")
	}
	if missing != nil {
		return false, fmt.Errorf("cannot listen on %q, which others can reach: it needs %s", addr,
			strings.Join(missing, "; and "))
	}
	return false, nil
}
