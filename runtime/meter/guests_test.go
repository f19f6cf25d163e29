package meter

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// guests are all committed modules that the prescan must let in.
func guests(t testing.TB) map[string][]byte {
	t.Helper()
	list := map[string][]byte{}
	for _, pattern := range []string{"testdata/modules/*/*.wasm", "testdata/bench/*/*.wasm",
		"rules-sdk/*/examples/*/*.wasm"} {
		files, err := filepath.Glob("../../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			code, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			list[strings.TrimSuffix(filepath.Base(f), ".wasm")] = code
		}
	}
	delete(list, "startsection")
	delete(list, "badimport")
	for name := range bodies {
		if list[name] == nil {
			t.Fatalf("testdata/bench/%s is missing", name)
		}
	}
	if len(list) < 30 {
		t.Fatalf("%d guests found, expected at least 30", len(list))
	}
	return list
}

// guestImports are what the guests import: functions of the ABI and WASI, and those of a Rego
// policy.
func guestImports() []Import {
	list := func(letters string) (types []ValType) {
		for _, c := range letters {
			types = append(types, map[rune]ValType{'i': I32, 'l': I64, 'd': F64}[c])
		}
		return types
	}
	f := func(module, name, params, results string) Import {
		return Import{module, name, FuncType{list(params), list(results)}}
	}
	const wasi = wasi_snapshot_preview1.ModuleName
	return []Import{
		f("wasmeval", "emit", "iii", "i"), f("wasmeval", "log", "iii", ""),
		f("wasmeval", "state_add", "iiiid", "d"), f("wasmeval", "state_distinct", "iiiiii", "i"),
		f("wasmeval", "state_seen", "iiii", "l"), f("wasmeval", "state_set", "iiiiii", "i"),
		f("wasmeval", "state_get", "iiiiii", "i"), f("wasmeval", "state_time", "iiii", "l"),
		f("wasmeval", "state_delete", "iiii", "i"),
		f(wasi, "args_get", "ii", "i"), f(wasi, "args_sizes_get", "ii", "i"),
		f(wasi, "environ_get", "ii", "i"), f(wasi, "environ_sizes_get", "ii", "i"),
		f(wasi, "clock_time_get", "ili", "i"), f(wasi, "random_get", "ii", "i"),
		f(wasi, "sched_yield", "", "i"), f(wasi, "poll_oneoff", "iiii", "i"),
		f(wasi, "proc_exit", "i", ""), f(wasi, "fd_write", "iiii", "i"),
		f(wasi, "fd_close", "i", "i"), f(wasi, "fd_fdstat_get", "ii", "i"),
		f(wasi, "fd_fdstat_set_flags", "ii", "i"), f(wasi, "fd_prestat_get", "ii", "i"),
		f(wasi, "fd_prestat_dir_name", "iii", "i"),
		f("env", "opa_abort", "i", ""), f("env", "opa_builtin0", "ii", "i"),
		f("env", "opa_builtin1", "iii", "i"), f("env", "opa_builtin2", "iiii", "i"),
		f("env", "opa_builtin3", "iiiii", "i"), f("env", "opa_builtin4", "iiiiii", "i"),
	}
}

// newRuntime offers the imports. Those that are not WASI's do nothing.
func newRuntime(t testing.TB, config wazero.RuntimeConfig) wazero.Runtime {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, config)
	t.Cleanup(func() { _ = r.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	list := func(types []ValType) (out []api.ValueType) {
		for _, v := range types {
			out = append(out, api.ValueType(v))
		}
		return out
	}
	for _, module := range []string{"wasmeval", "env"} {
		b := r.NewHostModuleBuilder(module)
		for _, i := range guestImports() {
			if i.Module == module {
				nothing := api.GoModuleFunc(func(context.Context, api.Module, []uint64) {})
				b.NewFunctionBuilder().WithGoModuleFunction(nothing, list(i.Type.Params), list(i.Type.Results)).
					Export(i.Name)
			}
		}
		if _, err := b.Instantiate(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// guestEvent is what the guests of testdata/bench read as text.
const guestEvent = `{"id":"7f3c9a10-52d4-4a0e-9d1b-0c7a5be1f2aa","type":"payment.card","currency":"EUR",` +
	`"user":{"id":"u-104233","level":3},"tags":["new","web","eu-west"],"ip":"203.0.113.77",` +
	`"note":"the customer's \"usual\" order","amount":1234.56,"score":0.25}`

// body0 is a function of the guests of testdata/bench, and how many bytes or rows it is to read.
type body0 struct {
	name string
	n    uint64
}

var (
	common = []body0{{"find", uint64(len(guestEvent))}, {"rows", 64}, {"compare", 64},
		{"hash", uint64(len(guestEvent))}, {"sort", 100}, {"order", 100}}
	bodies = map[string][]body0{"c": common, "rust": common, "assemblyscript": common, "go": common,
		"zig": common, "rego": {{"opa_eval", 0}},
		"gojson": {{"decode", uint64(len(guestEvent))}, {"tree", uint64(len(guestEvent))}, {"encode", 5000}}}
)

// fillInput writes what the guests' sources call their input.
func fillInput(b []byte) {
	copy(b, guestEvent)
	if len(b) == 4096 {
		return
	}
	at := 0
	for i := range 64 {
		binary.LittleEndian.PutUint64(b[4096+8*i:], math.Float64bits(float64(i*7919%2100)-50))
		binary.LittleEndian.PutUint64(b[4608+8*i:], uint64(i%8))
		at += copy(b[5632+at:], []string{"basic", "premiere", "premium", "gold-plus"}[i*5%4])
		binary.LittleEndian.PutUint32(b[5120+4*(i+1):], uint32(at))
	}
	for i := range 1024 {
		binary.LittleEndian.PutUint32(b[7680+4*i:], uint32(i*7919%10007))
	}
}

// guest is an instance of a module of testdata/bench that has read its input.
type guest struct {
	*machine
	ctx        context.Context
	text, heap uint64 // of a policy: where the event is, and what it may use to evaluate that
}

func newGuest(t testing.TB, ctx context.Context, r wazero.Runtime, c wazero.CompiledModule) *guest {
	t.Helper()
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	mod, err := r.InstantiateModule(hosted(), c, config)
	if err != nil {
		t.Fatalf("cannot instantiate: %v", err)
	}
	g := &guest{machine: &machine{mod: mod}, ctx: ctx}
	if g.fuel, _ = mod.ExportedGlobal(FuelExport).(api.MutableGlobal); g.fuel != nil {
		g.fuel.Set(budget)
	}
	call := func(name string, args ...uint64) uint64 {
		res, err := mod.ExportedFunction(name).Call(ctx, args...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return append(res, 0)[0]
	}
	if mod.ExportedFunction("_initialize") != nil {
		call("_initialize")
	}
	if mod.ExportedFunction("opa_eval") != nil {
		g.text = call("opa_malloc", uint64(len(guestEvent)))
		mod.Memory().Write(uint32(g.text), []byte(guestEvent))
		g.heap = call("opa_heap_ptr_get")
		return g
	}
	size := uint32(12032)
	if mod.ExportedFunction("rows") == nil {
		size = 4096
	}
	at := call("input")
	in, ok := mod.Memory().Read(uint32(at), size)
	if !ok {
		t.Fatalf("the input is at %d, outside of memory", at)
	}
	fillInput(in)
	return g
}

// caller returns what calls a body once.
func (g *guest) caller(b body0) func() (uint64, error) {
	f, stack := g.mod.ExportedFunction(b.name), make([]uint64, 7)
	return func() (uint64, error) {
		stack[0] = b.n
		if g.heap != 0 {
			copy(stack, []uint64{0, 0, 0, g.text, uint64(len(guestEvent)), g.heap, 0})
		}
		err := f.CallWithStack(g.ctx, stack)
		return stack[0], err
	}
}

// The guests of testdata/bench do in several languages the same.
func TestGuestsAgree(t *testing.T) {
	ctx := context.Background()
	results := map[string]uint64{}
	for _, name := range []string{"c", "rust", "assemblyscript", "zig"} {
		r := newRuntime(t, wazero.NewRuntimeConfig())
		c, err := r.CompileModule(ctx, guests(t)[name])
		if err != nil {
			t.Fatal(err)
		}
		g := newGuest(t, ctx, r, c)
		for _, b := range common {
			got, err := g.caller(b)()
			if want, ok := results[b.name]; err != nil || b.name != "hash" && ok && got != want {
				t.Errorf("%s %s: %d, %v; expected %d", name, b.name, got, err, want)
			}
			results[b.name] = got
		}
	}
	if results["find"] != 123456 || results["compare"] != 16 {
		t.Errorf("find %d, compare %d; expected 123456 and 16", results["find"], results["compare"])
	}
}
