package meter

// Costs of the instructions whose work depends on a length, as shifts of it: a copy moves at least 8
// bytes in the time of one unit; a page is zeroed in that of 4,096.
const (
	copyShift = 3
	growShift = 12
)

// Opcodes that the rewrite writes.
const (
	opUnreachable = 0x00
	opBlock       = 0x02
	opIf          = 0x04
	opEnd         = 0x0b
	opBr          = 0x0c
	opLocalGet    = 0x20
	opLocalTee    = 0x22
	opGlobalGet   = 0x23
	opGlobalSet   = 0x24
	opI32Const    = 0x41
	opI64Const    = 0x42
	opI32LtS      = 0x48
	opI64LtS      = 0x53
	opI32Add      = 0x6a
	opI32Sub      = 0x6b
	opI64Sub      = 0x7d
	opI64Shl      = 0x86
	opI64ShrU     = 0x88
	opExtendU     = 0xad // i64.extend_i32_u
	noResult      = 0x40 // block type
)

// rewriter makes the metered module.
type rewriter struct {
	*Module
	out   []byte
	types []FuncType     // appended ones
	index map[string]int // of those, by their results
	fuel  uint32         // index of the fuel global
	depth uint32         // index of the depth global
}

// Rewrite returns the module with fuel and depth counted, its memory and tables capped by the limits,
// and without its custom sections. All indexes of the module stay as they were.
func (m *Module) Rewrite() ([]byte, error) {
	w := &rewriter{Module: m, fuel: uint32(m.globals), depth: uint32(m.globals) + 1,
		index: map[string]int{}}
	code := w.bodies() // first, since it may append types
	w.out = make([]byte, 0, len(m.code)+len(code)/2+1024)
	w.out = append(w.out, m.code[:8]...)
	w.typeSection()
	w.copySection(secImport)
	w.copySection(secFunction)
	w.tableSection()
	w.memorySection()
	w.globalSection()
	w.exportSection()
	w.copySection(secElement)
	if m.dataCount >= 0 {
		w.section(secDataCount, appendU32(nil, uint32(m.dataCount)))
	}
	if m.sections[secCode].present {
		w.section(secCode, code)
	}
	w.copySection(secData)
	return w.out, nil
}

func (w *rewriter) section(id byte, content []byte) {
	w.out = append(w.out, id)
	w.out = appendU32(w.out, uint32(len(content)))
	w.out = append(w.out, content...)
}

// entries begins a section's content: the count with some more, and the entries as they were.
func (w *rewriter) entries(id int, more int) []byte {
	s := &w.sections[id]
	b := appendU32(nil, s.count+uint32(more))
	return append(b, w.code[s.start:s.end]...)
}

func (w *rewriter) copySection(id int) {
	if w.sections[id].present {
		w.section(byte(id), w.entries(id, 0))
	}
}

func (w *rewriter) typeSection() {
	b := w.entries(secType, len(w.types))
	for _, t := range w.types {
		b = append(b, 0x60, 0)
		b = appendU32(b, uint32(len(t.Results)))
		for _, v := range t.Results {
			b = append(b, byte(v))
		}
	}
	w.section(secType, b)
}

func (w *rewriter) tableSection() {
	if !w.sections[secTable].present {
		return
	}
	b := appendU32(nil, uint32(len(w.tables)))
	for _, t := range w.tables {
		most := min(t.max, max(uint32(w.limits.TableEntries/len(w.tables)), t.min))
		b = append(b, t.ref, 1)
		b = appendU32(b, t.min)
		b = appendU32(b, most)
	}
	w.section(secTable, b)
}

func (w *rewriter) memorySection() {
	if w.memory == nil {
		return
	}
	b := []byte{1, 1}
	b = appendU32(b, w.memory.min)
	w.section(secMemory, appendU32(b, w.memory.max))
}

func (w *rewriter) globalSection() {
	b := w.entries(secGlobal, 2)
	b = append(b, byte(I64), 1, opI64Const, 0, opEnd)
	b = append(b, byte(I32), 1, opI32Const)
	b = appendS64(b, int64(w.limits.CallDepth))
	w.section(secGlobal, append(b, opEnd))
}

func (w *rewriter) exportSection() {
	more := append([]Global{{Export: FuelExport, index: w.fuel}, {Export: DepthExport, index: w.depth}},
		w.mutable...)
	b := w.entries(secExport, len(more))
	for _, g := range more {
		b = appendU32(b, uint32(len(g.Export)))
		b = append(b, g.Export...)
		b = append(b, kindGlobal)
		b = appendU32(b, g.index)
	}
	w.section(secExport, b)
}

func (w *rewriter) bodies() []byte {
	out := appendU32(nil, uint32(len(w.Module.bodies)))
	var code []byte
	for i := range w.Module.bodies {
		code = w.body(code[:0], &w.Module.bodies[i])
		out = appendU32(out, uint32(len(code)))
		out = append(out, code...)
	}
	return out
}

// body appends the rewritten body of b. A function that calls others has its instructions in a block
// of its own, so that every way out, but for a trap, comes past the code that gives its depth back.
func (w *rewriter) body(dst []byte, b *body) []byte {
	r := reader{b: w.code, at: b.decls, end: b.start}
	decls := r.u32()
	// Two more locals: what is left of the fuel, and the length of a counted instruction.
	dst = appendU32(dst, decls+2)
	dst = append(dst, w.code[r.at:b.start]...)
	dst = append(dst, 1, byte(I64), 1, byte(I32))
	left, length := uint32(b.locals), uint32(b.locals)+1

	dst = w.charge(dst, left, b.cost)
	if b.calls {
		dst = w.enter(dst, b.weight())
		dst = w.blockType(append(dst, opBlock), b.typ.Results)
	}
	at := b.start
	for i := range b.points {
		p := &b.points[i]
		dst = append(dst, w.code[at:p.at]...)
		at = p.at
		switch p.kind {
		case atLoop:
			dst = w.charge(dst, left, p.n)
		case atReturn:
			if b.calls {
				dst = appendU32(append(dst, opBr), p.n)
				at++
			}
		default:
			dst = w.chargeLength(dst, left, length, p.kind)
		}
	}
	dst = append(dst, w.code[at:b.end]...)
	if b.calls {
		dst = w.leave(dst, b.weight())
		dst = append(dst, opEnd)
	}
	return dst
}

// weight is what one frame takes of the depth, in units of about 64 bytes: its locals, and for the
// values that the compiler may keep on the stack a part of its instructions.
func (b *body) weight() int64 {
	return 2 + int64(b.locals)/8 + int64(b.end-b.start)/256
}

func (w *rewriter) blockType(dst []byte, results []ValType) []byte {
	switch len(results) {
	case 0:
		return append(dst, noResult)
	case 1:
		return append(dst, byte(results[0]))
	}
	key := FuncType{Results: results}.String()
	i, ok := w.index[key]
	if !ok {
		i = len(w.types)
		w.index[key] = i
		w.types = append(w.types, FuncType{Results: results})
	}
	return appendS64(dst, int64(len(w.Module.types)+i))
}

// charge takes cost from the fuel and traps below zero.
func (w *rewriter) charge(dst []byte, left, cost uint32) []byte {
	dst = appendU32(append(dst, opGlobalGet), w.fuel)
	dst = appendS64(append(dst, opI64Const), int64(cost))
	return w.settle(append(dst, opI64Sub), left)
}

// settle stores the fuel on top of the stack and traps if it is below zero.
func (w *rewriter) settle(dst []byte, left uint32) []byte {
	dst = appendU32(append(dst, opLocalTee), left)
	dst = appendU32(append(dst, opGlobalSet), w.fuel)
	dst = appendU32(append(dst, opLocalGet), left)
	return append(dst, opI64Const, 0, opI64LtS, opIf, noResult, opUnreachable, opEnd)
}

// chargeLength takes the cost of the length on top of the stack, which stays there. Lengths have 32
// bits, so no cost overflows.
func (w *rewriter) chargeLength(dst []byte, left, length uint32, kind pointKind) []byte {
	dst = appendU32(append(dst, opLocalTee), length)
	dst = appendU32(append(dst, opGlobalGet), w.fuel)
	dst = appendU32(append(dst, opLocalGet), length)
	dst = append(dst, opExtendU)
	switch kind {
	case atCopy:
		dst = append(dst, opI64Const, copyShift, opI64ShrU)
	case atGrow:
		dst = append(dst, opI64Const, growShift, opI64Shl)
	}
	return w.settle(append(dst, opI64Sub), left)
}

// enter takes a frame's weight from the depth and traps below zero.
func (w *rewriter) enter(dst []byte, weight int64) []byte {
	dst = w.addDepth(dst, weight, opI32Sub)
	dst = appendU32(append(dst, opGlobalGet), w.depth)
	return append(dst, opI32Const, 0, opI32LtS, opIf, noResult, opUnreachable, opEnd)
}

// leave gives it back.
func (w *rewriter) leave(dst []byte, weight int64) []byte {
	return w.addDepth(dst, weight, opI32Add)
}

func (w *rewriter) addDepth(dst []byte, weight int64, op byte) []byte {
	dst = appendU32(append(dst, opGlobalGet), w.depth)
	dst = appendS64(append(dst, opI32Const), weight)
	dst = append(dst, op)
	return appendU32(append(dst, opGlobalSet), w.depth)
}
