package meter

import (
	"encoding/binary"
	"fmt"
	"slices"
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

var sectionNames = [...]string{"custom", "type", "import", "function", "table", "memory", "global",
	"export", "start", "element", "code", "data", "data count"}

// sectionOrder is where each section stands: data count comes before code.
var sectionOrder = [...]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10}

// reserved are the names beginning with wasmeval_ that a module may export; see rules-sdk/ABI.md.
var reserved = []string{"wasmeval_abi", "wasmeval_manifest", "wasmeval_input", "wasmeval_configure",
	"wasmeval_evaluate"}

// Scan checks a module. It returns an *Error if the module is not well formed, larger than a limit,
// or uses something that is not offered. It keeps a reference to code.
func Scan(code []byte, lim Limits, allowed []Import) (m *Module, err error) {
	if len(code) > lim.ModuleBytes {
		return nil, &Error{Kind: Limit, Msg: fmt.Sprintf("the module has %d bytes: expected at most %d",
			len(code), lim.ModuleBytes)}
	}
	if len(code) < 8 || string(code[:4]) != "\x00asm" {
		return nil, &Error{Kind: Malformed, Msg: "the bytes are no WebAssembly module: " +
			"expected them to begin with \\0asm"}
	}
	if v := binary.LittleEndian.Uint32(code[4:]); v != 1 {
		return nil, &Error{Kind: Malformed, Offset: 4, Msg: fmt.Sprintf(
			"the module has version 0x%x: expected 1, a core module and no component", v)}
	}
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(*Error)
			if !ok {
				panic(p)
			}
			m, err = nil, e
		}
	}()
	s := &scanner{
		reader: reader{b: code, at: 8, end: len(code), lim: &lim},
		m: &Module{limits: lim, code: code, exports: map[string]export{}, dataCount: -1,
			fixed: true, placed: true, inTables: map[uint32]bool{}},
		allowed: allowed,
	}
	s.module()
	return s.m, nil
}

type scanner struct {
	reader
	m       *Module
	allowed []Import
	locals  int // of all bodies so far
	entries int // of all tables so far
	points  int // of all bodies so far
	values  int // params and results of all types so far
	elems   int // elements of all segments so far
}

func (s *scanner) module() {
	last := 0
	for s.at < len(s.b) {
		id := s.byte()
		if int(id) >= len(sectionNames) {
			s.at--
			what := ""
			if id == 13 {
				what = " (tags of exceptions)"
			}
			s.fail(Unoffered, "section %d%s is not offered", id, what)
		}
		size := s.u32()
		body := s.at
		s.bytes(size)
		s.at, s.end = body, body+int(size)
		if id != secCustom {
			if sectionOrder[id] <= last {
				s.fail(Malformed, "the %s section is doubled or out of order", sectionNames[id])
			}
			last = sectionOrder[id]
			s.section(int(id))
		} else {
			s.m.keepCustom(s.name("a custom section's name"), s.b[s.at:s.end])
			s.at = s.end
		}
		if s.at != s.end {
			s.fail(Malformed, "the %s section has %d bytes too many", sectionNames[id], s.end-s.at)
		}
		s.end = len(s.b)
	}
	m := s.m
	if defined := len(m.functions) - len(m.imports); len(m.bodies) != defined {
		s.fail(Malformed, "%d functions are declared, but %d bodies given", defined, len(m.bodies))
	}
	if n := int(m.sections[secData].count); m.dataCount >= 0 && m.dataCount != n {
		s.fail(Malformed, "%d data segments are announced, but %d given", m.dataCount, n)
	}
	m.plan = m.plans()
}

func (s *scanner) section(id int) {
	sec := &s.m.sections[id]
	sec.present = true
	if id == secStart {
		s.fail(Start, "the module has a start section: export _initialize instead")
	}
	if id == secDataCount {
		s.m.dataCount = int(s.u32())
		if s.m.dataCount > s.lim.DataSegments {
			s.fail(Limit, "%d data segments: expected at most %d", s.m.dataCount, s.lim.DataSegments)
		}
		return
	}
	limit, entry := s.entry(id)
	sec.content = s.at
	sec.count = s.count(sectionNames[id]+" entries", limit)
	sec.start, sec.end = s.at, s.end
	for range sec.count {
		entry()
	}
}

// entry returns a section's limit and what reads one entry of it.
func (s *scanner) entry(id int) (limit int, read func()) {
	switch id {
	case secType:
		return s.lim.Types, s.typeEntry
	case secImport:
		return s.lim.Imports, s.importEntry
	case secFunction:
		return s.lim.Functions - len(s.m.functions), s.functionEntry
	case secTable:
		return s.lim.Tables, s.tableEntry
	case secMemory:
		return 1, s.memoryEntry
	case secGlobal:
		return s.lim.Globals, s.globalEntry
	case secExport:
		return s.lim.Exports, s.exportEntry
	case secElement:
		return s.lim.ElementSegments, s.elementEntry
	case secCode:
		return s.lim.Functions, s.codeEntry
	default:
		return s.lim.DataSegments, s.dataEntry
	}
}

func (s *scanner) typeEntry() {
	if f := s.byte(); f != 0x60 {
		s.at--
		s.fail(Unoffered, "type form 0x%02x is not offered: expected a function type, 0x60 "+
			"(garbage collected types are not offered)", f)
	}
	var t FuncType
	for range s.count("params", s.lim.Params) {
		t.Params = append(t.Params, s.valType())
	}
	for range s.count("results", s.lim.Results) {
		t.Results = append(t.Results, s.valType())
	}
	if s.values += len(t.Params) + len(t.Results); s.values > s.lim.TypeValues {
		s.fail(Limit, "all types together have %d params and results, and more: expected at most %d",
			s.values, s.lim.TypeValues)
	}
	s.m.types = append(s.m.types, t)
}

func (s *scanner) importEntry() {
	at := s.at
	module, name := s.name("an import's module"), s.name("an import's name")
	kind := s.byte()
	if kind != kindFunc {
		s.at = at
		s.fail(BadImport, "import %s.%s is not a function: nothing else is offered", module, name)
	}
	ti := s.index("type", len(s.m.types))
	t := s.m.types[ti]
	for _, a := range s.allowed {
		if a.Module != module || a.Name != name {
			continue
		}
		if a.Type.String() != t.String() {
			s.at = at
			s.fail(BadImport, "import %s.%s has signature %s: expected %s", module, name, t, a.Type)
		}
		s.m.imports = append(s.m.imports, Import{module, name, t})
		s.m.functions = append(s.m.functions, ti)
		return
	}
	s.at = at
	s.fail(BadImport, "import %s.%s is not offered: expected a function of the ABI or one of "+
		"the WASI functions that it lists", module, name)
}

func (s *scanner) functionEntry() {
	s.m.functions = append(s.m.functions, s.index("type", len(s.m.types)))
}

// sizes reads a minimum and maximum of a table or memory.
func (s *scanner) sizes(what string) (least, most uint32, capped bool) {
	flags := s.byte()
	if flags > 1 {
		s.at--
		s.fail(Unoffered, "%s has flags 0x%02x: shared and 64-bit ones are not offered", what, flags)
	}
	least, most = s.u32(), ^uint32(0)
	if flags == 1 {
		most = s.u32()
		if most < least {
			s.fail(Malformed, "%s has a maximum of %d, below its minimum of %d", what, most, least)
		}
	}
	return least, most, flags == 1
}

func (s *scanner) tableEntry() {
	t := tableType{ref: s.refType()}
	t.min, t.max, t.capped = s.sizes("a table")
	s.entries += int(t.min)
	if s.entries > s.lim.TableEntries {
		s.fail(Limit, "tables of %d entries: expected at most %d", s.entries, s.lim.TableEntries)
	}
	s.m.tables = append(s.m.tables, t)
}

// mostPages is how many pages of 64 KiB a memory can have.
const mostPages = 65536

func (s *scanner) memoryEntry() {
	least, most, capped := s.sizes("the memory")
	if capped && most > mostPages {
		s.fail(Malformed, "the memory has a maximum of %d pages: there are at most %d", most, mostPages)
	}
	if uint64(least) > uint64(s.lim.MemoryPages) {
		s.fail(Limit, "the memory has %d pages of 64 KiB: expected at most %d", least, s.lim.MemoryPages)
	}
	s.m.memory = &memoryType{min: least, max: min(most, uint32(s.lim.GrowPages))}
}

func (s *scanner) globalEntry() {
	typ := s.valType()
	switch mut := s.byte(); mut {
	case 0:
	case 1:
		i := uint32(s.m.globals)
		s.m.mutable = append(s.m.mutable, Global{fmt.Sprintf("%s%d", globalExport, i), typ, i})
	default:
		s.at--
		s.fail(Malformed, "a global has mutability 0x%02x: expected 0 or 1", mut)
	}
	s.constant()
	s.m.globals++
}

// constant reads an initialiser: one constant instruction and the end. It returns the value if that
// is an i32.
func (s *scanner) constant() (v int32) {
	switch op := s.byte(); op {
	case 0x41:
		v = int32(s.signed(32))
	case 0x42:
		s.signed(64)
	case 0x43:
		s.bytes(4)
	case 0x44:
		s.bytes(8)
	case 0xd0:
		s.refType()
	case opRefFunc:
		s.m.inTables[s.index("function", len(s.m.functions))] = true
	case 0xfd:
		if s.u32() != 12 {
			s.fail(Opcode, "an initialiser has a vector instruction: expected v128.const")
		}
		s.bytes(16)
	default:
		s.at--
		s.fail(Opcode, "an initialiser has opcode 0x%02x: expected a constant", op)
	}
	if end := s.byte(); end != 0x0b {
		s.at--
		s.fail(Opcode, "an initialiser has opcode 0x%02x: expected its end after one constant", end)
	}
	return v
}

func (s *scanner) exportEntry() {
	at := s.at
	name := s.name("an export's name")
	e := export{kind: s.byte()}
	switch e.kind {
	case kindFunc:
		e.index = s.index("function", len(s.m.functions))
	case kindTable:
		e.index = s.index("table", len(s.m.tables))
	case kindMemory:
		n := 0
		if s.m.memory != nil {
			n = 1
		}
		e.index = s.index("memory", n)
	case kindGlobal:
		e.index = s.index("global", s.m.globals)
	default:
		s.fail(Unoffered, "export %q has kind %d, which is not offered", name, e.kind)
	}
	if _, ok := s.m.exports[name]; ok {
		s.at = at
		s.fail(BadExport, "export %q is doubled", name)
	}
	if strings.HasPrefix(name, "wasmeval_") && !slices.Contains(reserved, name) {
		s.at = at
		s.fail(BadExport, "export %q is reserved: names that begin with wasmeval_ are the ABI's", name)
	}
	s.m.exports[name] = e
}

// elementEntry reads an element segment; its flags are bits: 1 passive or declared, 2 with a table
// or declared, 4 with expressions.
func (s *scanner) elementEntry() {
	s.m.elements++
	at, flags := s.at, s.u32()
	if flags > 7 {
		s.fail(Malformed, "an element segment has flags %d: expected at most 7", flags)
	}
	offset, length := int64(0), int64(-1) // of the table that it is for
	if flags&1 == 0 {
		table := uint32(0)
		if flags&2 != 0 {
			table = s.u32()
		}
		if int64(table) >= int64(len(s.m.tables)) {
			s.fail(BadIndex, "an element segment is for table %d: the module has %d", table,
				len(s.m.tables))
		}
		offset, length = int64(uint32(s.constant())), int64(s.m.tables[table].min)
	}
	if flags&3 != 0 {
		if flags&4 != 0 {
			s.refType()
		} else if k := s.byte(); k != 0 {
			s.fail(Unoffered, "an element segment has kind %d: expected functions", k)
		}
	}
	n := s.count("elements", s.lim.Elements-s.elems)
	s.elems += int(n)
	for range n {
		if flags&4 != 0 {
			s.constant()
		} else {
			s.m.inTables[s.index("function", len(s.m.functions))] = true
		}
	}
	if length >= 0 && offset+int64(n) > length {
		s.at = at
		s.fail(BadIndex, "an element segment ends at %d: its table has %d entries", offset+int64(n),
			length)
	}
}

func (s *scanner) dataEntry() {
	seg, flags := dataSegment{}, s.u32()
	s.m.placed = s.m.placed && flags == 0 && s.at < s.end && s.b[s.at] == opI32Const
	switch flags {
	case 0:
		seg.offset = uint32(s.constant())
	case 1:
	case 2:
		s.zero("a data segment's memory")
		s.constant()
	default:
		s.fail(Malformed, "a data segment has flags %d: expected 0 to 2", flags)
	}
	if s.m.memory == nil {
		s.fail(BadIndex, "there is a data segment but no memory")
	}
	seg.bytes = s.bytes(s.u32())
	s.m.data = append(s.m.data, seg)
}
