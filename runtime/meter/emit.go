package meter

// How loops are repeated; see docs/RATIONALE.md for what that is worth.
const (
	copiesMost  = 4         // of a small loop's body; all that run are charged at once
	copiesCost  = 256       // most units that are charged at once
	copiesBytes = 1 << 10   // most bytes that the copies add to a loop
	bodyCopies  = 8 << 10   // and to a function
	allCopies   = 128 << 10 // and to the module
)

// emitter writes the code section.
type emitter struct {
	*rewriter
	all  int // bytes that copies added
	out  []byte
	b    *body
	plan plan

	// Locals: the fuel that is left, and the length of a counted instruction.
	left, length uint32
	current      bool // left has the value of the fuel, whichever way led here

	next   int     // point
	added  int     // bytes that copies added to this body
	labels []label // that come next, of the loop that is being repeated
	shift  uint32  // blocks that the copies are in

	marking bool   // moves are wanted; see mark
	moves   []move // their places, from first on, in out
	first   int    // of those of this body
}

// bodies returns the code section's content, and if lines are wanted, which code is where in it.
func (w *rewriter) bodies(lines bool) ([]byte, []move) {
	out := appendU32(nil, uint32(len(w.Module.bodies)+1))
	e := &emitter{rewriter: w, marking: lines}
	for i := range w.Module.bodies {
		e.body(&w.Module.bodies[i], w.Module.plan[i])
		out = appendU32(out, uint32(len(e.out)))
		e.settleMoves(len(out))
		out = append(out, e.out...)
	}
	return append(out, e.pausing()...), e.moves
}

// pausing is the body of the function that pauses, with its size before it. It returns the fuel, or
// traps if that is still below zero. The only instruction by which a guest comes to its host without
// an import, and which the host can take for something else, is the growth of a memory: to a size
// that no host gives.
func (e *emitter) pausing() []byte {
	e.out = append(e.out[:0], 0)
	if e.memory != nil {
		e.out = appendS64(append(e.out, opI32Const), mostPages)
		e.write(opMemorySize, 0, opI32Sub, opMemoryGrow, 0, opDrop)
	}
	e.op(opGlobalGet, e.fuel)
	e.write(opI64Const, 0, opI64LtS, opIf, noResult, opUnreachable, opEnd)
	e.op(opGlobalGet, e.fuel)
	e.write(opEnd)
	return append(appendU32(nil, uint32(len(e.out))), e.out...)
}

// body writes the rewritten body of b. If its depth is counted, its instructions are in a block of
// their own, so that every way out, but for a trap, comes past the code that gives it back.
func (e *emitter) body(b *body, p plan) {
	e.b, e.plan, e.out, e.current, e.next, e.added = b, p, e.out[:0], false, 0, 0
	r := reader{b: e.code, at: b.decls, end: b.start}
	e.u32(r.u32() + 2)
	e.write(e.code[r.at:b.start]...)
	e.write(1, byte(I64), 1, byte(I32))
	e.left, e.length = uint32(b.locals), uint32(b.locals)+1
	e.mark(b.start, forCall)
	if !p.quiet {
		e.charge(b.cost)
		e.current = len(b.calls) == 0
	}
	if p.depth > 0 {
		e.enter()
		e.write(opBlock)
		e.write(e.blockType(b.typ.Results)...)
	}
	e.copy(b.start, b.end)
	if p.depth > 0 {
		e.addDepth(opI32Add)
		e.write(opEnd)
	}
}

// copy writes the code between two offsets, with what its points add.
func (e *emitter) copy(at, to int) {
	for e.next < len(e.b.points) && int(e.b.points[e.next].at) < to {
		p := e.b.points[e.next]
		e.next++
		e.plain(at, int(p.at))
		at = int(p.at)
		switch {
		case p.kind == atLoop:
			at = e.loop(at, p.n, &e.b.loops[p.loop])
		case p.kind == atSegment:
			e.mark(at, forLoop)
			e.charge(p.n)
		case p.kind == atSplit:
			e.mark(at, added)
			e.charge(p.n)
		case p.kind != atReturn:
			e.mark(at, added)
			e.chargeLength(p.kind)
			if p.kind == atGrow {
				at = e.grow(at)
			}
		case e.plan.depth > 0:
			e.op(opBr, p.n+e.shift)
			at++
		}
	}
	e.plain(at, to)
}

// plain writes code that has no points in it.
func (e *emitter) plain(at, to int) {
	for len(e.labels) > 0 && int(e.labels[0].at) < to {
		l := e.labels[0]
		e.labels = e.labels[1:]
		e.mark(at, moved)
		e.write(e.code[at:l.at]...)
		e.u32(l.index + e.shift)
		at = int(l.end)
	}
	e.mark(at, moved)
	e.write(e.code[at:to]...)
}

// loop writes the loop at an offset, with that cost of a turn, and returns the offset of what
// follows. If no other function runs in it, the fuel is kept in a local, since a global would be
// loaded anew at each turn.
func (e *emitter) loop(at int, cost uint32, l *loop) int {
	before := e.current
	if !l.calls && !before {
		e.op(opGlobalGet, e.fuel)
		e.op(opLocalSet, e.left)
	}
	e.current = !l.calls
	if l.void && !l.calls && !l.inner && cost > 0 {
		e.tight(at, cost, l)
	} else {
		e.write(e.code[at:l.body]...)
		e.mark(l.body, forLoop)
		e.charge(cost)
		e.copy(l.body, l.end)
	}
	e.current = before
	return l.end
}

// copies is how many copies a loop's body gets.
func (e *emitter) copies(cost uint32, l *loop) int {
	if l.dispatch || !l.turns {
		return 1
	}
	n := int(min(copiesMost, copiesCost/max(cost, 1)))
	more := (n - 1) * (l.end - l.body)
	if n < 2 || more > copiesBytes || e.added+more > bodyCopies || e.all+more > allCopies {
		return 1
	}
	e.added, e.all = e.added+more, e.all+more
	return n
}

// tight writes a loop in which no function is called and no other loop runs, with n copies of its
// body, whose turns are charged n at a time:
//
//	block
//	  loop
//	    block
//	      br 0 if there is no fuel left
//	      loop
//	        charge n turns; br 1 if there is no fuel left
//	        block  body  br 4  end
//	        ...
//	        body
//	      end
//	      br 2
//	    end
//	    pause, give the n turns back
//	    br 0
//	  end
//	end
//
// A branch to the loop's beginning comes to the end of its copy's block, and so to the next copy.
// What the last turns did not need is not given back: fuel only falls. The pause is outside of the
// loop, and what it needs comes there by two ways, so that wazero keeps the loop's values in
// registers: for a call it would store each of them at each turn.
func (e *emitter) tight(at int, cost uint32, l *loop) {
	n := e.copies(cost, l)
	turns := cost * uint32(n)
	e.write(opBlock, noResult, opLoop, noResult, opBlock, noResult)
	e.below()
	e.write(opBrIf, 0)
	e.write(e.code[at:l.body]...)
	e.mark(l.body, forLoop)
	e.take(turns)
	e.write(opBrIf, 1)
	first := e.next
	for i := range n {
		e.next, e.labels, e.shift = first, e.b.labels[l.labels[0]:l.labels[1]], 3
		if i == n-1 {
			e.copy(l.body, l.end)
			break
		}
		e.shift = 4
		e.write(opBlock, noResult)
		e.copy(l.body, l.end-1)
		e.write(opBr, 4, opEnd)
	}
	e.shift, e.labels = 0, nil
	e.write(opBr, 2, opEnd)
	e.mark(l.body, forLoop)
	e.op(opCall, e.pause)
	e.i64(int64(turns))
	e.write(opI64Add)
	e.op(opLocalSet, e.left)
	e.write(opBr, 0, opEnd, opEnd)
}

// charge takes cost from the fuel, and pauses below zero.
func (e *emitter) charge(cost uint32) {
	if cost == 0 {
		return
	}
	e.take(cost)
	e.pauseIf()
}

// take takes cost from the fuel, and leaves on the stack whether none is left.
func (e *emitter) take(cost uint32) {
	e.loadFuel()
	e.i64(int64(cost))
	e.write(opI64Sub)
	e.settle()
}

func (e *emitter) loadFuel() {
	if e.current {
		e.op(opLocalGet, e.left)
	} else {
		e.op(opGlobalGet, e.fuel)
	}
}

// settle stores the fuel on top of the stack, and leaves there whether it is below zero.
func (e *emitter) settle() {
	e.op(opLocalTee, e.left)
	e.op(opGlobalSet, e.fuel)
	e.below()
}

// below leaves on the stack whether the fuel in the local is below zero.
func (e *emitter) below() {
	e.op(opLocalGet, e.left)
	e.write(opI64Const, 0, opI64LtS)
}

// pauseIf pauses if the top of the stack says so.
func (e *emitter) pauseIf() {
	e.write(opIf, noResult)
	e.op(opCall, e.pause)
	e.op(opLocalSet, e.left)
	e.write(opEnd)
}

// chargeLength takes the cost of the length on top of the stack, which stays there. Lengths have 32
// bits, so no cost overflows.
func (e *emitter) chargeLength(kind pointKind) {
	e.op(opLocalTee, e.length)
	e.loadFuel()
	e.op(opLocalGet, e.length)
	e.write(opExtendU)
	switch kind {
	case atCopy:
		e.write(opI64Const, copyShift, opI64ShrU)
	case atGrow:
		e.write(opI64Const, growShift, opI64Shl)
	}
	e.write(opI64Sub)
	if kind == atCopy {
		e.op(opLocalGet, e.length)
		e.write(opExtendU, opI64Const, largeShift, opI64ShrU, opI64Const, largeCost, opI64Shl, opI64Sub)
	}
	e.settle()
	e.pauseIf()
}

// grow writes the memory.grow at an offset and returns that of what follows. The host may take fuel
// back to its reserve when a memory has grown, so the local does not know what is left.
func (e *emitter) grow(at int) int {
	const size = 2
	e.mark(at, moved)
	e.write(e.code[at : at+size]...)
	if e.current {
		e.op(opGlobalGet, e.fuel)
		e.op(opLocalSet, e.left)
	}
	return at + size
}

// enter takes a frame from the depth and traps below zero.
func (e *emitter) enter() {
	e.addDepth(opI32Sub)
	e.op(opGlobalGet, e.depth)
	e.write(opI32Const, 0, opI32LtS, opIf, noResult, opUnreachable, opEnd)
}

func (e *emitter) addDepth(op byte) {
	e.op(opGlobalGet, e.depth)
	e.out = appendS64(append(e.out, opI32Const), e.plan.depth)
	e.write(op)
	e.op(opGlobalSet, e.depth)
}

func (e *emitter) write(b ...byte) { e.out = append(e.out, b...) }
func (e *emitter) u32(v uint32)    { e.out = appendU32(e.out, v) }
func (e *emitter) i64(v int64)     { e.out = appendS64(append(e.out, opI64Const), v) }

// op writes an instruction with an index.
func (e *emitter) op(op byte, index uint32) { e.out = appendU32(append(e.out, op), index) }
