package sink

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// The types of sinks.
const (
	TypeStdout  = "stdout"
	TypeFile    = "file"
	TypeWebhook = "webhook"
)

const (
	maxSinks = 64 // a set of sinks is the bits of one word

	defaultQueueBytes = 4 << 20
	minQueueBytes     = 64 << 10
	maxQueueBytes     = 1 << 30

	defaultTailListeners = 64
	defaultMaxSizeMB     = 100
	maxSizeMB            = 1 << 20 // 1 TiB
	maxBackups           = 1_000_000
	maxAgeDays           = 36_500 // more than 106,751 is no time.Duration

	defaultBatchMax    = 256
	maxBatchMax        = 10_000
	defaultBatchWait   = 200 * time.Millisecond
	defaultTimeout     = 10 * time.Second
	defaultMaxAttempts = 6
	defaultMaxElapsed  = time.Minute
	defaultBackoff     = 200 * time.Millisecond
)

// Config says what goes where. The zero value routes nothing and still serves the tail.
type Config struct {
	Routes []Route      `yaml:"routes"`
	Sinks  []SinkConfig `yaml:"sinks"`
	// TailListeners is how many may listen at once; 0 means 64.
	TailListeners int `yaml:"tail_listeners"`
}

// Route sends the verdicts of some rules with some codes to some sinks. A verdict that several
// routes send to one sink comes there once.
type Route struct {
	// Rules are rule names, prefixes such as payment.*, or globs of path.Match. Empty: every rule.
	Rules []string `yaml:"rules"`
	// Codes are "matched" (the code is not 0, also where a policy has set it), "failed" (the
	// evaluation failed), "all" (also what did not match), or numbers. Empty: matched and failed.
	Codes []string `yaml:"codes"`
	// Sinks are names of sinks.
	Sinks []string `yaml:"sinks"`
}

// SinkConfig describes one sink. Zero values mean the defaults.
type SinkConfig struct {
	Name string `yaml:"name"`
	Type string `yaml:"type"` // stdout, file, webhook
	// QueueBytes is the size of the queue, 64 KiB to 1 GiB, rounded up to a power of two; 0 means
	// 4 MiB. A verdict has at most an eighth of it.
	QueueBytes int `yaml:"queue_bytes"`

	// Path is the file of a file sink.
	Path string `yaml:"path"`
	// MaxSizeMB is the size in MiB that the file does not pass, since it is rotated before; 0 means
	// 100. This and the next three hold for the dead-letter file of a webhook too.
	MaxSizeMB  int  `yaml:"max_size_mb"`
	MaxBackups int  `yaml:"max_backups"`  // rotated files to keep; 0 keeps all
	MaxAgeDays int  `yaml:"max_age_days"` // days to keep rotated files; 0 keeps them for good
	Compress   bool `yaml:"compress"`     // rotated files are compressed with gzip

	// URL is where a webhook gets its batches by POST, as application/x-ndjson.
	URL     string            `yaml:"url"`
	Headers map[string]string `yaml:"headers"`
	// BatchMax is the largest number of verdicts in a batch (256, at most 10,000), BatchWait how
	// long the first one waits for more (200 ms). A batch has at most 1 MiB, or one verdict.
	BatchMax  int           `yaml:"batch_max"`
	BatchWait time.Duration `yaml:"batch_wait"`
	// Timeout is for one attempt as a whole (10 s). A batch is given up after MaxAttempts (6) or
	// when the next attempt would begin later than MaxElapsed (1 min) after the first one.
	Timeout     time.Duration `yaml:"timeout"`
	MaxAttempts int           `yaml:"max_attempts"`
	MaxElapsed  time.Duration `yaml:"max_elapsed"`
	// Backoff is the wait before the second attempt (200 ms); it doubles with each one after, up to
	// 30 s, and is multiplied by a random number from 0.5 to 1.5. An answer with Retry-After says
	// itself how long to wait; more than 1 min is taken as 1 min.
	Backoff time.Duration `yaml:"backoff"`
	// AllowPrivate lets the webhook be at a loopback, private or other address that is not public.
	AllowPrivate bool `yaml:"allow_private"`
	// DeadLetter is the file for batches that were given up; empty: they are dropped.
	DeadLetter string `yaml:"dead_letter"`
}

func (c *SinkConfig) setDefaults() {
	c.QueueBytes = cmp.Or(c.QueueBytes, defaultQueueBytes)
	c.MaxSizeMB = cmp.Or(c.MaxSizeMB, defaultMaxSizeMB)
	c.BatchMax = cmp.Or(c.BatchMax, defaultBatchMax)
	c.BatchWait = cmp.Or(c.BatchWait, defaultBatchWait)
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, defaultMaxAttempts)
	c.MaxElapsed = cmp.Or(c.MaxElapsed, defaultMaxElapsed)
	c.Backoff = cmp.Or(c.Backoff, defaultBackoff)
}

// Check returns all faults of the configuration at once, each with the route or sink it is in and
// what was expected, joined by errors.Join; each is a *Fault. It touches no file and no network.
func (c *Config) Check() error {
	var faults []error
	names := make(map[string]bool)
	files := make(map[string]string) // path -> sink
	if n := len(c.Sinks); n > maxSinks {
		faults = append(faults, &Fault{"sinks", fmt.Errorf("%d sinks: expected at most %d", n, maxSinks)})
	}
	if n := c.TailListeners; n < 0 {
		faults = append(faults, &Fault{"tail_listeners",
			fmt.Errorf("tail_listeners %d: expected 0 or more", n)})
	}
	for i := range c.Sinks {
		s := &c.Sinks[i]
		f := faultList{where: fmt.Sprintf("sink %q", s.Name), key: fmt.Sprintf("sinks[%d]", i)}
		if s.Name == "" {
			f.where = fmt.Sprintf("sink number %d", i+1)
		}
		s.check(&f, names, files)
		faults = append(faults, f.list...)
		names[s.Name] = true
	}
	for i := range c.Routes {
		f := faultList{where: fmt.Sprintf("route number %d", i+1), key: fmt.Sprintf("routes[%d]", i)}
		c.Routes[i].check(&f, names)
		faults = append(faults, f.list...)
	}
	return errors.Join(faults...)
}

func (r *Route) check(f *faultList, names map[string]bool) {
	for i := range r.Rules {
		if _, faults := newFilter(r.Rules[i:i+1], nil); faults != nil {
			f.add(fmt.Sprintf("rules[%d]", i), "%w", faults[0])
		}
	}
	for i := range r.Codes {
		if _, faults := newFilter(nil, r.Codes[i:i+1]); faults != nil {
			f.add(fmt.Sprintf("codes[%d]", i), "%w", faults[0])
		}
	}
	if len(r.Sinks) == 0 {
		f.add("sinks", "no sinks: expected the name of at least one")
	}
	for i, name := range r.Sinks {
		if !names[name] {
			f.add(fmt.Sprintf("sinks[%d]", i), "sink %q: expected the name of a sink", name)
		}
	}
}

// check finds the faults of one sink; names and files are those of the sinks before it.
func (c *SinkConfig) check(f *faultList, names map[string]bool, files map[string]string) {
	if c.Name == "" {
		f.add("name", "no name: expected one")
	} else if names[c.Name] {
		f.add("name", "the name is there twice: expected names that differ")
	}
	if q := c.QueueBytes; q != 0 && (q < minQueueBytes || q > maxQueueBytes) {
		f.add("queue_bytes", "queue_bytes %d: expected %d to %d", q, minQueueBytes, maxQueueBytes)
	}
	for _, n := range []struct {
		key         string
		value, most int
	}{
		{"max_size_mb", c.MaxSizeMB, maxSizeMB}, {"max_backups", c.MaxBackups, maxBackups},
		{"max_age_days", c.MaxAgeDays, maxAgeDays},
	} {
		if n.value < 0 || n.value > n.most {
			f.add(n.key, "%s %d: expected 0 to %d", n.key, n.value, n.most)
		}
	}
	switch c.Type {
	case TypeStdout:
		// Two writers of one stream would tear each other's lines.
		if other, ok := files[TypeStdout]; ok {
			f.add("type", "sink %q writes to standard output too: expected one", other)
		}
		files[TypeStdout] = c.Name
	case TypeFile:
		if c.Path == "" {
			f.add("path", "no path: expected that of a file")
		}
	case TypeWebhook:
		c.checkWebhook(f)
	default:
		f.add("type", "type %q: expected stdout, file or webhook", c.Type)
	}
	for _, k := range []struct {
		key, of string
		given   bool
	}{
		{"path", TypeFile, c.Path != ""}, {"url", TypeWebhook, c.URL != ""},
		{"headers", TypeWebhook, len(c.Headers) > 0},
		{"dead_letter", TypeWebhook, c.DeadLetter != ""},
	} {
		if k.given && c.Type != k.of {
			f.add(k.key, "%s: expected only with type %s", k.key, k.of)
		}
	}
	c.checkFiles(f, files)
}

// checkFiles refuses a file that another sink writes to.
func (c *SinkConfig) checkFiles(f *faultList, files map[string]string) {
	for _, p := range []struct{ key, name string }{{"path", c.Path}, {"dead_letter", c.DeadLetter}} {
		if p.name == "" {
			continue
		}
		abs, err := filepath.Abs(p.name)
		if err != nil {
			f.add(p.key, "path %q: %w", p.name, err)
			continue
		}
		if other, ok := files[abs]; ok {
			f.add(p.key, "sink %q writes to %q too: expected a file for each", other, p.name)
		}
		files[abs] = c.Name
	}
}

func (c *SinkConfig) checkWebhook(f *faultList) {
	// The URL is not repeated: it may hold a secret.
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		f.add("url", "url: expected an absolute http or https URL")
	} else if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !c.AllowPrivate && !public(ip) {
		f.add("url", "url: %s: %w", ip, ErrPrivateAddress)
	}
	for name, value := range c.Headers {
		key := "headers." + name
		switch {
		case !isToken(name):
			f.add(key, "header %q: expected a header name", name)
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 127 }):
			f.add(key, "header %q: expected a value without control characters", name)
		case strings.EqualFold(name, "Host") || strings.EqualFold(name, "Content-Length") ||
			strings.EqualFold(name, "Transfer-Encoding"):
			f.add(key, "header %q: expected one that is not set by the client itself", name)
		}
	}
	if c.BatchMax < 0 || c.BatchMax > maxBatchMax {
		f.add("batch_max", "batch_max %d: expected 1 to %d", c.BatchMax, maxBatchMax)
	}
	if c.MaxAttempts < 0 {
		f.add("max_attempts", "max_attempts %d: expected 1 or more", c.MaxAttempts)
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"batch_wait", c.BatchWait}, {"timeout", c.Timeout},
		{"max_elapsed", c.MaxElapsed}, {"backoff", c.Backoff},
	} {
		if d.value < 0 {
			f.add(d.key, "%s %s: expected a duration above 0", d.key, d.value)
		}
	}
}

// isToken reports whether s is a token of RFC 9110.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}
