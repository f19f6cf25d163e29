package hostile

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// symbols are modules with debug information that is to hurt whoever reads it, when they are loaded
// or when they trap.
func symbols() []Module {
	traps := func(name, what string, sections ...[]byte) Module {
		return fails(name, what, guest{attack: "unreachable", after: sections}, trap)
	}
	lines := func(b ...byte) []byte { return custom(".debug_line", b...) }
	nothing := bytes.Repeat(b(0xff), 9)
	version5 := func(tables ...byte) []byte { return lineProgram(5, tables, nil) }
	files := func(n int, name string) []byte {
		return append(bytes.Repeat([]byte(name+"\x00\x00\x00\x00"), n), 0)
	}
	return []Module{
		traps("debug-files-2-63", "a line program announces 2^63 files of which each has no bytes",
			version5(slices.Concat(b(0), nothing, b(0))...)),
		traps("debug-files-strings", "20,000 files that are one string of 64 KiB",
			version5(slices.Concat(b(0, 0, 1, 1, 0x1f), u(20_000), make([]byte, 80_000))...),
			custom(".debug_line_str", bytes.Repeat(b('a'), 64<<10)...)),
		traps("debug-program-4g", "a line program announces 2^32-1 bytes", lines(nothing...)),
		traps("debug-header-4g", "the header of a line program announces 2^32-1 bytes",
			lines(append(sizedLine(b(4, 0)), nothing...)...)),
		traps("debug-path-100k", "a path of 100 KiB", lineProgram(4, slices.Concat(b(0),
			files(1, strings.Repeat("a", 100<<10))), nil)),
		traps("debug-range-0", "a line program to be divided by 0", lines(sizedLine(slices.Concat(b(4, 0),
			le(9), b(1, 1, 1, 0, 0, 1, 0, 0, 0, 77)))...)),
		traps("debug-rows-200k", "200,000 rows for one instruction", lineProgram(4,
			slices.Concat(b(0), files(1, "a")), slices.Concat(b(0, 5, 2), le(4),
				bytes.Repeat(b(1), 200_000)))),
		traps("debug-lines-wrap", "lines and addresses that wrap around", lineProgram(4,
			slices.Concat(b(0), files(1, "a")), slices.Concat(b(0, 5, 2), le(4),
				bytes.Repeat(slices.Concat(b(2), nothing, b(1, 1, 3), nothing, b(1, 1)), 1000)))),
		traps("debug-info-loops", "units whose abbreviations and children have no end",
			custom(".debug_abbrev", bytes.Repeat(b(1, 0x11, 1, 0, 0), 1000)...),
			custom(".debug_info", bytes.Repeat(b(8, 0, 0, 0, 4, 0, 0, 0, 0, 0, 4, 1), 2000)...)),
		traps("names-escape", "a function with a name that writes to terminals, logs and JSON",
			functionNames("\x1b[2J\r\n\"}],\xff\x00<script>")),
		traps("names-8k", "functions with names of 8 KiB", functionNames(strings.Repeat("n", 8<<10))),
		traps("names-fake", "a function with the name of a host function, and a trace in it",
			functionNames("wasmeval.emit(i32)\n\t.$0()\n\t\t0x7: rule.c:1")),
	}
}

func le(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// sizedLine is a line program with its length before it.
func sizedLine(content []byte) []byte { return append(le(uint32(len(content))), content...) }

// lineProgram is a section with one line program, of a version, with the tables of its header.
func lineProgram(version byte, tables, opcodes []byte) []byte {
	header := append(b(1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1), tables...)
	content := b(version, 0)
	if version == 5 {
		content = append(content, 4, 0)
	}
	content = slices.Concat(content, le(uint32(len(header))), header, opcodes)
	return custom(".debug_line", sizedLine(content)...)
}

// functionNames is a name section that gives the first ten functions one name.
func functionNames(name string) []byte {
	list := u(10)
	for i := range 10 {
		list = slices.Concat(list, u(i), sized([]byte(name)))
	}
	return custom("name", append(b(1), sized(list)...)...)
}
