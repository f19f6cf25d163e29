package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	// The server says something every 15 s; a connection that is silent for longer than this is
	// dead, whatever the kernel believes.
	tailSilence    = 45 * time.Second
	tailBackoff    = 200 * time.Millisecond // doubles with each failure in a row
	maxTailBackoff = 10 * time.Second
)

// errEnough ends a tail that has shown as many verdicts as were asked for.
var errEnough = errors.New("enough verdicts")

func newTail() *cobra.Command {
	var rules, codes []string
	var asJSON bool
	var count int
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Watch the verdicts as they come",
		Long: `Shows verdicts until it is interrupted, and connects again when the server went away. By default
it shows what matched and what failed.`,
		Example: `  wasmeval tail
  wasmeval tail --rule 'payment-*' --code failed
  wasmeval tail --json | jq .payload`,
		Args: cobra.NoArgs,
	}
	connect := addClientFlags(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&rules, "rule", nil, "pattern of rule names, any number of times")
	f.StringArrayVar(&codes, "code", nil, "matched, failed, all or a number, any number of times")
	f.BoolVar(&asJSON, "json", false, "print each verdict's JSON object, one a line")
	f.IntVarP(&count, "count", "n", 0, "verdicts to show, then stop; 0: no end")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if count < 0 {
			return errors.New("expected --count of 0 or more")
		}
		c, err := connect()
		if err != nil {
			return err
		}
		out, shown := cmd.OutOrStdout(), 0
		t := &tailReader{client: c, what: "tail", path: "/v1/tail", kind: "verdict",
			query:  url.Values{"rule": rules, "code": codes},
			notice: func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), oneLine(text)) }}
		t.take = func(data []byte) error {
			if err := showVerdict(out, data, asJSON); err != nil {
				return err
			}
			if shown++; shown == count {
				return errEnough
			}
			return nil
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
		defer stop()
		if err := t.run(ctx); !errors.Is(err, errEnough) {
			return err
		}
		return nil
	}
	return cmd
}

// verdict is what one rule said of one event, as the server writes it.
type verdict struct {
	Time    time.Time
	Rule    string
	Version int
	Event   struct{ ID, Type, Key string }
	Code    int32
	Payload json.RawMessage
	Error   *struct{ Kind, Message string }
	Fuel    uint64
	Took    float64 `json:"took_us"`
}

func showVerdict(w io.Writer, data []byte, asJSON bool) error {
	var v verdict
	if asJSON || json.Unmarshal(data, &v) != nil {
		_, err := fmt.Fprintf(w, "%s\n", data)
		return err
	}
	what := fmt.Sprintf("code %d %s", v.Code, v.Payload)
	if v.Error != nil {
		what = fmt.Sprintf("code %d failed: %s: %s", v.Code, v.Error.Kind, v.Error.Message)
	}
	_, err := fmt.Fprintf(w, "%s  %s@%d  %s %s  %s  (%.0f µs)\n",
		v.Time.Local().Format("15:04:05.000"), v.Rule, v.Version, oneLine(v.Event.Type),
		oneLine(firstOf(v.Event.Key, v.Event.ID)), oneLine(what), v.Took)
	return err
}

// tailReader reads one of the server's streams of events.
type tailReader struct {
	client *client
	what   string // for messages
	path   string
	query  url.Values
	kind   string                  // of the events that take gets
	take   func(data []byte) error // an error ends the reading
	notice func(text string)       // for what is not for take
}

// errDeleted ends a stream when what it is of was deleted.
var errDeleted = errors.New("the rule was deleted")

// run reads until ctx ends, take returns an error, or the server refuses. It connects again after
// every other end.
func (t *tailReader) run(ctx context.Context) error {
	wait := tailBackoff
	for {
		heard, err := t.stream(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var stop *takeError
		if errors.As(err, &stop) {
			return stop.err
		}
		var refused *apiError
		if errors.As(err, &refused) && refused.Status/100 == 4 &&
			refused.Status != http.StatusTooManyRequests {
			return fmt.Errorf("cannot read the %s: %w", t.what, refused)
		}
		if heard {
			wait = tailBackoff
		}
		t.notice(fmt.Sprintf("the %s has ended (%v); next try in %v", t.what, err, wait))
		// Half of the wait is random, so that many tails do not come back at one moment.
		if !pause(ctx, wait/2+rand.N(wait/2)) {
			return nil
		}
		wait = min(2*wait, maxTailBackoff)
	}
}

// takeError is an error of tailReader.take, told apart from those of the connection.
type takeError struct{ err error }

// Error is the text of the error itself.
func (e *takeError) Error() string { return e.err.Error() }

// stream reads one connection to its end, and reports whether anything came by it.
func (t *tailReader) stream(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(tailSilence, cancel)
	defer silence.Stop()
	resp, err := t.client.open(ctx, call{method: http.MethodGet, path: t.path, query: t.query})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	var kind string
	var data []byte
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 64<<10), maxLineBytes)
	for lines.Scan() {
		heard = true
		silence.Reset(tailSilence)
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if err := t.event(kind, data); err != nil {
				return heard, &takeError{err}
			}
			kind, data = "", nil
		case name == "event":
			kind = value
		case name == "data":
			if data != nil {
				data = append(data, '\n')
			}
			data = append(data, value...)
		}
	}
	if err := lines.Err(); err != nil {
		return heard, fmt.Errorf("cannot read on: %w", err)
	}
	return heard, errors.New("the server closed it")
}

func (t *tailReader) event(kind string, data []byte) error {
	switch kind {
	case t.kind:
		return t.take(data)
	case "dropped":
		t.notice("this " + t.what + " was too slow: " + string(data))
	case "deleted":
		return errDeleted
	}
	return nil
}
