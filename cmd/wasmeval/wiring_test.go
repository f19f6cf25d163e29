package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"wasmeval/ingest"
	"wasmeval/internal/event"
	"wasmeval/runtime"
)

// writeCertificate makes a certificate for this machine's own addresses and returns its files.
func writeCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return writeFile(t, "cert.pem", text("CERTIFICATE", der)),
		writeFile(t, "key.pem", text("PRIVATE KEY", secret))
}

const readToken = "read-0123456789-0123456789"

// everything is a configuration in which no option has its default.
func everything(t *testing.T) map[string]string {
	t.Helper()
	cert, key := writeCertificate(t)
	return map[string]string{
		// A name in capitals is resolved as localhost, but counts as an address that others reach.
		"listen.http":                     "LOCALHOST:0",
		"listen.udp":                      "LOCALHOST:0",
		"listen.tls_cert":                 cert,
		"listen.tls_key":                  key,
		"listen.allowed_hosts":            "rules.example,other.example",
		"listen.token_files":              writeFile(t, "tokens", "dashboard read "+readToken+"\n"),
		"listen.require_token_for_events": "true",
		"listen.open_metrics":             "true",
		"listen.open_udp":                 "true",
		"data_dir":                        filepath.Join(t.TempDir(), "elsewhere"),
		"bus.shards":                      "3",
		"bus.ring_bytes":                  "128KiB",
		"bus.batch":                       "2",
		"events.id_field":                 "meta.number",
		"events.type_field":               "kind",
		"events.source_field":             "meta.from",
		"events.time_field":               "at",
		"events.key_field":                "user.id",
		"events.event_bytes":              "4KiB",
		"events.depth":                    "5",
		"events.max_events":               "6",
		"events.body_bytes":               "16KiB",
		"events.bodies_bytes":             "3MiB",
		"rules.event_fuel":                "2000000",
		"rules.call_fuel":                 "3000000",
		"rules.init_fuel":                 "6000000",
		"rules.module_bytes":              "64KiB",
		"rules.memory_pages":              "200",
		"rules.max_rules":                 "3",
		"rules.max_versions":              "2",
		"rules.standby":                   "1",
		"rules.payload_bytes":             "2KiB",
		"rules.output_bytes":              "8KiB",
		"rules.log_line_bytes":            "100",
		"rules.log_rate":                  "3",
		"rules.state_bytes":               "3MiB",
		"rules.compile_memory_bytes":      "300MiB",
		"rules.compile_cpu":               "11s",
		"rules.compile_timeout":           "12s",
		"rules.compile_queue":             "13",
		"rules.compiled_bytes":            "1MiB",
		"rules.cache_bytes":               "5MiB",
		"rules.quarantine_in_row":         "5",
		"rules.quarantine_percent":        "6",
		"rules.quarantine_wait":           "7s",
		"rules.quarantine_max_wait":       "8m",
		"udp.readers":                     "2",
		"udp.receive_buffer_bytes":        "64KiB",
		"evaluate.timeout":                "7s",
		"evaluate.max_events":             "4",
		"evaluate.max_waiting":            "77",
		"evaluate.answer_bytes":           "9KiB",
		"udp.join_datagrams":              "false",
		"tail_listeners":                  "1",
		"log.level":                       "error",
		"log.format":                      "json",
		"shutdown_timeout":                "9s",
	}
}

// secured is a server with TLS, inside this process, and a client that knows its certificate.
type secured struct {
	*server
	t      *testing.T
	url    string
	token  string
	client *http.Client
}

// startWith starts a server as serve does, on a configuration file.
func startWith(t *testing.T, values map[string]string) *secured {
	t.Helper()
	c, err := load(inputs{file: writeFile(t, "c.yaml", asYAML(t, values))})
	if err != nil {
		t.Fatal(err)
	}
	before := slog.Default()
	setLog(&c.Log)
	t.Cleanup(func() { slog.SetDefault(before) })
	s := &secured{t: t}
	if s.server, err = start(context.Background(), c, io.Discard); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		if err := s.stop(); err != nil {
			t.Errorf("the server did not stop: %v", err)
		}
	})
	var greeting bytes.Buffer
	s.greet(&greeting)
	s.url, _, _ = strings.Cut(strings.TrimPrefix(greeting.String(), "http "), "\n")
	token, err := os.ReadFile(filepath.Join(values["data_dir"], "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	s.token = strings.TrimSpace(string(token))
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(values["listen.tls_cert"])
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate: %v", err)
	}
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	return s
}

// ask sends a request with a token and a Host, if they are not empty.
func (s *secured) ask(method, path, token, host, body string) (status int, text string) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if r.Host = host; method == "PUT" {
		r.Header.Set("Content-Type", "application/wasm")
	} else if method == "POST" {
		r.Header.Set("Content-Type", "application/x-ndjson")
	}
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// expect is ask as the administrator, with what must be in the answer.
func (s *secured) expect(method, path, body string, status int, want string) {
	s.t.Helper()
	got, text := s.ask(method, path, s.token, "", body)
	if got != status || !strings.Contains(text, want) {
		s.t.Errorf("%s %s %.60q: %d %s, expected %d with %s", method, path, body, got, text, status,
			want)
	}
}

func (s *secured) push(rule, module string) {
	s.t.Helper()
	s.expect("PUT", "/v1/rules/"+rule, string(readModule(s.t, module)), 201, `"lost":0`)
}

func (s *secured) metric(line string) bool {
	s.t.Helper()
	_, text := s.ask("GET", "/metrics", "", "", "")
	return strings.Contains("\n"+text, "\n"+line+"\n")
}

func readModule(t *testing.T, name string) []byte {
	t.Helper()
	code, err := os.ReadFile(modulePath(name))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func modulePath(name string) string {
	return filepath.Join("..", "..", "testdata", "modules", name, name+".wasm")
}

// arrivals show, for every option, that its value of everything() is at work in the server.
var arrivals = map[string]func(*secured){
	"listen.http": func(s *secured) {
		host, port, err := net.SplitHostPort(strings.TrimPrefix(s.url, "https://"))
		if ip := net.ParseIP(host); err != nil || !ip.IsLoopback() || port == "8080" {
			s.t.Errorf("the server is at %s", s.url)
		}
	},
	"listen.udp": func(s *secured) {
		if a := s.udp.Addr(); !a.IP.IsLoopback() || a.Port == 8081 {
			s.t.Errorf("UDP is at %v", a)
		}
	},
	"listen.open_udp": func(s *secured) { // or the check would have refused the address
		if loopback, _ := isLoopback(s.c.Listen.UDP); loopback {
			s.t.Error("the UDP address needs no open_udp")
		}
	},
	"listen.tls_cert": (*secured).checkTLS,
	"listen.tls_key":  (*secured).checkTLS,
	"listen.allowed_hosts": func(s *secured) {
		for host, want := range map[string]int{"rules.example": 200, "other.example": 200,
			"evil.example": 421} {
			if status, text := s.ask("GET", "/livez", "", host, ""); status != want {
				s.t.Errorf("Host %s: %d %s, expected %d", host, status, text, want)
			}
		}
	},
	"listen.token_files": func(s *secured) {
		if status, text := s.ask("GET", "/v1/ledger", readToken, "", ""); status != 200 {
			s.t.Errorf("the token of the file: %d %s", status, text)
		}
	},
	"listen.require_token_for_events": func(s *secured) {
		if status, text := s.ask("POST", "/v1/events", "", "", "{}"); status != 401 {
			s.t.Errorf("an event without a token: %d %s", status, text)
		}
	},
	"listen.open_metrics": func(s *secured) {
		if status, text := s.ask("GET", "/metrics", "", "", ""); status != 200 {
			s.t.Errorf("metrics without a token: %d %s", status, text)
		}
	},
	"data_dir": func(s *secured) {
		for _, name := range []string{"registry.db", "cache", "admin.token"} {
			if _, err := os.Stat(filepath.Join(s.c.DataDir, name)); err != nil {
				s.t.Error(err)
			}
		}
	},
	"bus.shards":     (*secured).checkRings,
	"bus.ring_bytes": (*secured).checkRings,
	"bus.batch": func(s *secured) {
		// Events of one body without keys come into one ring at once; the default would take them
		// as one batch.
		before := s.engine.Stats().Batches
		s.expect("POST", "/v1/events", strings.Repeat("{}\n", 6), 202, `"accepted":6`)
		s.settle()
		if n := s.engine.Stats().Batches - before; n < 3 {
			s.t.Errorf("6 events came in %d batches", n)
		}
	},
	"events.id_field":     (*secured).checkFields,
	"events.type_field":   (*secured).checkFields,
	"events.source_field": (*secured).checkFields,
	"events.time_field":   (*secured).checkFields,
	"events.key_field":    (*secured).checkFields,
	"events.event_bytes": func(s *secured) {
		s.expect("POST", "/v1/events", `{"a":"`+strings.Repeat("x", 4<<10-8)+`"}`, 202, `"accepted":1`)
		s.expect("POST", "/v1/events", `{"a":"`+strings.Repeat("x", 4<<10-7)+`"}`, 400, "too_large")
	},
	"events.depth": func(s *secured) {
		s.expect("POST", "/v1/events", `{"a":[[[[]]]]}`, 202, `"accepted":1`)
		s.expect("POST", "/v1/events", `{"a":[[[[[]]]]]}`, 400, "too_deep")
	},
	"events.max_events": func(s *secured) {
		s.expect("POST", "/v1/events", strings.Repeat("{}\n", 6), 202, `"accepted":6`)
		s.expect("POST", "/v1/events", strings.Repeat("{}\n", 7), 413, "at most 6")
	},
	"events.body_bytes": func(s *secured) {
		s.expect("POST", "/v1/events", "{}"+strings.Repeat(" ", 16<<10-2), 202, `"accepted":1`)
		s.expect("POST", "/v1/events", "{}"+strings.Repeat(" ", 16<<10-1), 413, "16384 bytes")
	},
	"events.bodies_bytes": (*secured).checkIngest, // a large body has more than one may have here
	"rules.event_fuel": func(s *secured) {
		s.push("loop", "loop")
		s.expect("POST", "/v1/rules/loop/evaluate", `{"bad":1}`, 200,
			`"kind":"out_of_fuel","message":"out of fuel: 1,999,834 units used`)
		s.expect("DELETE", "/v1/rules/loop", "", 200, `"lost":0`)
	},
	"rules.call_fuel": func(s *secured) {
		s.expect("PUT", "/v1/rules/x?fuel=3000001", string(readModule(s.t, "always")), 422,
			"expected at most a call's 3000000")
	},
	"rules.module_bytes": func(s *secured) {
		s.expect("PUT", "/v1/rules/x", strings.Repeat("x", 64<<10), 422, "no WebAssembly module")
		s.expect("PUT", "/v1/rules/x", strings.Repeat("x", 64<<10+1), 413, "65536 bytes")
	},
	"rules.memory_pages": func(s *secured) {
		s.push("hog", "hog")
		s.expect("POST", "/v1/rules/hog/evaluate", `{"bad":1}`, 200, `"payload":{"pages":200}`)
		if !s.metric(`wasmeval_rule_memory_refused_total{rule="hog"} 2`) {
			s.t.Error("that its memory did not grow further, by 16 pages and by one, was not counted")
		}
		s.expect("DELETE", "/v1/rules/hog", "", 200, `"lost":0`)
	},
	"rules.max_rules": func(s *secured) {
		for i := range 3 {
			s.push(fmt.Sprint("many", i), "always")
		}
		s.expect("PUT", "/v1/rules/many3", string(readModule(s.t, "always")), 409, "limit_exceeded")
		for i := range 3 {
			s.expect("DELETE", fmt.Sprint("/v1/rules/many", i), "", 200, `"lost":0`)
		}
	},
	"rules.max_versions": func(s *secured) {
		s.push("old", "v1")
		s.push("old", "v2")
		s.expect("PUT", "/v1/rules/old", string(readModule(s.t, "always")), 409, "limit_exceeded")
		s.expect("DELETE", "/v1/rules/old", "", 200, `"lost":0`)
	},
	"rules.standby": func(s *secured) {
		s.push("first", "always")
		s.push("first", "never")
		s.push("second", "v1")
		s.push("second", "v2")
		if !s.metric("wasmeval_programs 3") { // never, v2, and of always and v1 the last
			s.t.Error("there are not the programs of two rules and of one version on standby")
		}
		s.expect("DELETE", "/v1/rules/first", "", 200, `"lost":0`)
		s.expect("DELETE", "/v1/rules/second", "", 200, `"lost":0`)
	},
	"rules.payload_bytes": func(s *secured) {
		s.push("echo", "echo")
		fits := `{"a":"` + strings.Repeat("x", 2<<10-8) + `"}`
		s.expect("POST", "/v1/rules/echo/evaluate", fits, 200, `"payload":{"a":"xxx`)
		s.expect("POST", "/v1/rules/echo/evaluate", `{"b":1,`+fits[1:], 200, `"code":1,"fuel"`)
		if !s.metric(`wasmeval_rule_payloads_refused_total{rule="echo"} 1`) {
			s.t.Error("no payload was refused")
		}
		s.expect("DELETE", "/v1/rules/echo", "", 200, `"lost":0`)
	},
	"rules.init_fuel":            (*secured).checkLimits,
	"rules.output_bytes":         (*secured).checkLimits,
	"rules.log_line_bytes":       (*secured).checkLimits,
	"rules.log_rate":             (*secured).checkLimits,
	"rules.state_bytes":          (*secured).checkLimits,
	"rules.compile_memory_bytes": (*secured).checkLimits,
	"rules.compile_cpu":          (*secured).checkLimits,
	"rules.compile_timeout":      (*secured).checkLimits,
	"rules.compile_queue":        (*secured).checkLimits,
	"rules.compiled_bytes":       (*secured).checkLimits,
	"rules.cache_bytes":          (*secured).checkLimits,
	"rules.quarantine_in_row":    (*secured).checkLimits,
	"rules.quarantine_percent":   (*secured).checkLimits,
	"rules.quarantine_wait":      (*secured).checkLimits,
	"rules.quarantine_max_wait":  (*secured).checkLimits,
	"udp.readers": func(s *secured) {
		if n := s.udp.Stats().Sockets; n != 2 && goruntime.GOOS == "linux" {
			s.t.Errorf("there are %d sockets", n)
		}
	},
	"udp.receive_buffer_bytes": func(s *secured) {
		if u := s.udp.Stats(); u.BufferAsked != 64<<10 || u.BufferGot < 64<<10 || u.BufferGot > 256<<10 {
			s.t.Errorf("the receive buffer is %+v", u)
		}
	},
	"evaluate.timeout": (*secured).checkIngest,
	"evaluate.max_events": func(s *secured) {
		s.expect("POST", "/v1/evaluate", strings.Repeat("{}\n", 4), 200, `"index":3`)
		s.expect("POST", "/v1/evaluate", strings.Repeat("{}\n", 5), 413, "at most 4")
	},
	"evaluate.max_waiting": (*secured).checkLimits,
	"evaluate.answer_bytes": func(s *secured) {
		s.push("always", "always")
		event := `{"kind":"` + strings.Repeat(`\u0001`, 440) + "\"}\n" // 2,640 bytes, and 270 for the rest of a verdict
		s.expect("POST", "/v1/rules/always/evaluate", strings.Repeat(event, 3), 200, `"index":2`)
		s.expect("POST", "/v1/rules/always/evaluate", strings.Repeat(event, 4), 413, "answer_too_large")
		s.expect("DELETE", "/v1/rules/always", "", 200, `"lost":0`)
	},
	"udp.join_datagrams": (*secured).checkIngest,
	"tail_listeners": func(s *secured) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/tail", nil)
		if err != nil {
			s.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+s.token)
		resp, err := s.client.Do(r)
		if err != nil || resp.StatusCode != http.StatusOK {
			s.t.Fatalf("tail: %v %v", resp, err)
		}
		defer resp.Body.Close()
		s.expect("GET", "/v1/tail", "", 503, "too many listeners")
	},
	"log.level": func(s *secured) {
		ctx := context.Background()
		if l := slog.Default(); l.Enabled(ctx, slog.LevelWarn) || !l.Enabled(ctx, slog.LevelError) {
			s.t.Error("the log's level is not error")
		}
	},
	"log.format": func(s *secured) {
		if h, ok := slog.Default().Handler().(*slog.JSONHandler); !ok {
			s.t.Errorf("the log's handler is a %T", h)
		}
	},
	"shutdown_timeout": func(s *secured) { // see TestShutdownTimeout
		if s.c.Shutdown != 9*time.Second {
			s.t.Errorf("the timeout is %v", s.c.Shutdown)
		}
	},
}

func (s *secured) checkTLS() {
	s.t.Helper()
	resp, err := s.client.Get(s.url + "/livez")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.TLS == nil || resp.TLS.PeerCertificates[0].Subject.CommonName != "test" {
		s.t.Errorf("the server does not show its certificate: %+v", resp.TLS)
	}
}

func (s *secured) checkRings() {
	s.t.Helper()
	for shard := range 3 {
		if !s.metric(fmt.Sprintf(`wasmeval_ring_bytes{shard="%d"} 131072`, shard)) {
			s.t.Errorf("there is no ring of 128 KiB for shard %d", shard)
		}
	}
	if n := s.bus.Shards(); n != 3 {
		s.t.Errorf("there are %d shards", n)
	}
}

// checkFields lets a rule tell what it sees of the envelope.
func (s *secured) checkFields() {
	s.t.Helper()
	s.push("columns", "columns")
	defer s.expect("DELETE", "/v1/rules/columns", "", 200, `"lost":0`)
	_, text := s.ask("POST", "/v1/rules/columns/evaluate", s.token, "",
		`{"id":"no","type":"no","source":"no","time":"2001-01-01T00:00:00Z","key":"no","kind":"a.kind",`+
			`"meta":{"number":7,"from":"there"},"at":1700000000,"user":{"id":"u-1"}}`)
	var answer struct {
		Results []struct {
			Verdicts []struct {
				Payload map[string]json.RawMessage
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || len(answer.Results) != 1 ||
		len(answer.Results[0].Verdicts) != 1 {
		s.t.Fatalf("answer %s: %v", text, err)
	}
	for name, want := range map[string]string{"@id": `"7"`, "@type": `"a.kind"`, "@source": `"there"`,
		"@time": "1700000000000000000", "@key": `"u-1"`} {
		var column struct{ Value json.RawMessage }
		if err := json.Unmarshal(answer.Results[0].Verdicts[0].Payload[name], &column); err != nil ||
			string(column.Value) != want {
			s.t.Errorf("%s is %s, expected %s", name, column.Value, want)
		}
	}
}

func (s *secured) checkLimits() {
	s.t.Helper()
	want := runtime.DefaultLimits()
	want.EventFuel, want.CallFuel, want.InitFuel = 2_000_000, 3_000_000, 6_000_000
	want.Module.ModuleBytes, want.Module.MemoryPages = 64<<10, 200
	want.Rules, want.Versions, want.Standby, want.Waiting = 3, 2, 1, 77
	want.AnswerBytes = 9 << 10
	want.PayloadBytes, want.OutputBytes = 2<<10, 8<<10
	want.LogLineBytes, want.LogRate, want.StateBytes = 100, 3, 3<<20
	want.Compile = runtime.CompileLimits{DataBytes: 300 << 20, CPU: 11 * time.Second,
		Wall: 12 * time.Second, Queue: 13, CodeBytes: 1 << 20, CacheBytes: 5 << 20}
	want.Quarantine = runtime.QuarantineLimits{InRow: 5, Percent: 6, Wait: 7 * time.Second,
		MaxWait: 8 * time.Minute}
	if got := s.c.limits(); got != want {
		s.t.Errorf("the engine's limits are %+v, expected %+v", got, want)
	}
}

func (s *secured) checkIngest() {
	s.t.Helper()
	want := ingest.Config{
		Fields: event.Fields{ID: "meta.number", Type: "kind", Source: "meta.from", Time: "at",
			Key: "user.id"},
		Limits:    event.Limits{EventBytes: 4 << 10, Depth: 5},
		BodyBytes: 16 << 10, BodiesBytes: 3 << 20, MaxEvents: 6, MaxEvaluate: 4, EvaluateTimeout: 7 * time.Second,
		SeparateDatagrams: true,
	}
	if got := s.c.ingest(); !reflect.DeepEqual(got, want) {
		s.t.Errorf("the way in is %+v, expected %+v", got, want)
	}
}

// settle waits until no event is in flight.
func (s *secured) settle() {
	s.t.Helper()
	for range 1000 {
		l := s.bus.Ledger()
		if l.InFlight() == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	s.t.Error("events stay in flight")
}

// Every option of the table does in the running server what it says.
func TestEveryOptionArrives(t *testing.T) {
	values := everything(t)
	s := startWith(t, values)
	for i := range options {
		o := &options[i]
		if value, ok := values[o.path]; !ok || written(t, o, value) == o.standard {
			t.Errorf("%s has its default %q: this test needs another value", o.path, o.standard)
		}
		if got := o.format(s.c); got != written(t, o, values[o.path]) {
			t.Errorf("%s is %q, expected %q", o.path, got, values[o.path])
		}
		check := arrivals[o.path]
		if check == nil {
			t.Errorf("no check shows that %s arrives", o.path)
			continue
		}
		t.Run(o.path, func(t *testing.T) {
			s.t = t
			check(s)
			s.t = nil
		})
	}
}

// The log is in the form and of the level that were asked for.
func TestLogOptions(t *testing.T) {
	stderr := func(args ...string) string {
		c := spawn(t, t.TempDir(), args...)
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		if code := c.wait(); code != 0 {
			t.Errorf("exit code %d: %s", code, c.err)
		}
		return c.err.String()
	}
	text := stderr("--log-format", "json")
	for line := range strings.Lines(text) {
		if !json.Valid([]byte(line)) {
			t.Errorf("log line %q is no JSON", line)
		}
	}
	if !strings.Contains(text, `"msg":"stopped"`) {
		t.Errorf("log %q does not tell of the end", text)
	}
	if text := stderr("--log-level", "warn"); text != "" {
		t.Errorf("with level warn the log has %q", text)
	}
}

// A sink that hangs holds the server up for the timeout, and the error says what is left.
func TestShutdownTimeout(t *testing.T) {
	hang := make(chan struct{})
	entered := make(chan struct{}, 16)
	addr := serveLoopback(t, &http.Server{Handler: http.HandlerFunc(
		func(http.ResponseWriter, *http.Request) {
			entered <- struct{}{}
			<-hang
		})})
	defer close(hang)
	file := writeFile(t, "c.yaml", "routes: [{sinks: [hook]}]\nsinks: [{name: hook, type: webhook, "+
		"url: 'http://"+addr+"/', allow_private: true, timeout: 30s}]\n")
	c := spawn(t, t.TempDir(), "--config", file, "--shutdown-timeout", "100ms")
	c.upload("r", "always")
	if status, text := c.call("POST", "/v1/events", "application/json", []byte(`{}`)); status != 202 {
		t.Fatalf("%d %s", status, text)
	}
	<-entered
	begun := time.Now()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	code := c.wait()
	if took := time.Since(begun); code != 1 || took > 8*time.Second ||
		!strings.Contains(c.err.String(), "cannot deliver 1 verdicts before the deadline") {
		t.Errorf("exit code %d after %v: %s", code, took, c.err)
	}
}
