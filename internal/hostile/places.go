package hostile

import (
	"fmt"
	"strings"
)

// places are modules that play with the place that they give for a batch, and with what it costs to
// make and to renew them.
func places() []Module {
	input := func(name, what, code string, v Verdict) Module {
		return always(name, what, guest{input: code}, v)
	}
	no := Verdict{Fault: outOfMemory}
	one := Verdict{Code: 1}
	return []Module{
		input("input-0", "no place for any batch", "i32.const 0", no),
		input("input-unaligned", "a place that is not aligned", "i32.const 65537", no),
		input("input-outside", "a place past the end of memory", "i32.const 131072", no),
		input("input-wraps", "a place at address -8", "i32.const -8", no),
		input("input-last-8", "a place that ends past the end of memory", "i32.const 131064", no),
		input("input-traps", "wasmeval_input traps", "unreachable", Verdict{Fault: trap}),
		input("input-divides", "wasmeval_input divides by zero", "i32.const 8 i32.const 0 i32.div_u",
			Verdict{Fault: trap}),
		input("input-grows", "grows memory by a page whenever it is asked for a place",
			"i32.const 1 memory.grow drop i32.const 65536", one),
		always("input-moves", "another place each time, the next one in memory that was just added",
			guest{input: "i32.const 1 memory.grow i32.const 16 i32.shl"}, one),
		always("input-is-code", "a place over its own manifest", guest{input: "i32.const 1024"}, one),
		says("grows-while-called", "grows memory to the most while the host waits for verdicts",
			guest{attack: "i32.const 100 memory.grow drop local.get 0 i32.const 9 i32.store 0"}, 9),
		always("memory-maximum", "cannot get ready if its memory grows above its own maximum",
			guest{pages: 3, most: 3, initialize: "i32.const 1 memory.grow i32.const -1 i32.ne if unreachable end"},
			one),
		fails("memory-all", "touches 4 MB of memory in each event, and traps",
			guest{pages: 256, initialize: touch(1),
				attack: "i32.const 0 i32.const 7 i32.const 4000000 memory.fill unreachable"}, trap),
		always("memory-all-ready", "writes all of its 16 MiB before the first event, and in each one",
			guest{pages: 256, initialize: touch(1), evaluate: touch(2) + "i32.const 0 local.set $i" +
				evaluateRows}, one),
		fails("reset-storm", "cannot be reset, is expensive to make anew, and traps",
			guest{tables: []string{"funcref 20000"},
				segments: [][]byte{active(131072, make([]byte, 200_000))}, pages: 16,
				initialize: "i32.const 0 ref.null func table.set 0 " + burn(1_000_000), attack: "unreachable"},
			trap),
		fails("reset-storm-elements", "the same, with 20,000 elements to be evaluated for each instance",
			guest{tables: []string{"funcref 20000"}, elements: [][]byte{elements(0, 20_000, 0)}, initialize: "i32.const 0 ref.null func table.set 0",
				attack: "unreachable"}, trap),
		fails("slow-start", "cannot be reset, spends nearly all of the fuel in _initialize, and traps",
			guest{tables: []string{"funcref 1"}, initialize: "i32.const 0 ref.null func table.set 0 " +
				burn(6_000_000), attack: "unreachable"}, trap),
		nestedFields("fields-in-fields", "60 fields that lie in one another, each with all of the next",
			guest{}, no),
		nestedFields("fields-in-fields-taken", "the same, and it grows its memory for all of them",
			guest{input: "local.get 0 i32.const 65535 i32.add i32.const 16 i32.shr_u memory.grow " +
				"i32.const 16 i32.shl"}, one),
		always("fields-64", "64 fields that are in no event",
			guest{manifest: manyFields(64), evaluate: matchAll}, one),
	}
}

// matchAll gives each row code 1, and reads nothing.
const matchAll = `
	local.get 0 local.get 0 i32.load 12 i32.add local.set $j
	loop
		local.get $j i32.const 1 i32.store 0 local.get $j i32.const 4 i32.add local.set $j
		local.get $i i32.const 1 i32.add local.tee $i local.get 0 i32.load 4 i32.lt_u br_if 0
	end
	i32.const 0`

// touch writes a byte into each 4 KiB of memory, up to its end.
func touch(value int) string {
	return fmt.Sprintf("i32.const 0 local.set $i loop local.get $i i32.const %d i32.store8 2048 "+
		"local.get $i i32.const 4096 i32.add local.tee $i memory.size i32.const 16 i32.shl i32.lt_u "+
		"br_if 0 end ", value)
}

// burn takes nearly n units of fuel.
func burn(n int) string {
	return fmt.Sprintf("i32.const 0 local.set $i loop local.get $i i32.const 1 i32.add local.tee $i "+
		"i32.const %d i32.lt_u br_if 0 end", n/8)
}

// manyFields is a manifest with n fields.
func manyFields(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`{"path":"f%d","type":"json"}`, i))
	}
	return `{"fields":[` + strings.Join(list, ",") + `]}`
}

// nestedFields is a rule whose fields lie in one another, with events of 40 KiB of which the
// columns have 60 times as much.
func nestedFields(name, attack string, g guest, v Verdict) Module {
	const depth = 60
	var fields []string
	path := "a"
	for range depth {
		fields = append(fields, fmt.Sprintf(`{"path":%q,"type":"json"}`, path))
		path += ".a"
	}
	g.manifest, g.evaluate = `{"fields":[`+strings.Join(fields, ",")+`]}`, matchAll
	m := always(name, attack, g, v)
	event := strings.Repeat(`{"a":`, depth) + `"` + strings.Repeat("x", 40<<10) + `"` +
		strings.Repeat("}", depth)
	m.Events = []string{event, event, event}
	return m
}
