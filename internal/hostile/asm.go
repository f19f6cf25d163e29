package hostile

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
)

// opcode is an instruction: its bytes, and by a letter each what follows them:
//
//	u  an unsigned number, or a name such as $emit
//	s  a signed number
//	f  a float of 64 bits
//	m  the offset of a load or store; it is written with the least alignment
//	b  a block's type: a value type, a number for a type's index, or nothing
//	v  the targets of a br_table, the default last; how many there are is written before them
//	h  a heap type: func or extern
//	l  a byte, such as a lane
//	c  sixteen bytes, all of this value
//	0  a zero byte, which the text does not have
type opcode struct {
	code []byte
	rest string
}

// opcodes are the instructions by their names. Those of proposals that are not offered are here to
// be refused.
var opcodes = map[string]opcode{
	"unreachable": {b(0x00), ""}, "nop": {b(0x01), ""}, "block": {b(0x02), "b"},
	"loop": {b(0x03), "b"}, "if": {b(0x04), "b"}, "else": {b(0x05), ""}, "end": {b(0x0b), ""},
	"br": {b(0x0c), "u"}, "br_if": {b(0x0d), "u"}, "br_table": {b(0x0e), "v"},
	"return": {b(0x0f), ""}, "call": {b(0x10), "u"}, "call_indirect": {b(0x11), "uu"},
	"drop": {b(0x1a), ""}, "select": {b(0x1b), ""},
	"local.get": {b(0x20), "u"}, "local.set": {b(0x21), "u"}, "local.tee": {b(0x22), "u"},
	"global.get": {b(0x23), "u"}, "global.set": {b(0x24), "u"},
	"table.get": {b(0x25), "u"}, "table.set": {b(0x26), "u"},
	"memory.size": {b(0x3f), "0"}, "memory.grow": {b(0x40), "0"},
	"i32.const": {b(0x41), "s"}, "i64.const": {b(0x42), "s"}, "f64.const": {b(0x44), "f"},
	"ref.null": {b(0xd0), "h"}, "ref.is_null": {b(0xd1), ""}, "ref.func": {b(0xd2), "u"},
	"memory.init": {b(0xfc, 8), "u0"}, "data.drop": {b(0xfc, 9), "u"},
	"memory.copy": {b(0xfc, 10), "00"}, "memory.fill": {b(0xfc, 11), "0"},
	"table.init": {b(0xfc, 12), "uu"}, "elem.drop": {b(0xfc, 13), "u"},
	"table.copy": {b(0xfc, 14), "uu"}, "table.grow": {b(0xfc, 15), "u"},
	"table.size": {b(0xfc, 16), "u"}, "table.fill": {b(0xfc, 17), "u"},
	"v128.load": {b(0xfd, 0), "m"}, "v128.store": {b(0xfd, 11), "m"},
	"v128.const": {b(0xfd, 12), "c"}, "i32x4.extract_lane": {b(0xfd, 27), "l"},
	"i32x4.add": {b(0xfd, 0xae, 1), ""},

	// tail calls and typed references
	"return_call": {b(0x12), "u"}, "return_call_indirect": {b(0x13), "uu"}, "call_ref": {b(0x14), "u"},
	// exceptions, old and new
	"try": {b(0x06), "b"}, "throw": {b(0x08), "u"}, "throw_ref": {b(0x0a), ""},
	"try_table": {b(0x1f), "b0"},
	// garbage collection
	"struct.new_default": {b(0xfb, 1), "u"}, "ref.i31": {b(0xfb, 28), ""},
	// threads
	"memory.atomic.wait32": {b(0xfe, 1), "m"}, "i32.atomic.rmw.add": {b(0xfe, 0x1e), "m"},
	// relaxed vectors, wide arithmetic, stack switching
	"i32x4.relaxed_trunc_f32x4_s": {b(0xfd, 0x81, 2), ""}, "i64.add128": {b(0xfc, 19), ""},
	"suspend": {b(0xe2), "u"},
}

// consecutive are the names of loads and stores, from 0x28 on, and of the instructions that nothing
// follows, from 0x45 on, as the binary format numbers them.
var consecutive = []struct {
	from  byte
	rest  string
	names string
}{
	{0x28, "m", `i32.load i64.load f32.load f64.load i32.load8_s i32.load8_u i32.load16_s i32.load16_u
		i64.load8_s i64.load8_u i64.load16_s i64.load16_u i64.load32_s i64.load32_u i32.store i64.store
		f32.store f64.store i32.store8 i32.store16 i64.store8 i64.store16 i64.store32`},
	{0x45, "", `i32.eqz i32.eq i32.ne i32.lt_s i32.lt_u i32.gt_s i32.gt_u i32.le_s i32.le_u i32.ge_s
		i32.ge_u i64.eqz i64.eq i64.ne i64.lt_s i64.lt_u i64.gt_s i64.gt_u i64.le_s i64.le_u i64.ge_s
		i64.ge_u f32.eq f32.ne f32.lt f32.gt f32.le f32.ge f64.eq f64.ne f64.lt f64.gt f64.le f64.ge
		i32.clz i32.ctz i32.popcnt i32.add i32.sub i32.mul i32.div_s i32.div_u i32.rem_s i32.rem_u
		i32.and i32.or i32.xor i32.shl i32.shr_s i32.shr_u i32.rotl i32.rotr i64.clz i64.ctz i64.popcnt
		i64.add i64.sub i64.mul i64.div_s i64.div_u i64.rem_s i64.rem_u i64.and i64.or i64.xor i64.shl
		i64.shr_s i64.shr_u i64.rotl i64.rotr f32.abs f32.neg f32.ceil f32.floor f32.trunc f32.nearest
		f32.sqrt f32.add f32.sub f32.mul f32.div f32.min f32.max f32.copysign f64.abs f64.neg f64.ceil
		f64.floor f64.trunc f64.nearest f64.sqrt f64.add f64.sub f64.mul f64.div f64.min f64.max
		f64.copysign i32.wrap_i64 i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u
		i64.extend_i32_s i64.extend_i32_u`},
}

func init() {
	for _, list := range consecutive {
		for i, name := range strings.Fields(list.names) {
			opcodes[name] = opcode{b(list.from + byte(i)), list.rest}
		}
	}
}

// valTypes are the value types, and what may stand for a reference.
var valTypes = map[string]byte{"i32": 0x7f, "i64": 0x7e, "f32": 0x7d, "f64": 0x7c, "v128": 0x7b,
	"funcref": 0x70, "externref": 0x6f, "func": 0x70, "extern": 0x6f}

// assembler writes the bytes of instructions that are given by their names.
type assembler struct {
	words []string
	names map[string]int // of functions and locals
	out   []byte
}

// assemble makes the bytes of a text: instructions with what follows them, in the order of the
// binary format, as in "local.get 0 i32.load 4 call $emit". A number where an instruction should
// stand is a byte as it is.
func assemble(text string, names map[string]int) []byte {
	a := &assembler{words: strings.Fields(text), names: names}
	for len(a.words) > 0 {
		a.instruction(a.word())
	}
	return a.out
}

func (a *assembler) word() string {
	if len(a.words) == 0 {
		panic("BUG: a text ends in the middle of an instruction")
	}
	w := a.words[0]
	a.words = a.words[1:]
	return w
}

func (a *assembler) instruction(word string) {
	if strings.HasPrefix(word, "0x") || isNumber(word) {
		a.out = append(a.out, byte(number(word)))
		return
	}
	op, ok := opcodes[word]
	if !ok {
		panic("BUG: no instruction " + word)
	}
	a.out = append(a.out, op.code...)
	for _, r := range op.rest {
		a.immediate(r)
	}
}

func (a *assembler) immediate(kind rune) {
	switch kind {
	case 'u':
		a.out = append(a.out, u(a.index(a.word()))...)
	case 's':
		a.out = append(a.out, s(number(a.word()))...)
	case 'f':
		v, err := strconv.ParseFloat(a.word(), 64)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		a.out = binary.LittleEndian.AppendUint64(a.out, math.Float64bits(v))
	case 'm':
		a.out = append(append(a.out, 0), u(a.index(a.word()))...)
	case 'b':
		a.blockType()
	case 'v':
		a.targets()
	case 'h':
		a.out = append(a.out, valTypes[a.word()])
	case 'l':
		a.out = append(a.out, byte(number(a.word())))
	case 'c':
		v := byte(number(a.word()))
		for range 16 {
			a.out = append(a.out, v)
		}
	case '0':
		a.out = append(a.out, 0)
	}
}

func (a *assembler) blockType() {
	if len(a.words) > 0 {
		if t, ok := valTypes[a.words[0]]; ok {
			a.word()
			a.out = append(a.out, t)
			return
		}
		if isNumber(a.words[0]) {
			a.out = append(a.out, s(number(a.word()))...)
			return
		}
	}
	a.out = append(a.out, 0x40)
}

func (a *assembler) targets() {
	var list []byte
	n := 0
	for len(a.words) > 0 && isNumber(a.words[0]) {
		list = append(list, u(uint64(number(a.word())))...)
		n++
	}
	a.out = append(append(a.out, u(uint64(n-1))...), list...)
}

func (a *assembler) index(word string) uint64 {
	if strings.HasPrefix(word, "$") {
		i, ok := a.names[word]
		if !ok {
			panic("BUG: no name " + word)
		}
		return uint64(i)
	}
	return uint64(number(word))
}

func isNumber(word string) bool {
	return word != "" && strings.Trim(word, "0123456789") == "" // no sign, and no 0x
}

func number(word string) int64 {
	v, err := strconv.ParseInt(word, 0, 64)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return v
}

// b is some bytes.
func b(v ...byte) []byte { return v }

// u is an unsigned LEB128 number.
func u[T ~int | ~uint32 | ~uint64](v T) []byte { return binary.AppendUvarint(nil, uint64(v)) }

// s is a signed LEB128 number.
func s(v int64) []byte {
	var out []byte
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(out, c)
		}
		out = append(out, c|0x80)
	}
}

// sized is bytes with their number before them.
func sized(content []byte) []byte { return append(u(len(content)), content...) }

// repeat is a text n times; %d in it stands for which time it is, from 0.
func repeat(n int, text string) string {
	var out strings.Builder
	for i := range n {
		out.WriteString(strings.ReplaceAll(text, "%d", strconv.Itoa(i)) + " ")
	}
	return out.String()
}
