package runtime

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// CompileResult is how it ended that a module was to be compiled.
type CompileResult uint8

// The results.
const (
	CompileCached  CompileResult = iota // it was in the cache
	CompileDone                         // and is in the cache now
	CompileRefused                      // for what it is, or over a limit
	CompileFailed                       // for no fault of its own, or nobody wanted it any more
	CompileBusy                         // too many waited
	CompileResults                      // how many there are
)

var compileResultNames = [CompileResults]string{"cached", "compiled", "refused", "failed", "busy"}

// String is the result's name in metrics.
func (r CompileResult) String() string { return compileResultNames[r] }

// compiler turns rewritten modules into machine code: in the jail, which leaves it in the cache,
// from where this process loads it. This process itself compiles no module. All methods may be
// called from any goroutine.
type compiler struct {
	wasm  wazero.Runtime
	cache *codeCache
	jail  *jail

	results [CompileResults]atomic.Uint64
	took    Histogram // of compiling
}

// compile returns the compiled module and the key of its cache entry, which is pinned: the caller
// must unpin it. module names the module in the log; its memory may have so many pages. It is a
// BadModule error if the module is refused, and Busy if too many wait for their turn.
func (c *compiler) compile(ctx context.Context, module digest, code []byte, pages uint32) (
	m wazero.CompiledModule, key digest, err error) {
	key = sha256.Sum256(code)
	c.cache.pin(key)
	m, result, err := c.loadOrCompile(ctx, module, key, code, pages)
	c.results[result].Add(1)
	if err != nil {
		c.cache.unpin(key)
	}
	return m, key, err
}

func (c *compiler) loadOrCompile(ctx context.Context, module, key digest, code []byte, pages uint32) (
	wazero.CompiledModule, CompileResult, error) {
	m, err := c.load(ctx, key, code)
	if !errors.Is(err, errNoEntry) {
		return m, resultOf(CompileCached, err), err
	}
	if err := c.jail.enter(ctx); err != nil {
		return nil, resultOf(CompileDone, err), err
	}
	defer c.jail.leave()
	// Modules that differ only in what the rewriting strips are the same code, and the turn before
	// may have been that of such a one.
	m, err = c.load(ctx, key, code)
	if !errors.Is(err, errNoEntry) {
		return m, resultOf(CompileCached, err), err
	}
	begun := time.Now()
	err = c.intoCache(ctx, key, code, pages)
	took := time.Since(begun)
	c.took.add(took.Nanoseconds(), 1)
	if err == nil {
		m, err = c.load(ctx, key, code)
	}
	if errors.Is(err, errNoEntry) {
		err = errors.New("cannot load a module that was just compiled: the one who compiled it does " +
			"not agree with this process on the processor or on the version of wazero")
	}
	if err == nil {
		slog.Info("compiled a module", "module", module, "bytes", len(code), "took", took)
	}
	return m, resultOf(CompileDone, err), err
}

// intoCache compiles code and puts the result into the cache.
func (c *compiler) intoCache(ctx context.Context, key digest, code []byte, pages uint32) error {
	dir, err := c.cache.workspace()
	if err != nil {
		return fmt.Errorf("cannot make a folder to compile in: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // else the next start removes it
	if err := c.jail.run(ctx, dir, code, pages); err != nil {
		return err
	}
	return c.cache.install(key, dir)
}

// load loads a module from the cache, or returns errNoEntry.
func (c *compiler) load(ctx context.Context, key digest, code []byte) (
	m wazero.CompiledModule, err error) {
	err = c.cache.use(key, func() error {
		m, err = loadCompiled(ctx, c.wasm, code)
		return err
	})
	if err != nil && !errors.Is(err, errNoEntry) {
		err = fmt.Errorf("cannot load a compiled module: %w", err)
	}
	return m, err
}

// resultOf is the result good, or what err makes of it.
func resultOf(good CompileResult, err error) CompileResult {
	var fault *Error
	switch {
	case err == nil:
		return good
	case !errors.As(err, &fault):
		return CompileFailed
	case fault.Kind == BadModule:
		return CompileRefused
	case fault.Kind == Busy:
		return CompileBusy
	}
	return CompileFailed
}

// newWasm makes the wazero runtime that modules are compiled and run by. The process that compiles
// and the one that runs must agree on it. What memory an instance may have is up to its own.
func newWasm(ctx context.Context, cache wazero.CompilationCache) wazero.Runtime {
	return wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().
		WithCompilationCache(cache).WithCoreFeatures(api.CoreFeaturesV2).
		WithDebugInfoEnabled(true))
}

// errMissed is returned when wazero does not find in its cache what it was to load.
var errMissed = errors.New("wazero does not find it under this module's key")

// loadCompiled makes wazero load a module from its cache. If the cache does not have it, it is
// errMissed, and nothing was compiled.
func loadCompiled(ctx context.Context, wasm wazero.Runtime, code []byte) (
	m wazero.CompiledModule, err error) {
	defer func() {
		if p := recover(); p == errMissed {
			m, err = nil, errMissed
		} else if p != nil {
			panic(p)
		}
	}()
	return wasm.CompileModule(loadOnly{ctx}, code)
}

// loadOnly is a context that keeps wazero from compiling. After a miss of its cache, and only then,
// wazero asks the context for the number of workers before it compiles the first function.
type loadOnly struct{ context.Context }

// Value implements context.Context. It panics when wazero is about to compile.
func (c loadOnly) Value(key any) any {
	if key == workersKey {
		panic(errMissed)
	}
	return c.Context.Value(key)
}

// workersKey is what wazero asks the context for.
var workersKey = func() any {
	var s keySpy
	experimental.GetCompilationWorkers(&s)
	if s.key == nil {
		panic("BUG: wazero asks no context for its workers: nothing keeps it from compiling")
	}
	return s.key
}()

// keySpy is a context that remembers what it was asked for.
type keySpy struct {
	context.Context
	key any
}

// Value implements context.Context.
func (s *keySpy) Value(key any) any {
	s.key = key
	return nil
}
