package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

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
	compiled wazero.CompiledModule
	manifest Manifest
	columns  []*column // one for each of the manifest's fields
	refs     int       // guarded by programs.mu

	globals    []meter.Global // the mutable ones
	resettable bool           // a snapshot has all of an instance's state
	snapshots  snapshots
}

// programs makes and shares programs. All methods may be called from any goroutine; one module is
// compiled at a time.
type programs struct {
	wasm   wazero.Runtime
	limits *Limits

	compiling sync.Mutex
	mu        sync.Mutex
	loaded    map[digest]*program
}

// get returns the program of a module, which the caller must put back. It is a BadModule error if
// the module is refused.
func (p *programs) get(ctx context.Context, code []byte) (*program, error) {
	sha := digest(sha256.Sum256(code))
	if prog := p.find(sha); prog != nil {
		return prog, nil
	}
	p.compiling.Lock()
	defer p.compiling.Unlock()
	if prog := p.find(sha); prog != nil {
		return prog, nil
	}
	prog, err := p.compile(ctx, sha, code)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	prog.refs = 1
	p.loaded[sha] = prog
	p.mu.Unlock()
	return prog, nil
}

func (p *programs) find(sha digest) *program {
	p.mu.Lock()
	defer p.mu.Unlock()
	prog := p.loaded[sha]
	if prog != nil {
		prog.refs++
	}
	return prog
}

// put lets go of a program. The last one closes it, or its code stays mapped for good.
func (p *programs) put(prog *program) {
	p.mu.Lock()
	prog.refs--
	last := prog.refs == 0
	if last {
		delete(p.loaded, prog.sha)
	}
	p.mu.Unlock()
	if last {
		_ = prog.compiled.Close(context.Background())
	}
}

// count is the number of programs that are loaded.
func (p *programs) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.loaded)
}

func refused(err error) error { return &Error{Kind: BadModule, Msg: "the module is refused", Err: err} }

func (p *programs) compile(ctx context.Context, sha digest, code []byte) (*program, error) {
	scanned, err := meter.Scan(code, p.limits.Module, allowedImports())
	if err != nil {
		return nil, refused(err)
	}
	if err := checkExports(scanned); err != nil {
		return nil, refused(err)
	}
	metered, err := scanned.Rewrite()
	if err != nil {
		return nil, refused(err)
	}
	compiled, err := p.wasm.CompileModule(ctx, metered)
	if err != nil {
		return nil, refused(fmt.Errorf("it is not valid WebAssembly: %w", err))
	}
	prog := &program{sha: sha, compiled: compiled, globals: scanned.MutableGlobals(),
		resettable: scanned.Resettable()}
	if err := p.describe(ctx, prog); err != nil {
		_ = compiled.Close(ctx)
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
	text, err := in.manifest()
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
