package rule

import "unsafe"

// The types of columns, as the ABI numbers them.
const (
	kindF64 = 1 + iota
	kindI64
	kindBool
	kindUTF8
	kindJSON
)

var kindNames = [...]string{"", "f64", "i64", "bool", "utf8", "json"}

// column is a declared field, and where its values of the current batch stand.
type column struct {
	path     string
	kind     uint32
	rows     int
	nulls    int
	validity unsafe.Pointer // bitmap
	values   unsafe.Pointer // by kind: float64 or int64, a bitmap, or int32 offsets into data
	data     unsafe.Pointer
}

func bit(bitmap unsafe.Pointer, i int) bool {
	return *(*byte)(unsafe.Add(bitmap, i>>3))>>(i&7)&1 != 0
}

// Column is what all columns have. Columns are made by [F64], [I64], [Bool], [UTF8] and [JSON], and
// read while [Each] or [EachBatch] runs.
type Column struct{ c *column }

// Valid reports whether the row has a value of the declared type.
func (c Column) Valid(r Row) bool { return bit(c.c.validity, r.i) }

// Nulls returns how many rows of the batch are not valid.
func (c Column) Nulls() int { return c.c.nulls }

// Validity returns a bitmap, in place: bit i&7 of byte i>>3 is 1 if row i is valid.
func (c Column) Validity() []byte { return unsafe.Slice((*byte)(c.c.validity), (c.c.rows+7)/8) }

// F64Column is a field declared by [F64].
type F64Column struct{ Column }

// At returns the row's value, or 0 and false if it is not valid.
func (c F64Column) At(r Row) (float64, bool) {
	return *(*float64)(unsafe.Add(c.c.values, r.i*8)), c.Valid(r)
}

// Values returns the value of each row, in place; 0 where it is not valid.
func (c F64Column) Values() []float64 { return unsafe.Slice((*float64)(c.c.values), c.c.rows) }

// I64Column is a field declared by [I64].
type I64Column struct{ Column }

// At returns the row's value, or 0 and false if it is not valid.
func (c I64Column) At(r Row) (int64, bool) {
	return *(*int64)(unsafe.Add(c.c.values, r.i*8)), c.Valid(r)
}

// Values returns the value of each row, in place; 0 where it is not valid.
func (c I64Column) Values() []int64 { return unsafe.Slice((*int64)(c.c.values), c.c.rows) }

// BoolColumn is a field declared by [Bool].
type BoolColumn struct{ Column }

// At returns the row's value, or false and false if it is not valid.
func (c BoolColumn) At(r Row) (value, ok bool) { return bit(c.c.values, r.i), c.Valid(r) }

// Values returns a bitmap, in place: bit i&7 of byte i>>3 is row i; 0 where it is not valid.
func (c BoolColumn) Values() []byte { return unsafe.Slice((*byte)(c.c.values), (c.c.rows+7)/8) }

// TextColumn is a field declared by [UTF8] or [JSON].
type TextColumn struct{ Column }

// At returns the row's text in place, or "" and false if it is not valid. Use strings.Clone to keep
// it for longer than the call.
func (c TextColumn) At(r Row) (string, bool) {
	b := c.bytes(r)
	return unsafe.String(unsafe.SliceData(b), len(b)), c.Valid(r)
}

// Bytes is At for bytes. The rule must not write them.
func (c TextColumn) Bytes(r Row) ([]byte, bool) { return c.bytes(r), c.Valid(r) }

func (c TextColumn) bytes(r Row) []byte {
	ends := (*[2]int32)(unsafe.Add(c.c.values, r.i*4))
	return unsafe.Slice((*byte)(unsafe.Add(c.c.data, ends[0])), ends[1]-ends[0])
}

// Values returns where the rows' texts stand, in place: row i is data[ends[i]:ends[i+1]].
func (c TextColumn) Values() (ends []int32, data []byte) {
	ends = unsafe.Slice((*int32)(c.c.values), c.c.rows+1)
	return ends, unsafe.Slice((*byte)(c.c.data), ends[c.c.rows])
}
