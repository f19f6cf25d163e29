// Package problem writes errors to HTTP clients as RFC 9457 problem details.
//
//	problem.Write(w, r, http.StatusNotFound, "not_found", `there is no rule "x"`, nil)
//
// All functions may be called from any goroutine.
package problem

import (
	"encoding/json"
	"net/http"
)

// Write answers with a problem: status, a code for programs (such as "not_found"), and a detail for
// people. The members of extra are added; those of RFC 9457 win over them.
func Write(w http.ResponseWriter, r *http.Request, status int, code, detail string,
	extra map[string]any) {
	body := map[string]any{}
	for k, v := range extra {
		body[k] = v
	}
	body["type"] = "about:blank"
	body["title"] = http.StatusText(status)
	body["status"] = status
	body["code"] = code
	body["detail"] = detail
	body["instance"] = r.URL.Path
	text, err := json.Marshal(body)
	if err != nil {
		panic("BUG: a problem's extra member cannot be encoded: " + err.Error())
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client may be gone
}
