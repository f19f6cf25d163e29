package problem

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
)

func TestWrite(t *testing.T) {
	w := httptest.NewRecorder()
	Write(w, httptest.NewRequest("GET", "/v1/rules/x", nil), 404, "not_found", "there is none",
		map[string]any{"accepted": 3, "status": "not this"})
	var got struct {
		Type, Title, Code, Detail, Instance string
		Status, Accepted                    int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("body %s: %v", w.Body, err)
	}
	if w.Code != 404 || got.Status != 404 || got.Title != "Not Found" || got.Code != "not_found" ||
		got.Detail != "there is none" || got.Instance != "/v1/rules/x" || got.Accepted != 3 {
		t.Errorf("status %d, problem %+v", w.Code, got)
	}
	if c := w.Header().Get("Content-Type"); c != "application/problem+json" {
		t.Errorf("content type %q", c)
	}
}
