package meter

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// Limits of symbols. What is over one of them is left out: symbols are a help, and no module is
// refused for them.
const (
	nameMost   = 256       // bytes of a function's name
	namesMost  = 1 << 20   // and of all names
	tracedMost = 256 << 10 // bytes of code that has lines, since wazero then keeps more of it
	rowsMost   = 100_000
	movesMost  = 200_000
)

// Symbols tell which function and which line of its source a place of a rewritten module is. They
// come from the custom sections that compilers leave; without these, functions have the names that
// they are exported by. Any goroutine may use them.
type Symbols struct {
	exports map[uint32]string
	names   string // of all functions, one after the other
	ends    []uint32
	pause   uint32 // index of the function that the rewriting added

	moves []move // by their place in the rewritten code
	rows  []row  // by their place in the module's own
	files []string
}

// Place is a place in the source.
type Place struct {
	File string // with the folder, if that is a relative one; "" if the place is not known
	Line int
	// Loop says that the place is the beginning of a loop, where its turns are charged, and Entry that
	// of a function.
	Loop, Entry bool
	Library     bool // the file comes with the toolchain
}

// Known reports whether the symbols know where it is.
func (p Place) Known() bool { return p.File != "" }

// move says which of the module's own code a stretch of the rewritten code is for.
type move struct {
	to   uint32 // in the rewritten code section
	from uint32 // in the module
	kind moveKind
}

type moveKind uint8

const (
	moved   moveKind = iota // as it was
	added                   // for the instruction there
	forLoop                 // for the loop there
	forCall                 // for the function there
)

// row says that the code from a place on, up to the next row's, is for a line.
type row struct {
	at   uint32 // in the module
	line uint32 // 0: of none
	file uint32
}

// keepCustom remembers a custom section if symbols come from such ones. The first of a name counts.
func (m *Module) keepCustom(name string, content []byte) {
	switch name {
	case "name", debugLine, debugStr, debugLineStr:
		if m.custom == nil {
			m.custom = map[string][]byte{}
		}
		if m.custom[name] == nil {
			m.custom[name] = content
		}
	}
}

// optional calls read, which may fail as reads of a module do: what is optional is then left out.
func optional(read func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, failed := p.(*Error); !failed {
				panic(p)
			}
			ok = false
		}
	}()
	read()
	return true
}

// newSymbols reads what the module says of itself, but for moves, which the rewriting finds.
func (m *Module) newSymbols() *Symbols {
	s := &Symbols{exports: map[uint32]string{}}
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(m.exports))) {
		if e := m.exports[name]; e.kind == kindFunc {
			s.exports[e.index] = name // of several, the one that sorts first
		}
	}
	optional(func() { m.readNames(s) })
	code := &m.sections[secCode]
	if m.custom[debugLine] == nil || code.end-code.start > tracedMost {
		return s
	}
	if !optional(func() { m.readRows(s) }) {
		s.rows, s.files = nil, nil
	}
	return s
}

// readNames reads the names of functions from the name section, in which they stand by their
// indexes. If it is damaged, those before the damage count.
func (m *Module) readNames(s *Symbols) {
	content := m.custom["name"]
	r := &reader{b: content, end: len(content), lim: &m.limits}
	for r.at < r.end {
		id, size := r.byte(), r.u32()
		part := r.bytes(size)
		if id == 1 { // those of functions
			text := &strings.Builder{}
			optional(func() {
				s.readNames(&reader{b: part, end: len(part), lim: &m.limits}, len(m.functions), text)
			})
			s.names = text.String()
			return
		}
	}
}

func (s *Symbols) readNames(r *reader, functions int, text *strings.Builder) {
	for range r.count("names", functions) {
		i, name := r.index("function", functions), r.bytes(r.u32())
		name = name[:min(len(name), nameMost)]
		if int(i) < len(s.ends) || text.Len()+len(name) > namesMost {
			return
		}
		for len(s.ends) < int(i) {
			s.ends = append(s.ends, uint32(text.Len()))
		}
		text.Write(name)
		s.ends = append(s.ends, uint32(text.Len()))
	}
}

// Func is the name of the function with that index, in printable characters and made easy to read;
// "" if it has none.
func (s *Symbols) Func(i uint32) string {
	name := ""
	if uint64(i) < uint64(len(s.ends)) {
		begin := uint32(0)
		if i > 0 {
			begin = s.ends[i-1]
		}
		name = s.names[begin:s.ends[i]]
	}
	// The ABI's functions may have another name in the source, by an SDK's macro.
	if e := s.exports[i]; name == "" || strings.HasPrefix(e, "wasmeval_") {
		name = e
	}
	return demangle(printable(name, nameMost))
}

// Added reports whether the function with that index is none of the module's own.
func (s *Symbols) Added(i uint32) bool { return s.pause != 0 && i == s.pause }

// Place is the place of the source that an instruction is for, which stands at an offset in the
// code section of the rewritten module.
func (s *Symbols) Place(offset uint64) (p Place) {
	i, exact := slices.BinarySearchFunc(s.moves, offset, func(m move, offset uint64) int {
		return cmp.Compare(uint64(m.to), offset)
	})
	if !exact {
		i--
	}
	if i < 0 {
		return Place{}
	}
	m := s.moves[i]
	at := uint64(m.from)
	if m.kind == moved {
		at += offset - uint64(m.to)
	}
	i, exact = slices.BinarySearchFunc(s.rows, at, func(r row, at uint64) int {
		return cmp.Compare(uint64(r.at), at)
	})
	if !exact {
		i--
	}
	if i < 0 || s.rows[i].line == 0 {
		return Place{}
	}
	file := s.files[s.rows[i].file]
	return Place{File: file, Line: int(s.rows[i].line), Library: isLibrary(file),
		Loop: m.kind == forLoop, Entry: m.kind == forCall}
}

// mark notes which code the next bytes of the output are for.
func (e *emitter) mark(from int, kind moveKind) {
	if !e.marking {
		return
	}
	to := uint32(len(e.out))
	if n := len(e.moves); n > e.first {
		last := &e.moves[n-1]
		if last.to == to {
			*last = move{to, uint32(from), kind}
			return
		}
		if kind == moved && last.kind == moved && to-last.to == uint32(from)-last.from {
			return
		}
	}
	if len(e.moves) == movesMost {
		e.marking, e.moves, e.first = false, nil, 0
		return
	}
	e.moves = append(e.moves, move{to, uint32(from), kind})
}

// settleMoves makes the places of the body's moves those in the code section, where it begins at
// base.
func (e *emitter) settleMoves(base int) {
	for i := e.first; i < len(e.moves); i++ {
		e.moves[i].to += uint32(base)
	}
	e.first = len(e.moves)
}

// beacon appends custom sections of debug information in which every place of the code has the line
// 1 of a file "-". For modules that have such sections, and no others, wazero keeps at which offset
// each instruction stood, and its stack traces give these offsets. What they mean is up to Symbols:
// nothing of the module's own debug information is given to another reader.
func (w *rewriter) beacon() {
	for _, s := range []struct {
		name    string
		content []byte
	}{{".debug_abbrev", beaconAbbrev}, {".debug_info", beaconInfo}, {debugLine, beaconLine}} {
		w.section(secCustom, append(append([]byte{byte(len(s.name))}, s.name...), s.content...))
	}
}

// The beacon is DWARF 4 with addresses of 32 bits. It ends below the addresses that stand for code
// that was removed.
var (
	beaconAbbrev = []byte{
		1, 0x11, 0, // abbreviation 1: a compile unit, without children
		0x11, 0x01, // low_pc, an address
		0x12, 0x06, // high_pc, 4 bytes: a length
		0x10, 0x17, // stmt_list, an offset
		0, 0, 0,
	}
	beaconInfo = sized([]byte{4, 0, 0, 0, 0, 0, 4, 1}, le32(1), le32(beaconEnd-1), le32(0))
	beaconLine = sized([]byte{4, 0}, le32(uint32(len(beaconFiles))), beaconFiles,
		[]byte{0, 5, 2}, le32(1), // set_address
		[]byte{1},                        // copy
		[]byte{0, 5, 2}, le32(beaconEnd), // set_address
		[]byte{0, 1, 1}) // end_sequence
	beaconFiles = []byte{
		1, 1, 1, 0xfb, 14, // lengths, is_stmt, line_base -5, line_range
		13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, // opcodes below 13, and what they take
		0, '-', 0, 0, 0, 0, 0, // no folders; one file
	}
)

const beaconEnd = 0x7fff_ff00

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// sized joins parts, with the bytes that they have before them.
func sized(parts ...[]byte) []byte {
	all := slices.Concat(parts...)
	return append(le32(uint32(len(all))), all...)
}

// printable makes a text of foreign making fit for a line of a log, and at most so many bytes long.
func printable(s string, most int) string {
	s = strings.ToValidUTF8(s[:min(len(s), most)], "?")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// rustEscapes are what Rust's compiler has for characters that a linker may not know.
var rustEscapes = strings.NewReplacer("$LT$", "<", "$GT$", ">", "$RF$", "&", "$BP$", "*",
	"$C$", ",", "$LP$", "(", "$RP$", ")", "$u20$", " ", "$u7b$", "{", "$u7d$", "}", "$u27$", "'", "$u5b$", "[",
	"$u5d$", "]", "..", "::")

// demangle makes a path of a name of Rust's, as in _ZN4rule5score17h0123456789abcdefE, and leaves
// all others as they are.
func demangle(name string) string {
	rest, ok := strings.CutPrefix(name, "_ZN")
	if !ok || rest == "E" {
		return withoutHash(name)
	}
	var path []string
	for rest != "E" {
		n, digits := 0, 0
		for digits < len(rest) && digits < 4 && rest[digits] >= '0' && rest[digits] <= '9' {
			n = 10*n + int(rest[digits]-'0')
			digits++
		}
		if n == 0 || digits+n >= len(rest) {
			return name
		}
		part := rest[digits : digits+n]
		if strings.HasPrefix(part, "_$") {
			part = part[1:]
		}
		path = append(path, rustEscapes.Replace(part))
		rest = rest[digits+n:]
	}
	return withoutHash(strings.Join(path, "::"))
}

// withoutHash cuts off what tells Rust's instances of a function apart.
func withoutHash(path string) string {
	const hash = len("::h") + 16
	n := len(path) - hash
	if n <= 0 || !strings.HasPrefix(path[n:], "::h") ||
		strings.Trim(path[n+3:], "0123456789abcdef") != "" {
		return path
	}
	return path[:n]
}
