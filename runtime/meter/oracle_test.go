package meter

import (
	"encoding/binary"
	"fmt"
)

// countExport is the global by which a counted module tells how many instructions ran.
const countExport = "count"

// counted is the module with a counter of the instructions that run: each straight run of them adds
// its length where it begins. It has a reader of its own, so that it shares no error with the
// package that it is the judge of. Blocks, loops, else and end are no instructions: nothing runs
// for them.
func counted(code []byte) []byte {
	c := counter{code: code, at: 8}
	out := append([]byte(nil), code[:8]...)
	content := map[byte][]byte{}
	for c.at < len(code) {
		id := c.byte()
		size := int(c.leb())
		if id != 0 {
			content[id] = code[c.at : c.at+size]
		}
		c.at += size
	}
	c.global, _ = binary.Uvarint(content[6]) // no module here imports one
	content[6] = c.appended(content[6], 0x7e, 1, 0x42, 0, 0x0b)
	export := append([]byte{byte(len(countExport))}, countExport...)
	content[7] = c.appended(content[7], binary.AppendUvarint(append(export, 3), c.global)...)
	if body, ok := content[10]; ok {
		content[10] = c.bodies(body)
	}
	for _, id := range []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11} {
		if b, ok := content[id]; ok {
			out = binary.AppendUvarint(append(out, id), uint64(len(b)))
			out = append(out, b...)
		}
	}
	return out
}

// counter reads a valid module.
type counter struct {
	code   []byte
	at     int
	global uint64
}

func (c *counter) byte() byte {
	c.at++
	return c.code[c.at-1]
}

// leb reads a LEB128 number. Of one with a sign the value is of no use.
func (c *counter) leb() (v uint64) {
	for shift := 0; ; shift += 7 {
		b := c.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
}

// appended is a section with one more entry.
func (c *counter) appended(section []byte, entry ...byte) []byte {
	n, size := binary.Uvarint(section)
	out := append(binary.AppendUvarint(nil, n+1), section[size:]...)
	return append(out, entry...)
}

func (c *counter) bodies(section []byte) []byte {
	c.code, c.at = section, 0
	n := c.leb()
	out := binary.AppendUvarint(nil, n)
	for range n {
		size := int(c.leb())
		end := c.at + size
		body := c.body(end)
		out = append(binary.AppendUvarint(out, uint64(len(body))), body...)
	}
	return out
}

// body returns a function's body with counting.
func (c *counter) body(end int) []byte {
	begin := c.at
	for range c.leb() {
		c.leb()
		c.at++
	}
	out := append([]byte(nil), c.code[begin:c.at]...)
	run, from := uint64(0), c.at
	flush := func(to int) {
		if run > 0 {
			out = binary.AppendUvarint(append(out, 0x23), c.global)
			out = appendS64(append(out, 0x42), int64(run))
			out = binary.AppendUvarint(append(out, 0x7c, 0x24), c.global)
		}
		out = append(out, c.code[from:to]...)
		run, from = 0, to
	}
	for c.at < end {
		at := c.at
		op := c.byte()
		switch op {
		case 0x03, 0x05, 0x0b: // loop, else, end: others may come here
			flush(at)
			c.skip(op)
			flush(c.at)
		case 0x02:
			c.skip(op)
		default:
			run++
			c.skip(op)
			if op == 0x00 || op == 0x04 || op >= 0x0c && op <= 0x0f {
				flush(c.at)
			}
		}
	}
	flush(end)
	return out
}

// skip reads the immediates of op.
func (c *counter) skip(op byte) {
	switch {
	case op >= 0x02 && op <= 0x04, op >= 0x0c && op <= 0x0d, op == 0x10, op >= 0x20 && op <= 0x26,
		op == 0x3f, op == 0x40, op == 0x41, op == 0x42, op == 0xd0, op == 0xd2:
		c.leb()
	case op == 0x0e:
		for range c.leb() + 1 {
			c.leb()
		}
	case op == 0x11, op >= 0x28 && op <= 0x3e:
		c.leb()
		c.leb()
	case op == 0x1c:
		c.at += int(c.leb())
	case op == 0x43:
		c.at += 4
	case op == 0x44:
		c.at += 8
	case op == 0xfc:
		for range [...]int{8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1}[c.leb()] {
			c.leb()
		}
	case op == 0xfd:
		c.skipVector(c.leb())
	case op > 0x1b && op < 0x45, op > 0xc4 && op != 0xd1, op > 0x05 && op < 0x0b:
		panic(fmt.Sprintf("BUG: opcode 0x%02x", op))
	}
}

func (c *counter) skipVector(op uint64) {
	switch {
	case op <= 11, op == 92, op == 93:
		c.leb()
		c.leb()
	case op == 12, op == 13:
		c.at += 16
	case op >= 21 && op <= 34:
		c.at++
	case op >= 84 && op <= 91:
		c.leb()
		c.leb()
		c.at++
	}
}
