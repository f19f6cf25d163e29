package hostile

import (
	"fmt"
	"slices"
	"strings"
)

// bombs are modules that take the compiler much more time or memory than others of their size.
func bombs() []Module {
	bomb := func(name, attack, refused string, more ...function) Module {
		m := loaded("bomb-"+name, attack, guest{more: more}, slices.Repeat([]Verdict{{Code: 1}}, 3)...)
		m.Bomb, m.Refused = true, refused
		return m
	}
	f := function{name: "f", sig: "->", locals: b(1, 0xe8, 0x07, 0x7f)} // with 1,000 i32
	with := func(code string) function { f.code = code; return f }
	twenty := "-> " + strings.TrimSpace(strings.Repeat("i64 ", 20))
	return []Module{
		bomb("loops",
			"900 loops in one another, each of which sets a local that all of them have to merge", tooDear,
			with(repeat(900, "loop local.get %d i32.const 1 i32.add local.set %d")+
				repeat(900, "local.get %d br_if 0 end"))),
		bomb("merges", "1,000 locals that are read within 500 loops, each of which has to merge them all",
			tooDear,
			with(repeat(500, "loop")+repeat(1000, "local.get %d drop")+
				repeat(500, "i32.const 1 br_if 0 end"))),
		bomb("branches", "20,000 branches each of which sets one of 1,000 locals", tooDear,
			with(repeat(20, repeat(1000, "local.get 0 if local.get 1 local.set %d end")))),
		bomb("jump-tables", "two jump tables of 20,000 targets, each of which becomes a block", "",
			with(repeat(100, "block")+repeat(2, "block local.get 0 br_table "+repeat(200, hundred)+"0 end")+
				repeat(100, "end"))),
		bomb("jump-values", "a jump table of 20,000 targets with 20 values for each", "",
			function{name: "f", sig: twenty, code: repeat(1, "block 6 "+repeat(20, "i64.const %d")+
				"local.get $i br_table "+repeat(10_000, "0 1")+"0 end "+repeat(20, "drop")) + "unreachable"}),
		bomb("functions", "30,000 functions that do nothing", "",
			slices.Repeat([]function{{name: "f", sig: "->", locals: b(0)}}, 30_000)...),
		bomb("block-types", "2,000 functions each of which has results that no other has", "",
			manyResults(2000)...),
		bomb("values", "20,000 values that live at once", "",
			with(repeat(20_000, "local.get 0 i32.load %d")+repeat(19_999, "i32.add")+"drop")),
	}
}

// manyResults are n functions whose results are different, and that call one another.
func manyResults(n int) []function {
	kinds := []string{"i32", "i64", "f32", "f64"}
	var list []function
	for i := range n {
		results := ""
		for k := 1; k <= i; k *= 4 {
			results += kinds[i/k%4] + " "
		}
		list = append(list, function{name: "f", sig: "-> " + strings.TrimSpace(results), locals: b(0),
			code: "call $attack0 unreachable"})
	}
	return append(list, function{name: "attack0", sig: "->", locals: b(0)})
}

// tooDear is how those bombs are refused that no limit of a server lets through.
const tooDear = "it cannot be compiled"

// hundred are the numbers below 100, as targets of a jump table.
var hundred = func() string {
	s := ""
	for i := range 100 {
		s += fmt.Sprint(i, " ")
	}
	return s
}()
