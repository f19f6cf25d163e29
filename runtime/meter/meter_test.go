package meter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// sec is one section: its id and content.
func sec(id byte, content ...byte) []byte {
	return append(appendU32([]byte{id}, uint32(len(content))), content...)
}

func join(parts ...[]byte) []byte {
	return append([]byte("\x00asm\x01\x00\x00\x00"), bytes.Join(parts, nil)...)
}

// oneFunction is a module with the function () -> i32 that has the given body, a memory of one page
// and a global, exported as "f", "memory" and "g".
func oneFunction(body ...byte) []byte {
	return withCode(append([]byte{0}, body...)) // no locals
}

// withCode is the same with the function's locals and body.
func withCode(code []byte) []byte {
	return join(
		sec(secType, 1, 0x60, 0, 1, byte(I32)),
		sec(secFunction, 1, 0),
		sec(secMemory, 1, 0, 1),
		sec(secGlobal, 1, byte(I32), 1, 0x41, 7, 0x0b),
		sec(secExport, append([]byte{3, 1, 'f', 0, 0, 6}, "memory\x02\x00\x01g\x03\x00"...)...),
		sec(secCode, append(appendU32([]byte{1}, uint32(len(code))), code...)...),
	)
}

func TestRefusals(t *testing.T) {
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0x0f} // 2^32-1
	allowed := []Import{{"env", "ok", FuncType{Params: []ValType{I32}}}}
	imported := func(module, name string, kind byte) []byte {
		c := append([]byte{1, byte(len(module))}, module...)
		c = append(append(c, byte(len(name))), name...)
		return join(sec(secType, 2, 0x60, 0, 0, 0x60, 1, byte(I32), 0), sec(secImport, append(c, kind, 0)...))
	}
	exported := func(name string) []byte {
		return join(sec(secMemory, 1, 0, 1), sec(secExport, append(append([]byte{1, byte(len(name))}, name...), 2, 0)...))
	}
	deep := append(bytes.Repeat([]byte{0x02, 0x40}, 5000), bytes.Repeat([]byte{0x0b}, 5001)...)
	for name, c := range map[string]struct {
		code []byte
		kind Kind
		want string
	}{
		"no module":             {[]byte("{\"a\":1}xx"), Malformed, "no WebAssembly module"},
		"component":             {[]byte("\x00asm\x0d\x00\x01\x00"), Malformed, "no component"},
		"start section":         {join(sec(secStart, 0)), Start, "start section"},
		"unknown section":       {join(sec(13)), Unoffered, "section 13"},
		"section past end":      {join([]byte{secType, 50}), Malformed, "50 bytes are announced, but 0"},
		"section rest":          {join(sec(secType, 0, 0)), Malformed, "type section has 1 bytes too many"},
		"section order":         {join(sec(secFunction, 0), sec(secType, 0)), Malformed, "out of order"},
		"section twice":         {join(sec(secType, 0), sec(secType, 0)), Malformed, "doubled"},
		"overlong count":        {join(sec(secType, 0x80, 0x80, 0x80, 0x80, 0x80, 0)), Malformed, "LEB128"},
		"unused bits":           {join(sec(secType, 0x80, 0x80, 0x80, 0x80, 0x10)), Malformed, "LEB128"},
		"GC type":               {join(sec(secType, 1, 0x5f, 0)), Unoffered, "garbage collected"},
		"import":                {imported("env", "print", 0), BadImport, "import env.print is not offered"},
		"import signature":      {imported("env", "ok", 0), BadImport, "import env.ok has signature () -> (): expected (i32) -> ()"},
		"import of memory":      {imported("env", "memory", 2), BadImport, "import env.memory is not a function"},
		"reserved export":       {exported("wasmeval_fuel"), BadExport, `export "wasmeval_fuel" is reserved`},
		"memory too large":      {join(sec(secMemory, 1, 0, 0x80, 0x08)), Limit, "1024 pages"},
		"two memories":          {join(sec(secMemory, 2, 0, 1, 0, 1)), Limit, "2 memory entries"},
		"shared memory":         {join(sec(secMemory, 1, 3, 1, 1)), Unoffered, "shared"},
		"memory64":              {join(sec(secMemory, 1, 4, 1)), Unoffered, "64-bit"},
		"table too large":       {join(sec(secTable, append([]byte{1, 0x70, 0}, huge...)...)), Limit, "entries"},
		"global.get init":       {join(sec(secGlobal, 1, 0x7f, 0, 0x23, 0, 0x0b)), Opcode, "initialiser"},
		"bodies missing":        {join(sec(secType, 1, 0x60, 0, 0), sec(secFunction, 1, 0)), Malformed, "1 functions are declared, but 0"},
		"the fuel global":       {oneFunction(0x23, 1, 0x1a, 0x41, 0, 0x0b), BadIndex, "there is no global 1"},
		"set the fuel":          {oneFunction(0x42, 0, 0x24, 1, 0x41, 0, 0x0b), BadIndex, "there is no global 1"},
		"an added local":        {oneFunction(0x20, 0, 0x1a, 0x41, 0, 0x0b), BadIndex, "there is no local 0"},
		"label past end":        {oneFunction(0x0c, 1, 0x0b), BadIndex, "there is no label 1"},
		"call past end":         {oneFunction(0x10, 1, 0x0b), BadIndex, "there is no function 1"},
		"body past end":         {oneFunction(0x41, 0), Malformed, "ends in the middle"},
		"bytes after end":       {oneFunction(0x41, 0, 0x0b, 0x01), Malformed, "1 bytes after its end"},
		"nesting":               {oneFunction(deep...), Limit, "nested deeper than 4000"},
		"br_table":              {oneFunction(0x41, 0, 0x0e, 0xff, 0xff, 0x03, 0x0b), Malformed, "targets of a br_table"},
		"threads":               {oneFunction(0xfe, 0x00, 0x0b), Opcode, "0xfe (threads)"},
		"exceptions":            {oneFunction(0x06, 0x40, 0x0b), Opcode, "0x06 (exceptions)"},
		"tail call":             {oneFunction(0x12, 0, 0x0b), Opcode, "0x12 (tail calls"},
		"GC instruction":        {oneFunction(0xfb, 0, 0x0b), Opcode, "garbage collection"},
		"relaxed vectors":       {oneFunction(0xfd, 0x80, 0x02, 0x0b), Opcode, "relaxed"},
		"long vector number":    {oneFunction(0xfd, 0x8c, 0x00, 0x0b), Opcode, "longer than needed"},
		"longer vector number":  {oneFunction(0xfd, 0xff, 0x81, 0x00, 0x0b), Opcode, "longer than needed"},
		"long bulk number":      {oneFunction(0xfc, 0x8b, 0x00, 0, 0x0b), Opcode, "longer than needed"},
		"ref.func":              {oneFunction(0xd2, 0, 0x1a, 0x41, 0, 0x0b), Opcode, "ref.func"},
		"memory.init, no count": {oneFunction(0xfc, 8, 0, 0, 0x0b), Malformed, "data count"},
		"2^32-1 locals": {join(sec(secType, 1, 0x60, 0, 0), sec(secFunction, 1, 0),
			sec(secCode, append(append([]byte{1, 8, 1}, huge...), 0x7f, 0x0b)...)), Limit, "locals"},
	} {
		_, err := Scan(c.code, DefaultLimits(), allowed)
		var e *Error
		if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(e.Msg, c.want) {
			t.Errorf("%s: error %v, expected %s with %q", name, err, c.kind, c.want)
		}
	}
}

// Counts of 2^32-1 in any section must be refused before anything is allocated for them.
func TestCountsAllocateNothing(t *testing.T) {
	for id := byte(secType); id <= secDataCount; id++ {
		code := join(sec(id, 0xff, 0xff, 0xff, 0xff, 0x0f))
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		if _, err := Scan(code, DefaultLimits(), guestImports()); err == nil {
			t.Errorf("section %d with 2^32-1 entries is let in", id)
		}
		goruntime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 256<<10 {
			t.Errorf("section %d: %d bytes allocated", id, n)
		}
	}
}

// machine is a compiled module with one instance.
type machine struct {
	mod  api.Module
	fuel api.MutableGlobal
}

func instantiate(t testing.TB, code []byte) *machine {
	t.Helper()
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	t.Cleanup(func() { _ = r.Close(ctx) })
	mod, err := r.Instantiate(hosted(), code)
	if err != nil {
		t.Fatalf("cannot instantiate: %v", err)
	}
	m := &machine{mod: mod}
	m.fuel, _ = mod.ExportedGlobal(FuelExport).(api.MutableGlobal)
	return m
}

func metered(t testing.TB, code []byte) []byte {
	t.Helper()
	return meteredBy(t, code, DefaultLimits())
}

func meteredBy(t testing.TB, code []byte, lim Limits) []byte {
	t.Helper()
	m, err := Scan(code, lim, guestImports())
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Rewrite()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const budget = 1 << 40

// run calls f and returns its result and the fuel used.
func (m *machine) run(args ...uint64) (result uint64, used int64, err error) {
	if m.fuel != nil {
		m.fuel.Set(budget)
	}
	res, err := m.mod.ExportedFunction("f").Call(context.Background(), args...)
	if m.fuel != nil {
		used = budget - int64(m.fuel.Get())
	}
	if err != nil || len(res) == 0 {
		return 0, used, err
	}
	return res[0], used, nil
}

// The bodies below are small enough to count by hand what they execute: the instructions, each loop
// body as often as it turns. Blocks, loops and ends are none, but for a function's end, its return.
func TestFuelBounds(t *testing.T) {
	for name, c := range map[string]struct {
		body     []byte
		result   uint64
		executed int64 // units of the instructions that run, at least
		most     int64 // fuel that may be charged at most
	}{
		"constant": {[]byte{0x41, 5, 0x0b}, 5, 2, 2},
		"return":   {[]byte{0x41, 5, 0x0f, 0x0b}, 5, 2, 3},
		// g = 7; loop: g = g - 1; br_if g -> 7 turns, which are charged 4 at a time
		"loop": {[]byte{0x03, 0x40, 0x23, 0, 0x41, 1, 0x6b, 0x24, 0, 0x23, 0, 0x0d, 0, 0x0b, 0x23, 0, 0x0b},
			0, 7*6 + 2, 8*6 + 2},
		// if/else: both arms are charged, one runs
		"if": {[]byte{0x23, 0, 0x04, 0x7f, 0x41, 1, 0x05, 0x41, 2, 0x0b, 0x0b}, 1, 4, 6},
		// memory.fill of 4096 bytes
		"fill": {[]byte{0x41, 0, 0x41, 1, 0x41, 0x80, 0x20, 0xfc, 11, 0, 0x41, 1, 0x0b}, 1,
			5 + bulkCost + 512, 5 + bulkCost + 512},
		// a load, a product of floats, memory.grow by nothing
		"weights": {[]byte{0x41, 0, 0x2b, 3, 0, 0x41, 0, 0x2b, 3, 0, 0xa2, 0x1a, 0x41, 0, 0x40, 0, 0x0b}, 1,
			5 + 2*loadCost + floatCost + growCost, 5 + 2*loadCost + floatCost + growCost},
	} {
		m := instantiate(t, metered(t, oneFunction(c.body...)))
		got, used, err := m.run()
		if err != nil || got != c.result || used < c.executed || used > c.most {
			t.Errorf("%s: result %d, %v, fuel %d; expected %d with fuel %d to %d",
				name, got, err, used, c.result, c.executed, c.most)
		}
	}
}

// An endless loop stops with the fuel below zero, endless recursion with the depth.
func TestEndless(t *testing.T) {
	m := instantiate(t, metered(t, oneFunction(0x03, 0x40, 0x0c, 0, 0x0b, 0x41, 0, 0x0b)))
	m.fuel.Set(1000)
	if _, err := m.mod.ExportedFunction("f").Call(context.Background()); err == nil || int64(m.fuel.Get()) >= 0 {
		t.Errorf("endless loop: %v with fuel %d", err, int64(m.fuel.Get()))
	}
	m = instantiate(t, metered(t, oneFunction(0x10, 0, 0x0b)))
	_, _, err := m.run()
	depth := int32(m.mod.ExportedGlobal(DepthExport).Get())
	if err == nil || depth >= 0 || int64(m.fuel.Get()) < 0 {
		t.Errorf("endless recursion: %v with depth %d, fuel %d", err, depth, int64(m.fuel.Get()))
	}
}

// Code without a loop is charged in parts, too, so that a pause is never far; and a large copy costs more
// than two of half its length.
func TestLongRegions(t *testing.T) {
	memory := &hostMemory{most: 3 << 16}
	r := wazero.NewRuntime(context.Background())
	defer r.Close(context.Background())
	loads := bytes.Repeat([]byte{0x28, 2, 0}, 20_000)
	body := slices.Concat([]byte{0x41, 0}, loads, []byte{0x0b})
	mod, err := r.Instantiate(memory.within(context.Background()), metered(t, oneFunction(body...)))
	if err != nil {
		t.Fatal(err)
	}
	memory.give(mod.ExportedGlobal(FuelExport).(api.MutableGlobal), budget, 1)
	if _, err := mod.ExportedFunction("f").Call(context.Background()); err != nil {
		t.Fatal(err)
	}
	if most := len(loads) / regionBytes; memory.pauses < most {
		t.Errorf("%d pauses in %d bytes of code: expected at least %d", memory.pauses, len(loads), most)
	}
	copied := func(n int64) int64 {
		body := appendS64([]byte{0x41, 0, 0x41, 0, 0x41}, n)
		_, used, _ := instantiate(t, metered(t, oneFunction(append(body, 0xfc, 11, 0, 0x41, 1, 0x0b)...))).run()
		return used
	}
	if half, whole := copied(1<<19), copied(1<<20); whole < 5*half {
		t.Errorf("fuel of 512 KiB %d, of 1 MiB %d: expected more than five times as much", half, whole)
	}
}

// What the host takes back when a memory grows, the guest does not have any more, also where it keeps its
// fuel in a local.
func TestFuelTakenBack(t *testing.T) {
	// while g-- > 0 { memory.grow(1) }
	code := metered(t, oneFunction(0x03, 0x40, 0x41, 1, 0x40, 0, 0x1a, 0x23, 0, 0x41, 1, 0x6b, 0x24, 0, 0x23, 0,
		0x0d, 0, 0x0b, 0x23, 0, 0x0b))
	var used [2]int64
	for i, portion := range []int64{budget, 0} {
		r := wazero.NewRuntime(context.Background())
		memory := &hostMemory{most: 20 << 16}
		mod, err := r.Instantiate(memory.within(context.Background()), code)
		if err != nil {
			t.Fatal(err)
		}
		fuel := mod.ExportedGlobal(FuelExport).(api.MutableGlobal)
		memory.give(fuel, budget, portion)
		if _, err := mod.ExportedFunction("f").Call(context.Background()); err != nil || len(memory.bytes) != 8<<16 {
			t.Fatalf("%d bytes of memory, %v", len(memory.bytes), err)
		}
		used[i] = budget - memory.reserve - int64(fuel.Get())
		_ = r.Close(context.Background())
	}
	if used[0] != used[1] || used[0] < 7*64<<10>>4 {
		t.Errorf("%d units of fuel, and %d where the host takes fuel back", used[0], used[1])
	}
}

// What a compiler moves where ways join costs fuel, though no instruction of a region that is charged
// says so.
func TestMerges(t *testing.T) {
	fuel := func(locals byte) int64 {
		// f: while g-- > 0 { if 0 { loop { all locals are set } } }
		var sets []byte
		for i := range locals {
			sets = append(sets, 0x41, 1, 0x21, i)
		}
		code := slices.Concat([]byte{1, locals, 0x7f, 0x03, 0x40, 0x41, 0, 0x04, 0x40, 0x03, 0x40}, sets,
			[]byte{0x0b, 0x0b, 0x23, 0, 0x41, 1, 0x6b, 0x24, 0, 0x23, 0, 0x0d, 0, 0x0b, 0x23, 0, 0x0b})
		_, used, err := instantiate(t, metered(t, withCode(code))).run()
		if err != nil {
			t.Fatal(err)
		}
		return used
	}
	if few, many := fuel(mergeFree), fuel(mergeFree+100); many < few+3*7*100/mergeShare {
		t.Errorf("7 turns with %d locals cost %d units, with 100 more %d", mergeFree, few, many)
	}
}

// Every way out of a function gives its depth back: falling off the end, return, and a branch to
// the outermost label, also out of nested blocks.
func TestDepthIsGivenBack(t *testing.T) {
	leafAnd := func(body ...byte) []byte {
		// Function 0 is f: () -> i32, function 1 a leaf of the same type.
		code := append([]byte{2}, append(appendU32(nil, uint32(len(body)+1)), append([]byte{0}, body...)...)...)
		return join(sec(secType, 1, 0x60, 0, 1, byte(I32)), sec(secFunction, 2, 0, 0),
			sec(secExport, 1, 1, 'f', 0, 0), sec(secCode, append(code, 4, 0, 0x41, 3, 0x0b)...))
	}
	for name, body := range map[string][]byte{
		"end":          {0x10, 1, 0x0b},
		"return":       {0x10, 1, 0x0f, 0x0b},
		"deep return":  {0x02, 0x40, 0x03, 0x40, 0x10, 1, 0x0f, 0x0b, 0x0b, 0x41, 9, 0x0b},
		"branch":       {0x10, 1, 0x0c, 0, 0x0b},
		"deep branch":  {0x02, 0x40, 0x03, 0x40, 0x10, 1, 0x0c, 2, 0x0b, 0x0b, 0x41, 9, 0x0b},
		"branch if":    {0x10, 1, 0x41, 1, 0x0d, 0, 0x0b},
		"branch table": {0x10, 1, 0x41, 1, 0x0e, 1, 0, 0, 0x0b},
	} {
		m := instantiate(t, metered(t, leafAnd(body...)))
		for range 3 {
			got, _, err := m.run()
			depth := int(int32(m.mod.ExportedGlobal(DepthExport).Get()))
			if err != nil || got != 3 || depth != DefaultLimits().CallDepth {
				t.Errorf("%s: result %d, %v, depth %d; expected 3 and %d", name, got, err, depth,
					DefaultLimits().CallDepth)
			}
		}
	}
}

// What real compilers make is let in, and still valid after the rewrite.
func TestGuests(t *testing.T) {
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter()) // it validates, too
	defer r.Close(ctx)
	for name, code := range guests(t) {
		c, err := r.CompileModule(ctx, metered(t, code))
		if err != nil {
			t.Errorf("%s: the rewritten module is not valid: %v", name, err)
			continue
		}
		_ = c.Close(ctx)
	}
}

// functions is a module with functions of type () -> (), the first of which is exported as f, all
// of them in a table.
func functions(bodies ...[]byte) []byte {
	var code, types, elements []byte
	for i, b := range bodies {
		code = append(append(appendU32(code, uint32(len(b)+1)), 0), b...)
		types, elements = append(types, 0), append(elements, byte(i))
	}
	n := byte(len(bodies))
	return join(sec(secType, 1, 0x60, 0, 0), sec(secFunction, append([]byte{n}, types...)...),
		sec(secTable, 1, 0x70, 0, n), sec(secExport, 1, 1, 'f', 0, 0),
		sec(secElement, append([]byte{1, 0, 0x41, 0, 0x0b, n}, elements...)...),
		sec(secCode, append([]byte{n}, code...)...))
}

// However functions call each other, endless recursion ends by the depth; and what a call took of
// the depth it gives back.
func TestDepth(t *testing.T) {
	call := func(f byte) []byte { return []byte{0x10, f, 0x0b} }
	indirect := func(f byte) []byte { return []byte{0x41, f, 0x11, 0, 0, 0x0b} }
	leaf := []byte{0x0b}
	for name, c := range map[string]struct {
		code    []byte
		endless bool
	}{
		"itself":                {functions(call(0)), true},
		"two":                   {functions(call(1), call(0)), true},
		"three, entered late":   {functions(call(1), call(2), call(3), call(1)), true},
		"two circles":           {functions([]byte{0x10, 1, 0x10, 2, 0x0b}, []byte{0x10, 2, 0x0b}, []byte{0x10, 1, 0x0b}), true},
		"through a table":       {functions(indirect(0)), true},
		"two through a table":   {functions(indirect(1), call(0)), true},
		"after a leaf":          {functions([]byte{0x10, 1, 0x10, 0, 0x0b}, leaf), true},
		"a chain":               {functions(call(1), call(2), call(3), leaf), false},
		"a chain through table": {functions(indirect(1), call(2), indirect(3), leaf), false},
		"the same twice":        {functions([]byte{0x10, 1, 0x10, 1, 0x0b}, call(2), leaf), false},
	} {
		m := instantiate(t, metered(t, c.code))
		for range 2 {
			_, _, err := m.run()
			depth := int32(m.mod.ExportedGlobal(DepthExport).Get())
			if c.endless && (err == nil || depth >= 0) || !c.endless && (err != nil || int(depth) != DefaultLimits().CallDepth) {
				t.Errorf("%s: %v with depth %d", name, err, depth)
			}
			if c.endless {
				break
			}
		}
	}
	// A chain that is too long to be uncounted.
	var bodies [][]byte
	for i := range byte(100) {
		bodies = append(bodies, call(i+1))
	}
	m, err := Scan(functions(append(bodies, leaf)...), DefaultLimits(), nil)
	if err != nil {
		t.Fatal(err)
	}
	uncounted := int64(0)
	for i, p := range m.plan {
		if uncounted += m.bodies[i].weight(); p.depth > 0 {
			uncounted = 0
		} else if uncounted > shallow {
			t.Fatalf("function %d: %d units of depth are not counted", i, uncounted)
		}
	}
}

// What CallDepth allows is about a mebibyte or two of native stack, which doubles as it grows, also
// for frames that are made to be large.
func TestStack(t *testing.T) {
	frame := func(n int, value func(i int) []byte, join ...byte) []byte {
		var b []byte
		for i := range n {
			b = append(b, value(i)...)
		}
		b = append(b, 0x10, 0) // all are kept during the call
		b = append(b, bytes.Repeat(join, n-1)...)
		return append(b, 0x1a, 0x0b)
	}
	small := func(i int) []byte { return append(appendS64([]byte{0x41}, int64(i)), 0x68) }
	vector := func(i int) []byte { return append(appendS64([]byte{0x41}, int64(i)), 0xfd, 17) }
	for name, body := range map[string][]byte{
		"plain": {0x10, 0, 0x0b}, "20 values": frame(20, small, 0x6e), "200 values": frame(200, small, 0x6e),
		"20 vectors": frame(20, vector, 0xfd, 81), "200 vectors": frame(200, vector, 0xfd, 81),
	} {
		m := instantiate(t, metered(t, functions(body)))
		f := m.mod.ExportedFunction("f")
		m.fuel.Set(budget)
		var before, after goruntime.MemStats
		goruntime.GC()
		goruntime.ReadMemStats(&before)
		_, err := f.Call(context.Background())
		goruntime.GC()
		goruntime.ReadMemStats(&after)
		if err == nil || int32(m.mod.ExportedGlobal(DepthExport).Get()) >= 0 {
			t.Errorf("%s: %v", name, err)
		}
		if kib := (int64(after.HeapInuse) - int64(before.HeapInuse)) >> 10; kib > 4<<10 {
			t.Errorf("%s: the stack has %d KiB", name, kib)
		}
		goruntime.KeepAlive(f)
	}
}

// A host can find and restore all that a module's code can change, unless Resettable says no.
func TestReset(t *testing.T) {
	module := func(body ...byte) []byte {
		code := append([]byte{0}, body...)
		return join(sec(secType, 1, 0x60, 0, 0), sec(secFunction, 1, 0), sec(secTable, 1, 0x70, 0, 1),
			sec(secMemory, 1, 0, 1), sec(secGlobal, 3, 0x7f, 1, 0x41, 7, 0x0b, 0x7f, 0, 0x41, 1, 0x0b, 0x7e, 1, 0x42, 9, 0x0b),
			sec(secExport, 1, 1, 'f', 0, 0), sec(secElement, 1, 1, 0, 1, 0), sec(secDataCount, 1),
			sec(secCode, append(appendU32([]byte{1}, uint32(len(code))), code...)...), sec(secData, 1, 1, 1, 0))
	}
	for name, c := range map[string]struct {
		code []byte
		ok   bool
	}{
		"globals":     {module(0x41, 1, 0x24, 0, 0x42, 2, 0x24, 2, 0x0b), true},
		"memory.init": {module(0x41, 0, 0x41, 0, 0x41, 1, 0xfc, 8, 0, 0, 0x0b), true},
		"table.get":   {module(0x41, 0, 0x25, 0, 0x1a, 0x0b), true},
		"table.size":  {module(0xfc, 16, 0, 0x1a, 0x0b), true},
		"data.drop":   {module(0xfc, 9, 0, 0x0b), false},
		"elem.drop":   {module(0xfc, 13, 0, 0x0b), false},
		"table.init":  {module(0x41, 0, 0x41, 0, 0x41, 1, 0xfc, 12, 0, 0, 0x0b), false},
		"table.copy":  {module(0x41, 0, 0x41, 0, 0x41, 1, 0xfc, 14, 0, 0, 0x0b), false},
		"table.fill":  {module(0x41, 0, 0xd0, 0x70, 0x41, 1, 0xfc, 17, 0, 0x0b), false},
		"table.grow":  {module(0xd0, 0x70, 0x41, 1, 0xfc, 15, 0, 0x1a, 0x0b), false},
		"table.set":   {module(0x41, 0, 0xd0, 0x70, 0x26, 0, 0x0b), false},
	} {
		m, err := Scan(c.code, DefaultLimits(), nil)
		if err != nil || m.Resettable() != c.ok {
			t.Errorf("%s: resettable %t, %v", name, m.Resettable(), err)
			continue
		}
		out, err := m.Rewrite()
		if err != nil {
			t.Fatal(err)
		}
		in := instantiate(t, out)
		var fresh []uint64
		list := m.MutableGlobals()
		for _, g := range list {
			fresh = append(fresh, in.mod.ExportedGlobal(g.Export).(api.MutableGlobal).Get())
		}
		if len(list) != 2 || list[0].Type != I32 || list[1].Type != I64 || fresh[0] != 7 || fresh[1] != 9 {
			t.Errorf("%s: globals %v with %v; expected an i32 and an i64, 7 and 9", name, list, fresh)
		}
		if _, _, err := in.run(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "globals" {
			for i, g := range list {
				g := in.mod.ExportedGlobal(g.Export).(api.MutableGlobal)
				if g.Get() == fresh[i] {
					t.Errorf("global %d was not changed", i)
				}
			}
		}
	}
	for name, global := range map[string][]byte{
		"v128":    append([]byte{1, 0x7b, 1, 0xfd, 12}, append(make([]byte, 16), 0x0b)...),
		"funcref": {1, 0x70, 1, 0xd0, 0x70, 0x0b}, "externref": {1, 0x6f, 1, 0xd0, 0x6f, 0x0b},
	} {
		if m, err := Scan(join(sec(secGlobal, global...)), DefaultLimits(), nil); err != nil || m.Resettable() {
			t.Errorf("a mutable %s: %v, resettable", name, err)
		}
	}
}

// Data segments that are joined leave the memory as those do that are not.
func TestDataSegments(t *testing.T) {
	seg := func(at int64, text string) []byte {
		b := append(appendS64([]byte{0, 0x41}, at), 0x0b, byte(len(text)))
		return append(b, text...)
	}
	for name, c := range map[string]struct {
		segments [][]byte
		want     int // segments after the rewrite
	}{
		"close":           {[][]byte{seg(10, "abc"), seg(13, "def"), seg(40, "ghi")}, 1},
		"far":             {[][]byte{seg(10, "abc"), seg(46, "def")}, 2},
		"out of order":    {[][]byte{seg(100, "abc"), seg(10, "def"), seg(60, ""), seg(80, "ghi")}, 2},
		"overlapping":     {[][]byte{seg(10, "abcdef"), seg(12, "xy")}, 2},
		"over a gap":      {[][]byte{seg(20, "zz"), seg(10, "abc"), seg(30, "def"), seg(21, "y")}, 4},
		"the same place":  {[][]byte{seg(10, "abc"), seg(10, "de")}, 2},
		"at the end":      {[][]byte{seg(65530, "abc"), seg(65533, "def"), seg(65536, "")}, 1},
		"past the end":    {[][]byte{seg(65530, "abc"), seg(65533, "defg")}, 1},
		"empty, past end": {[][]byte{seg(65530, "abc"), seg(65537, "")}, 1},
		"negative offset": {[][]byte{seg(-3, "abc"), seg(5, "def")}, 2},
	} {
		code := join(sec(secMemory, 1, 0, 1), sec(secExport, append([]byte{1, 6}, "memory\x02\x00"...)...),
			sec(secData, append([]byte{byte(len(c.segments))}, bytes.Join(c.segments, nil)...)...))
		m, err := Scan(code, DefaultLimits(), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out, err := m.Rewrite()
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		r := wazero.NewRuntime(ctx)
		var memories [2][]byte
		var errs [2]error
		for i, b := range [][]byte{code, out} {
			mod, err := r.InstantiateWithConfig(ctx, b, wazero.NewModuleConfig().WithName(""))
			if errs[i] = err; err == nil {
				memories[i], _ = mod.Memory().Read(0, mod.Memory().Size())
			}
		}
		if (errs[0] == nil) != (errs[1] == nil) || !bytes.Equal(memories[0], memories[1]) {
			t.Errorf("%s: %v, and after the rewrite %v, or another memory", name, errs[0], errs[1])
		}
		_ = r.Close(ctx)
		if got := sectionCount(t, out, secData); got != c.want {
			t.Errorf("%s: %d segments, expected %d", name, got, c.want)
		}
	}
}

// sectionCount is how many entries a section has.
func sectionCount(t *testing.T, code []byte, id byte) int {
	t.Helper()
	r := reader{b: code, at: 8, end: len(code)}
	for r.at < r.end {
		got, size := r.byte(), r.u32()
		if got == id {
			return int(r.u32())
		}
		r.bytes(size)
	}
	return 0
}

// What the output depends on is in it, so that no cache mixes up what different versions and limits
// made of a module.
func TestOrigin(t *testing.T) {
	code := oneFunction(0x41, 1, 0x0b)
	seen := map[string]string{}
	for name, change := range map[string]func(l *Limits){
		"none": func(*Limits) {}, "memory": func(l *Limits) { l.MemoryPages-- },
		"depth": func(l *Limits) { l.CallDepth-- }, "loops": func(l *Limits) { l.Loops-- },
	} {
		lim := DefaultLimits()
		change(&lim)
		m, err := Scan(code, lim, nil)
		if err != nil {
			t.Fatal(err)
		}
		out, err := m.Rewrite()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[string(out)]; ok {
			t.Errorf("limits %s and %s give the same module", name, other)
		}
		seen[string(out)] = name
		if !bytes.Contains(out, fmt.Appendf(nil, "version %d ", Version)) {
			t.Errorf("limits %s: the module does not name version %d", name, Version)
		}
		if mod := instantiate(t, out).mod; mod.ExportedFunction("f") == nil {
			t.Errorf("limits %s: the module has no f", name)
		}
	}
}

// Whatever bytes come, Scan returns; what it lets in and the compiler would take, it still takes
// after the rewrite; and what the compiler refuses stays refused.
func FuzzRewrite(f *testing.F) {
	for _, code := range guests(f) {
		if len(code) < 10_000 {
			f.Add(code)
		}
	}
	f.Add(oneFunction(0x03, 0x40, 0x0c, 0, 0x0b, 0x41, 0, 0x0b))
	f.Add(oneFunction(0x41, 0, 0x40, 0, 0x0f, 0x0b))
	for seed := range uint64(10) {
		f.Add(randomModule(seed))
	}
	f.Fuzz(func(t *testing.T, code []byte) {
		lim := DefaultLimits()
		lim.ModuleBytes, lim.LocalsPerFunction, lim.MemoryPages, lim.GrowPages = 20_000, 100, 16, 16
		m, err := Scan(code, lim, guestImports())
		if err != nil {
			return
		}
		out, err := m.Rewrite()
		if err != nil {
			return
		}
		ctx := context.Background()
		r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithMemoryLimitPages(16))
		defer r.Close(ctx)
		_, plain := r.CompileModule(ctx, withoutCustom(code))
		_, after := r.CompileModule(ctx, out)
		if (plain == nil) != (after == nil) {
			t.Errorf("before the rewrite: %v; after: %v", plain, after)
		}
	})
}

// withoutCustom leaves out the custom sections of a module that Scan has let in: wazero reads those
// that it knows, and the rewrite does not keep them.
func withoutCustom(code []byte) []byte {
	r := reader{b: code, at: 8, end: len(code)}
	out := append([]byte(nil), code[:8]...)
	for r.at < r.end {
		begun := r.at
		id := r.byte()
		r.bytes(r.u32())
		if id != secCustom {
			out = append(out, code[begun:r.at]...)
		}
	}
	return out
}

// BenchmarkRewrite is the whole of this package's work on a module of Go's own compiler.
func BenchmarkRewrite(b *testing.B) {
	code := guests(b)["payment-limit"]
	b.SetBytes(int64(len(code)))
	b.ReportAllocs()
	for b.Loop() {
		m, err := Scan(code, DefaultLimits(), guestImports())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := m.Rewrite(); err != nil {
			b.Fatal(err)
		}
	}
}
