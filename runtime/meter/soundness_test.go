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
	pauses  int
}

// outcomeOf calls f of a fresh instance, with that much fuel.
func outcomeOf(t testing.TB, r wazero.Runtime, code []byte, given int64, args ...uint64) outcome {
	t.Helper()
	return outcomeBy(t, r, code, given, given, args...)
}

// outcomeBy is outcomeOf with the fuel given in portions, a pause before each but the first.
func outcomeBy(t testing.TB, r wazero.Runtime, code []byte, given, portion int64, args ...uint64) outcome {
	t.Helper()
	memory := &hostMemory{most: 3 << 16}
	ctx := memory.within(context.Background())
	mod, err := r.InstantiateWithConfig(ctx, code, wazero.NewModuleConfig().WithName(""))
	if err != nil {
		t.Fatalf("cannot instantiate: %v", err)
	}
	defer mod.Close(ctx)
	fuel, _ := mod.ExportedGlobal(FuelExport).(api.MutableGlobal)
	if fuel != nil {
		memory.give(fuel, given, portion)
	}
	res, err := mod.ExportedFunction("f").Call(ctx, args...)
	o := outcome{results: fmt.Sprint(res)}
	if err != nil {
		o.fault, _, _ = strings.Cut(err.Error(), "\n")
	}
	if fuel != nil {
		o.fuel, o.pauses = given-memory.reserve-int64(fuel.Get()), memory.pauses
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
// what an exact count of the instructions that run says, or not the same at each run. It returns
// how the program ended.
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
	checkPauses(t, r, rewritten, seed, got, args...)
	short := outcomeOf(t, r, rewritten, got.fuel-1, args...)
	if short.fuel < got.fuel || !strings.Contains(short.fault, "unreachable") {
		t.Errorf("program %d: with less fuel than it needs, %v and %d of %d units", seed, short, short.fuel,
			got.fuel)
	}
	got.counted = exact.counted
	return plain, got
}

// checkPauses fails if a program does something else when it gets its fuel in small portions, with a
// pause where one is used up, or if it does not pause.
func checkPauses(t testing.TB, r wazero.Runtime, rewritten []byte, seed uint64, want outcome, args ...uint64) {
	t.Helper()
	for _, portion := range []int64{0, 1, 100, 5_000} {
		got := outcomeBy(t, r, rewritten, want.fuel, portion, args...)
		if !got.same(want) || got.fuel != want.fuel {
			t.Errorf("program %d, %d units at a time: %v and %d units; expected %v and %d", seed, portion, got,
				got.fuel, want, want.fuel)
		}
		// A region is charged at once, so there may be less pauses than portions.
		if portion > 0 && want.fuel > portion && got.pauses == 0 {
			t.Errorf("program %d: no pause in %d units, %d at a time", seed, want.fuel, portion)
		}
		short := outcomeBy(t, r, rewritten, want.fuel-1, min(portion, want.fuel-1), args...)
		if !strings.Contains(short.fault, "unreachable") {
			t.Errorf("program %d, %d units at a time and one too few in all: %v", seed, portion, short)
		}
	}
}

// unweighted lets each instruction cost 1 until the test ends, so that no undercharge hides behind
// what others cost more than that.
func unweighted(t testing.TB) {
	before := costs
	t.Cleanup(func() { costs = before })
	for op, c := range costs {
		costs[op] = min(c, 1)
	}
}

// Where charges are moved or put together they are exact for programs that run all that they have:
// for each the fuel is the number of instructions that run, and of functions that return.
func TestExact(t *testing.T) {
	unweighted(t)
	nops := func(n int) []byte { return bytes.Repeat([]byte{opNop}, n) }
	// Types 0 and 1 are () -> (), type 2 is (i32) -> (). The first function is f, all are in a table.
	module := func(bodies ...[]byte) []byte {
		var code, types, elements []byte
		for i, b := range bodies {
			b = append([]byte{1, 2, 0x7f}, b...)
			code = append(appendU32(code, uint32(len(b))), b...)
			types, elements = append(types, 0), append(elements, byte(i))
		}
		n := byte(len(bodies))
		return join(sec(secType, 3, 0x60, 0, 0, 0x60, 0, 0, 0x60, 1, 0x7f, 0),
			sec(secFunction, append([]byte{n}, types...)...), sec(secTable, 1, 0x70, 0, n),
			sec(secMemory, 1, 0, 1), sec(secExport, 1, 1, 'f', 0, 0), sec(secElement, append([]byte{1, 0, 0x41, 0, 0x0b, n}, elements...)...),
			sec(secCode, append([]byte{n}, code...)...))
	}
	leaf := append(nops(10), 0x0b)
	segments := func(first byte, segments ...[]byte) []byte {
		n := byte(len(segments))
		b := append([]byte{0x41, first, 0x21, 0, 0x03, 0x40}, bytes.Repeat([]byte{0x02, 0x40}, int(n))...)
		b = append(append(b, 0x20, 0, 0x0e, n), 0)
		for i := byte(1); i <= n; i++ {
			b = append(b, min(i, n-1))
		}
		for _, s := range segments {
			b = append(append(b, 0x0b), s...)
		}
		return append(b, 0x0b, 0x0b)
	}
	for name, c := range map[string]struct {
		code    []byte
		returns int64
		over    int64 // what is charged for nothing
	}{
		"quiet":               {module([]byte{0x10, 1, 0x10, 1, 0x0b}, leaf), 3, 0},
		"quiet in a loop":     {module([]byte{0x41, 3, 0x21, 0, 0x03, 0x40, 0x10, 1, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b, 0x0b}, leaf), 4, 0},
		"quiet through table": {module([]byte{0x41, 1, 0x11, 0, 0, 0x0b}, leaf), 2, 0},
		"the same type":       {module([]byte{0x41, 1, 0x11, 1, 0, 0x0b}, leaf), 2, 0},
		"another type":        {module([]byte{0x10, 1, 0x02, 0x40, 0x0c, 0, 0x41, 0, 0x41, 1, 0x11, 2, 0, 0x0b, 0x0b}, leaf), 2, 4 - 1},
		"large is not quiet":  {module([]byte{0x10, 1, 0x0b}, append(nops(200), 0x0b)), 2, 0},
		"one after another":   {module(segments(0, nops(5), nops(6), nops(7))), 1, 0},
		"large segments":      {module(segments(0, nops(500), nops(6), nops(700))), 1, 0},
		"too many small ones": {module(segments(0, nops(100), nops(100), nops(100), nops(100))), 1, 0},
		// Segments that do not run into each other: only the longest way is paid for.
		"a way for each": {module(segments(1, append(nops(5), 0x0f), append(nops(30), 0x0f), append(nops(7), 0x0f))), 1, 0},
		// From the first to the third by a branch of its own: all of them may run in one turn.
		"a branch": {module(segments(0, append(nops(20), 0x0c, 1), []byte{0x0f}, append(nops(30), 0x0f))), 1, 1},
		// The second segment is the next of the first one, after its inner block.
		"through a block": {module(segments(0, append(append([]byte{0x02, 0x40, 0x41, 0, 0x0d, 0}, nops(9)...), 0x0b), nops(20))), 1, 0},
	} {
		r := wazero.NewRuntime(context.Background())
		exact := outcomeOf(t, r, counted(c.code), 0)
		got := outcomeOf(t, r, metered(t, c.code), budget)
		if want := exact.counted + c.returns + c.over; exact.fault != "" || got.fuel != want {
			t.Errorf("%s: %d units of fuel, fault %q; expected %d", name, got.fuel, exact.fault, want)
		}
		_ = r.Close(context.Background())
	}
}

func TestSound(t *testing.T) {
	unweighted(t)
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
	mod, err = r.InstantiateModule(hosted(), c, wazero.NewModuleConfig().WithName("").WithStartFunctions())
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
