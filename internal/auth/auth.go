// Package auth decides who may do what: tokens with roles, and the Host and Origin checks that keep
// a browser's pages away from a server on the loopback interface.
//
//	loopback, err := auth.CheckBind("127.0.0.1:8080", false, false)
//	keys, created, err := auth.Load("data", nil)  // makes data/admin.token at the first start
//	guard := auth.NewGuard(keys, auth.Options{Loopback: loopback})
//	handler = guard.Require(auth.Admin, handler)  // 401 or 403, or the caller's name in the context
//	handler = guard.CheckHost(handler)            // around all routes
//	auth.Caller(r.Context())                      // "admin"
//
// Keys and Guard do not change once they are made, and may be used from any goroutine: a token that
// is added or removed counts from the next start on. There is no limit to the guesses of a caller;
// the tokens that are made here have 256 bits.
package auth

import (
	"context"
	"strings"
)

// Role is what a route asks of its caller, and what a token allows: one role or several.
type Role uint8

// The roles. Ingest and Read do not include each other.
const (
	Ingest Role = 1 << iota // may send events, and have their verdicts in the reply
	Read                    // may see rules, verdicts and figures
	Admin                   // may do everything

	None Role = 0 // needs no token: liveness and version
)

var roleNames = []struct {
	role Role
	name string
}{{Ingest, "ingest"}, {Read, "read"}, {Admin, "admin"}}

// String is the name of the role in token files, or several with commas between them.
func (r Role) String() string {
	var names []string
	for _, n := range roleNames {
		if r&n.role != 0 {
			names = append(names, n.name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ",")
}

// parseRoles reads what String writes, but for "none".
func parseRoles(text string) (roles Role, ok bool) {
	for name := range strings.SplitSeq(text, ",") {
		known := false
		for _, n := range roleNames {
			if n.name == name {
				roles |= n.role
				known = true
			}
		}
		if !known {
			return None, false
		}
	}
	return roles, true
}

// allows reports whether a token of roles r may use a route that asks for want.
func (r Role) allows(want Role) bool { return r&Admin != 0 || want&^r == 0 }

type callerKey struct{}

// Caller is the name of the token that a request came with, or "loopback" if it needed none.
func Caller(ctx context.Context) string {
	if name, ok := ctx.Value(callerKey{}).(string); ok {
		return name
	}
	return "loopback"
}
