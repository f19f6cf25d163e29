package rule

import (
	"math"
	"strconv"
)

// Payload builds a JSON object, member by member, without allocating once its buffer has grown.
// There is one of them, which [Row.Payload] empties.
//
// In an array the key of a member is left out; pass "".
type Payload struct {
	buf    []byte
	row    Row
	comma  bool
	arrays uint64 // bit 0 is the innermost open array (1) or object (0)
	depth  int    // open arrays and objects within the outermost object, at most 63
}

func (p *Payload) reset() {
	*p = Payload{buf: append(p.buf[:0], '{')}
}

func (p *Payload) member(key string) {
	if p.comma {
		p.buf = append(p.buf, ',')
	}
	p.comma = true
	if p.arrays&1 == 0 {
		p.buf = append(appendString(p.buf, key), ':')
	}
}

// F64 adds a number, or null if v is not a finite number.
func (p *Payload) F64(key string, v float64) *Payload {
	p.member(key)
	p.buf = appendFloat(p.buf, v)
	return p
}

// I64 adds a number.
func (p *Payload) I64(key string, v int64) *Payload {
	p.member(key)
	p.buf = strconv.AppendInt(p.buf, v, 10)
	return p
}

// Bool adds true or false.
func (p *Payload) Bool(key string, v bool) *Payload {
	p.member(key)
	p.buf = strconv.AppendBool(p.buf, v)
	return p
}

// UTF8 adds a string.
func (p *Payload) UTF8(key, v string) *Payload {
	p.member(key)
	p.buf = appendString(p.buf, v)
	return p
}

// JSON adds a value that is JSON already, such as one from a [JSON] column; "" is null.
func (p *Payload) JSON(key, v string) *Payload {
	p.member(key)
	if v == "" {
		v = "null"
	}
	p.buf = append(p.buf, v...)
	return p
}

// Object begins an object that [Payload.End] ends.
func (p *Payload) Object(key string) *Payload { return p.open(key, '{', 0) }

// Array begins an array that [Payload.End] ends.
func (p *Payload) Array(key string) *Payload { return p.open(key, '[', 1) }

func (p *Payload) open(key string, c byte, array uint64) *Payload {
	if p.depth == 63 {
		panic("rule: a payload is nested deeper than 63")
	}
	p.member(key)
	p.buf = append(p.buf, c)
	p.arrays = p.arrays<<1 | array
	p.depth++
	p.comma = false
	return p
}

// End ends the innermost array or object that is open.
func (p *Payload) End() *Payload {
	if p.depth == 0 {
		return p
	}
	p.buf = append(p.buf, "}]"[p.arrays&1])
	p.arrays >>= 1
	p.depth--
	p.comma = true
	return p
}

// close ends everything that is open and gives the object.
func (p *Payload) close() []byte {
	for p.depth > 0 {
		p.End()
	}
	return append(p.buf, '}')
}

// Emit ends everything that is open and attaches the object to its row; see [Row.Emit].
func (p *Payload) Emit() error {
	p.buf = p.close()
	return p.row.Emit(p.buf)
}

func appendFloat(dst []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	// Most numbers of rules are whole, and those are several times faster to write.
	if n := int64(v); math.Abs(v) < 1<<53 && float64(n) == v && n != 0 {
		return strconv.AppendInt(dst, n, 10)
	}
	if out, ok := appendDecimals(dst, v); ok {
		return out
	}
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, v, format, -1, 64)
}

// appendDecimals appends a number that has at most six decimals, as most do: strconv takes several
// times as long. n and p are exact, so n / p is what n and a point at that place are read as.
func appendDecimals(dst []byte, v float64) ([]byte, bool) {
	a, p := math.Abs(v), 1.0
	for places := 1; places <= 6; places++ {
		p *= 10
		n := math.Floor(a*p + 0.5)
		if n >= 1e15 { // from there on several numbers of 16 digits are read as v
			break
		}
		if n/p != a || n == 0 {
			continue
		}
		if v < 0 {
			dst = append(dst, '-')
		}
		dst = strconv.AppendInt(dst, int64(n/p), 10)
		dst = append(dst, '.')
		for unit := p / 10; unit >= 1; unit /= 10 {
			dst = append(dst, '0'+byte(int64(n/unit)%10))
		}
		return dst, true
	}
	return dst, false
}

// appendString appends s as a JSON string. Values from columns are UTF-8, so nothing is checked.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		if c < 0x20 {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, '\\', c)
		}
	}
	return append(append(dst, s[from:]...), '"')
}
