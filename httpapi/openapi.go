package httpapi

import (
	"fmt"
	"net/http"
	"strings"

	"wasmeval/internal/auth"
	"wasmeval/internal/problem"
)

// openAPI writes the table as an OpenAPI 3.1 document: routes, parameters, tokens, content types.
// It does not have the schemas of bodies.
func (a *API) openAPI(w http.ResponseWriter, _ *http.Request) {
	paths := map[string]map[string]any{}
	for i := range a.routes {
		r := &a.routes[i]
		if paths[r.Pattern] == nil {
			paths[r.Pattern] = map[string]any{}
		}
		paths[r.Pattern][strings.ToLower(r.Method)] = operation(r)
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"openapi": "3.1.0",
		"info":    map[string]any{"title": "wasmeval", "version": a.c.Version},
		"paths":   paths,
		"components": map[string]any{"securitySchemes": map[string]any{
			"token": map[string]any{"type": "http", "scheme": "bearer"},
		}},
	})
}

func operation(r *Route) map[string]any {
	op := map[string]any{
		"summary":     r.Does,
		"description": fmt.Sprintf("role: %s", r.Role),
		"responses": map[string]any{
			"2XX": map[string]any{"description": "done"},
			"default": map[string]any{
				"description": "a problem as in RFC 9457",
				"content":     content([]string{problem.ContentType}),
			},
		},
	}
	if params := parameters(r); params != nil {
		op["parameters"] = params
	}
	if r.Role != auth.None {
		op["security"] = []any{map[string]any{"token": []string{}}}
	}
	if types := r.Body.Types; types != nil {
		op["requestBody"] = map[string]any{"content": content(types)}
	} else if r.Body.Bytes > 0 {
		op["requestBody"] = map[string]any{"content": content([]string{jsonType, linesType})}
	}
	return op
}

func content(types []string) map[string]any {
	all := map[string]any{}
	for _, t := range types {
		all[t] = map[string]any{}
	}
	return all
}

func parameters(r *Route) (all []any) {
	parameter := func(name, in string) {
		all = append(all, map[string]any{
			"name": name, "in": in, "required": in == "path", "schema": map[string]any{"type": "string"},
		})
	}
	for part := range strings.SplitSeq(r.Pattern, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			parameter(strings.TrimSuffix(name, "}"), "path")
		}
	}
	if r.Query != "*" {
		for _, name := range strings.Fields(r.Query) {
			parameter(name, "query")
		}
	}
	return all
}
