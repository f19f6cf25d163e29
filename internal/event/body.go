package event

import "bytes"

// Shape says what a body of events is.
type Shape uint8

// The shapes.
const (
	Value  Shape = iota // one object, or an array of objects
	Object              // one object
	Array               // an array of objects
	Lines               // an object a line; lines end with LF or CRLF, and may be blank
)

// Body walks over the events of a body, as bufio.Scanner walks over lines:
//
//	for body := s.Body(data, event.Lines); body.Next(&env); {
//		if body.Err != nil { ... } // this item is no event
//		... body.JSON, env
//	}
//
// An item that is no event does not keep the ones after it from being read, unless it breaks the
// grammar of an array: then the body ends with it, and Cut is set.
type Body struct {
	Index int    // position of the item, from 0; blank lines do not count
	JSON  []byte // the object: a part of the data. For a CloudEvent, the object in its data
	Err   *Error // what is wrong, or nil; valid until Next. Offsets are from the line's first byte
	//              for Lines, else from the body's
	Cut bool // the rest of the body after this item was not read

	s    *Scanner
	data []byte
	rest int // offset of what was not read
	next step
}

// step is what Next has to do.
type step uint8

const (
	stepDone       step = iota
	stepLine            // scan the next line that is not blank
	stepSingle          // scan the one value that there is
	stepOpen            // enter the array, and scan its first item
	stepItem            // scan the item after a comma
	stepNoComma         // complain of what stands where a comma or the end of the array should
	stepAfterArray      // see that nothing stands after the array
)

// Body begins to walk over data. The scanner must not be used for anything else meanwhile.
func (s *Scanner) Body(data []byte, shape Shape) Body {
	b := Body{Index: -1, s: s, data: data}
	first := skipSpace(data, 0)
	opens := first < len(data) && data[first] == '['
	switch {
	case shape == Lines:
		b.next = stepLine
	case shape == Array, shape == Value && opens:
		b.rest, b.next = first, stepOpen
	default:
		b.next = stepSingle
	}
	return b
}

// Next goes to the next item and fills env like Scan. It returns false after the last one.
func (b *Body) Next(env *Envelope) bool {
	b.JSON, b.Err = nil, nil
	some := false
	switch b.next {
	case stepLine:
		some = b.line(env)
	case stepSingle:
		some = b.single(env)
	case stepOpen:
		some = b.firstItem(env)
	case stepItem:
		some = b.item(env)
	case stepNoComma:
		some = b.cut(b.rest, "expected ',' or ']'")
	case stepAfterArray:
		some = b.afterArray()
	}
	if some {
		b.Index++
	}
	return some
}

func (b *Body) line(env *Envelope) bool {
	for b.rest < len(b.data) {
		line := b.data[b.rest:]
		if n := bytes.IndexByte(line, '\n'); n >= 0 {
			line = line[:n]
			b.rest++
		}
		b.rest += len(line)
		if skipSpace(line, 0) == len(line) {
			continue
		}
		b.JSON, b.Err = b.s.one(line, env)
		return true
	}
	return false
}

func (b *Body) single(env *Envelope) bool {
	b.JSON, b.Err = b.s.one(b.data, env)
	b.next = stepDone
	if b.Err != nil && b.Err.Msg == msgTrailing && b.Err.found == '{' {
		b.Err.Msg = "expected the end of the body after the object (one event a line is " +
			"application/x-ndjson)"
	}
	return true
}

// firstItem enters the array.
func (b *Body) firstItem(env *Envelope) bool {
	if b.rest == len(b.data) || b.data[b.rest] != '[' {
		return b.cut(b.rest, "expected '[' and an array of events")
	}
	b.rest = skipSpace(b.data, b.rest+1)
	if b.rest < len(b.data) && b.data[b.rest] == ']' {
		return b.afterArray()
	}
	return b.item(env)
}

// item scans the item that begins at or after rest.
func (b *Body) item(env *Envelope) bool {
	start := skipSpace(b.data, b.rest)
	b.s.begin(start, true)
	end := b.s.value(b.data, start)
	if end >= 0 && !b.s.failed {
		b.JSON = b.s.finish(b.data, start, end, env)
	}
	if b.s.failed {
		b.JSON, b.Err = nil, &b.s.err
	}
	if end < 0 {
		b.Cut, b.next = true, stepDone
		return true
	}
	b.rest = skipSpace(b.data, end)
	switch {
	case b.rest < len(b.data) && b.data[b.rest] == ',':
		b.rest++
		b.next = stepItem
	case b.rest < len(b.data) && b.data[b.rest] == ']':
		b.next = stepAfterArray
	default:
		b.next = stepNoComma
	}
	return true
}

// afterArray makes an item of what stands after the array, which ends at rest, if anything does.
func (b *Body) afterArray() bool {
	b.next = stepDone
	b.rest = skipSpace(b.data, b.rest+1)
	return b.rest < len(b.data) && b.cut(b.rest, "expected the end of the body after the array")
}

// cut makes an item of a fault that ends the body.
func (b *Body) cut(at int, msg string) bool {
	b.s.fault(b.data, at, msg)
	b.Err = &b.s.err
	b.Cut, b.next = true, stepDone
	return true
}
