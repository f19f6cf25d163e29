package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"wasmeval/internal/event"
	"wasmeval/runtime"
)

// The verbs that need no server run the server's own engine in this process, by the server's own
// configuration.

// offlineOptions are the options that have flags there; the others may stand in --config.
var offlineOptions = []string{"id-field", "type-field", "source-field", "time-field", "key",
	"event-fuel"}

// openOffline opens an engine with no rules, which the caller closes.
func openOffline(ctx context.Context, c *Config) (*runtime.Offline, error) {
	setLog(&LogConfig{Level: "warn", Format: "text"})
	compile, err := compileCommand()
	if err != nil {
		return nil, err
	}
	return runtime.OpenOffline(ctx, runtime.Config{Limits: c.limits(), Fields: c.Events.Fields,
		EventLimits: c.Events.Limits, CompileCommand: compile})
}

// interruptible lets a verb end by its context when it is interrupted, so that it leaves no folder
// behind. A second signal ends it at once: a read of stdin may wait for ever.
func interruptible(verb func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		context.AfterFunc(ctx, stop)
		cmd.SetContext(ctx)
		err := verb(cmd, args)
		if err != nil && ctx.Err() != nil {
			return errors.New("interrupted") // whatever that has made of it
		}
		return err
	}
}

// checkFormat refuses a --format that is none of those that a verb knows.
func checkFormat(format string, known ...string) error {
	if !slices.Contains(known, format) {
		return fmt.Errorf("--format %q: expected %s", format, strings.Join(known, " or "))
	}
	return nil
}

// offlineConfig is the configuration of the verbs that need no server.
func offlineConfig(configured func() (*Config, error)) (*Config, error) {
	c, err := configured()
	if err != nil {
		return nil, fmt.Errorf("the configuration has faults:\n%w", err)
	}
	return c, nil
}

// moduleFile reads a file with a module, or says how to get one.
func moduleFile(name string) ([]byte, error) {
	code, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read module %q: there is no such file; run `wasmeval build` in "+
			"the rule's folder first", name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read module %q: %w", name, errors.Unwrap(err))
	}
	return code, nil
}

// openEvents opens a file of events, or stdin for "-". What is compressed by gzip is unpacked. The
// size is that of the file, 0 if that is not known; read tells how much of it was read.
func openEvents(name string, stdin io.Reader) (in io.ReadCloser, size int64, read *counter,
	err error) {
	read = &counter{in: stdin}
	var file io.Closer = io.NopCloser(nil)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, 0, nil, fmt.Errorf("cannot read events %q: %w", name, errors.Unwrap(err))
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		read.in, file = f, f
	}
	text := &unpacker{in: bufio.NewReaderSize(read, 256<<10)}
	if name != "-" { // stdin may let one wait
		if err := text.look(); err != nil {
			_ = file.Close()
			return nil, 0, nil, fmt.Errorf("cannot read events %q: %w", name, err)
		}
	}
	return struct {
		io.Reader
		io.Closer
	}{text, file}, size, read, nil
}

// unpacker reads what may be compressed by gzip.
type unpacker struct {
	in    *bufio.Reader
	plain io.Reader // nil before the first bytes were seen
}

// look decides by the first bytes.
func (u *unpacker) look() (err error) {
	magic, err := u.in.Peek(2)
	switch {
	case bytes.Equal(magic, []byte{0x1f, 0x8b}):
		u.plain, err = gzip.NewReader(u.in)
	case err == nil || errors.Is(err, io.EOF):
		u.plain, err = u.in, nil
	}
	return err
}

func (u *unpacker) Read(b []byte) (int, error) {
	if u.plain == nil {
		if err := u.look(); err != nil {
			return 0, err
		}
	}
	return u.plain.Read(b)
}

// counter counts the bytes that are read through it; any goroutine may read the count.
type counter struct {
	in io.Reader
	n  atomic.Int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// offlineStart is when the first event arrives, where events do not say.
const offlineStart = 1767225600e9 // 2026-01-01T00:00:00Z, in nanoseconds since 1970

// lineError is a line that is no event.
type lineError struct {
	line int
	text string
}

// eventReader reads events, one JSON object a line, into records for the engine. An event without an
// id has the number of its line for one. It arrives at its own time, or, if it has none, a
// millisecond for each line after offlineStart.
type eventReader struct {
	name    string
	scan    *bufio.Scanner
	scanner *event.Scanner
	line    int
	onBad   func(lineError)
}

func newEventReader(name string, in io.Reader, c *Config, onBad func(lineError)) (*eventReader,
	error) {
	scanner, err := event.NewScanner(c.Events.Fields, c.Events.Limits)
	if err != nil {
		return nil, err
	}
	r := &eventReader{name: name, scan: bufio.NewScanner(in), scanner: scanner, onBad: onBad}
	r.scan.Buffer(make([]byte, 64<<10), maxLineBytes)
	return r, nil
}

// eventLine is where one event came from.
type eventLine struct {
	line int
	json []byte
}

// next reads at most n events. It returns none at the end.
func (r *eventReader) next(n int) (recs [][]byte, from []eventLine, err error) {
	for len(recs) < n && r.scan.Scan() {
		r.line++
		line := bytes.TrimSpace(r.scan.Bytes())
		if len(line) == 0 {
			continue
		}
		var env event.Envelope
		rec, err := r.record(line, &env, uint32(len(recs)))
		if err != nil {
			r.onBad(lineError{r.line, oneLine(err.Error())}) // the error is the scanner's
			continue
		}
		recs = append(recs, rec)
		from = append(from, eventLine{r.line, rec[len(rec)-len(line):]})
	}
	err = r.scan.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		err = fmt.Errorf("line %d: expected at most %s", r.line+1, formatSize(maxLineBytes))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read events %q: %w", r.name, err)
	}
	return recs, from, nil
}

func (r *eventReader) record(line []byte, env *event.Envelope, index uint32) ([]byte, error) {
	if err := r.scanner.Scan(line, env); err != nil {
		return nil, err
	}
	if len(env.ID) == 0 {
		env.ID = fmt.Append(nil, r.line)
	}
	if env.Time == 0 {
		env.Time = offlineStart + int64(r.line)*1e6
	}
	env.Arrival, env.Index = env.Time, index
	rec, err := event.AppendHead(make([]byte, 0, len(line)+128), env)
	if err != nil {
		return nil, err
	}
	return append(rec, line...), nil
}

// addOfflineFlags adds --config and the flags of offlineOptions.
func addOfflineFlags(cmd *cobra.Command) func() (*Config, error) {
	return addConfigFlags(cmd, offlineOptions...)
}
