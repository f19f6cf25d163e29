package runtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"

	"wasmeval/bus"
	"wasmeval/internal/event"
	"wasmeval/runtime/state"
)

// Config is what an Engine needs.
type Config struct {
	DataDir string // holds the registry and the compilation cache; made if it is missing
	Bus     *bus.Bus
	Router  Router
	Limits  Limits
	Batch   int // events that a worker takes at once, 1 to 4096

	// CompileCommand is a program that calls CompileChild with what follows the arguments given here:
	// modules are compiled in it, within Limits.Compile. If it is empty they are compiled in this
	// process, where those limits but Queue and CacheBytes do not hold: for modules of one's own.
	CompileCommand []string

	// How events given to Test are read: as ingestion reads those of the stream.
	Fields      event.Fields
	EventLimits event.Limits
}

// Engine runs rules over the events of a bus: one worker for each shard. All methods may be called
// from any goroutine; changes of rules are made one after the other.
type Engine struct {
	bus    *bus.Bus
	router Router
	limits Limits
	batch  int
	halt   atomic.Uint32 // see Halt; it stands among what never changes, since workers look at it often
	boot   string        // begins decision ids: other in each run
	fields event.Fields
	evLim  event.Limits

	wasm     wazero.Runtime
	cache    wazero.CompilationCache
	compiler *compiler
	programs programs
	registry *registry
	replies  replies

	set     atomic.Pointer[ruleSet] // what is active; stored under mu, loaded by workers once a batch
	workers []*worker
	running sync.WaitGroup // workers
	helping sync.WaitGroup // goroutines that do things aside from them

	// guests is read-locked by everything but the workers that runs guests or reads the registry, so
	// that Close can wait for it: memory and code that a guest uses must not go.
	guests sync.RWMutex
	tests  chan struct{} // a token for each Test that runs

	mu     sync.Mutex // orders all changes
	closed bool       // also read under guests
	rules  map[RuleName]*ruleRecord
	broken map[RuleName]string // active rules that could not be loaded at start, and why

	standby []*activeRule // rules that were retired last, the latest at the end; guarded by mu

	statsMu sync.Mutex // guards stats, so that a scrape need not wait for a change
	stats   map[RuleName]*ruleStats

	states   map[RuleName][]*keyedState // by name, so that they outlive versions; guarded by mu
	stateDir string                     // where they are while the server does not run
	secret   state.Secret               // of what keys are hashed with

	orders   chan *activeRule // for spares; see order
	unsaved  chan struct{}    // a token when a quarantine is to be saved; see save
	lines    chan logLine     // see say
	unsaid   atomic.Uint64    // lines that were not logged, since too many waited
	stopping chan struct{}
	stop     sync.Once
	swaps    atomic.Uint64
	swapTook Histogram
}

// Open opens the data folder, loads the rules that were active and makes an engine, which Start
// sets to work. A rule that cannot be loaded is reported by Rule and the log, and the others run.
// A registry that cannot be read is an error of kind Damaged and stays as it is. If ctx ends meanwhile
// the error is ctx's, what is being compiled is ended, and the data folder is as a crash could leave it.
func Open(ctx context.Context, c Config) (*Engine, error) {
	if err := c.Limits.check(); err != nil {
		return nil, err
	}
	if c.Batch < 1 || c.Batch > 4096 {
		return nil, fmt.Errorf("a batch of %d events: expected 1 to 4096", c.Batch)
	}
	for _, dir := range []string{c.DataDir, filepath.Join(c.DataDir, "state")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot make data folder %q: %w", dir, err)
		}
	}
	reg, err := openRegistry(filepath.Join(c.DataDir, "registry.db"))
	if err != nil {
		return nil, err
	}
	e := &Engine{
		bus: c.Bus, router: c.Router, limits: c.Limits, batch: c.Batch, boot: newBoot(),
		fields: c.Fields, evLim: c.EventLimits, registry: reg,
		broken: map[RuleName]string{}, stats: map[RuleName]*ruleStats{},
		states: map[RuleName][]*keyedState{}, stateDir: filepath.Join(c.DataDir, "state"),
		orders: make(chan *activeRule, 64), unsaved: make(chan struct{}, 1),
		lines: make(chan logLine, maxLogLines), stopping: make(chan struct{}),
		tests: make(chan struct{}, maxTests),
	}
	e.replies.open = map[uint64]*Reply{}
	if err := e.open(ctx, &c); err != nil {
		_ = e.closeParts() // the error that there was says more
		return nil, err
	}
	return e, nil
}

func newBoot() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (e *Engine) open(ctx context.Context, c *Config) error {
	rules, generation, err := e.registry.load()
	if err != nil {
		return err
	}
	e.rules = rules
	if e.secret, err = e.registry.secret(); err != nil {
		return err
	}
	if err := e.sweepStates(); err != nil {
		return err
	}
	if err := e.openCompiler(ctx, c); err != nil {
		return err
	}
	e.programs = programs{wasm: e.wasm, limits: &e.limits, compiler: e.compiler,
		loaded: map[digest]*program{}, making: map[digest]*making{}}
	for i := range e.bus.Shards() {
		e.workers = append(e.workers, newWorker(e, i))
	}
	active, err := e.loadActive(ctx)
	e.set.Store(newRuleSet(generation, active))
	if err != nil {
		return err
	}
	e.compiler.cache.trim()
	if n := e.compiler.results[CompileDone].Load(); n > 0 {
		slog.Info("compiled modules that were not in the compilation cache", "modules", n)
	}
	return nil
}

// loadActive loads the rules that were active. It returns those that are loaded also with an error, which
// is ctx's if that ended: then no rule is to blame.
func (e *Engine) loadActive(ctx context.Context) ([]*activeRule, error) {
	var active []*activeRule
	for _, name := range slices.Sorted(maps.Keys(e.rules)) {
		rec := e.rules[name]
		if !rec.Enabled || rec.Active == 0 {
			continue
		}
		r, err := e.load(ctx, name, rec)
		if err == nil {
			active = append(active, r)
			e.stats[name] = r.stats
			e.keepStates(name, r.states)
		}
		if ctx.Err() != nil {
			return active, ctx.Err()
		}
		if err != nil {
			e.broken[name] = err.Error()
			slog.Error("cannot load rule", "rule", name, "version", rec.Active, "error", err)
			continue
		}
		q, err := e.registry.quarantine(name, rec.Active)
		if err != nil {
			return active, err
		}
		if q != nil {
			r.breaker.resume(*q)
		}
	}
	return active, nil
}

// openCompiler opens the compilation cache and makes what modules are compiled and run by.
func (e *Engine) openCompiler(ctx context.Context, c *Config) error {
	limits := &e.limits.Compile
	dir := filepath.Join(c.DataDir, "cache")
	entries, err := openCodeCache(dir, int64(limits.CacheBytes))
	if err != nil {
		return err
	}
	if e.cache, err = wazero.NewCompilationCacheWithDir(dir); err != nil {
		return fmt.Errorf("cannot open compilation cache %q: %w", dir, err)
	}
	e.wasm = newWasm(ctx, e.cache)
	e.compiler = &compiler{wasm: e.wasm, cache: entries,
		jail: newJail(c.CompileCommand, &e.limits)}
	return instantiateHost(ctx, e.wasm)
}

// Start sets the workers to work. They end once the bus is closed and drained, or by Halt; Close waits.
func (e *Engine) Start() {
	for i, w := range e.workers {
		e.running.Go(func() { w.run(e.bus.Ring(i), e.batch) })
	}
	e.helping.Go(e.background)
	e.helping.Go(e.logLoop)
}

// Drained returns a channel that is closed when all workers have ended, after the bus was closed.
func (e *Engine) Drained() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		e.running.Wait()
		close(done)
	}()
	return done
}

// When a worker ends, though there are events left in its ring.
const (
	haltNever = iota
	haltAfterBatch
	haltAfterCall
)

// Halt ends the workers though there are events left: each after the batch that it evaluates, and if
// that takes longer than grace, after the call of a rule that it is in. The batch of such a worker
// stays in flight, as what is left in the rings does, though some rules have seen its events. It
// reports whether all workers have ended; if a call takes longer than grace again, they have not, and
// Close would wait for them. The bus must be closed before.
func (e *Engine) Halt(grace time.Duration) bool {
	drained := e.Drained()
	for _, when := range []uint32{haltAfterBatch, haltAfterCall} {
		e.halt.Store(when)
		select {
		case <-drained:
			return true
		case <-time.After(grace):
		}
	}
	return false
}

// Close waits for the workers, ends what is being compiled, then closes all rules, the registry and
// the cache. The bus must be closed before.
func (e *Engine) Close() error {
	e.running.Wait()
	e.stop.Do(func() { close(e.stopping) })
	e.compiler.jail.close()
	e.helping.Wait()
	e.guests.Lock()
	defer e.guests.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	return errors.Join(e.saveQuarantines(), e.saveStates(), e.closeParts())
}

// closeParts closes what open has opened, also where that came to an error halfway. Nobody uses the
// engine any more, and nothing is saved.
func (e *Engine) closeParts() error {
	for _, list := range e.states {
		release(list)
	}
	if set := e.set.Load(); set != nil {
		for _, r := range set.rules {
			e.retire(r)
		}
	}
	for _, r := range e.standby {
		e.unload(r)
	}
	for _, w := range e.workers {
		w.table.window.close()
	}
	ctx := context.Background()
	var err error
	if e.wasm != nil {
		err = e.wasm.Close(ctx)
	}
	if e.cache != nil {
		err = errors.Join(err, e.cache.Close(ctx))
	}
	return errors.Join(err, e.registry.close())
}

// enter keeps Close waiting until leave is called, or returns a ShuttingDown error.
func (e *Engine) enter() (leave func(), err error) {
	e.guests.RLock()
	if e.closed {
		e.guests.RUnlock()
		return nil, errorf(ShuttingDown, "the server is stopping")
	}
	return e.guests.RUnlock, nil
}

// Generation is the number of the active rule set.
func (e *Engine) Generation() Generation { return e.set.Load().generation }

// load makes the active version of a rule ready to run, with an instance for each worker and a
// spare.
func (e *Engine) load(ctx context.Context, name RuleName, rec *ruleRecord) (*activeRule, error) {
	prog, err := e.programs.of(ctx, rec.version(rec.Active).SHA256, e.registry.module)
	if err != nil {
		return nil, err
	}
	r, err := e.ready(ctx, name, rec, prog)
	if err != nil {
		e.programs.put(prog)
	}
	return r, err
}

func (e *Engine) ready(ctx context.Context, name RuleName, rec *ruleRecord, prog *program) (
	*activeRule, error) {
	params, err := paramsJSON(&prog.manifest, rec.Config.Params)
	if err != nil {
		return nil, err
	}
	r := &activeRule{
		name: name, version: rec.Active, prog: prog, params: params,
		fuel: rec.Config.Fuel, failed: rec.Config.failCode(), stats: e.statsOf(name),
		instead:   appendCompact(nil, rec.Config.FailPayload),
		instances: make([]*instance, len(e.workers)), spare: make(chan *instance, maxSpares),
	}
	if r.fuel == 0 {
		r.fuel = e.limits.EventFuel
	}
	if r.states, err = e.statesFor(name, prog.manifest.State); err != nil {
		return nil, err
	}
	if len(r.states) > 0 {
		for i, w := range e.workers {
			r.keepers = append(r.keepers, newKeeper(r.states, i, w.hasher, &r.stats.unkeyed))
		}
	}
	r.breaker = newBreaker(e.limits.Quarantine, func() { e.quarantineChanged(r) })
	r.snapshot = prog.snapshots.get(params)
	e.resume(r)
	for i := range r.instances {
		if r.instances[i] != nil { // it was on standby
			continue
		}
		in, err := e.programs.instantiate(ctx, prog, params, r.snapshot, e.logger(r))
		if err != nil {
			r.closeInstances()
			release(r.states)
			return nil, refused(err)
		}
		r.instances[i] = in
		if r.snapshot == nil {
			r.snapshot = prog.snapshots.take(in, params)
			in.restore(r.snapshot) // shares its pages from now on
		}
	}
	if r.snapshot == nil {
		e.addSpares(r)
	}
	return r, nil
}

// statsOf returns a rule's counters, which live until the rule is deleted. A rule that has none yet
// keeps them once it is written down.
func (e *Engine) statsOf(name RuleName) *ruleStats {
	e.statsMu.Lock()
	defer e.statsMu.Unlock()
	if s := e.stats[name]; s != nil {
		return s
	}
	return e.newStats()
}

func (e *Engine) newStats() *ruleStats { return &ruleStats{lanes: make([]lane, len(e.workers))} }

// keepStats keeps the counters of a rule whose record is rec, or forgets them if that is nil. r is
// nil if the rule was not made ready.
func (e *Engine) keepStats(name RuleName, rec *ruleRecord, r *activeRule) {
	e.statsMu.Lock()
	defer e.statsMu.Unlock()
	if rec == nil {
		if s := e.stats[name]; s != nil {
			s.logs.end()
		}
		delete(e.stats, name)
		return
	}
	if e.stats[name] == nil {
		s := e.newStats()
		if r != nil {
			s = r.stats
		}
		e.stats[name] = s
	}
	e.stats[name].active.Store(uint32(rec.Active))
}

func (r *activeRule) closeInstances() {
	r.closing.Lock()
	defer r.closing.Unlock()
	r.gone = true
	for _, in := range r.instances {
		if in != nil {
			in.close()
		}
	}
	r.closeSpares()
	r.prog.snapshots.put(r.snapshot)
}

// closeSpares closes the spares there are. The caller holds closing.
func (r *activeRule) closeSpares() {
	for len(r.spare) > 0 {
		(<-r.spare).close()
	}
}

// fresh makes a new instance of a rule, or logs why it cannot and returns nil.
func (e *Engine) fresh(r *activeRule) *instance {
	in, err := e.programs.instantiate(context.Background(), r.prog, r.params, r.snapshot,
		e.logger(r))
	if err != nil {
		if r.stats.mayLog(e.limits.LogRate) {
			e.say(slog.LevelError, "cannot make a fresh instance", "rule", r.name, "version", r.version,
				"error", err)
		}
		return nil
	}
	return in
}

// order asks for a spare of r. It never waits: with too many orders the worker makes its own.
func (e *Engine) order(r *activeRule) {
	select {
	case e.orders <- r:
	default:
	}
}

// background does what workers ask for and must not wait for: spares, and saving quarantines.
func (e *Engine) background() {
	for {
		select {
		case <-e.stopping:
			return
		case r := <-e.orders:
			e.addSpares(r)
		case <-e.unsaved:
			e.mu.Lock()
			if err := e.saveQuarantines(); err != nil {
				e.say(slog.LevelError, "cannot save quarantines", "error", err)
			}
			e.mu.Unlock()
		}
	}
}

// quarantineChanged logs what became of a rule, and has it saved. A worker calls it.
func (e *Engine) quarantineChanged(r *activeRule) {
	if q := r.breaker.view(); q == nil {
		e.say(slog.LevelInfo, "rule is called again after quarantine", "rule", r.name, "version",
			r.version)
	} else if q.Tries == 0 {
		e.say(slog.LevelWarn, "rule failed too often and is quarantined", "rule", r.name, "version",
			r.version, "until", q.Until, "error", q.Reason.Error())
	}
	r.unsaved.Store(true) // before the token: who takes it finds this
	select {
	case e.unsaved <- struct{}{}:
	default: // a token is there already
	}
}

// saveQuarantines writes what has changed since the last time. The caller holds mu, so no rule that
// was replaced meanwhile is written.
func (e *Engine) saveQuarantines() error {
	list := map[RuleName]*quarantineRecord{}
	for _, r := range e.set.Load().rules {
		if !r.unsaved.Swap(false) {
			continue
		}
		list[r.name] = nil
		if q := r.breaker.view(); q != nil {
			list[r.name] = &quarantineRecord{Version: r.version, Quarantine: *q}
		}
	}
	if len(list) == 0 {
		return nil
	}
	return e.registry.saveQuarantines(list)
}

// maxSpares is how many instances are kept ready for a rule that cannot go back to a snapshot: a
// batch with one bad event needs two.
const maxSpares = 2

// addSpares makes spares until there are enough.
func (e *Engine) addSpares(r *activeRule) {
	r.closing.Lock()
	defer r.closing.Unlock()
	for !r.gone && len(r.spare) < maxSpares {
		in := e.fresh(r)
		if in == nil {
			return
		}
		r.spare <- in
	}
}

var logLevels = [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

// logger hands a rule's lines to the log, within its rate.
func (e *Engine) logger(r *activeRule) func(int, string) {
	return func(level int, text string) {
		if r.stats.mayLog(e.limits.LogRate) {
			r.stats.logs.Add(r.version, level, text)
			e.say(logLevels[level], "rule log", "rule", r.name, "version", r.version, "text", text)
		}
	}
}

// publish makes rules the active set under the next generation, waits until no worker uses the old
// set, and retires what only that had. The caller holds mu.
func (e *Engine) publish(rules []*activeRule) Swap {
	old := e.set.Load()
	next := newRuleSet(old.generation+1, rules)
	start := time.Now()
	e.set.Store(next)
	drained := 0
	for _, w := range e.workers {
		if w.using.Load() == old {
			drained += int(w.rows.Load())
		}
	}
	for _, w := range e.workers {
		for w.using.Load() == old {
			time.Sleep(50 * time.Microsecond) // a batch takes at most some slices
		}
	}
	took := time.Since(start)
	for _, r := range old.rules {
		if !slices.Contains(rules, r) {
			e.retire(r)
		}
	}
	e.swaps.Add(1)
	e.swapTook.add(took.Nanoseconds(), 1)
	l := e.bus.Ledger()
	return Swap{Generation: next.generation, Drained: drained, TookMicros: took.Microseconds(),
		Lost: l.Difference()}
}

// Stats reads all counters. Each is exact; together they are not one moment's.
func (e *Engine) Stats() Stats {
	s := Stats{
		Generation: e.Generation(), Swaps: e.swaps.Load(), SwapTook: e.swapTook.read(),
		Programs: e.programs.count(), ReplyMiss: e.replies.stale.Load(),
		Unsaid:      e.unsaid.Load(),
		CompileTook: e.compiler.took.read(), CacheEvicted: e.compiler.cache.evicted.Load(),
	}
	for i := range s.Compiles {
		s.Compiles[i] = e.compiler.results[i].Load()
	}
	for _, w := range e.workers {
		s.Events += w.events.Load()
		s.Unwanted += w.unwanted.Load()
		s.Batches += w.batches.Load()
		s.Made += w.made.Load()
		s.SliceMax = max(s.SliceMax, time.Duration(w.slicer.longest.Load()))
		s.Queued.merge(w.queued.read())
		s.Slices.merge(w.slicer.all.read())
	}
	e.statsMu.Lock()
	for _, name := range slices.Sorted(maps.Keys(e.stats)) {
		s.Rules = append(s.Rules, e.stats[name].read(name))
	}
	e.statsMu.Unlock()
	set := e.set.Load()
	for i := range s.Rules {
		r := &s.Rules[i]
		if at, ok := set.byName[string(r.Name)]; ok {
			q := set.rules[at].breaker.view()
			r.Quarantined = q != nil
			r.State = stateStats(set.rules[at].states)
		}
	}
	return s
}
