package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"wasmeval/bus"
	"wasmeval/internal/auth"
	"wasmeval/runtime"
)

// fake is an engine that notes its calls and answers with err, or with what is good.
type fake struct {
	mu    sync.Mutex
	calls []string
	err   error
	logs  runtime.Logs
}

func (f *fake) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.err
}

// take returns the calls since the last take.
func (f *fake) take() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := strings.Join(f.calls, "; ")
	f.calls = nil
	return calls
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

var swap = runtime.Swap{Generation: 7, Drained: 3, TookMicros: 12, Running: 2}

func (f *fake) Put(_ context.Context, n runtime.RuleName, code []byte, o runtime.PutOptions) (
	runtime.PutResult, error,
) {
	err := f.note("put %s %s %s", n, code, text(o))
	return runtime.PutResult{Rule: n, Version: 2, Created: string(code) != "old", Swap: &swap}, err
}

func (f *fake) Rules() []runtime.Rule {
	f.note("rules")
	return []runtime.Rule{}
}

func (f *fake) Rule(n runtime.RuleName) (runtime.Rule, error) {
	return runtime.Rule{Name: n}, f.note("rule %s", n)
}

func (f *fake) Versions(n runtime.RuleName) ([]runtime.Version, error) {
	return []runtime.Version{{Number: 1}}, f.note("versions %s", n)
}

func (f *fake) Module(n runtime.RuleName, v runtime.VersionNumber) ([]byte, error) {
	return []byte("the module"), f.note("module %s %d", n, v)
}

func (f *fake) Activate(_ context.Context, n runtime.RuleName, v runtime.VersionNumber, by string) (
	runtime.Swap, error,
) {
	return swap, f.note("activate %s %d by %s", n, v, by)
}

func (f *fake) Rollback(_ context.Context, n runtime.RuleName, by string) (runtime.Swap, error) {
	return swap, f.note("rollback %s by %s", n, by)
}

func (f *fake) Enable(_ context.Context, n runtime.RuleName, by string) (runtime.Swap, error) {
	return swap, f.note("enable %s by %s", n, by)
}

func (f *fake) Disable(_ context.Context, n runtime.RuleName, by string) (runtime.Swap, error) {
	return swap, f.note("disable %s by %s", n, by)
}

func (f *fake) Delete(_ context.Context, n runtime.RuleName, by string) (runtime.Swap, error) {
	return swap, f.note("delete %s by %s", n, by)
}

func (f *fake) Configure(_ context.Context, n runtime.RuleName, c runtime.RuleConfig, by string) (
	runtime.Swap, error,
) {
	return swap, f.note("configure %s %s by %s", n, text(c), by)
}

func (f *fake) Validate(_ context.Context, code []byte) (runtime.Manifest, error) {
	return runtime.Manifest{Description: "good"}, f.note("validate %s", code)
}

func (f *fake) Test(_ context.Context, n runtime.RuleName, v runtime.VersionNumber,
	events []runtime.TestEvent, c *runtime.RuleConfig,
) ([]runtime.TestVerdict, error) {
	return []runtime.TestVerdict{{Code: 5}}, f.note("test %s %d %s %s", n, v, bytes.Join(
		asBytes(events), []byte("|")), text(c))
}

func asBytes(events []runtime.TestEvent) (all [][]byte) {
	for _, e := range events {
		all = append(all, e)
	}
	return all
}

func (f *fake) Audit(n runtime.RuleName, limit int) ([]runtime.Audit, error) {
	return []runtime.Audit{}, f.note("audit %q %d", n, limit)
}

func (f *fake) Logs(n runtime.RuleName) (*runtime.Logs, error) {
	return &f.logs, f.note("logs %s", n)
}

const (
	readToken   = "wev_read_00000000000000000"
	ingestToken = "wev_ingest_000000000000000"
)

// stand is an API over a fake engine.
type stand struct {
	*API
	engine *fake
	tokens map[auth.Role]string
	log    *bytes.Buffer
	ready  error
}

func newStand(t *testing.T, o auth.Options, edit func(*Config)) *stand {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "tokens")
	lines := "reader read " + readToken + "\nsender ingest " + ingestToken + "\n"
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, _, err := auth.Load(dir, []string{file})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := os.ReadFile(filepath.Join(dir, auth.AdminFile))
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{engine: &fake{}, log: &bytes.Buffer{}, tokens: map[auth.Role]string{
		auth.Admin: strings.TrimSpace(string(admin)), auth.Read: readToken, auth.Ingest: ingestToken,
	}}
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, text, err)
		}
	}
	c := Config{
		Engine: s.engine, Guard: auth.NewGuard(keys, o), Ledger: someLedger,
		Ready:  func() error { return s.ready },
		Events: say("events"), Evaluate: say("evaluate"),
		EvaluateRule: func(w http.ResponseWriter, _ *http.Request, rule string) { fmt.Fprint(w, rule) },
		Tail:         say("tail"), Metrics: say("metrics"),
		Version: "1.2.3", Log: slog.New(slog.NewTextHandler(s.log, nil)),
		ModuleBytes: 100, JSONBytes: 200, EventBytes: 300,
	}
	if edit != nil {
		edit(&c)
	}
	s.API = New(c)
	return s
}

func someLedger() bus.Ledger {
	var l bus.Ledger
	h := &l.Sources[bus.SourceHTTP]
	h.Received, h.Accepted, h.Lost[bus.Malformed], h.Lost[bus.RingFull] = 10, 7, 1, 2
	u := &l.Sources[bus.SourceUDP]
	u.Received, u.Lost[bus.Kernel] = 5, 5
	l.Evaluated = 4
	return l
}

// request is what a test sends; its zero values are a good request of the admin without a body.
type request struct {
	method, path string
	body         string
	header       map[string]string
}

// send sends a request with the token of a role; None sends none.
func (s *stand) send(role auth.Role, q request) *httptest.ResponseRecorder {
	return s.sendLength(role, q, true)
}

// sendLength tells the body's length or not.
func (s *stand) sendLength(role auth.Role, q request, told bool) *httptest.ResponseRecorder {
	target, err := url.Parse("http://localhost" + q.path)
	if err != nil {
		panic(err)
	}
	target.RawQuery = strings.NewReplacer(`"`, "%22", "{", "%7b", "}", "%7d").Replace(target.RawQuery)
	r := httptest.NewRequest(q.method, target.String(), strings.NewReader(q.body))
	if !told {
		r.ContentLength = -1
	}
	if role != auth.None {
		r.Header.Set("Authorization", "Bearer "+s.tokens[role])
	}
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// problemOf decodes a problem, and complains if the answer is none.
func problemOf(t *testing.T, w *httptest.ResponseRecorder) (code, detail string) {
	t.Helper()
	var p struct {
		Status       int
		Code, Detail string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Code == "" ||
		w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v %s: expected a problem", w.Code, w.Header(), w.Body)
	}
	return p.Code, p.Detail
}
