package meter

import "fmt"

// body is a function's code as Scan saw it. Offsets are in the module.
type body struct {
	typ        FuncType
	locals     int // params included
	decls      int // where the count of local declarations stands
	start, end int // the instructions, the last end included
	calls      bool
	counted    bool // has an instruction whose cost is its length
	cost       uint32
	points     []point
}

// point is a place of a body where the rewrite adds or changes code.
type point struct {
	at   int // offset of the instruction; for a loop, of what follows it
	kind pointKind
	// For a loop, the cost of one turn; for a return, how many blocks it is in.
	n uint32
}

type pointKind uint8

const (
	atLoop   pointKind = iota
	atReturn           // the instruction is replaced by a branch
	atCopy             // the length in bytes is on top of the stack
	atGrow             // the length in pages is
	atTable            // the length in entries is
)

// control is one open block of a body.
type control struct {
	region int // index of the point of the innermost loop, or -1 for the function
	kind   byte
}

func (s *scanner) codeEntry() {
	size := s.u32()
	if uint64(size) > uint64(s.end-s.at) {
		s.fail(Malformed, "a body of %d bytes is announced, but %d are left", size, s.end-s.at)
	}
	if uint64(size) > uint64(s.lim.BodyBytes) {
		s.fail(Limit, "a function's body has %d bytes: expected at most %d", size, s.lim.BodyBytes)
	}
	i := len(s.m.imports) + len(s.m.bodies)
	if i >= len(s.m.functions) {
		s.fail(Malformed, "there are more bodies than functions declared")
	}
	outer := s.end
	s.end = s.at + int(size)
	b := body{typ: s.m.types[s.m.functions[i]], decls: s.at}
	b.locals = len(b.typ.Params)
	for range s.count("local declarations", s.lim.LocalsPerFunction) {
		n := s.u32()
		if uint64(b.locals)+uint64(n) > uint64(s.lim.LocalsPerFunction) {
			s.fail(Limit, "a function has %d locals and more: expected at most %d",
				uint64(b.locals)+uint64(n), s.lim.LocalsPerFunction)
		}
		b.locals += int(n)
		s.valType()
	}
	if s.locals += b.locals; s.locals > s.lim.LocalsTotal {
		s.fail(Limit, "all functions together have %d locals and more: expected at most %d",
			s.locals, s.lim.LocalsTotal)
	}
	b.start, b.end = s.at, s.end
	w := walker{scanner: s, b: &b}
	w.walk()
	if s.at != s.end {
		s.fail(Malformed, "a function's body has %d bytes after its end", s.end-s.at)
	}
	s.end = outer
	s.m.bodies = append(s.m.bodies, b)
}

// walker reads the instructions of one body.
type walker struct {
	*scanner
	b    *body
	open []control
}

// walk reads to the end of the function and finds the cost of each region. The end of a loop belongs
// to the loop, so that whatever runs in a turn was charged at its header.
func (w *walker) walk() {
	w.open = append(w.open, control{region: -1, kind: 0x02})
	for len(w.open) > 0 {
		at := w.at
		op := w.byte()
		w.charge()
		w.instruction(op, at)
	}
}

func (w *walker) charge() {
	if r := w.open[len(w.open)-1].region; r >= 0 {
		w.b.points[r].n++
	} else {
		w.b.cost++
	}
}

func (w *walker) point(at int, kind pointKind, n uint32) {
	w.b.points = append(w.b.points, point{at: at, kind: kind, n: n})
}

// instruction reads the immediates of op, which stands at at.
func (w *walker) instruction(op byte, at int) {
	switch {
	case op <= 0x1c:
		w.controlOp(op, at)
	case op >= 0x20 && op <= 0x22:
		w.index("local", w.b.locals)
	case op == 0x23 || op == 0x24:
		// Only the module's own globals: the ones that Rewrite adds come after them.
		w.index("global", w.m.globals)
	case op == 0x25 || op == 0x26:
		w.index("table", len(w.m.tables))
		w.m.fixed = w.m.fixed && op == 0x25
	case op >= 0x28 && op <= 0x3e:
		w.memarg()
	case op == 0x3f:
		w.needMemory()
		w.zero("memory.size")
	case op == 0x40:
		w.needMemory()
		w.zero("memory.grow")
		w.counted(at, atGrow)
	case op == 0x41:
		w.signed(32)
	case op == 0x42:
		w.signed(64)
	case op == 0x43:
		w.bytes(4)
	case op == 0x44:
		w.bytes(8)
	case op >= 0x45 && op <= 0xc4, op == 0xd1:
	case op == 0xd0:
		w.refType()
	case op == 0xd2:
		// wazero keeps a record for each execution of it for as long as the instance lives. Tables
		// get their functions from element segments.
		w.refuse(at, "0xd2 (ref.func)")
	case op == 0xfc:
		w.bulk(at)
	case op == 0xfd:
		w.vector()
	default:
		w.refuse(at, opName(op))
	}
}

func (w *walker) refuse(at int, what string) {
	w.at = at
	w.fail(Opcode, "instruction %s is not offered", what)
}

func opName(op byte) string {
	feature := ""
	switch {
	case op >= 0x06 && op <= 0x0a, op == 0x18, op == 0x19, op == 0x1f:
		feature = " (exceptions)"
	case op >= 0x12 && op <= 0x15:
		feature = " (tail calls, typed references)"
	case op >= 0xd3 && op <= 0xd6, op == 0xfb:
		feature = " (garbage collection)"
	case op == 0xfe:
		feature = " (threads)"
	}
	return fmt.Sprintf("0x%02x%s", op, feature)
}

func (w *walker) controlOp(op byte, at int) {
	switch op {
	case 0x00, 0x01, 0x1a, 0x1b: // unreachable, nop, drop, select
	case 0x02, 0x03, 0x04:
		w.block(op)
	case 0x05: // else
		if top := w.open[len(w.open)-1]; top.kind != 0x04 {
			w.refuse(at, "else without its if")
		}
		w.open[len(w.open)-1].kind = op
	case 0x0b:
		w.open = w.open[:len(w.open)-1]
	case 0x0c, 0x0d:
		w.index("label", len(w.open))
	case 0x0e:
		n := w.count("targets of a br_table", w.lim.BrTableTargets)
		for range n + 1 {
			w.index("label", len(w.open))
		}
	case 0x0f:
		w.point(at, atReturn, uint32(len(w.open)-1))
	case 0x10:
		w.index("function", len(w.m.functions))
		w.b.calls = true
	case 0x11:
		w.index("type", len(w.m.types))
		w.index("table", len(w.m.tables))
		w.b.calls = true
	case 0x1c:
		if n := w.count("types of a select", 1); n != 1 {
			w.fail(Malformed, "a select has %d types: expected 1", n)
		}
		w.valType()
	default:
		w.refuse(at, opName(op))
	}
}

func (w *walker) block(op byte) {
	if c := w.b0(); c == 0x40 {
		w.at++
	} else if _, ok := valTypeNames[ValType(c)]; ok {
		w.at++
	} else if t := w.signed(33); t < 0 || t >= int64(len(w.m.types)) {
		w.fail(BadIndex, "a block has type %d: the module has %d types", t, len(w.m.types))
	}
	if len(w.open) >= w.lim.Nesting {
		w.fail(Limit, "blocks are nested deeper than %d", w.lim.Nesting)
	}
	region := w.open[len(w.open)-1].region
	if op == 0x03 {
		region = len(w.b.points)
		w.point(w.at, atLoop, 0)
	}
	w.open = append(w.open, control{region: region, kind: op})
}

// b0 looks at the next byte.
func (w *walker) b0() byte {
	c := w.byte()
	w.at--
	return c
}

func (w *walker) needMemory() {
	if w.m.memory == nil {
		w.fail(BadIndex, "a memory instruction, but the module has no memory")
	}
}

func (w *walker) memarg() {
	w.needMemory()
	if a := w.u32(); a > 4 {
		w.fail(Unoffered, "alignment 2^%d: expected at most 2^4, and one memory", a)
	}
	w.u32()
}

func (w *walker) counted(at int, kind pointKind) {
	w.b.counted = true
	w.point(at, kind, 0)
}

// bulk reads an instruction with prefix 0xfc; for the length of its number see vector.
func (w *walker) bulk(at int) {
	op := w.u32()
	if w.at-at != 2 {
		w.refuse(at, "0xfc with a number that is longer than needed")
	}
	switch op {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating conversions
	case 8, 9: // memory.init, data.drop
		if w.m.dataCount < 0 {
			w.fail(Malformed, "memory.init or data.drop without a data count section")
		}
		w.index("data segment", w.m.dataCount)
		w.m.fixed = w.m.fixed && op == 8
		if op == 8 {
			w.needMemory()
			w.zero("memory.init")
			w.counted(at, atCopy)
		}
	case 10: // memory.copy
		w.needMemory()
		w.zero("memory.copy")
		w.zero("memory.copy")
		w.counted(at, atCopy)
	case 11: // memory.fill
		w.needMemory()
		w.zero("memory.fill")
		w.counted(at, atCopy)
	case 12: // table.init
		w.m.fixed = false
		w.index("element segment", w.m.elements)
		w.index("table", len(w.m.tables))
		w.counted(at, atTable)
	case 13: // elem.drop
		w.m.fixed = false
		w.index("element segment", w.m.elements)
	case 14: // table.copy
		w.m.fixed = false
		w.index("table", len(w.m.tables))
		w.index("table", len(w.m.tables))
		w.counted(at, atTable)
	case 15, 17: // table.grow, table.fill
		w.m.fixed = false
		w.index("table", len(w.m.tables))
		w.counted(at, atTable)
	case 16: // table.size
		w.index("table", len(w.m.tables))
	default:
		w.refuse(at, fmt.Sprintf("0xfc %d", op))
	}
}

// vector reads an instruction with prefix 0xfd. Its number must not be longer than needed: decoders
// that take the first byte alone would read other instructions than we do.
func (w *walker) vector() {
	at := w.at - 1
	op := w.u32()
	if n := w.at - at - 1; n > 2 || n == 2 && op < 0x80 {
		w.refuse(at, "0xfd with a number that is longer than needed")
	}
	switch {
	case op <= 11, op == 92, op == 93:
		w.memarg()
	case op == 12, op == 13:
		w.bytes(16)
	case op >= 21 && op <= 34:
		w.byte()
	case op >= 84 && op <= 91:
		w.memarg()
		w.byte()
	case op > 255:
		w.refuse(at, fmt.Sprintf("0xfd %d (relaxed vectors)", op))
	}
}
