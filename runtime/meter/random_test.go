package meter

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// Random programs. A program has functions of several signatures that call each other, also through
// a table, a memory of one page, a second one to grow, and four globals. All loops count their
// turns down and all functions the global gas, so each program ends; by a trap or without. Floats
// are computed but only compared and cut to integers, since the bits of a NaN are not fixed.
type program struct {
	*rand.Rand
	types   []FuncType // of blocks and functions
	funcs   []int      // type of each
	out     []byte
	locals  []ValType
	results []ValType
	labels  []label0 // of the open blocks
	left    int      // statements that may yet come
	unused  int      // locals that count turns
}

// label0 is what a branch to a block takes along.
type label0 []ValType

// Globals of a program: a limit of what runs, and some to play with.
const (
	gasGlobal = iota
	i32Global
	i64Global
	f64Global
)

const (
	tableSize  = 8
	givenTypes = 16 // at the beginning of a program's types, the second half as the first
)

// randomModule makes a valid module with the exports memory, f: (i32, i32) -> i32, and its globals.
func randomModule(seed uint64) []byte {
	p := &program{Rand: rand.New(rand.NewPCG(seed, 1))}
	number := []ValType{I32, I32, I64, F64}
	list := func(n int) (l []ValType) {
		for range n {
			l = append(l, number[p.IntN(len(number))])
		}
		return l
	}
	p.types = []FuncType{{Params: []ValType{I32, I32}, Results: []ValType{I32}}, {}}
	for range 6 {
		p.types = append(p.types, FuncType{Params: list(p.IntN(3)), Results: list(p.IntN(4))})
	}
	p.types = append(p.types, p.types...) // each is given twice
	p.funcs = []int{0}
	for range 3 + p.IntN(6) {
		p.funcs = append(p.funcs, p.IntN(len(p.types)))
	}
	var code []byte
	for i := range p.funcs {
		b := p.function(p.types[p.funcs[i]])
		code = append(appendU32(code, uint32(len(b))), b...)
	}
	return p.module(code)
}

func (p *program) module(code []byte) []byte {
	vector := func(n int, b []byte) []byte { return append(appendU32(nil, uint32(n)), b...) }
	var types, funcs, exports, elements []byte
	for _, t := range p.types {
		types = append(types, 0x60)
		for _, l := range [][]ValType{t.Params, t.Results} {
			types = appendU32(types, uint32(len(l)))
			for _, v := range l {
				types = append(types, byte(v))
			}
		}
	}
	for i, t := range p.funcs {
		funcs = append(funcs, byte(t))
		if i < tableSize-1 { // one entry stays null
			elements = append(elements, byte(i))
		}
	}
	exports = append(exports, "\x01f\x00\x00\x06memory\x02\x00"...)
	for i, name := range []string{"gas", "i32", "i64", "f64"} {
		exports = append(append(append(exports, byte(len(name))), name...), 3, byte(i))
	}
	globals := []byte{0x7f, 1, 0x41, 0xac, 2, 0x0b, 0x7f, 1, 0x41, 5, 0x0b, 0x7e, 1, 0x42, 9, 0x0b,
		0x7c, 1, 0x44, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x0b}
	segment := append([]byte{0, 0x41, 0, 0x0b}, vector(len(elements), elements)...)
	return join(sec(secType, vector(len(p.types), types)...), sec(secFunction, vector(len(p.funcs), funcs)...),
		sec(secTable, 1, byte(FuncRef), 0, tableSize), sec(secMemory, 1, 1, 1, 3),
		sec(secGlobal, append([]byte{4}, globals...)...), sec(secExport, append([]byte{6}, exports...)...),
		sec(secElement, vector(1, segment)...), sec(secDataCount, 1),
		sec(secCode, vector(len(p.funcs), code)...),
		sec(secData, append([]byte{1, 1, 16}, "0123456789abcdef"...)...))
}

// function makes a body with its declaration of locals.
func (p *program) function(t FuncType) []byte {
	p.out, p.left = nil, 8+p.IntN(30)
	p.locals = append([]ValType{}, t.Params...)
	own := []ValType{I32, I32, I64, F64}
	const turns = 4 // locals that count turns, at most as many loops in each other
	p.locals = append(p.locals, own...)
	p.unused, p.results = turns, t.Results
	p.labels = []label0{t.Results}

	p.op(0x23, gasGlobal).i32(1).raw(0x6b).op(0x24, gasGlobal)
	p.op(0x23, gasGlobal).i32(0).raw(0x48, 0x04, 0x40)
	p.labels = append(p.labels, nil)
	p.zeros(t.Results).raw(0x0f, 0x0b)
	p.labels = p.labels[:1]
	switch p.IntN(4) {
	case 0:
		p.dispatch()
	default:
		p.statements(4)
	}
	p.values(t.Results).raw(0x0b)

	var decl []byte
	for _, v := range own {
		decl = append(decl, 1, byte(v))
	}
	return slices.Concat(appendU32(nil, uint32(len(own)+1)), decl, []byte{turns, byte(I32)}, p.out)
}

func (p *program) raw(b ...byte) *program { p.out = append(p.out, b...); return p }

func (p *program) op(op byte, index int) *program {
	p.out = appendU32(append(p.out, op), uint32(index))
	return p
}

func (p *program) i32(v int) *program {
	p.out = appendS64(append(p.out, 0x41), int64(int32(v)))
	return p
}

func (p *program) zeros(types []ValType) *program {
	for _, t := range types {
		switch t {
		case I32, I64:
			p.raw(map[ValType]byte{I32: 0x41, I64: 0x42}[t], 0)
		default:
			p.raw(0x44, 0, 0, 0, 0, 0, 0, 0, 0)
		}
	}
	return p
}

func (p *program) values(types []ValType) *program {
	for _, t := range types {
		p.value(t, 3)
	}
	return p
}

// drop takes values off the stack, into locals or away.
func (p *program) drop(types []ValType) *program {
	for _, t := range slices.Backward(types) {
		if p.IntN(2) == 0 {
			p.op(0x21, p.local(t))
		} else {
			p.raw(0x1a)
		}
	}
	return p
}

// local is one of that type; each function has some.
func (p *program) local(t ValType) int {
	for {
		if i := p.IntN(len(p.locals)); p.locals[i] == t {
			return i
		}
	}
}

// value writes code that leaves one value.
func (p *program) value(t ValType, depth int) *program {
	if depth == 0 || p.IntN(3) == 0 {
		if p.IntN(2) == 0 {
			return p.op(0x20, p.local(t))
		}
		return p.constant(t)
	}
	switch t {
	case I32:
		p.i32Value(depth - 1)
	case I64:
		p.i64Value(depth - 1)
	default:
		p.f64Value(depth - 1)
	}
	return p
}

func (p *program) constant(t ValType) *program {
	n := []int64{0, 1, -1, 7, 64, 65528, 1 << 31, -1 << 31, p.Int64()}[p.IntN(9)]
	switch t {
	case I32:
		p.i32(int(n))
	case I64:
		p.out = appendS64(append(p.out, 0x42), n)
	default:
		p.raw(0x44)
		p.out = binary.LittleEndian.AppendUint64(p.out, p.Uint64()>>12|0x3ff<<52)
	}
	return p
}

func (p *program) i32Value(d int) {
	switch p.IntN(9) {
	case 0:
		p.value(I32, d).raw([]byte{0x45, 0x67, 0x68, 0x69, 0xc0, 0xc1}[p.IntN(6)])
	case 1, 2:
		p.value(I32, d).value(I32, d).raw([]byte{0x46, 0x48, 0x4d, 0x6a, 0x6b, 0x6c, 0x71, 0x73, 0x74, 0x75,
			0x6d, 0x70}[p.IntN(12)])
	case 3:
		p.value(I64, d).value(I64, d).raw([]byte{0x51, 0x53, 0x58}[p.IntN(3)])
	case 4:
		p.value(F64, d).value(F64, d).raw([]byte{0x61, 0x63, 0x66}[p.IntN(3)])
	case 5:
		p.value(I64, d).raw(0xa7)
	case 6:
		p.address(d).raw([]byte{0x28, 0x2c, 0x2f}[p.IntN(3)], 0, byte(p.IntN(8)))
	case 7:
		p.value(I32, d).value(I32, d).value(I32, d).raw(0x1b)
	default:
		p.block(0x02, []ValType{I32}, func() { p.statements(2) })
	}
}

func (p *program) i64Value(d int) {
	switch p.IntN(6) {
	case 0:
		p.value(I64, d).value(I64, d).raw([]byte{0x7c, 0x7d, 0x7e, 0x83, 0x85, 0x86, 0x7f, 0x82}[p.IntN(8)])
	case 1:
		p.value(I32, d).raw([]byte{0xac, 0xad}[p.IntN(2)])
	case 2:
		p.value(F64, d).raw(0xfc, 6)
	case 3:
		p.value(F64, d).raw(0xb0) // traps out of range
	case 4:
		p.address(d).raw(0x29, 0, 0)
	default:
		p.op(0x23, i64Global)
	}
}

func (p *program) f64Value(d int) {
	switch p.IntN(4) {
	case 0:
		p.value(F64, d).value(F64, d).raw([]byte{0xa0, 0xa1, 0xa2, 0xa3}[p.IntN(4)])
	case 1:
		p.value(I64, d).raw(0xb9)
	case 2:
		p.value(F64, d).raw([]byte{0x9f, 0x9b, 0x99}[p.IntN(3)])
	default:
		p.op(0x23, f64Global)
	}
}

// address leaves one that is inside of the memory, but for a few.
func (p *program) address(d int) *program {
	p.value(I32, d)
	if p.IntN(20) > 0 {
		p.i32(0xfff0).raw(0x71)
	}
	return p
}

// block writes a block with its end; body must leave nothing, the results come after it.
func (p *program) block(op byte, results []ValType, body func()) {
	switch len(results) {
	case 0:
		p.raw(op, 0x40)
	case 1:
		p.raw(op, byte(results[0]))
	default:
		p.raw(op)
		p.out = appendS64(p.out, int64(p.typeOf(results)))
	}
	label := label0(results)
	if op == 0x03 {
		label = nil
	}
	p.labels = append(p.labels, label)
	body()
	p.values(results)
	if op == 0x04 {
		p.raw(0x05)
		p.statements(2)
		p.values(results)
	}
	p.labels = p.labels[:len(p.labels)-1]
	p.raw(0x0b)
}

// typeOf is a type without params, with these results.
func (p *program) typeOf(results []ValType) int {
	for i, t := range p.types {
		if len(t.Params) == 0 && slices.Equal(t.Results, results) {
			return i
		}
	}
	p.types = append(p.types, FuncType{Results: results})
	return len(p.types) - 1
}

func (p *program) statements(most int) {
	for range 1 + p.IntN(most) {
		if p.left--; p.left < 0 {
			return
		}
		p.statement()
	}
}

func (p *program) statement() {
	switch p.IntN(16) {
	case 0, 1:
		t := []ValType{I32, I64, F64}[p.IntN(3)]
		p.value(t, 3).op(0x21, p.local(t))
	case 2:
		g := 1 + p.IntN(3)
		p.value([]ValType{0, I32, I64, F64}[g], 3).op(0x24, g)
	case 3:
		p.address(2).value(I32, 2).raw([]byte{0x36, 0x3a}[p.IntN(2)], 0, byte(p.IntN(8)))
	case 4, 5, 6:
		p.loop()
	case 7:
		results := p.types[p.IntN(len(p.types))].Results
		p.block(0x02, results, func() { p.statements(4) })
		p.drop(results)
	case 8, 9:
		p.value(I32, 2)
		p.block(0x04, nil, func() { p.statements(3) })
	case 10:
		p.branch()
	case 11:
		p.call()
	case 12:
		p.callIndirect()
	case 13:
		p.bulk()
	case 14:
		if p.IntN(4) == 0 {
			p.value(I32, 1).raw(0x04, 0x40)
			p.labels = append(p.labels, nil)
			p.values(p.results).raw(0x0f, 0x0b)
			p.labels = p.labels[:len(p.labels)-1]
		}
	default:
		if p.IntN(12) == 0 {
			p.value(I32, 1).value(I32, 1).raw(0x71, 0x04, 0x40, 0x00, 0x0b) // unreachable
		} else {
			p.raw(0x01)
		}
	}
}

// loop writes a loop that counts its turns down at its beginning, whoever branches there.
func (p *program) loop() {
	if p.unused == 0 {
		return
	}
	p.unused--
	turns := len(p.locals) + p.unused
	p.i32(1+p.IntN(6)).op(0x21, turns)
	p.block(0x02, nil, func() {
		results := label0(nil)
		if p.IntN(4) == 0 {
			results = p.types[p.IntN(len(p.types))].Results
		}
		p.block(0x03, results, func() {
			p.op(0x20, turns).raw(0x45, 0x0d, 1)
			p.op(0x20, turns).i32(1).raw(0x6b).op(0x21, turns)
			p.statements(3)
			if p.IntN(4) > 0 {
				p.value(I32, 2).op(0x0d, 0)
			} else {
				p.value(I32, 0).raw(0x04, 0x40, 0x0c, 1, 0x0b)
			}
		})
		p.drop(results)
	})
	p.unused++
}

// branch writes a br, br_if or br_table to any block that is open.
func (p *program) branch() {
	i := p.IntN(len(p.labels))
	takes := p.labels[len(p.labels)-1-i]
	switch p.IntN(3) {
	case 0:
		p.value(I32, 2).raw(0x04, 0x40)
		p.labels = append(p.labels, nil)
		p.values(takes).op(0x0c, i+1).raw(0x0b)
		p.labels = p.labels[:len(p.labels)-1]
	case 1:
		p.values(takes).value(I32, 2).op(0x0d, i).drop(takes)
	default:
		var same []int
		for k, l := range p.labels {
			if slices.Equal(l, takes) {
				same = append(same, len(p.labels)-1-k)
			}
		}
		// In a block of its own, since what follows it is unreachable.
		p.raw(0x02, 0x40)
		p.labels = append(p.labels, nil)
		p.values(takes).value(I32, 2).i32(7).raw(0x71, 0x0e, byte(len(same)-1))
		for _, l := range same {
			p.out = appendU32(p.out, uint32(l+1))
		}
		p.labels = p.labels[:len(p.labels)-1]
		p.raw(0x0b)
	}
}

func (p *program) call() {
	f := p.IntN(len(p.funcs))
	t := p.types[p.funcs[f]]
	p.values(t.Params).op(0x10, f).drop(t.Results)
}

func (p *program) callIndirect() {
	t := p.funcs[p.IntN(len(p.funcs))]
	p.values(p.types[t].Params)
	if k := slices.Index(p.funcs, t); k < tableSize-1 && p.IntN(10) > 0 {
		p.i32(k)
	} else {
		p.value(I32, 1).i32(15).raw(0x71) // traps often
	}
	p.op(0x11, (t+givenTypes/2*p.IntN(2))%givenTypes).raw(0).drop(p.types[t].Results)
}

func (p *program) bulk() {
	small := func() { p.value(I32, 1).i32(0xff).raw(0x71) }
	switch p.IntN(5) {
	case 0:
		p.address(1).value(I32, 1)
		small()
		p.raw(0xfc, 11, 0)
	case 1:
		p.address(1).address(1)
		small()
		p.raw(0xfc, 10, 0, 0)
	case 2:
		p.value(I32, 1).i32(1).raw(0x71, 0x40, 0).op(0x21, p.local(I32))
	case 3:
		p.address(1).i32(p.IntN(8)).i32(p.IntN(10)).raw(0xfc, 8, 0, 0)
	default:
		p.i32(p.IntN(tableSize)).i32(p.IntN(tableSize)).i32(p.IntN(3)).raw(0xfc, 14, 0, 0)
	}
}

// dispatch writes what Go's compiler makes of a function: a loop around a br_table to segments,
// each of which may run into the next, leave, or choose the next and go round.
func (p *program) dispatch() {
	if p.unused == 0 {
		return
	}
	p.unused--
	n, next := 2+p.IntN(6), len(p.locals)+p.unused
	p.i32(p.IntN(n)).op(0x21, next)
	p.raw(0x03, 0x40).raw(slices.Repeat([]byte{0x02, 0x40}, n)...)
	p.op(0x20, next).raw(0x0e, byte(n))
	for i := range n {
		p.raw(byte(i))
	}
	p.raw(byte(p.IntN(n)))
	for range n + 1 {
		p.labels = append(p.labels, nil)
	}
	for i := range n {
		p.labels = p.labels[:len(p.labels)-1]
		p.raw(0x0b)
		p.op(0x23, gasGlobal).i32(1).raw(0x6b).op(0x24, gasGlobal)
		p.op(0x23, gasGlobal).i32(0).raw(0x48, 0x04, 0x40)
		p.zeros(p.results).raw(0x0f, 0x0b)
		p.statements(3)
		switch round := n - 1 - i; p.IntN(4) {
		case 0:
			p.i32(p.IntN(n)).op(0x21, next).op(0x0c, round)
		case 1:
			p.value(I32, 1).raw(0x04, 0x40).i32(p.IntN(n)).op(0x21, next).op(0x0c, round+1).raw(0x0b)
		case 2:
			p.values(p.results).raw(0x0f)
		}
	}
	p.labels = p.labels[:len(p.labels)-1]
	p.raw(0x0b)
	p.unused++
}
