// Package problem writes error answers as RFC 9457 has them: application/problem+json.
//
//	problem.Write(w, r, http.StatusConflict, "conflict", `rule "x" has no active version`, nil)
//
// answers
//
//	{"code":"conflict","detail":"rule \"x\" has no active version","instance":"/v1/rules/x/enable",
//	 "status":409,"title":"Conflict","type":"about:blank"}
//
// Programs choose by code, which is stable; detail is for people and may change. The type is always
// about:blank, so the title is the status in words.
//
// Any goroutine may call Write, with a ResponseWriter of its own.
package problem

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
)

// ContentType is the media type of every problem.
const ContentType = "application/problem+json"

// Write answers the request with a problem. It sends the headers that w has, so a caller sets
// Retry-After or Allow before; those that describe another body are removed. The extra members
// stand beside the usual ones and do not replace them; they must be of types that encoding/json
// takes. After Write, nothing else may be written.
func Write(w http.ResponseWriter, r *http.Request, status int, code, detail string,
	extra map[string]any,
) {
	p := make(map[string]any, len(extra)+6)
	maps.Copy(p, extra)
	p["type"] = "about:blank"
	p["title"] = http.StatusText(status)
	p["status"] = status
	p["code"] = code
	p["detail"] = detail
	p["instance"] = r.URL.EscapedPath() // without the query, which is not for logs
	body := Encode(p)
	h := w.Header()
	for _, name := range [...]string{
		"Content-Length", "Content-Encoding", "Content-Disposition", "Etag", "Last-Modified",
	} {
		h.Del(name)
	}
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store") // the same request may succeed in a moment
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(body) // an error means that the client has gone
}

// Encode is the JSON text of v with a newline. It leaves <, > and & as they are: answers are for
// people and programs, and a browser is told not to guess their type. What cannot be encoded is our
// bug.
func Encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("BUG: cannot encode an answer: " + err.Error())
	}
	return b.Bytes()
}
