package sink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// configFault is a configuration with one fault, and what is said of it.
type configFault struct {
	config Config
	want   string
}

var (
	fileSink   = SinkConfig{Name: "f", Type: TypeFile, Path: "v.ndjson"}
	stdoutSink = SinkConfig{Name: "o", Type: TypeStdout}
	webSink    = SinkConfig{Name: "w", Type: TypeWebhook, URL: "https://hook.test/"}
)

// with is a configuration of one sink that was changed.
func with(s SinkConfig, change func(*SinkConfig)) Config {
	change(&s)
	return Config{Sinks: []SinkConfig{s}}
}

// Each fault is told with where it is and what was expected.
func TestConfigFaults(t *testing.T) {
	many := Config{}
	for i := range maxSinks + 1 {
		many.Sinks = append(many.Sinks, SinkConfig{Name: fmt.Sprint(i), Type: TypeFile,
			Path: fmt.Sprint(i)})
	}
	file, out, web := fileSink, stdoutSink, webSink
	for _, c := range []configFault{
		{many, "65 sinks: expected at most 64"},
		{Config{TailListeners: -1}, "tail_listeners -1: expected 0 or more"},
		{with(file, func(s *SinkConfig) { s.Name = "" }), "sink number 1: no name"},
		{Config{Sinks: []SinkConfig{out, {Name: "o", Type: TypeFile, Path: "x"}}},
			`sink "o": the name is there twice`},
		{with(out, func(s *SinkConfig) { s.Type = "" }), `type "": expected stdout, file or webhook`},
		{with(out, func(s *SinkConfig) { s.Type = "nats" }), `type "nats": expected`},
		{with(file, func(s *SinkConfig) { s.Path = "" }), "no path: expected that of a file"},
		{with(out, func(s *SinkConfig) { s.Path = "x" }), "path: expected only with type file"},
		{with(web, func(s *SinkConfig) { s.Path = "x" }), "path: expected only with type file"},
		{with(file, func(s *SinkConfig) { s.URL = "http://x" }), "expected only with type webhook"},
		{with(out, func(s *SinkConfig) { s.DeadLetter = "x" }), "expected only with type webhook"},
		{with(out, func(s *SinkConfig) { s.Headers = map[string]string{"a": "b"} }),
			"expected only with type webhook"},
		{with(out, func(s *SinkConfig) { s.QueueBytes = minQueueBytes - 1 }),
			"queue_bytes 65535: expected 65536 to 1073741824"},
		{with(out, func(s *SinkConfig) { s.QueueBytes = maxQueueBytes + 1 }),
			"queue_bytes 1073741825: expected"},
		{with(out, func(s *SinkConfig) { s.QueueBytes = -1 }), "queue_bytes -1: expected"},
		{with(file, func(s *SinkConfig) { s.MaxSizeMB = -1 }), "max_size_mb -1: expected 0 to"},
		{with(file, func(s *SinkConfig) { s.MaxSizeMB = maxSizeMB + 1 }), "max_size_mb 1048577:"},
		{with(file, func(s *SinkConfig) { s.MaxBackups = -1 }), "max_backups -1: expected"},
		{with(file, func(s *SinkConfig) { s.MaxBackups = maxBackups + 1 }), "max_backups 1000001:"},
		{with(file, func(s *SinkConfig) { s.MaxAgeDays = -1 }), "max_age_days -1: expected"},
		{with(file, func(s *SinkConfig) { s.MaxAgeDays = maxAgeDays + 1 }), "max_age_days 36501:"},
		{Config{Sinks: []SinkConfig{out, {Name: "p", Type: TypeStdout}}},
			`sink "p": sink "o" writes to standard output too`},
		{Config{Sinks: []SinkConfig{file, {Name: "g", Type: TypeFile, Path: "./x/../v.ndjson"}}},
			`sink "g": sink "f" writes to "./x/../v.ndjson" too`},
		{Config{Sinks: []SinkConfig{file, {Name: "w", Type: TypeWebhook, URL: "https://hook.test/",
			DeadLetter: "v.ndjson"}}}, `sink "w": sink "f" writes to "v.ndjson" too`},
		{Config{Routes: []Route{{}}}, "route number 1: no sinks"},
		{Config{Routes: []Route{{Sinks: []string{"x"}}}}, `sink "x": expected the name of a sink`},
		{Config{Sinks: []SinkConfig{out}, Routes: []Route{{Sinks: []string{"o"}},
			{Rules: []string{"["}, Sinks: []string{"o"}}}}, `route number 2: rule pattern "["`},
		{Config{Sinks: []SinkConfig{out}, Routes: []Route{{Rules: []string{""},
			Sinks: []string{"o"}}}}, `rule pattern "": expected`},
		{Config{Sinks: []SinkConfig{out}, Routes: []Route{{Codes: []string{"x"},
			Sinks: []string{"o"}}}}, `code "x": expected matched, failed, all or a 32-bit number`},
	} {
		c.check(t)
	}
}

func TestWebhookFaults(t *testing.T) {
	web := webSink
	header := func(name, value string) Config {
		return with(web, func(s *SinkConfig) { s.Headers = map[string]string{name: value} })
	}
	for _, c := range []configFault{
		{with(web, func(s *SinkConfig) { s.URL = "" }), `sink "w": url: expected an absolute http`},
		{with(web, func(s *SinkConfig) { s.URL = "/in" }), "url: expected an absolute"},
		{with(web, func(s *SinkConfig) { s.URL = "unix:///run/x" }), "url: expected an absolute"},
		{with(web, func(s *SinkConfig) { s.URL = "http://10.0.0.1/" }), "url: 10.0.0.1: address is not"},
		{header("", "x"), `header "": expected a header name`},
		{header("a b", "x"), `header "a b": expected a header name`},
		{header("a:", "x"), `header "a:": expected a header name`},
		{header("ä", "x"), `header "ä": expected a header name`},
		{header("a", "x\r\nb: c"), `header "a": expected a value without control characters`},
		{header("a", "\x7f"), `header "a": expected a value without`},
		{header("host", "x"), `header "host": expected one that is not set by the client`},
		{header("Content-Length", "1"), `header "Content-Length": expected one that is not`},
		{header("transfer-encoding", "x"), `header "transfer-encoding": expected one that is not`},
		{with(web, func(s *SinkConfig) { s.BatchMax = -1 }), "batch_max -1: expected 1 to 10000"},
		{with(web, func(s *SinkConfig) { s.BatchMax = 10_001 }), "batch_max 10001: expected"},
		{with(web, func(s *SinkConfig) { s.MaxAttempts = -1 }), "max_attempts -1: expected"},
		{with(web, func(s *SinkConfig) { s.BatchWait = -1 }), "batch_wait -1ns: expected"},
		{with(web, func(s *SinkConfig) { s.Timeout = -1 }), "timeout -1ns: expected"},
		{with(web, func(s *SinkConfig) { s.MaxElapsed = -1 }), "max_elapsed -1ns: expected"},
		{with(web, func(s *SinkConfig) { s.Backoff = -1 }), "backoff -1ns: expected"},
	} {
		c.check(t)
	}
}

func (c *configFault) check(t *testing.T) {
	t.Helper()
	err := c.config.Check()
	if err == nil || !strings.Contains(err.Error(), c.want) {
		t.Errorf("Check says %v, expected %q", err, c.want)
		return
	}
	if faults := err.(interface{ Unwrap() []error }).Unwrap(); len(faults) != 1 {
		t.Errorf("%d faults, expected one: %v", len(faults), err)
	}
	if _, err := New(c.config, io.Discard); err == nil ||
		!strings.Contains(err.Error(), "cannot route verdicts: ") ||
		!strings.Contains(err.Error(), c.want) {
		t.Errorf("New says %v, expected %q", err, c.want)
	}
}

// All faults of a configuration are told at once.
func TestAllFaults(t *testing.T) {
	c := Config{
		TailListeners: -1,
		Routes:        []Route{{Sinks: []string{"nobody"}}, {Codes: []string{"often", "x"}}},
		Sinks: []SinkConfig{{Type: "queue", QueueBytes: 1}, {Name: "w", Type: TypeWebhook,
			Headers: map[string]string{" ": "\n"}, BatchMax: -1, MaxAttempts: -1, Timeout: -1}},
	}
	err := c.Check()
	if err == nil {
		t.Fatal("the configuration is taken")
	}
	if n := len(err.(interface{ Unwrap() []error }).Unwrap()); n != 13 {
		t.Errorf("%d faults, expected 13:\n%v", n, err)
	}
}

// The limits themselves are allowed, and what is not given has its default.
func TestConfigLimits(t *testing.T) {
	c := Config{TailListeners: 1, Sinks: []SinkConfig{
		{Name: "o", Type: TypeStdout, QueueBytes: minQueueBytes},
		{Name: "f", Type: TypeFile, Path: "a", QueueBytes: maxQueueBytes, MaxSizeMB: maxSizeMB,
			MaxBackups: maxBackups, MaxAgeDays: maxAgeDays},
		{Name: "w", Type: TypeWebhook, URL: "https://8.8.8.8:444/", BatchMax: maxBatchMax,
			DeadLetter: "b", Headers: map[string]string{"X-!#$%&'*+-.^_`|~9": "a\tä"}},
	}}
	for i := len(c.Sinks); i < maxSinks; i++ {
		c.Sinks = append(c.Sinks, SinkConfig{Name: fmt.Sprint(i), Type: TypeFile, Path: fmt.Sprint(i)})
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	if err := (&Config{}).Check(); err != nil {
		t.Error(err)
	}
	s := SinkConfig{}
	s.setDefaults()
	if s.QueueBytes != 4<<20 || s.MaxSizeMB != 100 || s.BatchMax != 256 || s.MaxAttempts != 6 ||
		s.BatchWait != 200*time.Millisecond || s.Timeout != 10*time.Second ||
		s.MaxElapsed != time.Minute || s.Backoff != 200*time.Millisecond {
		t.Errorf("defaults are %+v", s)
	}
}

// Check touches no file; New tells of all that it could not open, and leaves nothing open.
func TestOpenFaults(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{Sinks: []SinkConfig{
		{Name: "good", Type: TypeFile, Path: filepath.Join(dir, "good", "v.ndjson")},
		{Name: "bad", Type: TypeFile, Path: filepath.Join(taken, "v.ndjson")},
		{Name: "worse", Type: TypeWebhook, URL: "https://hook.test/", DeadLetter: dir},
	}}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "good")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Check made a folder: %v", err)
	}
	_, err := New(c, io.Discard)
	for _, want := range []string{`cannot open sink "bad"`, `cannot open sink "worse"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New says %v, expected %q", err, want)
		}
	}
	nothingRuns(t)
}

// A panic is our bug, and says so.
func TestUncheckedType(t *testing.T) {
	defer func() {
		if s := fmt.Sprint(recover()); !strings.HasPrefix(s, "BUG: ") {
			t.Errorf("panic %q", s)
		}
	}()
	_, _ = (&Router{}).open(t.Context(), &SinkConfig{Type: "x", QueueBytes: minQueueBytes}, io.Discard)
}
