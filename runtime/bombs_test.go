package runtime

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// Modules that tests make themselves: small ones that differ, and those that cost wazero out of all
// proportion to compile.

func leb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

func sized(b []byte) []byte { return append(leb(len(b)), b...) }

func section(id byte, entries ...[]byte) []byte {
	return append([]byte{id}, sized(append(leb(len(entries)), slices.Concat(entries...)...))...)
}

func exported(name string, kind, index byte) []byte {
	return append(sized([]byte(name)), kind, index)
}

// madeModule is a rule that never matches, with functions of type () -> () beside those of the ABI.
func madeModule(description string, bodies ...[]byte) []byte {
	const place = 1024
	manifest := fmt.Sprintf(`{"description":%q,"match":["*"],"fields":[]}`, description)
	body := func(code ...byte) []byte { return sized(append(append([]byte{0}, code...), 0x0b)) }
	konst := func(v int64) []byte { // i64.const
		b := []byte{0x42}
		for ; v >= 64; v >>= 7 {
			b = append(b, byte(v)|0x80)
		}
		return append(b, byte(v))
	}
	sixty := slices.Concat([]byte{0x60, 60}, bytes.Repeat([]byte{0x7f}, 60), []byte{0})
	types := [][]byte{{0x60, 0, 1, 0x7f}, {0x60, 0, 1, 0x7e}, {0x60, 1, 0x7f, 1, 0x7f}, {0x60, 0, 0},
		sixty} // for pedanticModule
	functions := [][]byte{{0}, {1}, {2}, {2}}
	codes := [][]byte{
		body(0x41, 1), body(konst(place<<32 | int64(len(manifest)))...),
		body(0x41, 0x80, 0xc0, 0x00), // 8192
		body(0x41, 0),
	}
	for _, b := range bodies {
		functions, codes = append(functions, []byte{3}), append(codes, sized(b))
	}
	data := slices.Concat([]byte{0, 0x41, 0x80, 0x08, 0x0b}, sized([]byte(manifest))) // at 1024
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"), section(1, types...),
		section(3, functions...), section(5, []byte{0, 1}),
		section(7, exported("memory", 2, 0), exported("wasmeval_abi", 0, 0),
			exported("wasmeval_manifest", 0, 1), exported("wasmeval_input", 0, 2),
			exported("wasmeval_evaluate", 0, 3)),
		section(10, codes...), section(11, data))
}

// i32Locals begins a body that has n of them.
func i32Locals(n int) []byte { return append(append([]byte{1}, leb(n)...), 0x7f) }

// slowModule takes minutes to compile and little memory: nested loops that each set a local, so
// that each loop has to merge each local's values.
func slowModule() []byte {
	const depth, locals = 900, 1000
	b := i32Locals(locals)
	for i := range depth {
		v := leb(i)
		// loop; local.get v; i32.const 1; i32.add; local.set v
		b = slices.Concat(b, []byte{0x03, 0x40, 0x20}, v, []byte{0x41, 1, 0x6a, 0x21}, v)
	}
	for i := range depth {
		b = slices.Concat(b, []byte{0x20}, leb(i), []byte{0x0d, 0, 0x0b}) // local.get; br_if 0; end
	}
	return madeModule("slow", append(b, 0x0b))
}

// pedanticModule is compiled at once, since nothing in it is ever reached, but takes long to
// validate: jump tables whose targets take sixty values each.
func pedanticModule() []byte {
	const tables, targets = 60, 20_000
	values := bytes.Repeat([]byte{0x41, 0}, 60) // i32.const 0
	// loop of type 4; unreachable
	b := slices.Concat(i32Locals(1), values, []byte{0x03, 4, 0x00})
	table := slices.Concat(values, []byte{0x41, 0, 0x0e}, leb(targets), make([]byte, targets+1))
	b = append(b, bytes.Repeat(table, tables)...)
	return madeModule("pedantic", append(b, 0x0b, 0x0b))
}

// fatModule takes gigabytes to compile: jump tables, each of whose targets becomes a block.
func fatModule() []byte {
	const depth, tables, targets = 100, 50, 20_000
	var table []byte
	// block; local.get 0; br_table
	table = slices.Concat([]byte{0x02, 0x40, 0x20, 0, 0x0e}, leb(targets))
	for i := range targets {
		table = append(table, byte(i%depth))
	}
	table = append(table, 0, 0x0b)
	b := i32Locals(1)
	for range depth {
		b = append(b, 0x02, 0x40)
	}
	for range tables {
		b = append(b, table...)
	}
	for range depth + 1 {
		b = append(b, 0x0b)
	}
	return madeModule("fat", b)
}
