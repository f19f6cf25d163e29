package runtime

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/valyala/fastjson"

	"wasmeval/internal/event"
)

// What a column holds of one row.
const (
	absent    = 0 // missing or null
	valid     = 1
	wrongType = 2 // or a text that is too much for its row; see maxRowText
)

// maxRowText is how many bytes of text the columns of one row may have together: rules may declare
// objects inside each other, so it is more than an event can have.
const maxRowText = 4 << 20

// keepText is how many bytes of text a table keeps between batches.
const keepText = 4 << 20

// table holds the columns of one batch of events, gathered once for all rules. Row i is event i of
// the batch. It is reused from batch to batch; only the rows that were gathered may be read.
type table struct {
	cols []gathered
	text []byte // bytes of all utf8 and json values, one after the other
	rows int
	most int // bytes of text, with the row that is being gathered

	chosen selection
	window *window // for what the rules of one worker share; nil if they share nothing

	mostRows int             // of a batch
	parser   fastjson.Parser // of single values
}

// gathered is one column over the batch. Of fixed and text only the one for the column's type is used.
type gathered struct {
	state []uint8
	fixed []uint64 // f64 and i64 by their bits, bool as 0 or 1
	text  []span   // parts of table.text
}

type span struct{ off, end uint32 }

func (t *table) reset(cols, rows int) {
	for len(t.cols) < cols {
		t.cols = append(t.cols, gathered{})
	}
	t.rows = rows
	if cap(t.text) > keepText {
		t.text = nil
	}
	t.text = t.text[:0]
	t.chosen.rows, t.chosen.of = t.chosen.rows[:0], nil // of the batch before
	if t.chosen.drawn > keepText {
		t.chosen.cols, t.chosen.drawn = nil, 0
	}
}

// grow makes room for the rows of the batch in a column that is read.
func (g *gathered) grow(rows int) {
	g.state = make([]uint8, rows)
	g.fixed = make([]uint64, rows)
	g.text = make([]span, rows)
}

// gather reads the given columns of one event into its row. v is the parsed object, or nil if no
// column of these needs it.
func (t *table) gather(row int, ev *event.View, v *fastjson.Value, cols []*column, which []uint32) {
	t.most = len(t.text) + maxRowText
	for _, i := range which {
		g := &t.cols[i]
		if len(g.state) < t.rows {
			g.grow(t.rows)
		}
		t.put(g, row, ev, v, cols[i])
	}
}

// gatherPicked is gather for an event whose values were picked from its text.
func (t *table) gatherPicked(row int, ev *event.View, p *picker, cols []*column, which []uint32) {
	t.most = len(t.text) + maxRowText
	for _, i := range which {
		g, c := &t.cols[i], cols[i]
		if len(g.state) < t.rows {
			g.grow(t.rows)
		}
		switch at := p.found[i]; {
		case c.place != inObject:
			t.put(g, row, ev, nil, c)
		case at.end == 0:
			g.state[row] = absent
		default:
			t.putText(g, row, p.b[at.off:at.end], c.typ)
		}
	}
}

// putText puts a value by its JSON text. What a text does not say as it stands is left to fastjson.
func (t *table) putText(g *gathered, row int, text []byte, typ colType) {
	g.state[row] = wrongType
	switch c := text[0]; {
	case c == 'n':
		g.state[row] = absent
	case typ == typeJSON, typ == typeUTF8 && c == '"' && bytes.IndexByte(text, '\\') >= 0:
		// It was checked before it came into the ring; one that cannot be parsed all the same is
		// counted with those of a wrong type.
		if v, err := t.parser.ParseBytes(text); err == nil {
			t.putValue(g, row, v, typ)
		}
	case typ == typeUTF8 && c == '"':
		off := len(t.text)
		t.text = append(t.text, text[1:len(text)-1]...)
		t.setText(g, row, off)
	case typ == typeBool && (c == 't' || c == 'f'):
		g.state[row], g.fixed[row] = valid, 0
		if c == 't' {
			g.fixed[row] = 1
		}
	case c == '-' || '0' <= c && c <= '9':
		putNumber(g, row, unsafe.String(unsafe.SliceData(text), len(text)), typ)
	}
}

// putNumber puts a number, by its text, into a column of state wrongType.
func putNumber(g *gathered, row int, text string, typ colType) {
	switch typ {
	case typeF64:
		if f, ok := shortFloat(text); ok {
			g.state[row], g.fixed[row] = valid, math.Float64bits(f)
		} else if f, err := strconv.ParseFloat(text, 64); err == nil {
			g.state[row], g.fixed[row] = valid, math.Float64bits(f)
		}
	case typeI64:
		if n, ok := parseInt(text); ok {
			g.state[row], g.fixed[row] = valid, uint64(n)
		}
	}
}

func (t *table) put(g *gathered, row int, ev *event.View, v *fastjson.Value, c *column) {
	switch c.place {
	case inObject:
		val := find(v, c.steps)
		if val == nil || val.Type() == fastjson.TypeNull {
			g.state[row] = absent
			return
		}
		t.putValue(g, row, val, c.typ)
	case wholeObject:
		off := len(t.text)
		t.text = appendCompact(t.text, ev.JSON)
		t.setText(g, row, off)
	case ofTime:
		t.putTime(g, row, ev, c.typ)
	case ofID:
		t.putEnvelope(g, row, ev.ID, c.typ)
	case ofType:
		t.putEnvelope(g, row, ev.Type, c.typ)
	case ofSource:
		t.putEnvelope(g, row, ev.Source, c.typ)
	case ofKey:
		t.putEnvelope(g, row, ev.Key, c.typ)
	}
}

// setText makes what was appended to text from off on the value of a row.
func (t *table) setText(g *gathered, row, off int) {
	if len(t.text) > t.most {
		t.text = t.text[:off]
		g.state[row] = wrongType
		return
	}
	g.state[row] = valid
	g.text[row] = span{uint32(off), uint32(len(t.text))}
}

func (t *table) putValue(g *gathered, row int, v *fastjson.Value, typ colType) {
	g.state[row] = wrongType
	switch typ {
	case typeF64, typeI64:
		if v.Type() == fastjson.TypeNumber {
			putNumber(g, row, t.number(v), typ)
		}
	case typeBool:
		switch v.Type() {
		case fastjson.TypeTrue:
			g.state[row], g.fixed[row] = valid, 1
		case fastjson.TypeFalse:
			g.state[row], g.fixed[row] = valid, 0
		}
	case typeUTF8:
		if v.Type() == fastjson.TypeString {
			off := len(t.text)
			t.text = append(t.text, v.GetStringBytes()...)
			t.setText(g, row, off)
		}
	case typeJSON:
		off := len(t.text)
		t.text = appendJSON(t.text, v)
		t.setText(g, row, off)
	}
}

// number returns the text of a number; valid until text is appended to t.
func (t *table) number(v *fastjson.Value) string {
	n := len(t.text)
	t.text = v.MarshalTo(t.text)
	b := t.text[n:]
	t.text = t.text[:n]
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// powers are those of ten by which shortFloat divides.
var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13,
	1e14}

// shortFloat reads a JSON number of at most 15 digits without an exponent, as most are, in less time
// than ParseFloat. A float64 holds both such digits and the power of ten exactly, so that their
// quotient is rounded once, as it has to be.
func shortFloat(text string) (f float64, ok bool) {
	n, digits, point := uint64(0), 0, -1
	rest := strings.TrimPrefix(text, "-")
	for i := range len(rest) {
		switch c := rest[i]; {
		case c == '.':
			point = digits
		case c-'0' > 9:
			return 0, false
		default:
			n = n*10 + uint64(c-'0')
			digits++
		}
	}
	if digits > 15 {
		return 0, false
	}
	f = float64(n)
	if point >= 0 {
		f /= powers[digits-point]
	}
	if len(rest) < len(text) {
		f = -f
	}
	return f, true
}

// parseInt reads a JSON number that is an integer within 64 bits. 1.0 and 1e3 are, as long as a
// float64 holds them exactly.
func parseInt(s string) (int64, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	for i := range len(s) {
		if c := s[i]; c == '.' || c == 'e' || c == 'E' {
			f, err := strconv.ParseFloat(s, 64)
			return int64(f), err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53
		}
	}
	return 0, false
}

func (t *table) putTime(g *gathered, row int, ev *event.View, typ colType) {
	ns := ev.Time
	if ns == 0 {
		g.state[row] = absent
		return
	}
	switch typ {
	case typeI64:
		g.state[row], g.fixed[row] = valid, uint64(ns)
	case typeF64:
		g.state[row], g.fixed[row] = valid, math.Float64bits(float64(ns))
	case typeUTF8, typeJSON:
		off := len(t.text)
		t.text = appendTime(t.text, ns, typ == typeJSON)
		t.setText(g, row, off)
	default:
		g.state[row] = wrongType
	}
}

func appendTime(dst []byte, ns int64, quoted bool) []byte {
	if quoted {
		dst = append(dst, '"')
	}
	dst = time.Unix(0, ns).UTC().AppendFormat(dst, time.RFC3339Nano)
	if quoted {
		dst = append(dst, '"')
	}
	return dst
}

func (t *table) putEnvelope(g *gathered, row int, text []byte, typ colType) {
	if len(text) == 0 {
		g.state[row] = absent
		return
	}
	off := len(t.text)
	switch typ {
	case typeUTF8:
		t.text = append(t.text, text...)
	case typeJSON:
		t.text = appendString(t.text, text)
	default:
		g.state[row] = wrongType
		return
	}
	t.setText(g, row, off)
}

// Layout of a batch; see rules-sdk/ABI.md.
const (
	abiVersion  = 1
	batchHeader = 40
	descriptor  = 32
)

func align8(n int) int { return (n + 7) &^ 7 }

// selection is rows of a batch, and what was written of them for one rule and serves the others that
// want the same rows: most events of a batch are mostly of one type.
type selection struct {
	rows  []uint16
	of    *uint16 // the list that rows is a copy of, which does not change within a batch
	times []byte
	own   []byte  // for times that are not in the window
	cols  []drawn // by the index of the column
	stamp uint32  // of the cols that are of these rows
	drawn int     // bytes of all cols
	shown int     // bytes in the table's window; noWindow if the selection is not there
}

const (
	noWindow   = -1
	windowRows = 64 // of a selection, at least, for the window: with less it is not worth a guest's place
)

// drawn is one column over the rows of a selection, as it stands in a batch.
type drawn struct {
	stamp        uint32 // of the selection; else this is of another one
	bytes        []byte // validity, values and data, each a multiple of 8 bytes
	at           int    // of bytes in the window, or noWindow
	own          []byte // for bytes that are not there
	values, data int    // where these begin in bytes
	dataLen      int
	nulls, wrong int
}

// choose makes rows the selection of the batch that is in the table.
func (t *table) choose(events []event.View, rows []uint16) {
	s := &t.chosen
	if s.of == unsafe.SliceData(rows) && len(s.rows) == len(rows) || slices.Equal(s.rows, rows) {
		return
	}
	if s.shown > 0 {
		clear(t.window.bytes[:s.shown]) // a guest must not find there what its match does not name
	}
	s.of = unsafe.SliceData(rows)
	s.rows = append(s.rows[:0], rows...)
	s.shown, s.times = noWindow, s.own[:0]
	if size := 8 * len(rows); t.window != nil && len(rows) >= windowRows && len(rows) <= t.mostRows &&
		size <= len(t.window.bytes) {
		s.shown, s.times = size, t.window.bytes[:0:size]
	}
	for _, r := range rows {
		s.times = binary.LittleEndian.AppendUint64(s.times, uint64(events[r].Arrival))
	}
	if s.shown == noWindow {
		s.own = s.times
	}
	s.stamp++
	if s.stamp == 0 { // after 2^32 selections
		clear(s.cols)
		s.stamp = 1
	}
}

// draw gives column i of the selection.
func (t *table) draw(i uint32, typ colType) *drawn {
	for len(t.chosen.cols) <= int(i) {
		t.chosen.cols = append(t.chosen.cols, drawn{})
	}
	d := &t.chosen.cols[i]
	if d.stamp != t.chosen.stamp {
		d.stamp = t.chosen.stamp
		t.redraw(d, &t.cols[i], typ)
	}
	return d
}

func (t *table) redraw(d *drawn, g *gathered, typ colType) {
	rows := t.chosen.rows
	bitmap := align8((len(rows) + 7) / 8)
	d.values, d.data, d.dataLen = bitmap, 0, 0
	size := bitmap
	switch typ {
	case typeF64, typeI64:
		size += 8 * len(rows)
	case typeBool:
		size += bitmap
	default:
		for _, r := range rows {
			if g.state[r] == valid {
				d.dataLen += int(g.text[r].end - g.text[r].off)
			}
		}
		d.data = bitmap + align8(4*(len(rows)+1))
		size = d.data + align8(d.dataLen)
	}
	t.place(d, size)
	clear(d.bytes)
	d.wrong, d.nulls = writeValidity(d.bytes, g.state, rows)
	t.writeValues(d, g, typ)
}

// place gives a column its bytes: in the window if there is room.
func (t *table) place(d *drawn, size int) {
	s := &t.chosen
	if d.at = noWindow; s.shown != noWindow && s.shown+size <= len(t.window.bytes) {
		d.at, s.shown = s.shown, s.shown+size
		d.bytes = t.window.bytes[d.at:s.shown:s.shown]
		return
	}
	if cap(d.own) < size {
		s.drawn += size - cap(d.own)
		d.own = make([]byte, size)
	}
	d.bytes = d.own[:size]
}

// shows draws the given columns and reports whether all of them are in the window.
func (t *table) shows(cols []*column, which []uint32) bool {
	for _, i := range which {
		if t.chosen.shown == noWindow || t.draw(i, cols[i].typ).at == noWindow {
			return false
		}
	}
	return t.chosen.shown != noWindow
}

// seen reports whether the guest that has b sees the given columns, and the times, in the window that
// begins at an offset in it: else it wrote there.
func (t *table) seen(b []byte, from int, which []uint32) bool {
	if !bytes.Equal(b[from:from+len(t.chosen.times)], t.chosen.times) {
		return false
	}
	for _, i := range which {
		if d := &t.chosen.cols[i]; !bytes.Equal(b[from+d.at:from+d.at+len(d.bytes)], d.bytes) {
			return false
		}
	}
	return true
}

func writeValidity(b []byte, state []uint8, rows []uint16) (wrong, nulls int) {
	for i, r := range rows {
		switch state[r] {
		case valid:
			b[i>>3] |= 1 << (i & 7)
			continue
		case wrongType:
			wrong++
		}
		nulls++
	}
	return wrong, nulls
}

func (t *table) writeValues(d *drawn, g *gathered, typ colType) {
	le, b := binary.LittleEndian, d.bytes[d.values:]
	switch typ {
	case typeF64, typeI64:
		for i, r := range t.chosen.rows {
			if g.state[r] == valid {
				le.PutUint64(b[8*i:], g.fixed[r])
			}
		}
	case typeBool:
		for i, r := range t.chosen.rows {
			if g.state[r] == valid {
				b[i>>3] |= byte(g.fixed[r]) << (i & 7)
			}
		}
	default:
		n, data := 0, d.bytes[d.data:]
		for i, r := range t.chosen.rows {
			if g.state[r] == valid {
				n += copy(data[n:], t.text[g.text[r].off:g.text[r].end])
			}
			le.PutUint32(b[4*(i+1):], uint32(n))
		}
	}
}

// batchSize is the number of bytes that writeBatch needs for the selection.
func (t *table) batchSize(cols []*column, which []uint32) int {
	n := verdictsEnd(len(which), len(t.chosen.rows)) + len(t.chosen.times)
	for _, i := range which {
		n += len(t.draw(i, cols[i].typ).bytes)
	}
	return n
}

// verdictsEnd is the offset of what follows the verdicts in a batch.
func verdictsEnd(columns, rows int) int { return batchHeader + columns*descriptor + align8(4*rows) }

// writeBatch writes the selection and the given columns into b, which has batchSize bytes, in the
// layout of the ABI. It returns the offset of the verdicts and how many values had another type.
func (t *table) writeBatch(b []byte, which []uint32, cols []*column) (verdicts, wrong int) {
	at := verdictsEnd(len(which), len(t.chosen.rows))
	verdicts = t.writeHeader(b, len(which), at, len(b))
	at += copy(b[at:], t.chosen.times)
	for i, c := range which {
		d := &t.chosen.cols[c]
		d.describe(b, i, at, cols[c].typ)
		wrong += d.wrong
		at += copy(b[at:], d.bytes)
	}
	return verdicts, wrong
}

// writeShown is writeBatch where the times and columns are in the window, which the guest that has b sees
// from an offset on.
func (t *table) writeShown(b []byte, from int, which []uint32, cols []*column) (verdicts, wrong int) {
	verdicts = t.writeHeader(b, len(which), from, from+t.chosen.shown)
	for i, c := range which {
		d := &t.chosen.cols[c]
		d.describe(b, i, from+d.at, cols[c].typ)
		wrong += d.wrong
	}
	return verdicts, wrong
}

// writeHeader writes a batch's header, and verdicts of 0, whose offset it returns.
func (t *table) writeHeader(b []byte, columns, times, size int) (verdicts int) {
	le, rows := binary.LittleEndian, len(t.chosen.rows)
	verdicts = batchHeader + columns*descriptor
	clear(b[verdicts:verdictsEnd(columns, rows)])
	le.PutUint32(b[0:], abiVersion)
	le.PutUint32(b[4:], uint32(rows))
	le.PutUint32(b[8:], uint32(columns))
	le.PutUint32(b[12:], uint32(verdicts))
	copy(b[16:24], t.chosen.times)
	le.PutUint32(b[24:], uint32(times))
	le.PutUint32(b[28:], uint32(size))
	le.PutUint64(b[32:], 0)
	return verdicts
}

// describe writes the descriptor of a batch's column i, whose bytes begin at an offset.
func (d *drawn) describe(b []byte, i, at int, typ colType) {
	le, desc := binary.LittleEndian, b[batchHeader+i*descriptor:][:descriptor]
	le.PutUint32(desc[0:], uint32(typ))
	le.PutUint32(desc[4:], uint32(d.nulls))
	le.PutUint32(desc[8:], uint32(at))
	le.PutUint32(desc[12:], uint32(at+d.values))
	le.PutUint32(desc[16:], 0)
	if d.data > 0 {
		le.PutUint32(desc[16:], uint32(at+d.data))
	}
	le.PutUint32(desc[20:], uint32(d.dataLen))
	le.PutUint64(desc[24:], 0)
}
