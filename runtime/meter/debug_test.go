package meter

import (
	"bytes"
	"context"
	"debug/dwarf"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
)

// custom is a custom section.
func custom(name string, content ...byte) []byte {
	return sec(secCustom, append(append([]byte{byte(len(name))}, name...), content...)...)
}

// symbolsOf scans and rewrites a module.
func symbolsOf(t testing.TB, code []byte) (*Module, []byte, *Symbols) {
	t.Helper()
	m, err := Scan(code, DefaultLimits(), guestImports())
	if err != nil {
		t.Fatal(err)
	}
	out, s, err := m.RewriteWithSymbols()
	if err != nil {
		t.Fatal(err)
	}
	return m, out, s
}

// The rows are those that the standard library reads of the same sections.
func TestRows(t *testing.T) {
	for _, name := range []string{"trap-c", "trap-rust"} {
		m, _, s := symbolsOf(t, guests(t)[name])
		sections := customSections(guests(t)[name])
		data, err := dwarf.New(sections[".debug_abbrev"], nil, nil, sections[".debug_info"],
			sections[".debug_line"], nil, sections[".debug_ranges"], sections[".debug_str"])
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for unit := data.Reader(); ; unit.SkipChildren() {
			e, err := unit.Next()
			if err != nil {
				t.Fatal(err)
			}
			if e == nil {
				break
			}
			n += checkRows(t, name, m, s, data, e)
		}
		if n < 20 {
			t.Errorf("%s: %d rows were compared: expected more", name, n)
		}
	}
}

// checkRows compares the rows of one unit, and returns how many.
func checkRows(t *testing.T, name string, m *Module, s *Symbols, data *dwarf.Data,
	unit *dwarf.Entry) (n int) {
	t.Helper()
	lines, err := data.LineReader(unit)
	if err != nil || lines == nil {
		return 0
	}
	identity := &Symbols{rows: s.rows, files: s.files,
		moves: []move{{from: uint32(m.sections[secCode].content)}}}
	var row, next dwarf.LineEntry
	for begun := false; ; begun, row = true, next {
		err := lines.Next(&next)
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		if !begun || row.EndSequence || row.Line == 0 || row.Address == next.Address {
			continue
		}
		if !m.inBody(row.Address) {
			continue
		}
		got := identity.Place(row.Address)
		if got.Line != row.Line || path.Base(got.File) != path.Base(row.File.Name) {
			t.Errorf("%s: %#x is %+v: expected %s:%d", name, row.Address, got, row.File.Name, row.Line)
		}
		n++
	}
}

// customSections are the contents of custom sections by their names.
func customSections(code []byte) map[string][]byte {
	found := map[string][]byte{}
	r := reader{b: code, at: 8, end: len(code), lim: &Limits{NameBytes: 100}}
	for r.at < r.end {
		id := r.byte()
		content := r.bytes(r.u32())
		if id == secCustom {
			c := reader{b: content, end: len(content), lim: r.lim}
			name := c.name("")
			found[name] = content[c.at:]
		}
	}
	return found
}

// In every guest, each stretch of rewritten code that is said to be moved has the bytes of the place
// that it is said to be from, and all of the module's code is somewhere.
func TestMoves(t *testing.T) {
	for name, code := range guests(t) {
		m, err := Scan(code, DefaultLimits(), guestImports())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w := &rewriter{Module: m, typeOf: map[string]int{}, fuel: uint32(m.globals),
			depth: uint32(m.globals) + 1}
		out, moves := w.bodies(true)
		if len(moves) == 0 {
			continue // there are too many
		}
		covered := make([]bool, len(code))
		for i, mv := range moves {
			end := len(out)
			if i+1 < len(moves) {
				end = int(moves[i+1].to)
			}
			if int(mv.to) > end {
				t.Fatalf("%s: move %d is out of order", name, i)
			}
			for k := 0; mv.kind == moved && int(mv.to)+k < end && int(mv.from)+k < len(code); k++ {
				if out[int(mv.to)+k] == code[int(mv.from)+k] {
					covered[int(mv.from)+k] = true
				}
			}
		}
		for i := range m.bodies {
			b := &m.bodies[i]
			nowhere := -anew(b)
			for _, ok := range covered[b.start:b.end] {
				if !ok {
					nowhere++
				}
			}
			if nowhere > 0 {
				t.Errorf("%s: %d bytes of the %d of body %d are nowhere", name, nowhere, b.end-b.start, i)
			}
		}
	}
}

// anew is how many bytes of a body may be written anew: returns that become branches, labels, and the
// beginnings and ends of loops, none of which traps.
func anew(b *body) (n int) {
	for _, p := range b.points {
		switch p.kind {
		case atReturn:
			n++
		case atLoop:
			n += b.loops[p.loop].body - int(p.at) + 1
		}
	}
	for _, l := range b.labels {
		n += int(l.end - l.at)
	}
	return n
}

// Modules without debug information have none after the rewrite, and no section more.
func TestNoBeacon(t *testing.T) {
	_, with, s := symbolsOf(t, guests(t)["trap-c"])
	if len(s.rows) == 0 || !bytes.Contains(with, []byte(debugLine)) {
		t.Errorf("%d rows; expected a beacon", len(s.rows))
	}
	_, without, s := symbolsOf(t, withoutCustom(guests(t)["trap-c"]))
	if len(s.rows)+len(s.moves)+len(s.names) != 0 || bytes.Contains(without, []byte(".debug")) {
		t.Errorf("a module without debug information has symbols %+v", s)
	}
	if !bytes.HasPrefix(with, without) {
		t.Error("debug information changes more than what is appended")
	}
	if got := s.Func(uint32(len(guestImports()) + 1000)); got != "" {
		t.Errorf("a function that is not there has the name %q", got)
	}
}

// wazero takes the beacon for debug information, and names the offset of the instruction.
func TestBeacon(t *testing.T) {
	_, out, s := symbolsOf(t, addLine(oneFunction(0x00, 0x0b), 2))
	ctx := context.Background()
	for _, config := range []wazero.RuntimeConfig{wazero.NewRuntimeConfigCompiler(),
		wazero.NewRuntimeConfigInterpreter()} {
		mod, err := newRuntime(t, config).Instantiate(hosted(), out)
		if err != nil {
			t.Fatal(err)
		}
		mod.ExportedGlobal(FuelExport).(interface{ Set(uint64) }).Set(100)
		_, err = mod.ExportedFunction("f").Call(ctx)
		var offset uint64
		if err != nil {
			_, text, _ := strings.Cut(err.Error(), "\n\t\t0x")
			_, _ = fmt.Sscanf(text, "%x: -:1", &offset)
		}
		if p := s.Place(offset); p != (Place{File: "a.c", Line: 7}) {
			t.Errorf("%v: place %+v", err, p)
		}
	}
}

// addLine adds a line program to a module: from an address of its code section on there is a.c:7.
func addLine(code []byte, address uint32) []byte {
	header := slices.Concat([]byte{1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0},
		[]byte("a.c\x00\x00\x00\x00\x00"))
	program := slices.Concat([]byte{0, 5, 2}, le32(address), []byte{3, 6, 1, 2, 50, 0, 1, 1})
	return append(code, custom(debugLine, sized([]byte{4, 0}, le32(uint32(len(header))), header,
		program)...)...)
}

// What is wrong with the sections costs the symbols, soon, and never the module.
func TestDamagedSymbols(t *testing.T) {
	good := oneFunction(0x00, 0x0b)
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}
	version5 := func(tables ...byte) []byte {
		rest := slices.Concat([]byte{1, 1, 1, 0xfb, 14, 1}, tables)
		return custom(debugLine, sized([]byte{5, 0, 4, 0}, le32(uint32(len(rest))), rest)...)
	}
	for name, c := range map[string]struct{ section, line []byte }{
		"no end":           {section: custom(debugLine, 0xff, 0xff, 0xff, 0x7f, 4, 0)},
		"64 bits":          {section: custom(debugLine, bytes.Repeat([]byte{0xff}, 40)...)},
		"huge header":      {section: custom(debugLine, sized([]byte{4, 0}, le32(1<<31))...)},
		"files of nothing": {section: version5(slices.Concat([]byte{0}, huge)...)},
		"many files":       {section: version5(slices.Concat([]byte{1, 1, 8}, huge)...)},
		"unknown form":     {section: version5(1, 1, 0x77, 1, 0)},
		"no string":        {section: version5(1, 1, 0x1f, 1, 9, 9, 9, 9)},
		"path without end": {section: custom(debugLine, sized(slices.Concat([]byte{4, 0},
			le32(3000), []byte{1, 1, 1, 0xfb, 14, 1}, bytes.Repeat([]byte("a"), 3000)))...)},
		"no line range": {section: custom(debugLine, sized([]byte{4, 0}, le32(9), []byte{1, 1, 1, 0, 0, 1,
			0, 0, 0})...)},
		"version 6": {section: custom(debugLine, sized([]byte{6, 0, 0, 0})...)},
		"empty":     {section: custom(debugLine)},
		// Rows of code that is not there: what linkers leave of functions that they removed.
		"address 0":  {line: addLine(good, 0)},
		"address -1": {line: addLine(good, 1<<32-1)},
		"past it":    {line: addLine(good, 1000)},
	} {
		code := c.line
		if code == nil {
			code = append(bytes.Clone(good), c.section...)
		}
		begun := time.Now()
		_, out, s := symbolsOf(t, code)
		if took := time.Since(begun); took > time.Second {
			t.Errorf("%s: it takes %v", name, took)
		}
		_, plain, _ := symbolsOf(t, good)
		if len(s.rows) != 0 || !bytes.Equal(out, plain) {
			t.Errorf("%s: %d rows, beacon %v", name, len(s.rows), !bytes.Equal(out, plain))
		}
	}
}

// A line program that is as long as a module may be is read in the time that its bytes deserve.
func TestRowFlood(t *testing.T) {
	good := addLine(oneFunction(0x00, 0x0b), 2)
	whole := customSections(good)[debugLine]
	flood := bytes.Clone(whole[4:])
	flood = append(flood[:len(flood)-5], bytes.Repeat([]byte{1}, 7<<20)...) // copy, 7 million times
	code := append(oneFunction(0x00, 0x0b), custom(debugLine, sized(flood)...)...)
	begun := time.Now()
	_, _, s := symbolsOf(t, code)
	if took := time.Since(begun); took > 2*time.Second || len(s.rows) != 0 {
		t.Errorf("%d rows in %v: expected none", len(s.rows), took)
	}
}

func TestFuncNames(t *testing.T) {
	names := func(content ...byte) []byte { return custom("name", content...) }
	sub := func(id byte, content string) []byte {
		return append([]byte{id, byte(len(content))}, content...)
	}
	for _, c := range []struct {
		section []byte
		want    string // of function 0, which is exported as f
	}{
		{nil, "f"},
		{names(sub(1, "\x01\x00\x05score")...), "score"},
		{names(slices.Concat(sub(0, "\x01m"), sub(1, "\x01\x00\x05score"))...), "score"},
		{names(sub(1, "\x01\x00\x00")...), "f"},
		{names(sub(1, "\x02\x00\x05score\x07\x01x")...), "f"},                    // more names than functions
		{names(sub(1, "\x02\x00\x05score\x00\x01x")...), "f"},                    // likewise
		{names(sub(1, "\xff\xff\xff\xff\x0f\x00\x01x")...), "f"},                 // 2^32-1 names
		{names(sub(1, "\x01\x00\x7fscore")...), "f"},                             // that is longer than the section
		{names(1, 0x7f, 1, 0, 1, 'x'), "f"},                                      // a subsection that is
		{names(sub(1, "\x01\x00\x0ba\x1b[2J\nb\xff\"\u00e9")...), "a?[2J?b?\"é"}, // what no log should have
		{names(sub(1, "\x01\x00\x11_ZN1a2bcE.llvm.12")...), "_ZN1a2bcE.llvm.12"},
		{names(sub(1, "\x01\x00\x22_ZN4rule5score17h0123456789abcdefE")...), "rule::score"},
	} {
		_, _, s := symbolsOf(t, append(oneFunction(0x00, 0x0b), c.section...))
		if got := s.Func(0); got != c.want {
			t.Errorf("% x: function 0 is %q: expected %q", c.section, got, c.want)
		}
	}
	long := strings.Repeat("n", 5000)
	content := slices.Concat([]byte{1, 0}, appendU32(nil, 5000), []byte(long))
	section := names(slices.Concat([]byte{1}, appendU32(nil, uint32(len(content))), content)...)
	_, _, s := symbolsOf(t, append(oneFunction(0x00, 0x0b), section...))
	if got := s.Func(0); got != long[:nameMost] {
		t.Errorf("a name of 5,000 bytes has %d", len(got))
	}
}

func TestDemangle(t *testing.T) {
	for name, want := range map[string]string{
		"score":                     "score",
		"_ZN4core9panicking5panicE": "core::panicking::panic",
		"_ZN4core9panicking5panic17h118149a781a98a78E":                         "core::panicking::panic",
		"_ZN35_$LT$a..B$u20$as$u20$a..Verdict$GT$7verdict17h98deb31ed8c6de17E": "<a::B as a::Verdict>::verdict",
		"rule::score::h0123456789abcdef":                                       "rule::score",
		"rule::score::h0123456789abcdeg":                                       "rule::score::h0123456789abcdeg",
		"_ZN":                                                                  "_ZN",
		"_ZN99aE":                                                              "_ZN99aE",
		"_ZN0E":                                                                "_ZN0E",
		"_ZN99999999999999999999aE":                                            "_ZN99999999999999999999aE",
		"_ZNE":                                                                 "_ZNE",
	} {
		if got := demangle(name); got != want {
			t.Errorf("%s is %q: expected %q", name, got, want)
		}
	}
}

func TestShownPath(t *testing.T) {
	for path, want := range map[string]string{
		"rule.c": "rule.c", "src/lib.rs": "src/lib.rs", "/home/u/rules/rule.c": "rule.c",
		`C:\rules\rule.c`: "rule.c", "/rustc/abc/library/core/src/num.rs": "rustc/abc/library/core/src/num.rs",
		"a\nb":                            "a?b",
		strings.Repeat("d/", 100) + "x.c": (strings.Repeat("d/", 100) + "x.c")[103:],
	} {
		if got := shownPath(path); got != want {
			t.Errorf("%s is shown as %q: expected %q", path, got, want)
		}
	}
}

// Whatever the custom sections are, the module is rewritten as without them, and asking for any place
// or name returns.
func FuzzSymbols(f *testing.F) {
	for _, name := range []string{"trap-c", "trap-rust"} {
		s := customSections(guests(f)[name])
		f.Add(s[debugLine], s[debugStr], s["name"])
	}
	f.Add(customSections(addLine(oneFunction(0x00, 0x0b), 2))[debugLine], []byte(nil), []byte(nil))
	base := guests(f)["trap-c"]
	plain := withoutCustom(base)
	_, want, _ := symbolsOf(f, plain)
	f.Fuzz(func(t *testing.T, line, str, names []byte) {
		code := slices.Concat(plain, custom(debugLine, line...), custom(debugStr, str...),
			custom(debugLineStr, str...), custom("name", names...))
		_, out, s := symbolsOf(t, code)
		if !bytes.HasPrefix(out, want) {
			t.Error("the sections change the code")
		}
		for i := range uint64(1000) {
			s.Place(i)
			s.Func(uint32(i))
		}
	})
}
