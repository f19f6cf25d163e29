package meter

import "fmt"

// control is one open block of a body.
type control struct {
	kind    byte
	region  region // that the instructions at this place belong to
	loop    int32  // the innermost loop, or noLoop
	segment bool   // what follows its end is a segment
	sets    int    // how many locals were set before it
}

// walker reads the instructions of one body.
type walker struct {
	*scanner
	b       *body
	open    []control
	headers int  // how many of the blocks that come now have a segment after their end
	head    int  // offset of the br_table to those
	last    byte // opcode of the instruction before

	branches, targets int // so far; blocks are branches, too
	sets              int // so far: instructions that set a local
}

// walk reads to the end of the function and finds the cost of each region. The condition at the end
// of a loop belongs to the loop, so that whatever runs in a turn was charged at its beginning.
func (w *walker) walk() {
	w.open = append(w.open, control{kind: opBlock, region: entry, loop: noLoop})
	for len(w.open) > 0 {
		at, r := w.at, w.top().region
		op := w.byte()
		cost := uint32(costs[op])
		switch op {
		case opBulk:
			cost = w.bulk(at)
		case opVector:
			w.b.vectors = true
			cost = w.vector(at)
		default:
			w.instruction(op, at)
		}
		w.last = op
		w.add(r, cost)
		w.split()
	}
	w.b.cost++ // the return at the end
}

// add adds to a region's cost.
func (w *walker) add(r region, cost uint32) {
	if r == entry {
		w.b.cost += cost
	} else {
		w.b.points[r].n += cost
	}
}

// split begins a region for the rest of the innermost block if the one that it is in is long: a pause
// cannot come sooner than a region's end.
func (w *walker) split() {
	if len(w.open) == 0 {
		return
	}
	c, begun := w.top(), w.b.start
	if c.region != entry {
		begun = int(w.b.points[c.region].at)
	}
	if w.at-begun > regionBytes {
		c.region = region(len(w.b.points))
		w.point(atSplit, w.at)
	}
}

func (w *walker) top() *control { return &w.open[len(w.open)-1] }

func (w *walker) point(kind pointKind, at int) *point {
	w.b.points = append(w.b.points, point{kind: kind, at: uint32(at)})
	return &w.b.points[len(w.b.points)-1]
}

// instruction reads the immediates of op, which stands at at.
func (w *walker) instruction(op byte, at int) {
	switch {
	case op <= opSelectTyped:
		w.controlOp(op, at)
	case op >= opLocalGet && op <= opLocalTee:
		w.index("local", w.b.locals)
		if op != opLocalGet {
			w.sets++
		}
	case op == opGlobalGet || op == opGlobalSet:
		// Only the module's own globals: the ones that Rewrite adds come after them.
		w.index("global", w.m.globals)
	case op == opTableGet || op == opTableSet:
		w.index("table", len(w.m.tables))
		w.m.fixed = w.m.fixed && op == opTableGet
	case op >= opFirstLoad && op <= opLastStore:
		w.memarg()
	case op == opMemorySize:
		w.needMemory()
		w.zero("memory.size")
	case op == opMemoryGrow:
		w.needMemory()
		w.zero("memory.grow")
		w.point(atGrow, at)
	case op == opI32Const:
		w.signed(32)
	case op == opI64Const:
		w.signed(64)
	case op == opF32Const:
		w.bytes(4)
	case op == opF64Const:
		w.bytes(8)
	case op >= opFirstNumeric && op <= opLastNumeric, op == opRefIsNull:
	case op == opRefNull:
		w.refType()
	case op == opRefFunc:
		// wazero keeps a record for each execution of it for as long as the instance lives. Tables
		// get their functions from element segments.
		w.refuse(at, "0xd2 (ref.func)")
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
	case opUnreachable, opNop, opDrop, opSelect:
	case opBlock, opLoop, opIf:
		w.block(op, at)
	case opElse:
		if w.top().kind != opIf {
			w.refuse(at, "else without its if")
		}
		w.top().kind = op
	case opEnd:
		w.close()
	case opBr, opBrIf:
		w.branches++
		w.label(false)
	case opBrTable:
		n := w.count("targets of a br_table", w.lim.BrTableTargets-w.targets)
		w.targets += int(n)
		for range n + 1 {
			w.label(at == w.head)
		}
	case opReturn:
		w.branches++
		w.point(atReturn, at).n = uint32(len(w.open) - 1)
	case opCall:
		w.call(call{index: w.index("function", len(w.m.functions))})
	case opCallIndirect:
		w.call(call{index: w.index("type", len(w.m.types)), indirect: true})
		w.index("table", len(w.m.tables))
	case opSelectTyped:
		if n := w.count("types of a select", 1); n != 1 {
			w.fail(Malformed, "a select has %d types: expected 1", n)
		}
		w.valType()
	default:
		w.refuse(at, opName(op))
	}
}

func (w *walker) block(op byte, at int) {
	c := control{kind: op, region: w.top().region, loop: w.top().loop, segment: w.headers > 0,
		sets: w.sets}
	w.headers = max(w.headers-1, 0)
	w.branches++
	void := w.blockType()
	if len(w.open) >= w.lim.Nesting {
		w.fail(Limit, "blocks are nested deeper than %d", w.lim.Nesting)
	}
	if op == opLoop {
		c.loop = w.loop(at, void)
		c.region = w.b.loops[c.loop].point
	}
	w.open = append(w.open, c)
}

func (w *walker) blockType() (void bool) {
	c := w.byte()
	if c == noResult {
		return true
	}
	if _, ok := valTypeNames[ValType(c)]; ok {
		return false
	}
	w.at--
	if t := w.signed(33); t < 0 || t >= int64(len(w.m.types)) {
		w.fail(BadIndex, "a block has type %d: the module has %d types", t, len(w.m.types))
	}
	return false
}

// loop begins the loop that stands at at, and returns which it is.
func (w *walker) loop(at int, void bool) int32 {
	l := loop{body: w.at, level: len(w.open), outer: w.top().loop, void: void}
	if l.outer != noLoop {
		// The outer one will not be repeated, so nobody needs its labels.
		outer := &w.b.loops[l.outer]
		if !outer.inner {
			w.b.labels = w.b.labels[:outer.labels[0]]
		}
		outer.inner = true
	}
	l.labels[0], l.point = len(w.b.labels), region(len(w.b.points))
	w.headers = w.dispatch()
	l.dispatch = w.headers > 0
	i := int32(len(w.b.loops))
	w.point(atLoop, at).loop = i
	w.b.loops = append(w.b.loops, l)
	return i
}

// dispatch looks ahead from a loop's beginning. If there are only blocks around a br_table to their
// ends, as in the functions that Go's compiler makes, it returns how many, else 0.
func (w *walker) dispatch() int {
	at := w.at
	defer func() { w.at = at }()
	code, n := w.reader.b, 0
	for w.at+1 < w.end && code[w.at] == opBlock && code[w.at+1] == noResult {
		w.at += 2
		n++
	}
	if n == 0 || w.byte() != opLocalGet {
		return 0
	}
	w.u32()
	head := w.at
	if w.byte() != opBrTable {
		return 0
	}
	for range w.count("targets of a br_table", w.lim.BrTableTargets) + 1 {
		if w.u32() >= uint32(n) {
			return 0
		}
	}
	w.head = head
	return n
}

// close ends the innermost block.
func (w *walker) close() {
	c := *w.top()
	w.open = w.open[:len(w.open)-1]
	if c.segment {
		w.top().region = region(len(w.b.points))
		p := w.point(atSegment, w.at)
		p.loop = c.loop
		p.through = w.last != opUnreachable && w.last != opBr && w.last != opBrTable && w.last != opReturn
	}
	merge := uint32(max(min(w.sets-c.sets, w.b.locals)-mergeFree, 0)) / mergeShare
	if len(w.open) > 0 {
		w.add(w.top().region, merge)
	}
	if c.kind != opLoop {
		return
	}
	l := &w.b.loops[c.loop]
	w.add(l.point, merge)
	l.end, l.labels[1] = w.at, len(w.b.labels)
	if l.outer != noLoop && l.calls {
		w.b.loops[l.outer].calls = true
	}
}

// label reads a branch's target; own says that the branch is a dispatch.
func (w *walker) label(own bool) {
	at := w.at
	i := w.index("label", len(w.open))
	level := len(w.open) - 1 - int(i)
	if c := w.open[level]; c.kind == opLoop {
		w.b.loops[c.loop].turns = true
	} else if c.segment && !own {
		w.b.loops[c.loop].jumps = true
	}
	if c := w.top(); c.loop != noLoop {
		if l := &w.b.loops[c.loop]; !l.inner && level < l.level {
			w.b.labels = append(w.b.labels, label{at: uint32(at), end: uint32(w.at), index: i})
		}
	}
}

func (w *walker) call(c call) {
	c.region = w.top().region
	w.b.calls = append(w.b.calls, c)
	w.b.indirect = w.b.indirect || c.indirect
	if i := w.top().loop; i != noLoop {
		w.b.loops[i].calls = true
	}
}

func (w *walker) needMemory() {
	if w.m.memory == nil {
		w.fail(BadIndex, "a memory instruction, but the module has no memory")
	}
}

func (w *walker) memarg() {
	w.needMemory()
	if a := w.u32(); a&0x40 != 0 {
		w.fail(Unoffered, "an instruction names its memory: several memories are not offered")
	} else if a > 4 {
		w.fail(Malformed, "an alignment of 2^%d: expected at most 2^4", a)
	}
	w.u32()
}

// bulk reads an instruction with prefix 0xfc and returns its cost; for its number's length see
// vector.
func (w *walker) bulk(at int) uint32 {
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
		if op == 9 {
			w.m.fixed = false
			break
		}
		w.needMemory()
		w.zero("memory.init")
		w.point(atCopy, at)
	case 10, 11: // memory.copy, memory.fill
		w.needMemory()
		w.zero("a memory instruction")
		if op == 10 {
			w.zero("memory.copy")
		}
		w.point(atCopy, at)
	case 12, 13: // table.init, elem.drop
		w.m.fixed = false
		w.index("element segment", w.m.elements)
		if op == 12 {
			w.index("table", len(w.m.tables))
			w.point(atTable, at)
		}
	case 14, 15, 17: // table.copy, table.grow, table.fill
		w.m.fixed = false
		w.index("table", len(w.m.tables))
		if op == 14 {
			w.index("table", len(w.m.tables))
		}
		w.point(atTable, at)
	case 16: // table.size
		w.index("table", len(w.m.tables))
	default:
		w.refuse(at, fmt.Sprintf("0xfc %d", op))
	}
	return costOfBulk(op)
}

// vector reads an instruction with prefix 0xfd and returns its cost. Its number must not be longer
// than needed: decoders that take the first byte alone would read other instructions than we do.
func (w *walker) vector(at int) uint32 {
	op := w.u32()
	if n := w.at - at - 1; n > 2 || n == 2 && op < 0x80 {
		w.refuse(at, "0xfd with a number that is longer than needed")
	}
	switch {
	case op > 255:
		w.refuse(at, fmt.Sprintf("0xfd %d (relaxed vectors)", op))
	case vectorReserved[op]:
		w.refuse(at, fmt.Sprintf("0xfd %d (reserved)", op))
	case op <= 11, op == 92, op == 93: // loads and v128.store
		w.memarg()
	case op == 12: // v128.const
		w.bytes(16)
	case op == 13: // i8x16.shuffle
		for range 16 {
			w.lane(32)
		}
	case op >= 21 && op <= 34: // extract_lane, replace_lane
		w.lane([...]byte{16, 16, 16, 8, 8, 8, 4, 4, 2, 2, 4, 4, 2, 2}[op-21])
	case op >= 84 && op <= 91: // load_lane, store_lane
		w.memarg()
		w.lane(16 >> (op & 3))
	}
	return costOfVector(op)
}

func (w *walker) lane(n byte) {
	if l := w.byte(); l >= n {
		w.at--
		w.fail(BadIndex, "there is no lane %d: the vector has %d", l, n)
	}
}
