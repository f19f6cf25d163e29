package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wasmeval/ingest/udpclient"
)

const (
	maxLineBytes  = 16 << 20 // of one event that send reads
	sendLinger    = 20 * time.Millisecond
	maxRetryAfter = 30 * time.Second
)

// sender reads events and sends them in batches at a rate.
type sender struct {
	target eventTarget
	rate   float64 // events a second; 0: as fast as they are taken
	batch  int     // events, at most
	tally  sendTally
	start  time.Time
	due    int // events of which the time to be sent has come
}

// sendTally is what became of the events, by the answers: each that was sent is in one of the others. UDP
// has no answers.
type sendTally struct {
	Sent      int // handed to the network
	Accepted  int
	Rejected  int // for what they are; also what was not sent since no datagram can have it
	GivenUp   int // not taken, also not after all retries
	Unknown   int // that the server may have or not: no answer came, or none that says so
	Throttled int // answers 429
	problems  []string
}

// problem keeps the first few things that went wrong with single events.
func (t *sendTally) problem(e sentEvent, format string, args ...any) {
	if len(t.problems) < 5 {
		t.problems = append(t.problems, fmt.Sprintf("line %d: %s", e.line, fmt.Sprintf(format, args...)))
	}
}

// err says what of the events the server does not have for sure.
func (t *sendTally) err() error {
	var list []string
	for _, c := range []struct {
		n    int
		what string
	}{{t.Rejected, "rejected"}, {t.GivenUp, "not taken"}, {t.Unknown, "sent and not answered"}} {
		if c.n > 0 {
			list = append(list, fmt.Sprintf("%d events were %s", c.n, c.what))
		}
	}
	if len(list) == 0 {
		return nil
	}
	return errors.New(strings.Join(list, ", "))
}

// sentEvent is an event and its line in the file.
type sentEvent struct {
	line int
	text []byte
}

// eventTarget sends one batch of events, and counts what becomes of them.
type eventTarget interface {
	send(ctx context.Context, events []sentEvent, t *sendTally) error
}

func newSend() *cobra.Command {
	var udp string
	var rate float64
	var batch, repeat, retries int
	var zip bool
	cmd := &cobra.Command{
		Use:   "send [FILE|-]",
		Short: "Send events from a file or stdin, one JSON object a line",
		Long: `Sends events, one JSON object a line, by HTTP or, with --udp, by datagrams. With --rate the
sending times are fixed beforehand: a slow answer does not lower the rate that follows. Events
that the server has no room for are sent again when it says so, and only those. The exit code is 0
if the server has accepted all events, or with --udp if all were sent, and 1 otherwise.`,
		Example: `  wasmeval send events.ndjson
  wasmeval send events.ndjson --rate 1000 --repeat 10
  tail -f app.log | wasmeval send --udp 127.0.0.1:8081`,
		Args: cobra.MaximumNArgs(1),
	}
	connect := addClientFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&udp, "udp", "", "send datagrams to this address, not HTTP")
	f.Float64Var(&rate, "rate", 0, "events a second; 0: as fast as they are taken")
	f.IntVar(&batch, "batch", 0, "events in a request, at most; 0: 500, or fewer at a low rate")
	f.BoolVar(&zip, "gzip", false, "compress requests")
	f.IntVar(&repeat, "repeat", 1, "times to send the file")
	f.IntVar(&retries, "retries", 10, "times to send again what the server had no room for")
	cmd.RunE = interruptible(func(cmd *cobra.Command, args []string) error {
		name := "-"
		if len(args) > 0 {
			name = args[0]
		}
		if rate < 0 || batch < 0 || repeat < 1 || retries < 0 || name == "-" && repeat != 1 {
			return errors.New("expected --rate, --batch and --retries of 0 or more, --repeat of 1 " +
				"or more, and more than 1 with a file only")
		}
		if udp != "" && zip {
			return errors.New("expected --gzip without --udp: datagrams are not compressed")
		}
		s := &sender{rate: rate, batch: batchFor(batch, rate)}
		if udp != "" {
			c, err := udpclient.Dial(udp, 0)
			if err != nil {
				return fmt.Errorf("cannot send to %q: %w", udp, err)
			}
			defer func() { _ = c.Close() }() // everything was flushed, or failed already
			s.target = &udpTarget{c, udp}
		} else {
			c, err := connect()
			if err != nil {
				return err
			}
			s.target = &httpTarget{client: c, retries: retries, gzip: zip}
		}
		err := s.run(cmd.Context(), name, repeat, cmd.InOrStdin())
		s.report(cmd.OutOrStdout(), udp != "")
		return cmp.Or(err, s.tally.err())
	})
	return cmd
}

// batchFor chooses a batch such that about a hundred are sent a second, or what was asked for.
func batchFor(asked int, rate float64) int {
	switch {
	case asked > 0:
		return asked
	case rate > 0:
		return max(1, min(500, int(rate/100)))
	}
	return 500
}

// run sends the file, several times if need be, and returns when all is sent, or ctx's error if that ends
// first; then a read of stdin may still hang.
func (s *sender) run(ctx context.Context, name string, repeat int, stdin io.Reader) error {
	s.start = time.Now()
	lines := make(chan sentEvent, 1024)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(lines)
		for range repeat {
			if err := readLines(ctx, name, stdin, lines); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		batch := s.next(ctx, lines)
		if len(batch) == 0 {
			break
		}
		if !s.pace(ctx) {
			break
		}
		s.due += len(batch)
		if err := s.target.send(ctx, batch, &s.tally); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return <-done
}

// next collects a batch: as many lines as there are, and some milliseconds' more, so that a slow
// pipe is not held up.
func (s *sender) next(ctx context.Context, lines <-chan sentEvent) []sentEvent {
	var batch []sentEvent
	var linger <-chan time.Time
	for len(batch) < s.batch {
		select {
		case line, ok := <-lines:
			if !ok {
				return batch
			}
			batch = append(batch, line)
			if linger == nil {
				linger = time.After(sendLinger)
			}
		case <-linger:
			return batch
		case <-ctx.Done():
			return nil
		}
	}
	return batch
}

// pace waits until the next batch is due: the time depends on what was sent before it alone.
func (s *sender) pace(ctx context.Context) bool {
	if s.rate == 0 {
		return ctx.Err() == nil
	}
	after := time.Duration(float64(s.due) / s.rate * float64(time.Second))
	return pause(ctx, time.Until(s.start.Add(after)))
}

func (s *sender) report(w io.Writer, udp bool) {
	took := time.Since(s.start)
	t := &s.tally
	fmt.Fprintf(w, "sent %d events in %v (%.0f/s)\n", t.Sent, took.Round(time.Millisecond),
		float64(t.Sent)/took.Seconds())
	if udp {
		fmt.Fprintln(w, "UDP has no answers: see `wasmeval ledger` for what became of them")
	} else {
		fmt.Fprintf(w, "accepted %d, rejected %d, not taken %d, not answered %d; answers 429: %d\n", t.Accepted,
			t.Rejected, t.GivenUp, t.Unknown, t.Throttled)
	}
	for _, p := range t.problems {
		fmt.Fprintf(w, "  %s\n", oneLine(p))
	}
}

// readLines sends each line that is not empty to lines.
func readLines(ctx context.Context, name string, stdin io.Reader, lines chan<- sentEvent) error {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("cannot read events %q: %w", name, errors.Unwrap(err))
		}
		defer f.Close()
		in = f
	}
	scan := bufio.NewScanner(in)
	scan.Buffer(make([]byte, 64<<10), maxLineBytes)
	for n := 1; scan.Scan(); n++ {
		text := bytes.TrimSpace(scan.Bytes())
		if len(text) == 0 {
			continue
		}
		select {
		case lines <- sentEvent{n, bytes.Clone(text)}:
		case <-ctx.Done():
			return nil
		}
	}
	err := scan.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("cannot read events %q: expected lines of at most %s", name,
			formatSize(maxLineBytes))
	}
	if err != nil {
		return fmt.Errorf("cannot read events %q: %w", name, err)
	}
	return nil
}

// httpTarget posts batches as NDJSON.
type httpTarget struct {
	client  *client
	retries int
	gzip    bool
}

// eventsAnswer is the server's answer to POST /v1/events, whether it took all events or not.
type eventsAnswer struct {
	Accepted int `json:"accepted"`
	Rejected int `json:"rejected"`
	Errors   []struct {
		Index  int    `json:"index"`
		Reason string `json:"reason"`
		Detail string `json:"detail"`
	} `json:"errors"`
	NotTaken []indexRange `json:"not_taken"` // with 429 and 503 alone
}

// indexRange is a run of events of a request by their indexes, both ends included.
type indexRange [2]int

func (h *httpTarget) send(ctx context.Context, events []sentEvent, t *sendTally) error {
	for try := 0; ; try++ {
		body, err := h.post(ctx, events)
		if try == 0 && !neverSent(err) {
			t.Sent += len(events)
		}
		answer, full, err := readAnswer(body, err)
		if err != nil {
			switch {
			case full != nil && full.Status < 500 || neverSent(err) && try > 0:
				t.GivenUp += len(events)
			case !neverSent(err):
				t.Unknown += len(events)
			}
			return cmp.Or(ctx.Err(), fmt.Errorf("cannot send events: %w", err))
		}
		t.Accepted += answer.Accepted
		t.Rejected += answer.Rejected
		for _, e := range answer.Errors {
			if e.Index >= 0 && e.Index < len(events) {
				t.problem(events[e.Index], "%s: %s", e.Reason, e.Detail)
			}
		}
		if full == nil || len(answer.NotTaken) == 0 {
			return nil
		}
		if full.Status == http.StatusTooManyRequests {
			t.Throttled++
		}
		events = pick(events, answer.NotTaken)
		if try == h.retries || !pause(ctx, min(full.retryAfter, maxRetryAfter)) {
			t.GivenUp += len(events)
			return ctx.Err()
		}
	}
}

// neverSent reports whether a request failed before the server can have had anything of it.
func neverSent(err error) bool {
	var of *net.OpError
	return errors.As(err, &of) && of.Op == "dial"
}

// readAnswer reads an answer that says what became of the events. full is the answer if it is no 2xx, also
// with an error.
func readAnswer(body []byte, err error) (answer eventsAnswer, full *apiError, _ error) {
	if errors.As(err, &full) {
		body = full.body
	} else if err != nil {
		return answer, nil, err
	}
	if json.Unmarshal(body, &answer) != nil || full != nil && !answer.explains(full.Status) {
		if full != nil {
			return answer, full, full
		}
		return answer, nil, errors.New("cannot read the server's answer")
	}
	return answer, full, nil
}

// explains reports whether an answer that is no 2xx tells what became of the events, so that the
// rest can go on.
func (a *eventsAnswer) explains(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return len(a.NotTaken) > 0
	case http.StatusBadRequest:
		return a.Rejected > 0
	}
	return false
}

func (h *httpTarget) post(ctx context.Context, events []sentEvent) ([]byte, error) {
	r := call{method: http.MethodPost, path: "/v1/events", contentType: "application/x-ndjson"}
	for _, e := range events {
		r.body = append(append(r.body, e.text...), '\n')
	}
	if h.gzip {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(r.body) // memory does not fail
		_ = z.Close()
		r.body, r.encoding = b.Bytes(), "gzip"
	}
	return h.client.do(ctx, r)
}

// pick returns the events in the ranges.
func pick(events []sentEvent, ranges []indexRange) []sentEvent {
	var picked []sentEvent
	for _, r := range ranges {
		from, to := max(r[0], 0), min(r[1]+1, len(events))
		if from < to {
			picked = append(picked, events[from:to]...)
		}
	}
	return picked
}

// udpTarget sends datagrams of newline-separated events, a batch in one system call where it can.
type udpTarget struct {
	client *udpclient.Client
	addr   string
}

func (u *udpTarget) send(_ context.Context, events []sentEvent, t *sendTally) error {
	collected := 0
	for _, e := range events {
		if len(e.text) > udpclient.MaxEvent {
			t.Rejected++
			t.problem(e, "%d bytes: expected at most %d in a datagram", len(e.text), udpclient.MaxEvent)
			continue
		}
		if err := u.client.Send(e.text); err != nil {
			return fmt.Errorf("cannot send to %q: %w", u.addr, err)
		}
		collected++
	}
	if err := u.client.Flush(); err != nil {
		return fmt.Errorf("cannot send to %q: %w", u.addr, err)
	}
	t.Sent += collected
	return nil
}

// pause waits for d and reports whether ctx is still going on.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
