package meter

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// outcome is all that can be seen of a call.
type outcome struct {
	results string
	fault   string
	memory  []byte
	globals string
	fuel    int64
	counted int64
}

// outcomeOf calls f of a fresh instance, with that much fuel.
func outcomeOf(t testing.TB, r wazero.Runtime, code []byte, given int64, args ...uint64) outcome {
	t.Helper()
	ctx := context.Background()
	mod, err := r.InstantiateWithConfig(ctx, code, wazero.NewModuleConfig().WithName(""))
	if err != nil {
		t.Fatalf("cannot instantiate: %v", err)
	}
	defer mod.Close(ctx)
	fuel, _ := mod.ExportedGlobal(FuelExport).(api.MutableGlobal)
	if fuel != nil {
		fuel.Set(uint64(given))
	}
	res, err := mod.ExportedFunction("f").Call(ctx, args...)
	o := outcome{results: fmt.Sprint(res)}
	if err != nil {
		o.fault, _, _ = strings.Cut(err.Error(), "\n")
	}
	if fuel != nil {
		o.fuel = given - int64(fuel.Get())
	}
	if count := mod.ExportedGlobal(countExport); count != nil {
		o.counted = int64(count.Get())
	}
	if m := mod.Memory(); m != nil {
		b, _ := m.Read(0, m.Size())
		o.memory = bytes.Clone(b)
	}
	for _, name := range []string{"gas", "i32", "i64"} {
		if g := mod.ExportedGlobal(name); g != nil {
			o.globals += fmt.Sprint(name, "=", g.Get(), " ")
		}
	}
	return o
}

// same reports whether two outcomes differ in what a guest or its host could see.
func (o outcome) same(p outcome) bool {
	return o.results == p.results && o.fault == p.fault && o.globals == p.globals &&
		bytes.Equal(o.memory, p.memory)
}

func (o outcome) String() string {
	return fmt.Sprintf("results %s, fault %q, globals %s, %d bytes of memory", o.results, o.fault, o.globals,
		len(o.memory))
}

// checkSound fails if the rewritten program does not do what it did before, or if its fuel is below
// what an exact count of the instructions that run says, or not the same at each run. It returns how
// the program ended.
func checkSound(t testing.TB, seed uint64, args ...uint64) (plain, got outcome) {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	defer r.Close(ctx)
	code := randomModule(seed)
	lim := DefaultLimits()
	lim.CallDepth = 1 << 20 // some call themselves a few hundred times
	rewritten := meteredBy(t, code, lim)
	plain = outcomeOf(t, r, code, 0, args...)
	exact := outcomeOf(t, r, counted(code), 0, args...)
	got = outcomeOf(t, r, rewritten, budget, args...)
	if !plain.same(exact) {
		t.Fatalf("program %d: the judge changed it: %v, expected %v", seed, exact, plain)
	}
	if !plain.same(got) {
		t.Errorf("program %d: %v, expected as before the rewrite: %v", seed, got, plain)
	}
	if got.fuel < exact.counted {
		t.Errorf("program %d: %d units of fuel for %d instructions", seed, got.fuel, exact.counted)
	}
	if enough := outcomeOf(t, r, rewritten, got.fuel, args...); !enough.same(got) || enough.fuel != got.fuel {
		t.Errorf("program %d: with the fuel that it needs, %v and %d units; expected %v and %d", seed,
			enough, enough.fuel, got, got.fuel)
	}
	short := outcomeOf(t, r, rewritten, got.fuel-1, args...)
	if short.fuel < got.fuel || !strings.Contains(short.fault, "unreachable") {
		t.Errorf("program %d: with less fuel than it needs, %v and %d of %d units", seed, short, short.fuel,
			got.fuel)
	}
	got.counted = exact.counted
	return plain, got
}

func TestSound(t *testing.T) {
	faults, fuel, executed := map[string]int{}, int64(0), int64(0)
	for seed := range uint64(100) {
		plain, got := checkSound(t, seed, seed*7919%1000, seed&1)
		faults[plain.fault]++
		fuel, executed = fuel+got.fuel, executed+got.counted
	}
	for _, f := range slices.Sorted(maps.Keys(faults)) {
		t.Logf("%4d programs: %q", faults[f], f)
	}
	if len(faults) < 4 || faults[""] < 30 {
		t.Errorf("the programs end in too few ways: %v", faults)
	}
	t.Logf("%d units of fuel for %d instructions", fuel, executed)
}

func FuzzSound(f *testing.F) {
	f.Add(uint64(1000), uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, seed, a, b uint64) { checkSound(t, seed, uint64(uint32(a)), uint64(uint32(b))) })
}

// script calls what there is of a guest's functions, and returns what they gave and how they ended.
func script(t testing.TB, r wazero.Runtime, code []byte, calls []body0) (results []string, mod api.Module) {
	t.Helper()
	ctx := context.Background()
	c, err := r.CompileModule(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	if calls != nil {
		g := newGuest(t, ctx, r, c)
		for _, b := range calls {
			got, err := g.caller(b)()
			results = append(results, fmt.Sprint(b.name, got, err))
		}
		return results, g.mod
	}
	mod, err = r.InstantiateModule(ctx, c, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	if fuel, ok := mod.ExportedGlobal(FuelExport).(api.MutableGlobal); ok {
		fuel.Set(budget)
	}
	place := uint64(0)
	for _, name := range []string{"_initialize", "wasmeval_abi", "wasmeval_manifest", "wasmeval_input",
		"wasmeval_input", "wasmeval_evaluate"} {
		f := mod.ExportedFunction(name)
		if f == nil {
			continue
		}
		args := make([]uint64, len(f.Definition().ParamTypes()))
		if name == "wasmeval_input" {
			args[0] = 4096
		} else if name == "wasmeval_evaluate" {
			args[0] = place // it holds no rows
		}
		res, err := f.Call(ctx, args...)
		if name == "wasmeval_input" && err == nil {
			place = res[0]
		}
		fault := ""
		if err != nil {
			fault, _, _ = strings.Cut(err.Error(), "\n")
		}
		results = append(results, fmt.Sprint(name, res, fault))
	}
	return results, mod
}

// The committed guests, too, do what they did, and their fuel is never below an exact count.
func TestGuestsSound(t *testing.T) {
	for name, code := range guests(t) {
		if name == "gojson" || name == "payment-limit" {
			continue // large, and made as go is
		}
		config := wazero.NewRuntimeConfigCompiler()
		if len(code) > 50_000 {
			config = wazero.NewRuntimeConfigInterpreter()
		}
		r := newRuntime(t, config)
		plain, before := script(t, r, code, bodies[name])
		exact, judge := script(t, r, counted(code), bodies[name])
		got, after := script(t, r, metered(t, code), bodies[name])
		if !slices.Equal(got, plain) || !slices.Equal(exact, plain) {
			t.Errorf("%s: %q, counted %q; expected as before the rewrite: %q", name, got, exact, plain)
		}
		all := func(m api.Module) []byte {
			if m.Memory() == nil {
				return nil
			}
			b, _ := m.Memory().Read(0, m.Memory().Size())
			return b
		}
		if !bytes.Equal(all(before), all(after)) {
			t.Errorf("%s: the memory is not as before the rewrite", name)
		}
		fuel := budget - int64(after.ExportedGlobal(FuelExport).Get())
		if n := int64(judge.ExportedGlobal(countExport).Get()); fuel < n {
			t.Errorf("%s: %d units of fuel for %d instructions", name, fuel, n)
		}
		_ = r.Close(context.Background())
	}
}
