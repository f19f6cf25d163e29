package meter

// Opcodes that have a meaning here.
const (
	opUnreachable  = 0x00
	opNop          = 0x01
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opDrop         = 0x1a
	opSelect       = 0x1b
	opSelectTyped  = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableGet     = 0x25
	opTableSet     = 0x26
	opFirstLoad    = 0x28
	opLastLoad     = 0x35
	opLastStore    = 0x3e
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opFirstNumeric = 0x45 // i32.eqz
	opI32LtS       = 0x48
	opI64LtS       = 0x53
	opI32Add       = 0x6a
	opI32Sub       = 0x6b
	opI32DivS      = 0x6d
	opI32RemU      = 0x70
	opI64Add       = 0x7c
	opI64Sub       = 0x7d
	opI64DivS      = 0x7f
	opI64RemU      = 0x82
	opI64Shl       = 0x86
	opI64ShrU      = 0x88
	opF32Sqrt      = 0x91
	opF32Mul       = 0x94
	opF32Div       = 0x95
	opF64Sqrt      = 0x9f
	opF64Mul       = 0xa2
	opF64Div       = 0xa3
	opExtendU      = 0xad // i64.extend_i32_u
	opLastNumeric  = 0xc4 // i64.extend32_s
	opRefNull      = 0xd0
	opRefIsNull    = 0xd1
	opRefFunc      = 0xd2
	opBulk         = 0xfc // prefix of saturating conversions and instructions with a length
	opVector       = 0xfd // prefix

	noResult = 0x40 // block type
)

// vectorReserved are the numbers after opVector that the specification leaves free.
var vectorReserved = [256]bool{154: true, 162: true, 165: true, 166: true, 175: true, 176: true,
	178: true, 179: true, 180: true, 187: true, 194: true, 197: true, 198: true, 207: true, 208: true,
	210: true, 211: true, 212: true, 226: true, 238: true}

// costs are the units of fuel for the instructions of one byte. Most take a third of a nanosecond
// and cost 1. What may take much longer costs more, so that fuel bounds the time. Measured here: a
// load that misses the caches 87 ns, a product or quotient of tiny numbers 35 ns, a division of
// integers 4 ns, a call through a table 2 ns, memory.grow, which leaves the compiled code, 25 ns.
var costs = func() (c [256]uint8) {
	for op := range c {
		switch {
		case op == opBlock || op == opLoop || op == opEnd:
			// They mark places: nothing runs for them.
		case op >= opFirstLoad && op <= opLastLoad, op == opTableGet, op == opCallIndirect:
			c[op] = loadCost
		case op >= opI32DivS && op <= opI32RemU, op >= opI64DivS && op <= opI64RemU:
			c[op] = divCost
		case op == opF32Mul, op == opF32Div, op == opF32Sqrt, op == opF64Mul, op == opF64Div,
			op == opF64Sqrt:
			c[op] = floatCost
		case op == opMemoryGrow:
			c[op] = growCost
		default:
			c[op] = 1
		}
	}
	return c
}()

const (
	divCost   = 4
	loadCost  = 5
	floatCost = 8   // of float arithmetic that is slow for numbers near 0, and of conversions
	bulkCost  = 16  // of an instruction with a length, to which that is added
	growCost  = 128 // of one that lengthens a memory or table

	// Where ways join, at the end of a block or the beginning of a loop, a compiler moves what locals hold
	// that were set on one of them: those that it does not keep in registers, several in the time of one
	// unit.
	mergeFree  = 16
	mergeShare = 4

	// Costs of lengths, as shifts of them: a copy moves at least 8 bytes in the time of one unit; a
	// page is zeroed in that of 4,096. An element of a table costs 1.
	copyShift = 3
	growShift = 12

	// Nothing interrupts a copy, and one that is large comes to pages that nobody has touched: 2^18 units
	// more for each 2^20 bytes.
	largeShift, largeCost = 20, 18
)

// costOfBulk is that of the instruction with this number after opBulk, without its length.
func costOfBulk(op uint32) uint32 {
	switch op {
	case 8, 10, 11, 12, 14, 17: // memory.init, .copy, .fill, table.init, .copy, .fill
		return bulkCost
	case 15: // table.grow
		return growCost
	case 9, 13, 16: // data.drop, elem.drop, table.size
		return 1
	}
	return divCost // saturating conversions
}

// costOfVector is that of the instruction with this number after opVector.
func costOfVector(op uint32) uint32 {
	switch {
	case op <= 10, op >= 84 && op <= 87, op == 92, op == 93: // loads
		return loadCost
	case op == 227, op == 230, op == 231, op == 239, op == 242, op == 243, // sqrt, mul, div
		op == 248, op == 249, op == 252, op == 253: // saturating conversions
		return floatCost
	}
	return 1
}
