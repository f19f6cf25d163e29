package hostile

import (
	"slices"
	"strconv"
	"strings"
)

// Section ids of the binary format.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
)

// order is that of the sections in a module.
var order = []byte{secType, secImport, secFunction, secTable, secMemory, secGlobal, secExport,
	secStart,
	secElement, secDataCount, secCode, secData}

const header = "\x00asm\x01\x00\x00\x00"

// guest is a rule, good but for what is set: code 1 for every event, by way of the function attack
// if the event's field bad is 1. Texts of code may use the names $abi, $manifest, $input,
// $configure, $initialize, $evaluate and $attack for the functions of the same names, $emit and so
// on for imports, and those of more. Each function has, after its params, the locals $i, $j, $n and
// $x: two i32, an i64 and an f64.
type guest struct {
	imports []string // "module.function params -> results"

	abi, describe, input, configure, initialize, evaluate, attack string // code; see build
	more                                                          []function

	manifest    string // JSON; "" is a plain one
	pages, most int    // of memory; 0 is two pages, -1 none; and no most
	globals     []string
	tables      []string // "funcref 10"
	elements    [][]byte // segments
	segments    [][]byte // of data, after that of the manifest
	exports     [][]byte // after those of the ABI

	replace map[byte][]byte // sections: content instead of their own
	count   map[byte]uint32 // sections: a count instead of their own
	after   [][]byte        // whole sections at the end
}

// function is one more function of a guest.
type function struct {
	name, sig, code string
	locals          []byte // declarations instead of $i, $j, $n and $x
}

// onRow is the signature of attack: the address of the row's verdict, and the row's number.
const onRow = "i32 i32 ->"

// The types that each guest has, so that a call_indirect can name them by a number.
var firstTypes = []string{"->", "-> i32", "-> i64", "i32 -> i32", "i32 i32 -> i32", onRow}

const (
	manifestAt = 1024
	placeAt    = 65536 // where batches go
	passiveAt  = -1    // of elements: nowhere
)

// plain is a manifest with the one field that standard events have.
const plain = `{"fields":[{"path":"bad","type":"i64"}]}`

// evaluateRows gives each row code 1 and attacks if the first column says so. $i is the row, $j the
// address of its verdict.
const evaluateRows = `
	loop
		local.get 0 local.get 0 i32.load 12 i32.add local.get $i i32.const 2 i32.shl i32.add
		local.tee $j i32.const 1 i32.store 0
		local.get 0 local.get 0 i32.load 52 i32.add local.get $i i32.const 3 i32.shl i32.add
		i64.load 0 i64.const 1 i64.eq
		if local.get $j local.get $i call $attack end
		local.get $i i32.const 1 i32.add local.tee $i local.get 0 i32.load 4 i32.lt_u br_if 0
	end
	i32.const 0`

// functions lists the guest's own functions, those of the ABI first.
func (g guest) functions() []function {
	or := func(text, standard string) string {
		if text == "" {
			return standard
		}
		return text
	}
	g.manifest = or(g.manifest, plain)
	place := "i64.const " + strconv.Itoa(manifestAt<<32+len(g.manifest))
	list := []function{
		{name: "abi", sig: "-> i32", code: or(g.abi, "i32.const 1")},
		{name: "manifest", sig: "-> i64", code: or(g.describe, place)},
		{name: "input", sig: "i32 -> i32", code: or(g.input, "i32.const "+strconv.Itoa(placeAt))},
		{name: "evaluate", sig: "i32 -> i32", code: or(g.evaluate, evaluateRows)},
		{name: "attack", sig: onRow, code: g.attack},
	}
	if g.configure != "" {
		list = append(list, function{name: "configure", sig: "i32 i32 -> i32", code: g.configure})
	}
	if g.initialize != "" {
		list = append(list, function{name: "initialize", sig: "->", code: g.initialize})
	}
	return append(list, g.more...)
}

// abiNames are the exports of the ABI by the names of functions here.
var abiNames = map[string]string{"abi": "wasmeval_abi", "manifest": "wasmeval_manifest",
	"input": "wasmeval_input", "evaluate": "wasmeval_evaluate", "configure": "wasmeval_configure",
	"initialize": "_initialize"}

// build makes the module. The fields replace, count and after have the last word.
func (g guest) build() []byte {
	if g.manifest == "" {
		g.manifest = plain
	}
	functions := g.functions()
	types := slices.Clone(firstTypes)
	typeOf := func(sig string) []byte {
		i := slices.Index(types, sig)
		if i < 0 {
			i, types = len(types), append(types, sig)
		}
		return u(i)
	}
	names := map[string]int{}
	lists := map[byte][][]byte{secMemory: {g.memory()}}
	add := func(id byte, entry ...[]byte) { lists[id] = append(lists[id], slices.Concat(entry...)) }
	for i, text := range g.imports {
		name, sig, _ := strings.Cut(text, " ")
		module, name, _ := strings.Cut(name, ".")
		names["$"+name] = i
		add(secImport, sized([]byte(module)), sized([]byte(name)), b(0), typeOf(sig))
	}
	add(secExport, exported("memory", 2, 0))
	for i, f := range functions {
		at := len(g.imports) + i
		names["$"+f.name] = at
		add(secFunction, typeOf(f.sig))
		if export := abiNames[f.name]; export != "" {
			add(secExport, exported(export, 0, at))
		}
	}
	for _, f := range functions {
		add(secCode, sized(f.body(names)))
	}
	add(secData, active(manifestAt, []byte(g.manifest)))
	for _, t := range types {
		add(secType, typeEntry(t))
	}
	for _, t := range g.tables {
		ref, least, _ := strings.Cut(t, " ")
		add(secTable, b(valTypes[ref], 0), u(uint64(number(least))))
	}
	for _, text := range g.globals {
		typ, value, _ := strings.Cut(text, " ")
		add(secGlobal, b(valTypes[typ], 1), assemble(value, names), b(0x0b))
	}
	lists[secExport] = append(lists[secExport], g.exports...)
	lists[secElement] = append(lists[secElement], g.elements...)
	lists[secData] = append(lists[secData], g.segments...)
	return g.join(lists)
}

// join puts the sections together.
func (g *guest) join(lists map[byte][][]byte) []byte {
	out := []byte(header)
	for _, id := range order {
		n, changed := g.count[id]
		if !changed {
			n = uint32(len(lists[id]))
		}
		content := append(u(n), slices.Concat(lists[id]...)...)
		if id == secDataCount && !changed && len(g.segments) > 0 {
			n = uint32(len(lists[secData]))
			content = u(n)
		}
		if c, ok := g.replace[id]; ok {
			content = c
		} else if n == 0 && !changed {
			continue
		}
		out = append(out, section(id, content)...)
	}
	return append(out, slices.Concat(g.after...)...)
}

func (g *guest) memory() []byte {
	pages := max(g.pages, 0)
	if g.pages == 0 {
		pages = 2
	}
	if g.most > 0 {
		return slices.Concat(b(1), u(pages), u(g.most))
	}
	return append(b(0), u(pages)...)
}

// body is a function's: its locals, its code and its end.
func (f *function) body(names map[string]int) []byte {
	own := map[string]int{}
	for k, v := range names {
		own[k] = v
	}
	params, _, _ := strings.Cut(f.sig, "->")
	n := len(strings.Fields(params))
	for i, name := range []string{"$i", "$j", "$n", "$x"} {
		own[name] = n + i
	}
	locals := f.locals
	if locals == nil {
		locals = b(3, 2, 0x7f, 1, 0x7e, 1, 0x7c)
	}
	return slices.Concat(locals, assemble(f.code, own), b(0x0b))
}

func typeEntry(sig string) []byte {
	params, results, _ := strings.Cut(sig, "->")
	out := b(0x60)
	for _, text := range []string{params, results} {
		list := strings.Fields(text)
		out = append(out, u(len(list))...)
		for _, t := range list {
			out = append(out, valTypes[t])
		}
	}
	return out
}

// section is one whole section.
func section(id byte, content []byte) []byte { return append(b(id), sized(content)...) }

// custom is one whole custom section.
func custom(name string, content ...byte) []byte {
	return section(secCustom, append(sized([]byte(name)), content...))
}

func exported(name string, kind byte, index int) []byte {
	return slices.Concat(sized([]byte(name)), b(kind), u(index))
}

// active is a data segment at a place.
func active(at int64, data []byte) []byte {
	return slices.Concat(b(0, 0x41), s(at), b(0x0b), sized(data))
}

// passive is a data segment for memory.init.
func passive(data []byte) []byte { return append(b(1), sized(data)...) }

// elements is a segment of n times a function at a place of table 0, or a passive one if at is
// passiveAt.
func elements(at int64, n, function int) []byte {
	out := b(1, 0)
	if at != passiveAt {
		out = slices.Concat(b(0, 0x41), s(at), b(0x0b))
	}
	out = append(out, u(n)...)
	for range n {
		out = append(out, u(function)...)
	}
	return out
}
