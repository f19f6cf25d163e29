package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	goruntime "runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"wasmeval/bus"
	"wasmeval/httpapi"
	"wasmeval/ingest"
	"wasmeval/internal/auth"
	"wasmeval/internal/metrics"
	"wasmeval/internal/sink"
	"wasmeval/runtime"
	"wasmeval/runtime/meter"
)

// server is everything that runs, in start order.
type server struct {
	c      *Config
	bus    *bus.Bus
	sinks  *sink.Router
	engine *runtime.Engine
	ingest *ingest.Ingest
	udp    *ingest.UDP // nil without a UDP address
	http   *http.Server
	lis    net.Listener
	failed chan error // what ended the HTTP server

	ready    atomic.Bool
	newToken bool
}

// serve runs the server until ctx ends or SIGINT or SIGTERM comes. Then it stops intake, finishes
// what it has accepted, and returns nil; a second signal ends it at once, with an error that says
// what is left. If it was not ready yet it returns errInterrupted. It prints its addresses to out once
// it is ready.
func serve(ctx context.Context, c *Config, out io.Writer) error {
	return serveWith(ctx, c, out, func(context.Context, *server) error { return nil })
}

// serveWith is serve with something to do once the server is ready. The context that begin gets ends
// when the server begins to stop.
func serveWith(ctx context.Context, c *Config, out io.Writer,
	begin func(context.Context, *server) error) error {
	setLog(&c.Log)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	s, err := startInterruptibly(ctx, signals, c, out)
	if err != nil {
		return err
	}
	s.greet(out)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := begin(ctx, s); err != nil {
		return errors.Join(err, s.stop())
	}
	select {
	case <-ctx.Done():
	case <-signals:
	case err := <-s.failed:
		return errors.Join(fmt.Errorf("the HTTP server ended: %w", err), s.stop())
	}
	cancel()
	waiting, done := context.WithCancel(context.Background())
	defer done()
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	select {
	case err := <-stopped:
		return err
	case <-another(waiting, signals):
		return fmt.Errorf("stopped at once by a second signal: %s", s.left())
	}
}

// sameSignal is how soon after a signal another one is still the same wish: timeout(1), for one, sends it to
// the process and to the group that this is in.
const sameSignal = 200 * time.Millisecond

// another hands over the next signal that is a wish of its own. ctx ends when nobody waits for it any more.
func another(ctx context.Context, signals <-chan os.Signal) <-chan os.Signal {
	next := make(chan os.Signal, 1)
	go func() {
		for begun := time.Now(); ; {
			select {
			case s := <-signals:
				if time.Since(begun) > sameSignal {
					next <- s
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return next
}

func setLog(c *LogConfig) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // checked with the configuration
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, o)))
		return
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, o)))
}

// startInterruptibly is start, but a signal or the end of ctx interrupts it; that is errInterrupted.
func startInterruptibly(ctx context.Context, signals <-chan os.Signal, c *Config, out io.Writer) (
	*server, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var s *server
	var err error
	ended := make(chan struct{})
	go func() {
		s, err = start(ctx, c, out)
		close(ended)
	}()
	select {
	case <-ended:
		if errors.Is(err, context.Canceled) {
			err = errInterrupted
		}
		return s, err
	case <-signals:
		cancel()
	}
	waiting, done := context.WithCancel(context.Background())
	defer done()
	select {
	case <-ended:
	case <-another(waiting, signals):
		return nil, fmt.Errorf("%w, and stopped at once by a second signal", errInterrupted)
	}
	switch {
	case err == nil: // it was ready just then
		err = s.stop()
	case errors.Is(err, context.Canceled):
		err = nil
	}
	return nil, errors.Join(errInterrupted, err)
}

// errInterrupted is returned when the server was to stop before it was ready.
var errInterrupted = errors.New("interrupted while starting")

// start starts all parts; if one cannot start, those before it are stopped again.
func start(ctx context.Context, c *Config, out io.Writer) (s *server, err error) {
	s = &server{c: c, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			s.abort()
			s = nil
		}
	}()
	if err := errors.Join(checkRings(c, memoryBytes()), checkPorts(&c.Listen)); err != nil {
		return s, err
	}
	if s.bus, err = bus.New(bus.Config{Shards: c.Bus.Shards, RingBytes: c.Bus.RingBytes}); err != nil {
		return s, err
	}
	if s.sinks, err = sink.New(c.Sink, out); err != nil {
		return s, err
	}
	compile, err := compileCommand()
	if err != nil {
		return s, err
	}
	s.engine, err = runtime.Open(ctx, runtime.Config{
		DataDir: c.DataDir, Bus: s.bus, Router: s.sinks, Limits: c.limits(), Batch: c.Bus.Batch,
		Fields: c.Events.Fields, EventLimits: c.Events.Limits, CompileCommand: compile,
	})
	if err != nil {
		return s, err
	}
	s.engine.Start()
	if s.ingest, err = s.newIngest(); err != nil {
		return s, err
	}
	debug.FreeOSMemory() // what loading rules leaves behind: 100 MiB of 260 with 1,000 rules
	if err := s.listen(); err != nil {
		return s, err
	}
	s.ready.Store(true)
	return s, nil
}

// checkRings refuses rings for which there is not the memory: the kernel would end the server once they
// fill, with all that is in them. have is 0 if nobody knows how much there is.
func checkRings(c *Config, have uint64) error {
	need := uint64(c.Bus.Shards) * bus.RingMemory(c.Bus.RingBytes)
	if have == 0 || need <= have {
		return nil
	}
	return fmt.Errorf("bus.shards %d with bus.ring_bytes %s take %.1f GiB of memory, and there are %.1f: "+
		"expected fewer or smaller rings", c.Bus.Shards, formatSize(c.Bus.RingBytes), float64(need)/gib,
		float64(have)/gib)
}

// checkPorts refuses addresses that are taken before anything is made on the disk. They are opened for good
// once there is somebody to serve them.
func checkPorts(l *ListenConfig) error {
	tcp, err := listenTCP(l.HTTP)
	if err != nil {
		return err
	}
	_ = tcp.Close() // nothing came in
	if l.UDP == "" {
		return nil
	}
	udp, err := net.ListenPacket("udp", l.UDP)
	if err != nil {
		return fmt.Errorf("cannot listen on UDP %q: %w", l.UDP, err)
	}
	_ = udp.Close()
	return nil
}

func listenTCP(addr string) (net.Listener, error) {
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for HTTP on %q: %w", addr, err)
	}
	return lis, nil
}

// limits are the engine's limits by the configuration.
func (c *Config) limits() runtime.Limits {
	r := &c.Rules
	l := runtime.DefaultLimits()
	l.Module = meter.DefaultLimits()
	l.Module.ModuleBytes, l.Module.MemoryPages = r.ModuleBytes, r.MemoryPages
	l.EventFuel, l.CallFuel, l.InitFuel = r.EventFuel, r.CallFuel, r.InitFuel
	l.PayloadBytes, l.OutputBytes = r.PayloadBytes, r.OutputBytes
	l.LogLineBytes, l.LogRate = r.LogLineBytes, r.LogRate
	l.StateBytes = r.StateBytes
	l.Rules, l.Versions, l.Standby = r.Rules, r.Versions, r.Standby
	l.Waiting, l.AnswerBytes = c.Evaluate.MaxWaiting, c.Evaluate.AnswerBytes
	l.Compile = runtime.CompileLimits{
		DataBytes: r.CompileMemoryBytes, CPU: r.CompileCPU, Wall: r.CompileTimeout,
		Queue: r.CompileQueue, CodeBytes: r.CompiledBytes, CacheBytes: r.CacheBytes,
	}
	l.Quarantine = runtime.QuarantineLimits{
		InRow: r.QuarantineInRow, Percent: r.QuarantinePercent,
		Wait: r.QuarantineWait, MaxWait: r.QuarantineMaxWait,
	}
	return l
}

// compileCommand makes this program the one that compiles modules.
func compileCommand() ([]string, error) {
	self := "/proc/self/exe" // the file that runs, also after an update has put another in its place
	if goruntime.GOOS != "linux" {
		var err error
		if self, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("cannot find this program's own file: %w", err)
		}
	}
	return []string{self, runtime.CompileVerb}, nil
}

// ingest is what the configuration says of the way in.
func (c *Config) ingest() ingest.Config {
	return ingest.Config{
		Fields: c.Events.Fields, Limits: c.Events.Limits,
		BodyBytes: c.Events.BodyBytes, BodiesBytes: c.Events.BodiesBytes, MaxEvents: c.Events.MaxEvents,
		MaxEvaluate: c.Evaluate.MaxEvents, EvaluateTimeout: c.Evaluate.Timeout,
		SeparateDatagrams: !c.UDP.JoinDatagrams,
	}
}

func (s *server) newIngest() (*ingest.Ingest, error) {
	c := s.c.ingest()
	c.Bus = s.bus
	c.Open = func(n int, rule string) (ingest.Reply, error) {
		r, err := s.engine.OpenReply(n, rule)
		if err != nil {
			return nil, ingestError(err)
		}
		return reply{r}, nil
	}
	return ingest.New(c)
}

// reply is the engine's, with the errors that ingest knows.
type reply struct{ *runtime.Reply }

// Wait implements ingest.Reply.
func (r reply) Wait(ctx context.Context, timeout time.Duration) ([]json.RawMessage, error) {
	verdicts, err := r.Reply.Wait(ctx, timeout)
	return verdicts, ingestError(err)
}

func ingestError(err error) error {
	switch {
	case errors.Is(err, runtime.ErrNoRule):
		return ingest.ErrNoRule
	case errors.Is(err, runtime.ErrBusy):
		return ingest.ErrBusy
	case errors.Is(err, runtime.ErrAnswerTooLarge):
		return ingest.ErrAnswerTooLarge
	case errors.Is(err, runtime.ErrAnswersFull):
		return ingest.ErrAnswersFull
	}
	return err
}

// listen opens the sockets and serves them.
func (s *server) listen() error {
	l := &s.c.Listen
	loopback, err := auth.CheckBind(l.HTTP, l.TLSCert != "", l.EventTokens)
	if err != nil {
		return err
	}
	keys, created, err := auth.Load(s.c.DataDir, l.TokenFiles)
	if err != nil {
		return err
	}
	s.newToken = created
	guard := auth.NewGuard(keys, auth.Options{Loopback: loopback, EventTokens: l.EventTokens,
		AllowedHosts: l.AllowedHosts})
	api := httpapi.New(httpapi.Config{
		Engine: s.engine, Guard: guard, Ledger: s.ledger, Ready: s.notReady,
		Events: s.ingest.Events, Evaluate: s.ingest.Evaluate, EvaluateRule: s.ingest.EvaluateRule,
		Tail: s.sinks.Tail(), Metrics: s.metrics(), OpenMetrics: l.OpenMetrics,
		Version: version, ModuleBytes: s.c.Rules.ModuleBytes,
	})
	if s.lis, err = listenTCP(l.HTTP); err != nil {
		return err
	}
	s.lis = httpapi.LazyDeadlines(s.lis)
	if l.UDP != "" {
		u := &s.c.UDP
		s.udp, err = s.ingest.ListenUDP(l.UDP, u.Readers, u.ReceiveBufferBytes)
		if err != nil {
			return err
		}
	}
	s.http = httpapi.NewServer(api)
	s.http.RegisterOnShutdown(api.EndStreams)
	go func() {
		var err error
		if l.TLSCert != "" {
			err = s.http.ServeTLS(s.lis, l.TLSCert, l.TLSKey)
		} else {
			err = s.http.Serve(s.lis)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	}()
	return nil
}

// ledger is the bus's, with the kernel's drops of this moment in it.
func (s *server) ledger() bus.Ledger {
	if s.udp != nil {
		s.udp.Stats() // brings them up to date
	}
	return s.bus.Ledger()
}

func (s *server) notReady() error {
	if !s.ready.Load() {
		return errors.New("the server is stopping")
	}
	return nil
}

func (s *server) metrics() http.Handler {
	return metrics.Handler(metrics.Sources{
		Version: version, Ledger: s.ledger, Rings: s.bus.Stats, Engine: s.engine.Stats,
		Sinks: s.sinkStats,
		Tail: func() metrics.Tail {
			t := s.sinks.Tail().Stats()
			return metrics.Tail{Listeners: t.Listeners, Sent: t.Sent, Dropped: t.Dropped}
		},
		UDP: func() metrics.UDP {
			if s.udp == nil {
				return metrics.UDP{}
			}
			u := s.udp.Stats()
			return metrics.UDP{Datagrams: u.Datagrams, Bytes: u.Bytes,
				ReceiveBufferBytes: u.BufferGot}
		},
	})
}

func (s *server) sinkStats() []metrics.Sink {
	var list []metrics.Sink
	for _, t := range s.sinks.Stats() {
		list = append(list, metrics.Sink{
			Name: t.Name, Type: t.Type, Delivered: t.Delivered, DeadLettered: t.DeadLettered,
			Failed: t.FailedAttempts, Retry: t.Retries, QueuedBytes: t.QueuedBytes,
			Dropped: map[string]uint64{"queue_full": t.DroppedFull, "too_large": t.DroppedLarge,
				"closed": t.DroppedAfter, "undeliverable": t.DroppedFailed, "aborted": t.Left},
		})
	}
	return list
}

// greet prints where the server listens: one line each, a word and an address.
func (s *server) greet(out io.Writer) {
	scheme := "http"
	if s.c.Listen.TLSCert != "" {
		scheme = "https"
	}
	fmt.Fprintf(out, "http %s://%s\n", scheme, s.lis.Addr())
	if s.udp != nil {
		fmt.Fprintf(out, "udp %s\n", s.udp.Addr())
	}
	if s.newToken {
		slog.Info("made an admin token", "file", s.c.DataDir+"/"+auth.AdminFile)
	}
}

// What follows a drain that took too long is to be short, since whoever stops the server may be about to
// kill it.
const (
	haltGrace   = time.Second     // for each of the two steps of Engine.Halt
	finishGrace = 2 * time.Second // for sinks and HTTP together
)

// stop ends the parts so that nothing accepted is lost: intake first, then the rings are drained,
// then the sinks. If that takes too long the workers stop where they are, and it returns an error
// that says what is left; all the rest is done, so that what they have evaluated is kept.
func (s *server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.c.Shutdown)
	defer cancel()
	s.ready.Store(false)
	var err error
	if s.udp != nil {
		err = s.udp.Close()
	}
	s.bus.Close() // requests that bring events get 503 from here on
	select {
	case <-s.engine.Drained():
		return errors.Join(err, s.finish(ctx, true))
	case <-ctx.Done():
	}
	halted := s.engine.Halt(haltGrace)
	l := s.bus.Ledger() // the workers have ended, so it is what the last line will say
	err = errors.Join(err, fmt.Errorf("the rings were not drained within %v: %d events were not evaluated",
		s.c.Shutdown, l.InFlight()))
	late, cancel := context.WithTimeout(context.Background(), finishGrace)
	defer cancel()
	return errors.Join(err, s.finish(late, halted))
}

// finish ends the parts behind the workers, which have ended if halted says so: else the engine
// cannot be closed, since a worker may use anything of it.
func (s *server) finish(ctx context.Context, halted bool) error {
	err := s.sinks.Close(ctx)
	if e := s.http.Shutdown(ctx); e != nil {
		err = errors.Join(err, s.http.Close())
	}
	if halted {
		err = errors.Join(err, s.engine.Close())
	} else {
		err = errors.Join(err, fmt.Errorf("a call of a rule did not end within %v: keyed state was not saved",
			haltGrace))
	}
	l := s.bus.Ledger()
	total := l.Total()
	slog.Info("stopped", "received", total.Received, "evaluated", l.Evaluated,
		"in_flight", l.InFlight(), "difference", l.Difference())
	return err
}

// left says what would be lost if the process ended now.
func (s *server) left() string {
	l := s.bus.Ledger()
	pending := uint64(0)
	for _, t := range s.sinks.Stats() {
		pending += t.Pending
	}
	return fmt.Sprintf("%d events were not evaluated, %d verdicts not delivered",
		l.InFlight(), pending)
}

// abort closes what a failed start left open.
func (s *server) abort() {
	if s.udp != nil {
		_ = s.udp.Close()
	}
	if s.lis != nil {
		_ = s.lis.Close()
	}
	if s.bus != nil {
		s.bus.Close()
	}
	if s.engine != nil {
		_ = s.engine.Close()
	}
	if s.sinks != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.sinks.Close(ctx)
	}
}
