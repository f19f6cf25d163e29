package meter

import (
	"fmt"
	"unicode/utf8"
)

// reader reads the binary format. It panics with *Error, which Scan recovers and returns: the one
// place where this package does, so that the many small reads stay readable.
type reader struct {
	b   []byte
	at  int
	end int // reads stop here
	lim *Limits
}

func (r *reader) fail(k Kind, format string, args ...any) {
	panic(&Error{Kind: k, Offset: r.at, Msg: fmt.Sprintf(format, args...)})
}

func (r *reader) byte() byte {
	if r.at >= r.end {
		r.fail(Malformed, "the module ends in the middle of its section or body")
	}
	c := r.b[r.at]
	r.at++
	return c
}

func (r *reader) bytes(n uint32) []byte {
	if uint64(n) > uint64(r.end-r.at) {
		r.fail(Malformed, "%d bytes are announced, but %d are left", n, r.end-r.at)
	}
	b := r.b[r.at : r.at+int(n)]
	r.at += int(n)
	return b
}

// unsigned reads a LEB128 number of at most the given bits. As the specification has it, it may not
// be longer than needed for that many bits, and unused bits must be 0.
func (r *reader) unsigned(bits uint) uint64 {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		c := r.byte()
		if left := bits - shift; left < 7 && c>>left != 0 {
			r.fail(Malformed, "a LEB128 number has more than %d bits", bits)
		}
		v |= uint64(c&0x7f) << shift
		if c&0x80 == 0 {
			return v
		}
		if shift+7 >= bits {
			r.fail(Malformed, "a LEB128 number of %d bits is too long", bits)
		}
	}
}

func (r *reader) u32() uint32 { return uint32(r.unsigned(32)) }

// signed reads a signed LEB128 number; unused bits must repeat the sign.
func (r *reader) signed(bits uint) int64 {
	var v int64
	for shift := uint(0); ; shift += 7 {
		c := r.byte()
		v |= int64(c&0x7f) << shift
		if left := bits - shift; left < 7 {
			top := int8(c<<1) >> left // the sign and the unused bits, in place
			if c&0x80 != 0 || (top != 0 && top != -1) {
				r.fail(Malformed, "a LEB128 number has more than %d bits", bits)
			}
		}
		if c&0x80 == 0 {
			if shift+7 < 64 && c&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return v
		}
		if shift+7 >= bits {
			r.fail(Malformed, "a LEB128 number of %d bits is too long", bits)
		}
	}
}

// count reads how many entries follow, each of at least one byte.
func (r *reader) count(what string, limit int) uint32 {
	n := r.u32()
	if uint64(n) > uint64(r.end-r.at) {
		r.fail(Malformed, "%d %s are announced, but %d bytes are left", n, what, r.end-r.at)
	}
	if uint64(n) > uint64(limit) {
		r.fail(Limit, "%d %s: expected at most %d", n, what, limit)
	}
	return n
}

// index reads an index into a space of n entries.
func (r *reader) index(what string, n int) uint32 {
	i := r.u32()
	if uint64(i) >= uint64(n) {
		r.fail(BadIndex, "there is no %s %d: the module has %d", what, i, n)
	}
	return i
}

func (r *reader) name(what string) string {
	n := r.count("bytes of "+what, r.lim.NameBytes)
	b := r.bytes(n)
	if !utf8.Valid(b) {
		r.fail(Malformed, "%s is not UTF-8", what)
	}
	return string(b)
}

func (r *reader) valType() ValType {
	t := ValType(r.byte())
	if _, ok := valTypeNames[t]; !ok {
		r.at--
		r.fail(Unoffered, "value type 0x%02x is not offered: expected i32, i64, f32, f64, v128, "+
			"funcref or externref", byte(t))
	}
	return t
}

func (r *reader) refType() byte {
	t := r.byte()
	if ValType(t) != FuncRef && ValType(t) != ExternRef {
		r.at--
		r.fail(Unoffered, "reference type 0x%02x is not offered: expected funcref or externref", t)
	}
	return t
}

func (r *reader) zero(what string) {
	if r.byte() != 0 {
		r.at--
		r.fail(Unoffered, "%s: expected 0, since more than one memory is not offered", what)
	}
}

func appendU32(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

func appendS64(dst []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(dst, c)
		}
		dst = append(dst, c|0x80)
	}
}
