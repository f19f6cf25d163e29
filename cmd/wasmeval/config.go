package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"regexp"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"wasmeval/internal/auth"
	"wasmeval/internal/event"
	"wasmeval/internal/sink"
)

// Config is everything that can be set. Each value but the routes and sinks is one row of the
// options table, which says what the value means.
type Config struct {
	Listen   ListenConfig
	DataDir  string
	Bus      BusConfig
	Events   EventsConfig
	Rules    RulesConfig
	UDP      UDPConfig
	Evaluate EvaluateConfig
	Log      LogConfig
	Shutdown time.Duration
	Sink     sink.Config // routes and sinks, from the YAML file only

	origins map[string]string // by the option's path
}

// ListenConfig says where the server listens, and to whom.
type ListenConfig struct {
	HTTP, UDP       string // host:port
	TLSCert, TLSKey string // files
	AllowedHosts    []string
	TokenFiles      []string
	EventTokens     bool
	OpenMetrics     bool
	OpenUDP         bool
}

// BusConfig sizes the bus.
type BusConfig struct {
	Shards    int
	RingBytes int
	Batch     int // events
}

// EventsConfig says how events are read.
type EventsConfig struct {
	Fields    event.Fields
	Limits    event.Limits
	MaxEvents int // in a request

	BodyBytes   int // of a request
	BodiesBytes int // of all that are read at once
}

// RulesConfig bounds what rules may do.
type RulesConfig struct {
	EventFuel, CallFuel, InitFuel uint64
	ModuleBytes                   int
	MemoryPages                   int
	Rules, Versions, Standby      int
	PayloadBytes, OutputBytes     int
	LogLineBytes, LogRate         int
	StateBytes                    int

	CompileMemoryBytes, CompiledBytes, CacheBytes int
	CompileCPU, CompileTimeout                    time.Duration
	CompileQueue                                  int

	QuarantineInRow, QuarantinePercent int
	QuarantineWait, QuarantineMaxWait  time.Duration
}

// UDPConfig is for the UDP listener.
type UDPConfig struct {
	Readers            int
	ReceiveBufferBytes int
	JoinDatagrams      bool
}

// EvaluateConfig is for requests that wait for their verdicts.
type EvaluateConfig struct {
	Timeout    time.Duration
	MaxEvents  int
	MaxWaiting int // requests

	AnswerBytes int // of the verdicts of one request
}

// LogConfig is for the server's own log.
type LogConfig struct {
	Level, Format string
}

// option is one value of the configuration, under all its names.
type option struct {
	path     string // in the YAML file; the parts are separated by points
	flag     string
	standard string // the default, as it would be written
	help     string
	to       func(*Config) any // where it goes: a pointer to one of the types that parse knows
	min, max uint64            // for numbers, in ns for durations; max 0: there is no limit
	oneOf    []string          // for texts; nil allows any
}

const envPrefix = "WASMEVAL_"

// env is the option's environment variable.
func (o *option) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(o.flag, "-", "_"))
}

// The environment variables of the command line that are no options.
const (
	configEnv = envPrefix + "CONFIG" // the configuration file
	serverEnv = envPrefix + "SERVER" // what the verbs speak to
	tokenEnv  = envPrefix + "TOKEN"
)

// size is a number of bytes, written with or without KiB, MiB or GiB.
type size int

func bytesOf(p *int) any { return (*size)(p) }

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// options is the one table of all options: flags, environment variables, keys of the YAML file,
// defaults, help and documentation all come from here.
var options = []option{
	{path: "listen.http", flag: "http", standard: "127.0.0.1:8080",
		help: "address for HTTP",
		to:   func(c *Config) any { return &c.Listen.HTTP }},
	{path: "listen.udp", flag: "udp", standard: "127.0.0.1:8081",
		help: "address for events by UDP; empty: no UDP",
		to:   func(c *Config) any { return &c.Listen.UDP }},
	{path: "listen.tls_cert", flag: "tls-cert",
		help: "file with the certificate chain, PEM; with tls_key HTTP becomes HTTPS",
		to:   func(c *Config) any { return &c.Listen.TLSCert }},
	{path: "listen.tls_key", flag: "tls-key",
		help: "file with the private key, PEM",
		to:   func(c *Config) any { return &c.Listen.TLSKey }},
	{path: "listen.allowed_hosts", flag: "allowed-hosts",
		help: "names that clients may use in Host and Origin, beside the address itself",
		to:   func(c *Config) any { return &c.Listen.AllowedHosts }},
	{path: "listen.token_files", flag: "token-files",
		help: "files with tokens and their roles, beside admin.token in the data folder; " +
			"docs/SECURITY.md has their form",
		to: func(c *Config) any { return &c.Listen.TokenFiles }},
	{path: "listen.require_token_for_events", flag: "require-token-for-events", standard: "false",
		help: "events by HTTP need a token with the role ingest",
		to:   func(c *Config) any { return &c.Listen.EventTokens }},
	{path: "listen.open_metrics", flag: "open-metrics", standard: "false",
		help: "/metrics needs no token elsewhere either; on loopback it never does",
		to:   func(c *Config) any { return &c.Listen.OpenMetrics }},
	{path: "listen.open_udp", flag: "open-udp", standard: "false",
		help: "UDP, which knows neither TLS nor tokens, may be bound to more than loopback",
		to:   func(c *Config) any { return &c.Listen.OpenUDP }},
	{path: "data_dir", flag: "data-dir", standard: "./data",
		help: "folder for the registry, the compilation cache and the admin token",
		to:   func(c *Config) any { return &c.DataDir }},

	{path: "bus.shards", flag: "shards", standard: "0", max: 256,
		help: "shards, each with one ring and one worker; 0: two, or one with one processor",
		to:   func(c *Config) any { return &c.Bus.Shards }},
	{path: "bus.ring_bytes", flag: "ring-bytes", standard: "16MiB", min: 64 * kib, max: gib,
		help: "size of each ring, rounded up to a power of two",
		to:   func(c *Config) any { return bytesOf(&c.Bus.RingBytes) }},
	{path: "bus.batch", flag: "batch", standard: "256", min: 1, max: 4096,
		help: "events that a worker takes at once, at most",
		to:   func(c *Config) any { return &c.Bus.Batch }},

	{path: "events.id_field", flag: "id-field", standard: "id",
		help: "path of the field with an event's id; empty: none",
		to:   func(c *Config) any { return &c.Events.Fields.ID }},
	{path: "events.type_field", flag: "type-field", standard: "type",
		help: "path of the field with an event's type, by which rules are chosen",
		to:   func(c *Config) any { return &c.Events.Fields.Type }},
	{path: "events.source_field", flag: "source-field", standard: "source",
		help: "path of the field with an event's source",
		to:   func(c *Config) any { return &c.Events.Fields.Source }},
	{path: "events.time_field", flag: "time-field", standard: "time",
		help: "path of the field with an event's time",
		to:   func(c *Config) any { return &c.Events.Fields.Time }},
	{path: "events.key_field", flag: "key",
		help: "path of the field with an event's key, such as user.id; events with one key are " +
			"evaluated in the order of their acceptance",
		to: func(c *Config) any { return &c.Events.Fields.Key }},
	{path: "events.event_bytes", flag: "event-bytes", standard: "1MiB", min: 2, max: 2 * mib,
		help: "size of an event, at most",
		to:   func(c *Config) any { return bytesOf(&c.Events.Limits.EventBytes) }},
	{path: "events.depth", flag: "depth", standard: "64", min: 1, max: 256,
		help: "nesting of an event, at most",
		to:   func(c *Config) any { return &c.Events.Limits.Depth }},
	{path: "events.max_events", flag: "max-events", standard: "262144", min: 1, max: 1 << 30,
		help: "events in a request, at most",
		to:   func(c *Config) any { return &c.Events.MaxEvents }},
	{path: "events.body_bytes", flag: "body-bytes", standard: "16MiB", min: 1, max: gib,
		help: "size of a request's body with events after decompression, at most",
		to:   func(c *Config) any { return bytesOf(&c.Events.BodyBytes) }},
	{path: "events.bodies_bytes", flag: "bodies-bytes", standard: "256MiB", min: mib, max: 64 * gib,
		help: "size of all bodies above 64 KiB that are read at once, at most",
		to:   func(c *Config) any { return bytesOf(&c.Events.BodiesBytes) }},

	{path: "rules.event_fuel", flag: "event-fuel", standard: "1750000", min: 1, max: 1_000_000_000_000,
		help: "fuel for one event, where the rule's configuration names none",
		to:   func(c *Config) any { return &c.Rules.EventFuel }},
	{path: "rules.call_fuel", flag: "call-fuel", standard: "1750000", min: 1, max: 1_000_000_000_000,
		help: "fuel for one call, however many events it has",
		to:   func(c *Config) any { return &c.Rules.CallFuel }},
	{path: "rules.init_fuel", flag: "init-fuel", standard: "7000000", min: 1, max: 1_000_000_000_000,
		help: "fuel for making an instance ready, from its initialisation to its parameters",
		to:   func(c *Config) any { return &c.Rules.InitFuel }},
	{path: "rules.module_bytes", flag: "module-bytes", standard: "8MiB", min: 8, max: 64 * mib,
		help: "size of a module, at most",
		to:   func(c *Config) any { return bytesOf(&c.Rules.ModuleBytes) }},
	{path: "rules.memory_pages", flag: "memory-pages", standard: "256", min: 1, max: 65535,
		help: "memory of one instance in pages of 64 KiB, at most",
		to:   func(c *Config) any { return &c.Rules.MemoryPages }},
	{path: "rules.max_rules", flag: "max-rules", standard: "1000", min: 1, max: 100_000,
		help: "rules in the registry, at most",
		to:   func(c *Config) any { return &c.Rules.Rules }},
	{path: "rules.max_versions", flag: "max-versions", standard: "1000", min: 1, max: 100_000,
		help: "versions of one rule, at most",
		to:   func(c *Config) any { return &c.Rules.Versions }},
	{path: "rules.standby", flag: "standby", standard: "4", max: 1000,
		help: "versions that were active lately and are kept ready for a swap back, of all rules",
		to:   func(c *Config) any { return &c.Rules.Standby }},
	{path: "rules.payload_bytes", flag: "payload-bytes", standard: "16KiB", min: 1, max: mib,
		help: "size of one verdict's payload, at most",
		to:   func(c *Config) any { return bytesOf(&c.Rules.PayloadBytes) }},
	{path: "rules.output_bytes", flag: "output-bytes", standard: "1MiB", min: 1, max: 64 * mib,
		help: "size of all payloads of one call, at most",
		to:   func(c *Config) any { return bytesOf(&c.Rules.OutputBytes) }},
	{path: "rules.log_line_bytes", flag: "log-line-bytes", standard: "1KiB", min: 1, max: 64 * kib,
		help: "size of a line that a rule logs; the rest is cut off",
		to:   func(c *Config) any { return bytesOf(&c.Rules.LogLineBytes) }},
	{path: "rules.log_rate", flag: "log-rate", standard: "10", min: 1, max: 10_000,
		help: "lines a second that each rule may log; the rest is counted",
		to:   func(c *Config) any { return &c.Rules.LogRate }},
	{path: "rules.state_bytes", flag: "state-bytes", standard: "64MiB", min: 4 * kib, max: 64 * gib,
		help: "memory of all keyed states of one rule, at most",
		to:   func(c *Config) any { return bytesOf(&c.Rules.StateBytes) }},
	{path: "rules.compile_memory_bytes", flag: "compile-memory-bytes", standard: "512MiB",
		min: 64 * mib, max: 64 * gib,
		help: "memory that compiling a module may take, at most",
		to:   func(c *Config) any { return bytesOf(&c.Rules.CompileMemoryBytes) }},
	{path: "rules.compile_cpu", flag: "compile-cpu", standard: "10s", max: uint64(30 * time.Second),
		help: "CPU time that compiling a module may take, rounded up to seconds",
		to:   func(c *Config) any { return &c.Rules.CompileCPU }},
	{path: "rules.compile_timeout", flag: "compile-timeout", standard: "20s",
		max:  uint64(30 * time.Second),
		help: "how long a module may wait for its turn to be compiled, and then how long that may take",
		to:   func(c *Config) any { return &c.Rules.CompileTimeout }},
	{path: "rules.compile_queue", flag: "compile-queue", standard: "8", max: 1000,
		help: "modules that wait for their turn to be compiled, at most",
		to:   func(c *Config) any { return &c.Rules.CompileQueue }},
	{path: "rules.compiled_bytes", flag: "compiled-bytes", standard: "128MiB", min: 4 * kib, max: gib,
		help: "size of a compiled module, at most",
		to:   func(c *Config) any { return bytesOf(&c.Rules.CompiledBytes) }},
	{path: "rules.cache_bytes", flag: "cache-bytes", standard: "1GiB", min: mib, max: 1024 * gib,
		help: "size of all compiled modules that are kept for the next time; those of loaded rules are " +
			"always kept",
		to: func(c *Config) any { return bytesOf(&c.Rules.CacheBytes) }},

	{path: "rules.quarantine_in_row", flag: "quarantine-in-row", standard: "20", max: 1_000_000,
		help: "failures in a row after which a rule is not called for a while; 0: never for these",
		to:   func(c *Config) any { return &c.Rules.QuarantineInRow }},
	{path: "rules.quarantine_percent", flag: "quarantine-percent", standard: "10", max: 100,
		help: "the same for failures among the last 1,000 evaluations, in percent; 0: never for these",
		to:   func(c *Config) any { return &c.Rules.QuarantinePercent }},
	{path: "rules.quarantine_wait", flag: "quarantine-wait", standard: "1s",
		max:  uint64(24 * time.Hour),
		help: "for how long; it doubles with each try that fails",
		to:   func(c *Config) any { return &c.Rules.QuarantineWait }},
	{path: "rules.quarantine_max_wait", flag: "quarantine-max-wait", standard: "5m0s",
		max:  uint64(24 * time.Hour),
		help: "up to so long",
		to:   func(c *Config) any { return &c.Rules.QuarantineMaxWait }},

	{path: "udp.readers", flag: "udp-readers", standard: "1", min: 1, max: 64,
		help: "sockets for UDP, each with one reader",
		to:   func(c *Config) any { return &c.UDP.Readers }},
	{path: "udp.receive_buffer_bytes", flag: "udp-receive-buffer", standard: "8MiB",
		min: 4 * kib, max: gib,
		help: "receive buffer to ask the kernel for, of each socket",
		to:   func(c *Config) any { return bytesOf(&c.UDP.ReceiveBufferBytes) }},
	{path: "udp.join_datagrams", flag: "udp-join-datagrams", standard: "true",
		help: "let the kernel join datagrams of one sender, which is faster; a joined one that it drops " +
			"counts as one",
		to: func(c *Config) any { return &c.UDP.JoinDatagrams }},

	{path: "evaluate.timeout", flag: "evaluate-timeout", standard: "5s", max: uint64(30 * time.Second),
		help: "how long a request that gives no timeout of its own waits for its verdicts",
		to:   func(c *Config) any { return &c.Evaluate.Timeout }},
	{path: "evaluate.max_events", flag: "evaluate-max-events", standard: "1000",
		min: 1, max: 100_000,
		help: "events in a request that waits for its verdicts, at most",
		to:   func(c *Config) any { return &c.Evaluate.MaxEvents }},
	{path: "evaluate.max_waiting", flag: "evaluate-max-waiting", standard: "1024",
		min: 1, max: 1_000_000,
		help: "requests that wait for their verdicts at once, at most",
		to:   func(c *Config) any { return &c.Evaluate.MaxWaiting }},
	{path: "evaluate.answer_bytes", flag: "evaluate-answer-bytes", standard: "64MiB", min: kib, max: gib,
		help: "size of the verdicts of one request, at most; those of all requests may have four times as much",
		to:   func(c *Config) any { return bytesOf(&c.Evaluate.AnswerBytes) }},
	{path: "tail_listeners", flag: "tail-listeners", standard: "64", min: 1, max: 10_000,
		help: "listeners of the tail at once, at most",
		to:   func(c *Config) any { return &c.Sink.TailListeners }},

	{path: "log.level", flag: "log-level", standard: "info",
		oneOf: []string{"debug", "info", "warn", "error"},
		help:  "least level of the lines in the server's log",
		to:    func(c *Config) any { return &c.Log.Level }},
	{path: "log.format", flag: "log-format", standard: "text", oneOf: []string{"text", "json"},
		help: "form of the server's log",
		to:   func(c *Config) any { return &c.Log.Format }},
	{path: "shutdown_timeout", flag: "shutdown-timeout", standard: "10s",
		help: "how long to drain when the server stops, at most",
		to:   func(c *Config) any { return &c.Shutdown }},
}

// parse sets the option to what a text says. The error says what was expected, without the name.
func (o *option) parse(c *Config, text string) error {
	switch p := o.to(c).(type) {
	case *string:
		if o.oneOf != nil && !slices.Contains(o.oneOf, text) {
			return fmt.Errorf("%q: expected %s", text, strings.Join(o.oneOf, " or "))
		}
		*p = text
	case *[]string:
		*p = splitList(text)
	case *bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q: expected true or false", text)
		}
		*p = text == "true"
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q: expected a duration above 0, such as 10s or 250ms", text)
		}
		*p = d
		return o.inRange(text, uint64(d))
	case *size:
		n, err := parseSize(text)
		if err != nil {
			return err
		}
		*p = size(n)
		return o.inRange(text, n)
	case *int:
		n, err := o.parseNumber(text, 31)
		*p = int(n)
		return err
	case *uint64:
		n, err := o.parseNumber(text, 63)
		*p = n
		return err
	default:
		panic(fmt.Sprintf("BUG: option %s is a %T", o.path, p))
	}
	return nil
}

// parseNumber reads a whole number of at most so many bits.
func (o *option) parseNumber(text string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, bits)
	switch limits := o.limits(); {
	case err == nil:
		return n, o.inRange(text, n)
	case limits != "":
		return 0, fmt.Errorf("%q: expected a whole number, %s", text, limits)
	}
	return 0, fmt.Errorf("%q: expected a whole number", text)
}

func (o *option) inRange(text string, n uint64) error {
	if o.max == 0 && n < o.min {
		return fmt.Errorf("%q: expected at least %d", text, o.min)
	}
	if o.max != 0 && (n < o.min || n > o.max) {
		return fmt.Errorf("%q: expected %s", text, o.limits())
	}
	return nil
}

// limits tells the range of a number, or the texts that are allowed.
func (o *option) limits() string {
	if o.oneOf != nil {
		return strings.Join(o.oneOf, ", ")
	}
	show := func(n uint64) string { return strconv.FormatUint(n, 10) }
	switch o.to(new(Config)).(type) {
	case *size:
		show = func(n uint64) string { return formatSize(int(n)) }
	case *time.Duration:
		if o.max == 0 {
			return "above 0"
		}
		return "above 0, at most " + time.Duration(o.max).String()
	}
	switch {
	case o.max != 0:
		return show(o.min) + " to " + show(o.max)
	case o.min != 0:
		return "at least " + show(o.min)
	}
	return ""
}

// format is the inverse of parse.
func (o *option) format(c *Config) string {
	switch p := o.to(c).(type) {
	case *string:
		return *p
	case *[]string:
		return strings.Join(*p, ",")
	case *bool:
		return strconv.FormatBool(*p)
	case *time.Duration:
		return p.String()
	case *size:
		return formatSize(int(*p))
	case *int:
		return strconv.Itoa(*p)
	case *uint64:
		return strconv.FormatUint(*p, 10)
	default:
		panic(fmt.Sprintf("BUG: option %s is a %T", o.path, p))
	}
}

// kind names the option's type in the help.
func (o *option) kind() string {
	switch o.to(new(Config)).(type) {
	case *[]string:
		return "list"
	case *bool:
		return "bool"
	case *time.Duration:
		return "duration"
	case *size:
		return "size"
	case *int, *uint64:
		return "number"
	}
	return "text"
}

func splitList(text string) []string {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

var sizeUnits = []struct {
	suffix string
	bytes  uint64
}{{"GiB", gib}, {"MiB", mib}, {"KiB", kib}, {"B", 1}, {"", 1}}

func parseSize(text string) (uint64, error) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
		if err == nil && n <= math.MaxInt64/u.bytes {
			return n * u.bytes, nil
		}
		break
	}
	return 0, fmt.Errorf("%q: expected a size, such as 65536, 64KiB or 16MiB", text)
}

func formatSize(n int) string {
	for _, u := range sizeUnits[:3] {
		if n != 0 && uint64(n)%u.bytes == 0 {
			return strconv.FormatUint(uint64(n)/u.bytes, 10) + u.suffix
		}
	}
	return strconv.Itoa(n)
}

// inputs are where a configuration comes from. The zero value gives the defaults.
type inputs struct {
	flags map[string]string // by the flag's name: those that were given
	env   []string          // as os.Environ
	file  string            // YAML; empty: none
}

// load reads the configuration: flags before the environment, the environment before the file, the
// file before the defaults. The error joins all faults, each with its place, one a line. The
// configuration comes back also with an error, as far as it could be read.
func load(in inputs) (*Config, error) {
	c := &Config{origins: make(map[string]string, len(options))}
	env := newEnvironment(in.env)
	var faults []error
	var file yamlFile
	if in.file != "" {
		var err error
		if file, err = readYAML(in.file, env.expand, &c.Sink); err != nil {
			faults = append(faults, err)
		}
	}
	for i := range options {
		o := &options[i]
		text, origin := o.standard, "default"
		if s, ok := file.values[o.path]; ok {
			text, origin = s.text, s.place
		}
		if s, ok := env.values[o.env()]; ok {
			text, origin = s, "environment "+o.env()
		}
		if s, ok := in.flags[o.flag]; ok {
			text, origin = s, "flag --"+o.flag
		}
		c.origins[o.path] = origin
		if err := o.parse(c, text); err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", origin, o.path, err))
			// For the checks below, or one fault would be told twice.
			if err := o.parse(c, o.standard); err != nil {
				panic("BUG: the default of " + o.path + ": " + err.Error())
			}
		}
	}
	if c.Bus.Shards == 0 {
		c.Bus.Shards = min(2, goruntime.GOMAXPROCS(0))
	}
	faults = append(faults, env.unknown()...)
	faults = append(faults, c.check()...)
	faults = append(faults, checkSinks(&c.Sink, &file)...)
	return c, errors.Join(faults...)
}

// environment is what the process was started with.
type environment struct {
	values map[string]string
	known  map[string]bool // names that something asks for
}

func newEnvironment(list []string) *environment {
	e := &environment{make(map[string]string), map[string]bool{
		configEnv: true, serverEnv: true, tokenEnv: true,
	}}
	for _, text := range list {
		name, value, _ := strings.Cut(text, "=")
		e.values[name] = value
	}
	for i := range options {
		e.known[options[i].env()] = true
	}
	return e
}

// expand looks up a variable that the configuration file names.
func (e *environment) expand(name string) (value string, set bool) {
	e.known[name] = true
	value, set = e.values[name]
	return value, set
}

// Kubernetes gives every container variables for the Services of its namespace: those of one named
// wasmeval, or wasmeval-http, begin as ours do.
var ofService = regexp.MustCompile(`^WASMEVAL_(.*_)?(SERVICE|PORT)(_|$)`)

// unknown finds the variables that look like options and are none: a misspelt one would leave its
// option as it is, and nobody would know.
func (e *environment) unknown() (faults []error) {
	_, services := e.values["KUBERNETES_SERVICE_HOST"]
	for _, name := range slices.Sorted(maps.Keys(e.values)) {
		if !strings.HasPrefix(name, envPrefix) || e.known[name] ||
			services && ofService.MatchString(name) {
			continue
		}
		faults = append(faults, fmt.Errorf("environment %s: unknown variable: expected %s and a "+
			"flag's name, as `wasmeval check --options` lists them", name, envPrefix))
	}
	return faults
}

// checkSinks finds the faults of routes and sinks, which come from the file.
func checkSinks(s *sink.Config, file *yamlFile) (faults []error) {
	err := s.Check()
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range list.Unwrap() {
			place := ""
			if fault := new(sink.Fault); errors.As(err, &fault) {
				place = file.placeOf(fault.Key)
			}
			faults = append(faults, fmt.Errorf("%s: %w", place, err))
		}
	}
	return faults
}

// faultList gathers faults of options, with their places.
type faultList struct {
	c    *Config
	list []error
}

func (f *faultList) add(path, format string, args ...any) {
	f.list = append(f.list, fmt.Errorf("%s: %s: %w", f.c.origins[path], path,
		fmt.Errorf(format, args...)))
}

// check finds the faults that lie in several values together, or outside of the configuration.
func (c *Config) check() []error {
	f := &faultList{c: c}
	c.checkListen(f)
	c.checkFiles(f)
	if c.DataDir == "" {
		f.add("data_dir", "expected the name of a folder")
	}
	// A record has an envelope of at most four texts beside the event's own bytes.
	const envelopeBytes = 5 * event.MaxText
	if most := maxRecord(c.Bus.RingBytes); c.Events.Limits.EventBytes+envelopeBytes > most {
		f.add("events.event_bytes", "%s does not fit into a ring of %s: expected at most %d, an "+
			"eighth of the ring less room for an envelope", formatSize(c.Events.Limits.EventBytes),
			formatSize(c.Bus.RingBytes), most-envelopeBytes)
	}
	if e := &c.Events; e.BodiesBytes < e.BodyBytes {
		f.add("events.bodies_bytes", "%s of all bodies: expected at least the %s of one, events.body_bytes",
			formatSize(e.BodiesBytes), formatSize(e.BodyBytes))
	}
	for _, one := range []struct {
		path   string
		fields event.Fields // that one alone
	}{
		{"events.id_field", event.Fields{ID: c.Events.Fields.ID}},
		{"events.type_field", event.Fields{Type: c.Events.Fields.Type}},
		{"events.source_field", event.Fields{Source: c.Events.Fields.Source}},
		{"events.time_field", event.Fields{Time: c.Events.Fields.Time}},
		{"events.key_field", event.Fields{Key: c.Events.Fields.Key}},
	} {
		if _, err := event.NewScanner(one.fields, event.Limits{}); err != nil {
			f.add(one.path, "%w", err)
		}
	}
	if c.Rules.QuarantineWait > c.Rules.QuarantineMaxWait {
		f.add("rules.quarantine_wait", "%v is above quarantine_max_wait %v: expected at most that",
			c.Rules.QuarantineWait, c.Rules.QuarantineMaxWait)
	}
	if c.Rules.EventFuel > c.Rules.CallFuel {
		f.add("rules.event_fuel", "%d is above call_fuel %d: expected at most that",
			c.Rules.EventFuel, c.Rules.CallFuel)
	}
	return f.list
}

// checkListen refuses addresses that others reach without the means to keep them out.
func (c *Config) checkListen(f *faultList) {
	l := &c.Listen
	loopback, err := isLoopback(l.HTTP)
	switch {
	case err != nil:
		f.add("listen.http", "%w", err)
	case !loopback && (l.TLSCert == "" || !l.EventTokens):
		f.add("listen.http", "%q is not a loopback address: expected tls_cert, tls_key and "+
			"require_token_for_events with it, or others could read along and send events", l.HTTP)
	}
	if l.UDP != "" {
		loopback, err := isLoopback(l.UDP)
		switch {
		case err != nil:
			f.add("listen.udp", "%w", err)
		case !loopback && !l.OpenUDP:
			f.add("listen.udp", "%q is not a loopback address: expected open_udp with it, "+
				"since UDP knows neither TLS nor tokens", l.UDP)
		}
	}
}

// checkFiles looks into the files that the server will read at its start.
func (c *Config) checkFiles(f *faultList) {
	l := &c.Listen
	readable := func(path, name string) bool {
		info, err := os.Stat(name)
		switch {
		case err != nil:
			f.add(path, "cannot read file %q: %w", name, errors.Unwrap(err))
		case info.IsDir():
			f.add(path, "cannot read file %q: it is a folder", name)
		default:
			return true
		}
		return false
	}
	for _, name := range l.TokenFiles {
		if !readable("listen.token_files", name) {
			continue
		}
		if err := auth.Check(name); err != nil {
			f.add("listen.token_files", "%w", err)
		}
	}
	if (l.TLSCert == "") != (l.TLSKey == "") {
		f.add("listen.tls_cert", "expected both tls_cert and tls_key, or none")
	}
	pair := 0
	if l.TLSCert != "" && readable("listen.tls_cert", l.TLSCert) {
		pair++
	}
	if l.TLSKey != "" && readable("listen.tls_key", l.TLSKey) {
		pair++
	}
	if pair < 2 {
		return
	}
	if _, err := tls.LoadX509KeyPair(l.TLSCert, l.TLSKey); err != nil {
		f.add("listen.tls_cert", "cannot use %q with key %q: %w", l.TLSCert, l.TLSKey, err)
	}
}

// maxRecord is what bus.Ring.MaxRecord says for a ring of that size, without making one.
func maxRecord(ringBytes int) int {
	if ringBytes < 1 {
		return 0
	}
	return min(1<<bits.Len(uint(ringBytes-1))/8, 2*mib-64) - 8
}

// isLoopback reports whether an address is one that only this machine reaches. The error says what
// was expected.
func isLoopback(address string) (bool, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false, fmt.Errorf("%q: expected host:port", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false, fmt.Errorf("%q: expected a port of 0 to 65535", address)
	}
	if host == "localhost" {
		return true, nil
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback(), nil
}
