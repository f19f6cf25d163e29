package hostile

import (
	"fmt"
	"slices"
	"strings"
)

// spins are modules that do not end, or not soon.
func spins() []Module {
	one := func(name, what, code string) Module {
		return fails(name, what, guest{attack: code}, outOfFuel)
	}
	var tree []function // each of which calls the one before twice
	for i := range 30 {
		code := fmt.Sprintf("call $t%d call $t%d", i-1, i-1)
		if i == 0 {
			code = ""
		}
		tree = append(tree, function{name: fmt.Sprint("t", i), sig: "->", code: code})
	}
	return []Module{
		one("loop", "never returns", spin),
		one("loop-nested", "ten loops of ten turns, each in the one before", nested(10)),
		one("loop-if", "spins by way of a branch in an if", "loop i32.const 1 if br 1 end end"),
		one("loop-unreachable", "spins with code after the branch that nothing reaches",
			"loop br 0 unreachable i64.sub drop end"),
		one("loop-params", "spins in a loop that takes a param", "local.get 0 loop 3 br 0 end drop"),
		one("br-table-spin", "spins by way of a jump table", "loop "+repeat(64, "block")+
			"local.get $i i32.const 1 i32.add local.tee $i i32.const 63 i32.and br_table "+
			repeat(64, "%d")+"0 "+repeat(64, "end")+"br 0 end"),
		one("br-table-default", "spins by the default of a jump table",
			"loop i32.const -1 br_table 1 0 end"),
		one("multiplication", "2^64 multiplications",
			"loop local.get $n i64.const 3 i64.mul i64.const 1 i64.add local.set $n br 0 end"),
		one("division", "divisions, the slowest instructions on integers",
			"i64.const 9 local.set $n loop i64.const -1 local.get $n i64.div_u "+
				"i64.const 7 i64.or local.set $n br 0 end"),
		one("square-roots", "square roots, among the slowest on floats",
			"loop local.get $x f64.sqrt f64.sqrt f64.sqrt f64.sqrt local.set $x br 0 end"),
		one("subnormal", "products of numbers so small that some processors compute them in microcode",
			subnormal),
		one("cache-misses", "loads each of which has to wait for the one before, over 128 KiB",
			misses(128<<10)),
		fails("cache-misses-4m", "the same over 4 MiB", guest{pages: 4 << 4, attack: misses(4 << 20)},
			outOfFuel),
		fails("cache-misses-all", "the same over as much memory as a module can have",
			guest{pages: 256, attack: touch(1) + misses(16<<20)}, outOfFuel),
		fails("first-touch-4m", "touches each page of 4 MiB, and spins",
			guest{pages: 4 << 4, attack: touch(1) + spin}, outOfFuel),
		fails("first-touch-all", "touches each page of as much memory as a module can have, and spins",
			guest{pages: 256, attack: touch(1) + spin}, outOfFuel),
		fails("first-touch-grown", "the same with memory that it grows first",
			guest{attack: "i32.const 254 memory.grow drop " + touch(1) + spin}, outOfFuel),
		fails("copy-cold", "copies of 4 MiB to where nobody has been",
			guest{pages: 256, attack: "loop i32.const 200007 i32.const 4500000 i32.const 4194304 memory.copy br 0 end"},
			outOfFuel),
		fails("merges", "a loop that moves 1,000 locals to and fro, and sets none of them", guest{
			attack: "i32.const 4096 i32.const 0 call $merges",
			more: []function{{name: "merges", sig: "i32 i32 ->", locals: b(1, 0xe8, 0x07, 0x7f),
				code: merges(1000)}}}, outOfFuel),
		fails("exponential-calls", "a tree of 2^30 calls without a loop or a recursion",
			guest{attack: "call $t29", more: tree}, outOfFuel),
		fails("exponential-recursion", "a recursion of 40 levels that branches",
			guest{attack: "i32.const 40 call $fib drop",
				more: []function{{name: "fib", sig: "i32 -> i32",
					code: "local.get 0 i32.const 2 i32.lt_s if i32 local.get 0 else " +
						"local.get 0 i32.const 1 i32.sub call $fib " +
						"local.get 0 i32.const 2 i32.sub call $fib i32.add end"}}},
			outOfFuel),
		fails("indirect-calls", "spins by way of calls through a table",
			guest{tables: []string{"funcref 1"}, elements: [][]byte{elements(0, 1, 5)},
				more:   []function{{name: "f", sig: "->"}},
				attack: "loop i32.const 0 call_indirect 0 0 br 0 end"},
			outOfFuel),
		fails("input-loop", "wasmeval_input never returns, for a batch",
			guest{input: spin + " unreachable"}, outOfFuel).forAll(outOfFuel),
		fails("input-subnormal", "the same, with the slowest instructions",
			guest{input: subnormal + " unreachable"}, outOfFuel).forAll(outOfFuel),
	}
}

// misses spins over so many bytes of memory, a power of two, with loads whose address is what the one
// before gave.
func misses(size int) string {
	return "i32.const 16 local.set $i loop " + repeat(16, "local.get $i i32.load 0 local.get $i i32.add "+
		fmt.Sprintf("i32.const -1640531535 i32.mul i32.const %d i32.and local.set $i ", size-4)) + "br 0 end"
}

// merges is a function with n locals after its params that are set where its code never comes to, and
// used after its loop.
func merges(n int) string {
	loads := ""
	for k := range n {
		loads += fmt.Sprintf("local.get 0 i32.load %d local.set %d ", 4*k, 2+k)
	}
	code := loads + "i32.const 0 loop local.get 1 if loop " + loads + "end end local.get 1 i32.eqz br_if 0 end "
	for k := range n {
		code += fmt.Sprintf("local.get %d i32.add ", 2+k)
	}
	return code + "drop"
}

// subnormal spins with floats that are not 0 and have no leading 1.
var subnormal = "f64.const 1e-310 local.set $x loop " +
	repeat(20, "local.get $x f64.const 0.99999999 f64.mul local.set $x") + "br 0 end"

// forAll is the module if it fails for each event.
func (m Module) forAll(fault string) Module {
	m.Verdicts = slices.Repeat([]Verdict{{Fault: fault}}, len(m.Events))
	return m
}

// nested is n loops of ten turns, each in the one before.
func nested(n int) string {
	code := "local.get $n i64.const 1 i64.add local.set $n"
	turns := 1
	for range n {
		turns *= 10
		code = fmt.Sprintf("loop %s local.get $n i64.const %d i64.rem_u i64.const 0 i64.ne br_if 0 end",
			code, turns)
	}
	return code
}

// stacks are modules that want more stack than there is.
func stacks() []Module {
	deep := func(name, what string, attack string, more ...function) Module {
		g := guest{attack: attack, more: more}
		if len(more) > 0 {
			g.tables, g.elements = []string{"funcref 1"}, [][]byte{elements(0, 1, 5)}
		}
		return fails(name, what, g, overflow)
	}
	params := strings.Repeat("i64 ", 60)
	results := strings.TrimSuffix(strings.Repeat("i64 ", 20), " ")
	// As much fuel as such frames need there is only in _initialize.
	keeping := func(code string) guest {
		return guest{initialize: "call $f", globals: []string{"i32 i32.const 0"},
			more: []function{{name: "f", sig: "->", code: code + " drop"}}}
	}
	return []Module{
		deep("recursion", "calls itself for ever", "local.get 0 local.get 1 call $attack"),
		deep("recursion-mutual", "two functions that call each other for ever", "call $f",
			function{name: "f", sig: "->", code: "call $g"},
			function{name: "g", sig: "->", code: "call $f"}),
		deep("recursion-indirect", "a function that calls itself through a table", "call $f",
			function{name: "f", sig: "->", code: "i32.const 0 call_indirect 0 0"}),
		deep("recursion-evaluate", "wasmeval_evaluate calls itself",
			"i32.const 65536 call $evaluate drop"),
		deep("recursion-params", "a recursion with 60 params", repeat(60, "i64.const %d")+"call $f",
			function{name: "f", sig: params + "->", code: repeat(60, "local.get %d") + "call $f"}),
		deep("recursion-results", "a recursion with 20 results", "call $f "+repeat(20, "drop"),
			function{name: "f", sig: "-> " + results, code: "call $f"}),
		deep("recursion-locals", "a recursion whose frames have 1,000 locals", "call $f",
			function{name: "f", sig: "->", locals: b(1, 0xe8, 0x07, 0x7e),
				code: repeat(1000, "i32.const 0 i64.load 0 local.set %d") + "call $f " + repeat(1000,
					"i32.const 0 local.get %d i64.store 0")}),
		unready("recursion-values", "a recursion whose frames keep 1,000 values over the call",
			keeping(repeat(1000, "local.get $j i32.load8_u %d")+"call $f "+repeat(999, "i32.add")),
			overflow),
		unready("recursion-globals",
			"the same with the values of a global, which take two bytes of code each",
			keeping(repeat(1000, "global.get 0 i32.const 1 global.set 0")+"call $f "+repeat(999, "i32.add")),
			overflow),
		unready("recursion-vectors", "a recursion whose frames keep 500 vectors over the call",
			keeping(repeat(500, "local.get $j v128.load %d")+"call $f "+repeat(499, "i32x4.add")), overflow),
		deep("recursion-in-block", "a recursion by way of return, which must give its depth back",
			"call $f", function{name: "f", sig: "->", code: "block call $f return end"}),
		says("depth-returns", "10,000 calls that return early: each must give its depth back",
			guest{attack: "loop call $f local.get $i i32.const 1 i32.add local.tee $i " +
				"i32.const 10000 i32.lt_u br_if 0 end",
				more: []function{{name: "f", sig: "->", code: "block call $g return end"},
					{name: "g", sig: "->"}}},
			1),
	}
}

// memories are modules that want memory and tables, or time of those who copy them.
func memories() []Module {
	const all = 2 * 65536 // bytes of the memory
	loop := func(code string) string { return "loop " + code + " br 0 end" }
	bulk := func(name, what, code string) Module {
		return fails(name, what, guest{attack: loop(code), tables: []string{"funcref 1000"},
			elements: [][]byte{elements(passiveAt, 1000, 0)},
			segments: [][]byte{passive(make([]byte, 4096))}},
			outOfFuel)
	}
	grown := func(name, what, code string, fault string) Module {
		return fails(name, what, guest{attack: code, tables: []string{"externref 1"}}, fault)
	}
	return []Module{
		bulk("fill-storm", "memory.fill of all of the memory, for ever", args(0, 0, all)+"memory.fill"),
		bulk("fill-nothing", "memory.fill of no bytes, for ever", args(0, 0, 0)+"memory.fill"),
		bulk("copy-storm", "memory.copy of all of the memory but a byte, onto itself, for ever",
			args(0, 1, all-1)+"memory.copy"),
		bulk("init-storm", "memory.init of 4 KiB, for ever", args(0, 0, 4096)+"memory.init 1"),
		bulk("table-fill-storm", "table.fill of 1,000 entries, for ever",
			"i32.const 0 ref.null func i32.const 1000 table.fill 0"),
		bulk("table-copy-storm", "table.copy of 1,000 entries, for ever",
			args(0, 1, 999)+"table.copy 0 0"),
		bulk("table-init-storm", "table.init of 1,000 entries, for ever",
			args(0, 0, 1000)+"table.init 0 0"),
		bulk("grow-nothing", "memory.grow by no pages, for ever", "i32.const 0 memory.grow drop"),
		bulk("table-grow-nothing", "table.grow by no entries, for ever",
			"ref.null func i32.const 0 table.grow 0 drop"),
		grown("grow-loop", "memory.grow by a page, for ever", loop("i32.const 1 memory.grow drop"),
			outOfFuel),
		grown("grow-4g", "memory.grow by 2^32-1 pages", "i32.const -1 memory.grow drop", outOfFuel),
		grown("table-grow-loop", "table.grow by 1,000 entries, for ever",
			loop("ref.null extern i32.const 1000 table.grow 0 drop"), outOfFuel),
		grown("table-grow-4g", "table.grow by 2^32-1 entries, 32 GiB",
			"ref.null extern i32.const -1 table.grow 0 drop", outOfFuel),
		grown("fill-4g", "memory.fill of 4 GiB", args(0, 0, -1)+"memory.fill", outOfFuel),
		grown("fill-wraps", "memory.fill past 4 GiB, to address 7 if that wraps",
			args(-8, 0, 16)+"memory.fill", trap),
		grown("load-outside", "a load at the end of memory",
			fmt.Sprintf("i32.const %d i32.load 0 drop", all-3), trap),
		grown("load-wraps", "a load whose address and offset are 6 together in 32 bits",
			"i32.const -1 i32.load 7 drop", trap),
		grown("load-8g", "a load at twice 2^32-1", "i32.const -1 i64.load 0xffffffff drop", trap),
		grown("vector-outside", "a vector half outside of memory",
			fmt.Sprintf("i32.const %d v128.const 1 v128.store 0", all-8), trap),
		grown("divide-by-zero", "an integer divided by zero", "i32.const 1 i32.const 0 i32.div_s drop",
			trap),
		grown("divide-overflow", "the least integer divided by -1",
			"i32.const -2147483648 i32.const -1 i32.div_s drop", trap),
		grown("truncate-nan", "NaN as an integer", "f64.const nan i32.trunc_f64_s drop", trap),
		fails("call-null", "a call of an entry that is null",
			guest{tables: []string{"funcref 1"}, attack: "i32.const 0 call_indirect 0 0"}, trap),
		fails("call-outside", "a call past the end of the table",
			guest{tables: []string{"funcref 1"}, attack: "i32.const -1 call_indirect 0 0"}, trap),
		fails("call-other-type", "a call of a function of another type",
			guest{tables: []string{"funcref 1"}, elements: [][]byte{elements(0, 1, 0)},
				attack: "i32.const 0 call_indirect 0 0"}, trap),
	}
}
