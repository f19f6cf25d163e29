package problem

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

func TestWrite(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Etag", `"of another body"`)
	w.Header().Set("Content-Length", "7")
	w.Header().Set("Retry-After", "1")
	r := httptest.NewRequest(http.MethodPost, "/v1/a%20b?token=secret", nil)
	Write(w, r, http.StatusTooManyRequests, "ring_full", `no room for "x"`,
		map[string]any{"accepted": 3, "status": "mine"})

	want := map[string]any{
		"type": "about:blank", "title": "Too Many Requests", "status": 429.0, "code": "ring_full",
		"detail": `no room for "x"`, "instance": "/v1/a%20b", "accepted": 3.0,
	}
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusTooManyRequests || !maps.Equal(got, want) {
		t.Errorf("%d %v: expected %v", w.Code, got, want)
	}
	headers := http.Header{
		"Content-Type": {ContentType}, "Cache-Control": {"no-store"}, "Retry-After": {"1"},
		"X-Content-Type-Options": {"nosniff"},
	}
	if !maps.EqualFunc(w.Header(), headers, slices.Equal) {
		t.Errorf("headers are %v: expected %v", w.Header(), headers)
	}
}

func TestWriteRefusesWhatIsNoJSON(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a member that cannot be encoded was taken")
		}
	}()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	Write(httptest.NewRecorder(), r, 500, "x", "x", map[string]any{"f": func() {}})
}
