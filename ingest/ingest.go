package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// Config is what an Ingest needs. A zero is the default.
type Config struct {
	Bus    *bus.Bus     // required
	Fields event.Fields // where events that are no CloudEvents have their envelope
	Limits event.Limits

	BodyBytes   int // of one request, after decompression; default 16 MiB
	BodiesBytes int // of all large ones that are read at once; default 256 MiB, at least BodyBytes
	MaxEvents   int // events in one request; default 262,144

	Open            OpenReply     // required for Evaluate and EvaluateRule
	MaxEvaluate     int           // events in one request for verdicts; default 1,000
	EvaluateTimeout time.Duration // for requests that give none; default 5 s, at most 30 s

	// SeparateDatagrams has the kernel hand over UDP datagrams one by one. Else it may join those of
	// one sender, which is faster by far; but of a joined one that it drops it does not say how many
	// there were.
	SeparateDatagrams bool

	Now func() int64 // nanoseconds since 1970-01-01 UTC; default is the system's clock
	Log *slog.Logger // default is slog.Default()
}

// OpenReply makes a Reply for a request with that many events, for the verdicts of one rule, or of
// all rules if the name is empty. Its errors are ErrNoRule, ErrBusy, or a failure of the server.
type OpenReply func(events int, rule string) (Reply, error)

// Reply gathers the verdicts of one request. It is used by one goroutine.
type Reply interface {
	ID() uint64     // the number to put into the records; not 0
	Skip(index int) // the event with that index gets no verdict: it was not taken
	// Wait returns, for each index, a JSON array of verdicts, or nil if it was skipped. It returns
	// ctx's error if that ends first, context.DeadlineExceeded after the timeout, ErrAnswerTooLarge or
	// ErrAnswersFull, and ErrNoRule if the rule went meanwhile.
	Wait(ctx context.Context, timeout time.Duration) ([]json.RawMessage, error)
	Close()
}

const (
	defaultBodyBytes       = 16 << 20
	defaultBodiesBytes     = 256 << 20
	defaultMaxEvents       = 1 << 18
	defaultMaxEvaluate     = 1000
	defaultEvaluateTimeout = 5 * time.Second
	maxEvaluateTimeout     = 30 * time.Second

	// Each lane has a producer, and with it a lock; more lanes than cores make two requests that
	// want the same lock at once unlikely.
	httpLanes     = 64
	evaluateLanes = 16
)

// Ingest is the way into a bus. Make one with New.
type Ingest struct {
	config   Config
	nonce    string        // tells the ids given by this process from those of others
	ids      atomic.Uint64 // how many ids were given
	requests atomic.Uint64 // spreads requests over lanes and shards
	bodies   atomic.Int64  // bytes of the large bodies that requests have now

	events   [httpLanes]*bus.Producer
	evaluate [evaluateLanes]*bus.Producer
	batches  sync.Pool // of *batch
}

// New makes an Ingest. It returns an error for a field path or a limit that cannot be.
func New(c Config) (*Ingest, error) {
	if c.Bus == nil {
		return nil, errors.New("cannot make an ingest without a bus")
	}
	for _, limit := range []struct {
		name    string
		n       *int
		initial int
	}{
		{"body bytes", &c.BodyBytes, defaultBodyBytes},
		{"bytes of all bodies", &c.BodiesBytes, max(defaultBodiesBytes, c.BodyBytes)},
		{"events in a request", &c.MaxEvents, defaultMaxEvents},
		{"events to evaluate", &c.MaxEvaluate, defaultMaxEvaluate},
	} {
		if *limit.n == 0 {
			*limit.n = limit.initial
		}
		if *limit.n < 0 || *limit.n > 1<<30 {
			return nil, fmt.Errorf("cannot take %d %s: expected 1 to %d", *limit.n, limit.name, 1<<30)
		}
	}
	if c.BodiesBytes < c.BodyBytes {
		return nil, fmt.Errorf("cannot take %d bytes of all bodies: expected at least the %d of one",
			c.BodiesBytes, c.BodyBytes)
	}
	if c.EvaluateTimeout == 0 {
		c.EvaluateTimeout = defaultEvaluateTimeout
	}
	if c.EvaluateTimeout < 0 || c.EvaluateTimeout > maxEvaluateTimeout {
		return nil, fmt.Errorf("cannot wait %v for verdicts: expected at most %v",
			c.EvaluateTimeout, maxEvaluateTimeout)
	}
	if c.Now == nil {
		c.Now = func() int64 { return time.Now().UnixNano() }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	in := &Ingest{config: c, nonce: fmt.Sprintf("%08x", rand.Uint32())}
	first, err := in.newBatch()
	if err != nil {
		return nil, err
	}
	in.batches.Put(first)
	for i := range in.events {
		in.events[i] = c.Bus.NewProducer(bus.SourceHTTP)
	}
	for i := range in.evaluate {
		in.evaluate[i] = c.Bus.NewProducer(bus.SourceEvaluate)
	}
	return in, nil
}
