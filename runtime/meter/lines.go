package meter

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// The custom sections that lines come from.
const (
	debugLine    = ".debug_line"
	debugStr     = ".debug_str"      // strings of the one before, from version 5 on
	debugLineStr = ".debug_line_str" // likewise
)

const (
	filesMost = 10_000  // of one program, and those with lines of all
	pathMost  = 1_024   // bytes of a folder, and of a file
	textMost  = 4 << 20 // bytes of all paths that are read
	shownMost = 100     // bytes of a path as it is shown
	lineMost  = 1 << 24
)

// readRows reads the line programs of the module. The reader is our own, since that of the standard
// library believes the counts that it reads, which a hostile module can have as large as it likes.
func (m *Module) readRows(s *Symbols) {
	l := &lines{m: m, index: map[string]uint32{}, reader: reader{b: m.custom[debugLine],
		end: len(m.custom[debugLine]), lim: &m.limits}}
	for i := range m.bodies {
		// A body of which nothing is known is not that of the row before it.
		l.rows = append(l.rows, row{at: uint32(m.bodies[i].decls)})
	}
	own := len(l.rows)
	for l.at < len(l.b) {
		l.program()
	}
	if len(l.rows) == own {
		return
	}
	slices.SortStableFunc(l.rows, func(a, b row) int { return cmp.Compare(a.at, b.at) })
	n := 0
	for _, r := range l.rows {
		if n > 0 && l.rows[n-1].at == r.at {
			n--
		}
		if n > 0 && r.line != 0 && l.rows[n-1].line == r.line && l.rows[n-1].file == r.file {
			continue
		}
		l.rows[n] = r
		n++
	}
	s.rows, s.files = slices.Clone(l.rows[:n]), l.files
}

// lines reads line programs: see chapter 6.2 of the DWARF standards, versions 2 to 5. It keeps what
// is needed to name the file and the line of an address.
type lines struct {
	reader
	m     *Module
	rows  []row
	files []string
	index map[string]uint32 // of files
	texts int               // bytes of paths so far

	// Of the program at hand:
	version   uint64
	folders   []string
	known     []sourceFile // as the program counts them
	least     uint64       // bytes of an instruction
	lineBase  int
	lineRange int
	lengths   []byte // of the standard opcodes: how many operands they have

	// Of the sequence at hand:
	begun, dead         bool // it has its address, and that is in no body
	address, file, line uint64
}

// sourceFile is a file of a program.
type sourceFile struct {
	folder uint64
	name   string
	shown  uint32 // its index in lines.files, plus 1; 0: it has none yet
}

func (l *lines) fixed(size int) uint64 {
	b := l.bytes(uint32(size))
	switch size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

// text reads bytes up to their zero.
func (l *lines) text() string {
	s := l.textOf(l.b[l.at:l.end])
	l.at += len(s) + 1
	return s
}

func (l *lines) textOf(b []byte) string {
	n := bytes.IndexByte(b[:min(len(b), pathMost)], 0)
	if n < 0 {
		l.fail(Malformed, "a path has no end")
	}
	l.spend(n)
	return string(b[:n])
}

func (l *lines) spend(n int) {
	if l.texts += n; l.texts > textMost {
		l.fail(Limit, "paths of %d bytes and more", l.texts)
	}
}

// program reads one line program, with its header.
func (l *lines) program() {
	size := l.fixed(4)
	if size > uint64(len(l.b)-l.at) {
		l.fail(Malformed, "a line program has %d bytes", size) // or 64-bit offsets
	}
	l.end = l.at + int(size)
	defer func() { l.at, l.end = l.end, len(l.b) }()
	if l.version = l.fixed(2); l.version < 2 || l.version > 5 {
		return
	}
	if l.version == 5 {
		l.fixed(2) // sizes of addresses and of segment selectors
	}
	begin := l.fixed(4)
	if begin > uint64(l.end-l.at) {
		l.fail(Malformed, "the header of a line program has %d bytes", begin)
	}
	start := l.at + int(begin)
	l.least = l.fixed(1)
	if l.version >= 4 {
		l.fixed(1) // operations in an instruction
	}
	l.fixed(1) // whether rows begin statements
	l.lineBase, l.lineRange = int(int8(l.byte())), int(l.byte())
	opcodes := l.byte()
	if l.lineRange == 0 || opcodes == 0 {
		l.fail(Malformed, "a line program has no opcodes")
	}
	l.lengths = l.bytes(uint32(opcodes - 1))
	l.folders, l.known = nil, nil
	if l.version == 5 {
		l.table(func(_ uint64, name string) { l.folders = append(l.folders, name) })
		l.table(l.addFile)
	} else {
		l.tables()
	}
	l.at = start
	for l.restart(); l.at < l.end; {
		l.step()
	}
}

func (l *lines) addFile(folder uint64, name string) {
	l.known = append(l.known, sourceFile{folder: folder, name: name})
	l.few(len(l.known))
}

func (l *lines) few(n int) {
	if n > filesMost {
		l.fail(Limit, "%d files or folders, and more", n)
	}
}

// tables reads the folders and files of versions 2 to 4. Both count from 1: folder 0 is that in
// which the compiler ran, and there is no file 0.
func (l *lines) tables() {
	l.folders = append(l.folders, "")
	for name := l.text(); name != ""; name = l.text() {
		l.folders = append(l.folders, name)
		l.few(len(l.folders))
	}
	l.addFile(0, "")
	for name := l.text(); name != ""; name = l.text() {
		l.addFile(l.unsigned(64), name)
		l.unsigned(64) // time
		l.unsigned(64) // size
	}
}

// table reads the folders or the files of version 5, whose entries have a format.
func (l *lines) table(add func(folder uint64, name string)) {
	format := make([][2]uint64, l.byte())
	for i := range format {
		format[i] = [2]uint64{l.unsigned(64), l.unsigned(64)}
	}
	n := l.unsigned(64)
	if n > filesMost || n > 0 && len(format) == 0 {
		l.fail(Limit, "%d files or folders", n)
	}
	for range n {
		folder, name := uint64(0), ""
		for _, f := range format {
			switch text, number := l.form(f[1]); f[0] {
			case 1:
				name = text
			case 2:
				folder = number
			}
		}
		add(folder, name)
	}
}

// form reads a value of one of the forms that entries may have.
func (l *lines) form(form uint64) (text string, number uint64) {
	switch form {
	case 0x08: // string
		return l.text(), 0
	case 0x0e: // strp
		return l.string(debugStr), 0
	case 0x1f: // line_strp
		return l.string(debugLineStr), 0
	case 0x0f: // udata
		return "", l.unsigned(64)
	case 0x0b: // data1
		return "", l.fixed(1)
	case 0x05: // data2
		return "", l.fixed(2)
	case 0x1e: // data16
		l.bytes(16)
	case 0x09: // block
		l.bytes(l.u32())
	default:
		l.fail(Unoffered, "a line program has form %d", form)
	}
	return "", 0
}

// string reads an offset in a section of strings, and the string there.
func (l *lines) string(section string) string {
	at, b := l.fixed(4), l.m.custom[section]
	if at >= uint64(len(b)) {
		l.fail(BadIndex, "there is no string %d", at)
	}
	return l.textOf(b[at:])
}

func (l *lines) restart() {
	l.address, l.file, l.line, l.begun, l.dead = 0, 1, 1, false, true
}

// step runs one opcode.
func (l *lines) step() {
	op := l.byte()
	if int(op) > len(l.lengths) {
		n := int(op) - len(l.lengths) - 1
		l.advance(uint64(n / l.lineRange))
		l.line += uint64(int64(l.lineBase + n%l.lineRange))
		l.row()
		return
	}
	switch op {
	case 0:
		l.extended()
	case 1: // copy
		l.row()
	case 2: // advance_pc
		l.advance(l.unsigned(64))
	case 3: // advance_line
		l.line += uint64(l.signed(64))
	case 4: // set_file
		l.file = l.unsigned(64)
	case 8: // const_add_pc
		l.advance(uint64((255 - len(l.lengths) - 1) / l.lineRange))
	case 9: // fixed_advance_pc
		l.address += l.fixed(2)
	default:
		for range l.lengths[op-1] {
			l.unsigned(64)
		}
	}
}

func (l *lines) advance(n uint64) { l.address += n * l.least }

// extended runs an opcode that has its length before it.
func (l *lines) extended() {
	n := l.u32()
	if n == 0 {
		return
	}
	begin := l.at
	l.bytes(n)
	next := l.at
	l.at = begin
	switch op := l.byte(); {
	case op == 1: // end_sequence
		l.restart()
	case op == 2 && n == 5: // set_address
		l.address = l.fixed(4)
		if !l.begun {
			l.begun, l.dead = true, !l.m.inBody(l.address)
		}
	}
	l.at = next
}

// inBody reports whether an address, which counts from the beginning of the code section, is in a
// function's body. Those of functions that were removed are not.
func (m *Module) inBody(address uint64) bool {
	at := address + uint64(m.sections[secCode].content)
	i, exact := slices.BinarySearchFunc(m.bodies, at, func(b body, at uint64) int {
		return cmp.Compare(uint64(b.decls), at)
	})
	return exact || i > 0 && at < uint64(m.bodies[i-1].end)
}

// row adds a row, unless it is of no function or of no line.
func (l *lines) row() {
	code := &l.m.sections[secCode]
	at := l.address + uint64(code.content)
	if l.dead || at < uint64(code.start) || at >= uint64(code.end) || l.line-1 >= lineMost ||
		l.file >= uint64(len(l.known)) || l.known[l.file].name == "" {
		return
	}
	if len(l.rows) == rowsMost {
		l.fail(Limit, "more than %d rows", rowsMost)
	}
	f := &l.known[l.file]
	if f.shown == 0 {
		f.shown = l.show(f) + 1
	}
	l.rows = append(l.rows, row{uint32(at), uint32(l.line), f.shown - 1})
}

// show is the index of a file's path as it is shown.
func (l *lines) show(f *sourceFile) uint32 {
	path := f.name
	if f.folder > 0 && f.folder < uint64(len(l.folders)) && !absolute(path) {
		path = l.folders[f.folder] + "/" + path
	}
	l.spend(len(path))
	path = shownPath(path)
	i, ok := l.index[path]
	if !ok {
		i = uint32(len(l.files))
		l.files = append(l.files, path)
		l.index[path] = i
		l.few(len(l.files))
	}
	return i
}

// libraryMarks are folders of the sources that come with a toolchain.
var libraryMarks = []string{"rustc/", "library/core/", "library/std/", "library/alloc/",
	".cargo/registry/", "rustlib/src/"}

// isLibrary reports whether a file, as it is shown, comes with a toolchain.
func isLibrary(path string) bool {
	return slices.ContainsFunc(libraryMarks, func(m string) bool { return strings.Contains(path, m) })
}

// shownPath shortens a path: how the folders are named of the machine that compiled it is nobody's
// concern, unless they say that it comes with the toolchain.
func shownPath(path string) string {
	path = strings.ReplaceAll(path, `\`, "/")
	if absolute(path) {
		at := strings.LastIndexByte(path, '/') + 1
		for _, m := range libraryMarks {
			if i := strings.LastIndex(path, m); i >= 0 {
				at = i
				break
			}
		}
		path = path[at:]
	}
	return printable(path[max(0, len(path)-shownMost):], shownMost)
}

func absolute(path string) bool {
	return strings.HasPrefix(path, "/") || len(path) > 2 && path[1] == ':'
}
