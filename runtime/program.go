package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wasmeval/runtime/meter"
)

type digest [sha256.Size]byte

func (d digest) String() string { return hex.EncodeToString(d[:]) }

// program is a module that was checked, rewritten and compiled. It is shared by everything that
// runs the module, and closed when the last of these lets go of it.
type program struct {
	sha      digest
	key      digest // of its entry in the compilation cache
	compiled wazero.CompiledModule
	manifest Manifest
	columns  []*column // one for each of the manifest's fields
	refs     int       // guarded by programs.mu

	pages      uint32         // most that the module lets its memory grow to
	globals    []meter.Global // the mutable ones
	resettable bool           // a snapshot has all of an instance's state
	snapshots  snapshots
	symbols    *meter.Symbols // for what is said of failures
	cramped    atomic.Bool    // it gave no place that is large enough to be shown columns
}

// programs makes and shares programs. All methods may be called from any goroutine.
type programs struct {
	wasm     wazero.Runtime
	limits   *Limits
	compiler *compiler

	rewriting sync.Mutex // see rewrite

	mu     sync.Mutex
	loaded map[digest]*program
	making map[digest]*making
}

// making is a program that a goroutine is making, for which others wait.
type making struct {
	done chan struct{} // closed when err is set, or the program is loaded
	err  error
}

// get returns the program of a module, which the caller must put back. It is a BadModule error if
// the module is refused, and Busy if too many modules wait to be compiled. Where several ask for
// the same module at once, one makes it.
func (p *programs) get(ctx context.Context, code []byte) (*program, error) {
	sha := digest(sha256.Sum256(code))
	for {
		p.mu.Lock()
		if prog := p.share(sha); prog != nil {
			p.mu.Unlock()
			return prog, nil
		}
		m := p.making[sha]
		if m == nil {
			m = &making{done: make(chan struct{})}
			p.making[sha] = m
			p.mu.Unlock()
			return p.make(ctx, sha, code, m)
		}
		p.mu.Unlock()
		select {
		case <-m.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		var fault *Error
		if errors.As(m.err, &fault) {
			return nil, m.err
		}
		// It is loaded; or its maker failed for a reason of its own, such as a client that has gone.
	}
}

// share returns a program that is loaded, which the caller must put back, or nil. The caller holds mu.
func (p *programs) share(sha digest) *program {
	prog := p.loaded[sha]
	if prog != nil {
		prog.refs++
	}
	return prog
}

// of returns the program of a module by its SHA-256, as get does. It reads the module only if the
// program is not loaded.
func (p *programs) of(ctx context.Context, sha string, read func(sha string) ([]byte, error)) (
	*program, error) {
	var d digest
	if len(sha) == hex.EncodedLen(len(d)) {
		_, _ = hex.Decode(d[:], []byte(sha)) // one that is none is not found
	}
	p.mu.Lock()
	prog := p.share(d)
	p.mu.Unlock()
	if prog != nil {
		return prog, nil
	}
	code, err := read(sha)
	if err != nil {
		return nil, err
	}
	return p.get(ctx, code)
}

// make makes a program, and tells those who wait for it.
func (p *programs) make(ctx context.Context, sha digest, code []byte, m *making) (*program, error) {
	m.err = errors.New("the one who made the program panicked")
	var prog *program
	defer func() {
		p.mu.Lock()
		if m.err == nil {
			prog.refs = 1
			p.loaded[sha] = prog
		}
		delete(p.making, sha)
		p.mu.Unlock()
		close(m.done)
	}()
	prog, m.err = p.compile(ctx, sha, code)
	return prog, m.err
}

// put lets go of a program, which may be nil. The last one closes it, or its code stays mapped for
// good.
func (p *programs) put(prog *program) {
	if prog == nil {
		return
	}
	p.mu.Lock()
	prog.refs--
	last := prog.refs == 0
	if last {
		delete(p.loaded, prog.sha)
	}
	p.mu.Unlock()
	if last {
		p.unload(prog)
	}
}

func (p *programs) unload(prog *program) {
	_ = prog.compiled.Close(context.Background())
	p.compiler.cache.unpin(prog.key)
}

// count is the number of programs that are loaded.
func (p *programs) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.loaded)
}

func refused(err error) error { return &Error{Kind: BadModule, Msg: "the module is refused", Err: err} }

// rewrite checks a module and adds its metering: one at a time, for the memory that it takes.
func (p *programs) rewrite(code []byte) (*meter.Module, []byte, *meter.Symbols, error) {
	p.rewriting.Lock()
	defer p.rewriting.Unlock()
	scanned, err := meter.Scan(code, p.limits.Module, allowedImports())
	if err != nil {
		return nil, nil, nil, refused(err)
	}
	if err := checkExports(scanned); err != nil {
		return nil, nil, nil, refused(err)
	}
	metered, symbols, err := scanned.RewriteWithSymbols()
	if err != nil {
		return nil, nil, nil, refused(err)
	}
	return scanned, metered, symbols, nil
}

func (p *programs) compile(ctx context.Context, sha digest, code []byte) (*program, error) {
	scanned, metered, symbols, err := p.rewrite(code)
	if err != nil {
		return nil, err
	}
	compiled, key, err := p.compiler.compile(ctx, sha, metered, scanned.MostPages())
	if err != nil {
		return nil, err
	}
	prog := &program{sha: sha, key: key, compiled: compiled, globals: scanned.MutableGlobals(),
		pages: scanned.MostPages(), resettable: scanned.Resettable(), symbols: symbols}
	if err := p.describe(ctx, prog); err != nil {
		p.unload(prog)
		return nil, refused(err)
	}
	return prog, nil
}

// describe asks a fresh instance for its manifest.
func (p *programs) describe(ctx context.Context, prog *program) error {
	in, err := p.instantiate(ctx, prog, nil, nil, nil)
	if err != nil {
		return err
	}
	defer in.close()
	var text []byte
	err = in.listen(func() (err error) {
		text, err = in.manifest()
		return err
	})
	if err != nil {
		return err
	}
	prog.manifest, prog.columns, err = parseManifest(text)
	if err != nil {
		return err
	}
	if len(prog.manifest.Params) > 0 && in.configure == nil {
		return errors.New(`it declares params but does not export "wasmeval_configure" (i32, i32) -> i32`)
	}
	return nil
}

// abiExports are the functions of the ABI; see rules-sdk/ABI.md.
var abiExports = []struct {
	name            string
	params, results []api.ValueType
	needed          bool
}{
	{"_initialize", nil, nil, false},
	{"wasmeval_abi", nil, types(i32), true},
	{"wasmeval_manifest", nil, types(i64), true},
	{"wasmeval_input", types(i32), types(i32), true},
	{"wasmeval_configure", types(i32, i32), types(i32), false},
	{"wasmeval_evaluate", types(i32), types(i32), true},
}

func checkExports(m *meter.Module) error {
	if !m.HasMemory() {
		return errors.New(`it does not export its memory as "memory"`)
	}
	for _, e := range abiExports {
		var want meter.FuncType
		for _, t := range e.params {
			want.Params = append(want.Params, meter.ValType(t))
		}
		for _, t := range e.results {
			want.Results = append(want.Results, meter.ValType(t))
		}
		got, ok := m.Func(e.name)
		switch {
		case !ok && e.needed:
			return fmt.Errorf("it does not export %q: expected a function %s", e.name, want)
		case ok && got.String() != want.String():
			return fmt.Errorf("export %q has signature %s: expected %s", e.name, got, want)
		}
	}
	return nil
}
