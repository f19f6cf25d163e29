package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"wasmeval/internal/auth"
	"wasmeval/runtime"
)

func TestRecentLogs(t *testing.T) {
	s := newStand(t, near, nil)
	for _, text := range []string{"one", "two\n\x00", "three"} {
		s.engine.logs.Add(7, 2, text)
	}
	w := s.send(auth.Read, request{method: "GET", path: "/v1/rules/x/logs?follow=false&lines=2"})
	var answer struct{ Lines []runtime.LogLine }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	l := answer.Lines
	if len(l) != 2 || l[0].Text != "two\n\x00" || l[1].Text != "three" || l[1].Level != "warn" ||
		l[1].Version != 7 || l[1].Time.IsZero() || l[1].Seq != l[0].Seq+1 {
		t.Errorf("lines %+v", l)
	}
	if calls := s.engine.take(); calls != "logs x" {
		t.Errorf("calls %s", calls)
	}
	for query, want := range map[string]string{
		"follow=maybe": "follow=maybe: expected true or false",
		"lines=-1":     "lines=-1: expected a number from 0", "lines=9999": "expected a number from 0 to",
		"after=x": "after=x: expected the seq", "line=1": `query value "line" is not known`,
	} {
		w := s.send(auth.Read, request{method: "GET", path: "/v1/rules/x/logs?" + query})
		if _, detail := problemOf(t, w); w.Code != 400 || !strings.Contains(detail, want) {
			t.Errorf("%s: %d %s: expected %s", query, w.Code, detail, want)
		}
	}
	s.engine.err = &runtime.Error{Kind: runtime.NotFound, Msg: "there is no rule"}
	w = s.send(auth.Read, request{method: "GET", path: "/v1/rules/x/logs"})
	if code, _ := problemOf(t, w); w.Code != 404 {
		t.Errorf("%d %s: expected 404", w.Code, code)
	}
}

// follow opens a stream, and returns what reads its next event: a name and its data.
func (s *stand) follow(t *testing.T, ctx context.Context, url, query string) func() (string, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/rules/x/logs?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.tokens[auth.Read])
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		t.Fatalf("%d %s", resp.StatusCode, kind)
	}
	lines := bufio.NewScanner(resp.Body)
	return func() (name, data string) {
		for lines.Scan() {
			switch key, value, _ := strings.Cut(lines.Text(), ": "); {
			case key == "event":
				name = value
			case key == "data":
				data = value
			case lines.Text() == "" && name != "":
				return name, data
			}
		}
		return "end", ""
	}
}

func TestFollowLogs(t *testing.T) {
	s := newStand(t, near, nil)
	server := NewServer(s)
	lis := httptest.NewUnstartedServer(s)
	lis.Config = server
	server.RegisterOnShutdown(s.EndStreams)
	lis.Start()
	defer lis.Close()
	s.engine.logs.Add(1, 1, "before")
	s.engine.logs.Add(1, 1, "last")
	next := s.follow(t, t.Context(), lis.URL, "lines=1")
	expect := func(next func() (string, string), name, text string) (seq uint64) {
		t.Helper()
		got, data := next()
		var line runtime.LogLine
		if name == "log" && json.Unmarshal([]byte(data), &line) != nil || got != name || line.Text != text {
			t.Fatalf("event %s %s: expected %s %s", got, data, name, text)
		}
		return line.Seq
	}
	expect(next, "log", "last")
	s.engine.logs.Add(2, 3, "new\nline")
	expect(next, "log", "new\nline")
	ctx, cancel := context.WithCancel(t.Context())
	other := s.follow(t, ctx, lis.URL, "lines=9")
	expect(other, "log", "before")
	expect(other, "log", "last")
	cancel() // it goes away, and the others go on
	s.engine.logs.Add(2, 0, "more")
	expect(next, "log", "more")
	if err := server.Shutdown(t.Context()); err != nil {
		t.Errorf("the server does not shut down while a log is followed: %v", err)
	}
	expect(next, "end", "")
}
