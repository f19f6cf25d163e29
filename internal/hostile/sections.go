package hostile

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// The kinds of refusal of the prescan that the corpus provokes.
const (
	malformed = "malformed"
	limit     = "limit"
	opcodeNo  = "opcode"
	badImport = "import"
	badExport = "export"
	start     = "start"
	badIndex  = "index"
	unoffered = "unoffered"
)

const most = 1<<32 - 1 // of 32 bits

// huge is 2^32-1 in LEB128.
var huge = b(0xff, 0xff, 0xff, 0xff, 0x0f)

// counts are modules that announce more than they have: a decoder that allocates before it reads
// dies of them.
func counts() []Module {
	var list []Module
	for _, c := range []struct {
		name string
		id   byte
		want string
	}{
		{"type", secType, "type entries"}, {"import", secImport, "import entries"},
		{"function", secFunction, "function entries"}, {"table", secTable, "table entries"},
		{"memory", secMemory, "memory entries"}, {"global", secGlobal, "global entries"},
		{"export", secExport, "export entries"}, {"element", secElement, "element entries"},
		{"code", secCode, "code entries"}, {"data", secData, "data entries"},
		{"data-count", secDataCount, "data segments"},
	} {
		for name, n := range map[string]uint32{"4g": most, "256m": 1 << 28} {
			kind := malformed
			if c.id == secDataCount {
				kind = limit
			}
			code := guest{count: map[byte]uint32{c.id: n}}.build()
			list = append(list, refused("count-"+c.name+"-"+name,
				fmt.Sprintf("the %s section announces %d entries, to be allocated for", c.name, n),
				code, kind, fmt.Sprintf("%d %s", n, c.want)))
		}
	}
	slices.SortFunc(list, func(a, b Module) int { return strings.Compare(a.Name, b.Name) })
	return append(list, innerCounts()...)
}

// types is a rule that has as its types the given entries.
func types(entries ...[]byte) guest {
	return guest{replace: map[byte][]byte{secType: append(u(len(entries)),
		slices.Concat(entries...)...)}}
}

// withBody is a rule with one more function, of the given bytes with the local declarations.
func withBody(body []byte) guest {
	f := guest{}.functions()
	names := map[string]int{"$attack": 4}
	content := u(len(f))
	for i := range f[1:] {
		content = append(content, sized(f[i].body(names))...)
	}
	return guest{replace: map[byte][]byte{secCode: append(content, body...)}}
}

// innerCounts are the same within the entries of sections.
func innerCounts() []Module {
	return []Module{
		refused("count-params-4g", "a type announces 2^32-1 params",
			types(append(b(0x60), huge...)).build(), malformed, "4294967295 params"),
		refused("count-results-4g", "a type announces 2^32-1 results",
			types(append(b(0x60, 0), huge...)).build(), malformed, "4294967295 results"),
		refused("locals-4g", "a function declares 2^32-1 locals in nine bytes",
			withBody(sized(slices.Concat(b(1), huge, b(0x7f, 0x0b)))).build(), limit, "locals"),
		refused("locals-wrap", "locals whose sum is 1 in 32 bits",
			withBody(sized(slices.Concat(b(2), huge, b(0x7f, 2, 0x7f, 0x0b)))).build(), limit, "locals"),
		refused("locals-groups-4g", "a function announces 2^32-1 groups of locals",
			withBody(sized(slices.Concat(huge, b(0x0b)))).build(), malformed, "local declarations"),
		refused("locals-flood", "110 functions with as many locals as one may have",
			guest{more: slices.Repeat([]function{{name: "f", sig: "->", locals: b(1, 0x8f, 0x4e, 0x7e)}},
				110)}.build(), limit, "all functions together"),
		refused("body-4g", "a body announces 2^32-1 bytes",
			withBody(slices.Concat(huge, b(0, 0x0b))).build(), malformed, "a body of 4294967295 bytes"),
		refused("body-past-section", "a body that is one byte longer than its section",
			withBody(b(3, 0, 0x0b)).build(), malformed, "a body of 3 bytes"),
		refused("body-1m", "a body of 1 MiB of instructions",
			withBody(sized(slices.Concat(b(0), bytes.Repeat(b(0x01), 1<<20), b(0x0b)))).build(), limit,
			"body has 1048578 bytes"),
		refused("br-table-4g", "a br_table announces 2^32-1 targets",
			guest{attack: "i32.const 0 0x0e 0xff 0xff 0xff 0xff 0x0f"}.build(), malformed,
			"targets of a br_table"),
		refused("br-table-100000", "a br_table with 100,000 targets that are there",
			guest{attack: "i32.const 0 br_table " + repeat(100_001, "0")}.build(), limit,
			"targets of a br_table"),
		refused("elements-4g", "an element segment announces 2^32-1 functions",
			guest{tables: []string{"funcref 1"}, elements: [][]byte{slices.Concat(b(1, 0), huge)}}.build(),
			malformed, "elements are announced"),
		refused("data-4g", "a data segment announces 2^32-1 bytes",
			guest{segments: [][]byte{slices.Concat(b(1), huge)}}.build(), malformed,
			"4294967295 bytes are announced"),
		refused("name-4g", "an export's name announces 2^32-1 bytes",
			guest{exports: [][]byte{huge}}.build(), malformed, "bytes of an export's name"),
		refused("section-4g", "a section announces 2^32-1 bytes",
			guest{after: [][]byte{append(b(secCustom), huge...)}}.build(), malformed,
			"4294967295 bytes are announced"),
		refused("select-4g", "a select announces 2^32-1 types",
			guest{attack: "i32.const 0 i32.const 0 i32.const 0 0x1c 0xff 0xff 0xff 0xff 0x0f"}.build(),
			malformed, "types of a select"),
		refused("table-4g", "a table of 2^32-1 entries, 32 GiB",
			guest{tables: []string{"funcref 0xffffffff"}}.build(), limit, "tables of 4294967295 entries"),
		refused("table-wrap", "two tables whose entries are 0 together in 32 bits",
			guest{tables: []string{"funcref 0x80000000", "funcref 0x80000000"}}.build(), limit, "tables of"),
		refused("memory-4g", "a memory that begins with all 65,536 pages, 4 GiB",
			guest{pages: 65536}.build(), limit, "65536 pages"),
		refused("memory-max-4g", "a memory that may grow to 2^32-1 pages", guest{most: most}.build(),
			malformed, "maximum of 4294967295 pages"),
	}
}

// shapes are modules that are not what the binary format says.
func shapes() []Module {
	good := guest{}.build()
	swapped := slices.Concat([]byte(header), section(secFunction, b(0)), section(secType, b(0)))
	attack := func(code string) []byte { return guest{attack: code}.build() }
	return []Module{
		refused("not-wasm", "JSON in the place of a module", []byte(plain), malformed,
			"no WebAssembly module"),
		refused("no-bytes", "no bytes at all", nil, malformed, "no WebAssembly module"),
		refused("version-2", "a version of the format that there is not",
			append([]byte("\x00asm\x02\x00\x00\x00"), good[8:]...), malformed, "version 0x2"),
		refused("component", "a component, with the layout of another format",
			append([]byte("\x00asm\x0d\x00\x01\x00"), good[8:]...), malformed, "no component"),
		unreadyBytes("empty", "a module without any section", []byte(header), "does not export"),
		refused("cut-off", "a module that ends in the middle of its code", good[:len(good)-40], malformed,
			"bytes are announced"),
		refused("rest-bytes", "one byte after the last section", slices.Concat(good, b(1)), malformed,
			"ends"),
		refused("section-rest", "a section with a byte after its last entry",
			guest{replace: map[byte][]byte{secTable: b(0, 0)}}.build(), malformed, "1 bytes too many"),
		refused("section-twice", "two code sections", slices.Concat(good, section(secCode, b(0))),
			malformed, "code section is doubled"),
		refused("section-order", "functions before their types", swapped, malformed, "out of order"),
		refused("section-unknown", "a section of id 200", slices.Concat(good, section(200, nil)),
			unoffered, "section 200"),
		refused("bodies-missing", "a function that has no body",
			guest{replace: map[byte][]byte{secFunction: b(6, 1, 2, 3, 3, 5, 0)}}.build(), malformed,
			"6 functions are declared, but 5"),
		refused("bodies-many", "a body that has no function",
			guest{evaluate: accept}.with(secFunction, 4, 1, 2, 3, 3).build(), malformed,
			"more bodies than functions"),
		refused("data-count-lies", "two data segments announced to the code, one there",
			guest{replace: map[byte][]byte{secDataCount: b(2)}}.build(), malformed,
			"2 data segments are announced, but 1"),
		refused("leb-long-count", "a count in six bytes",
			types().with(secType, 0x80, 0x80, 0x80, 0x80, 0x80, 0).build(), malformed, "LEB128"),
		refused("leb-unused-bits", "a count whose fifth byte has bits beyond the 32nd",
			types().with(secType, 0x80, 0x80, 0x80, 0x80, 0x10).build(), malformed, "LEB128"),
		refused("leb-long-size", "a section's size in eleven bytes",
			slices.Concat(good, b(secCustom), bytes.Repeat(b(0x80), 10), b(0)), malformed, "LEB128"),
		refused("leb-long-i32", "an i32.const in six bytes",
			attack("0x41 0x80 0x80 0x80 0x80 0x80 0 drop"), malformed, "LEB128"),
		refused("leb-i32-sign", "an i32.const whose unused bits are not its sign",
			attack("0x41 0xff 0xff 0xff 0xff 0x0f drop"), malformed, "LEB128"),
		refused("leb-long-i64", "an i64.const in eleven bytes",
			attack("0x42 "+repeat(10, "0x80")+"0 drop"), malformed, "LEB128"),
		refused("leb-block-type", "a block's type that is 2^33",
			attack("0x02 0x80 0x80 0x80 0x80 0xa0 0 end"), malformed, "LEB128"),
		refused("leb-long-vector",
			"a vector instruction whose number is longer than needed, to be read as another one",
			attack("i32.const 0 0xfd 0x80 0 0 0 drop"), opcodeNo, "longer than needed"),
		refused("leb-long-bulk",
			"a memory.fill whose number is longer than needed, to be read as another one",
			attack(repeat(3, "i32.const 0")+"0xfc 0x8b 0 0"), opcodeNo, "longer than needed"),
		refused("name-not-utf8", "an export's name that is not UTF-8",
			guest{exports: [][]byte{exported("\xff\xfe", 0, 0)}}.build(), malformed, "not UTF-8"),
		refused("body-rest", "instructions after the end of a function", attack("end nop"), malformed,
			"bytes after its end"),
		refused("body-open", "a function that does not end", withBody(b(3, 0, 0x02, 0x40)).build(),
			malformed, "ends in the middle"),
		refused("else-alone", "an else without its if", attack("else"), opcodeNo, "else without its if"),
	}
}

// with replaces a section.
func (g guest) with(id byte, content ...byte) guest {
	g.replace = map[byte][]byte{id: content}
	return g
}

// unreadyBytes is a module that the prescan lets in, and that is refused later.
func unreadyBytes(name, attack string, code []byte, message string) Module {
	return Module{Name: name, Attack: attack, Code: code, Refused: message}
}

// floods are modules with too many of something that is there.
func floods() []Module {
	nothing := function{name: "f", sig: "->", locals: b(0)}
	var exports, segments, elems, flood [][]byte
	for i := range 1001 {
		exports = append(exports, exported(fmt.Sprint("e", i), 0, 0))
	}
	for range 100_001 {
		segments = append(segments, b(1, 0))
	}
	for range 10_001 {
		elems = append(elems, b(1, 0, 0))
	}
	for range 100_000 {
		flood = append(flood, custom(""))
	}
	good := Verdict{Code: 1}
	lies := func(kind byte) []byte { return custom("name", append(append(b(kind, 6), huge...), 0)...) }
	return []Module{
		refused("import-flood", "1,000 times an import that is offered",
			guest{imports: slices.Repeat([]string{"wasi_snapshot_preview1.fd_close i32 -> i32"},
				1000)}.build(), limit, "1000 import"),
		refused("export-flood", "1,001 exports of one function", guest{exports: exports}.build(), limit,
			"export entries"),
		refused("type-flood", "10,001 types",
			types(slices.Repeat([][]byte{b(0x60, 0, 0)}, 10_001)...).build(), limit, "10001 type"),
		refused("param-flood", "a type with 101 params",
			types(slices.Concat(b(0x60, 101), bytes.Repeat(b(0x7f), 101), b(0))).build(), limit,
			"101 params"),
		refused("result-flood", "a type with 21 results",
			types(slices.Concat(b(0x60, 0, 21), bytes.Repeat(b(0x7f), 21))).build(), limit, "21 results"),
		refused("function-flood", "60,000 functions without code",
			guest{more: slices.Repeat([]function{nothing}, 60_000)}.build(), limit, "function entries"),
		refused("global-flood", "1,001 globals",
			guest{globals: slices.Repeat([]string{"i32 i32.const 0"}, 1001)}.build(), limit, "1001 global"),
		refused("table-flood", "five tables",
			guest{tables: slices.Repeat([]string{"funcref 1"}, 5)}.build(), limit, "5 table"),
		refused("data-flood", "100,001 data segments without bytes", guest{segments: segments}.build(),
			limit, "data segments"),
		refused("element-flood", "10,001 element segments without functions",
			guest{tables: []string{"funcref 1"}, elements: elems}.build(), limit, "10001 element"),
		refused("nesting", "10,000 blocks, each in the one before",
			guest{attack: repeat(10_000, "block") + repeat(10_000, "end")}.build(), limit, "nested deeper"),
		refused("nesting-loops", "10,000 loops, each in the one before",
			guest{attack: repeat(10_000, "loop") + repeat(10_000, "end")}.build(), limit, "nested deeper"),
		refused("name-flood", "an export with a name of 64 KiB",
			guest{exports: [][]byte{exported(strings.Repeat("a", 1<<16), 0, 0)}}.build(), limit,
			"bytes of an export's name"),
		always("custom-flood", "100,000 custom sections, for whoever keeps them", guest{after: flood},
			good),
		always("custom-64k", "a custom section of 64 KiB named .debug_info",
			guest{after: [][]byte{custom(".debug_info", make([]byte, 64<<10)...)}}, good),
		always("name-lies", "a name section with 2^32-1 names, and one twice",
			guest{after: [][]byte{lies(0), lies(1), lies(2)}}, good),
		always("nesting-allowed", "998 blocks, each in the one before",
			guest{attack: repeat(998, "block") + repeat(998, "end")}, good),
	}
}
