package rule

import (
	"strconv"
	"unsafe"
)

// header is the begin of a batch, as rules-sdk/ABI.md lays it out.
type header struct {
	abi, rows, columns, verdicts uint32
	time                         int64
	times, size                  uint32
	reserved                     uint64
}

type descriptor struct {
	kind, nulls, validity, values, data, dataLen uint32
	reserved                                     uint64
}

// What wasmeval_evaluate returns if it is not 0.
const (
	notOurBatch = 1 // not the batch that the manifest asks for
	ruleFailed  = 2 // EachBatch returned an error
)

// evaluate evaluates the batch that begins at p. The batch must stay in place meanwhile.
func evaluate(p unsafe.Pointer) int32 {
	h := (*header)(p)
	if h.abi != 1 || int(h.columns) != len(declared.columns) {
		Log(Error, "expected a batch of version 1 with ", len(declared.columns), " columns, got ",
			"version ", h.abi, " with ", h.columns)
		return notOurBatch
	}
	b := Batch{p}
	for i, c := range declared.columns {
		d := (*descriptor)(unsafe.Add(p, int(unsafe.Sizeof(*h))+i*int(unsafe.Sizeof(descriptor{}))))
		if d.kind != c.kind {
			Log(Error, "column ", i, " has type ", d.kind, ", expected ", c.kind)
			return notOurBatch
		}
		c.rows, c.nulls = int(h.rows), int(d.nulls)
		c.validity = unsafe.Add(p, d.validity)
		c.values = unsafe.Add(p, d.values)
		c.data = unsafe.Add(p, d.data)
	}
	if declared.eachBatch != nil {
		if err := declared.eachBatch(b); err != nil {
			Log(Error, err.Error())
			return ruleFailed
		}
		return 0
	}
	verdicts, each := b.Verdicts(), declared.each
	for i := range verdicts {
		verdicts[i] = each(Row{i})
	}
	return 0
}

// Batch is a batch of events, valid until the function given to [EachBatch] returns.
type Batch struct{ p unsafe.Pointer }

// Rows returns the number of events: 1 to 65,535.
func (b Batch) Rows() int { return int((*header)(b.p).rows) }

// Row returns row i: 0 to Rows-1.
func (b Batch) Row(i int) Row {
	if uint(i) >= uint(b.Rows()) {
		panic("rule: row " + strconv.Itoa(i) + " is outside the batch")
	}
	return Row{i}
}

// Verdicts returns the code of each row, in place and all 0 at first, for the rule to write.
func (b Batch) Verdicts() []int32 {
	h := (*header)(b.p)
	return unsafe.Slice((*int32)(unsafe.Add(b.p, h.verdicts)), h.rows)
}

// Time returns when the first row arrived, in nanoseconds since 1970-01-01 UTC.
func (b Batch) Time() int64 { return (*header)(b.p).time }

// Times returns when each row arrived, in nanoseconds since 1970-01-01 UTC, in place.
func (b Batch) Times() []int64 {
	h := (*header)(b.p)
	return unsafe.Slice((*int64)(unsafe.Add(b.p, h.times)), h.rows)
}

// Row is one event of the current batch.
type Row struct{ i int }

// Index returns the row's place in the batch.
func (r Row) Index() int { return r.i }

// Emit attaches one JSON value to the row's verdict; a second one replaces the first, and on a row
// whose code is 0 it is thrown away. The server copies it. It returns ErrTooLarge, ErrNotJSON or
// ErrRefused.
func (r Row) Emit(json []byte) error {
	switch emit(int32(r.i), unsafe.Pointer(unsafe.SliceData(json)), int32(len(json))) {
	case 0:
		return nil
	case 3:
		return ErrTooLarge
	case 4:
		return ErrNotJSON
	}
	return ErrRefused
}

// payload has a buffer from the start: to let it grow takes more fuel than most events.
var payload = Payload{buf: make([]byte, 0, 1024)}

// Payload returns an empty object to fill and emit for this row, valid until Payload is called
// again.
func (r Row) Payload() *Payload {
	payload.reset()
	payload.row = r
	return &payload
}
