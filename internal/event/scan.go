package event

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
)

// Limits bound what a Scanner takes. A zero is the default.
type Limits struct {
	EventBytes int // size of one event's JSON text, default 1 MiB, at most 1 GiB
	Depth      int // objects and arrays inside each other, default 64, at most 256
}

const (
	defaultEventBytes = 1 << 20
	maxEventBytes     = 1 << 30
	defaultDepth      = 64
	maxDepth          = 256 // below that of the parser that reads events again, 300

	// skipDepth is how deep an item of an array may be nested so that the items after it can still
	// be read, though the item itself is refused.
	skipDepth = 10_000
)

// Scanner checks the bytes of events and finds their envelopes. It keeps its working memory, so
// that scanning allocates nothing once that has grown to fit. It is for one goroutine at a time.
type Scanner struct {
	limits Limits
	paths  paths
	cloud  bool // the objects are CloudEvents

	// What a scan leaves behind.
	err    Error
	failed bool           // err is set
	spans  [captures]span // where the texts of the envelope are
	time   int64          // nanoseconds since 1970-01-01 UTC, or 0

	// What it works with.
	skip    bool    // go on after a fault that leaves the grammar intact
	end     int     // offset at which the event that is scanned is too large
	frames  []frame // the objects and arrays that are open
	node    int16   // paths that go on in the next value, if that is an object
	capture uint16  // what the next value is captured for, a bit each
	escaped bool    // the last string has an escape
	scratch []byte  // unescaped keys and texts
	keys    keySet
}

// frame is an object or array that is open.
type frame struct {
	close   byte   // the byte that ends it
	node    int16  // place in the tree of paths, 0 for none
	capture uint16 // what the whole of it is captured for
	base    uint32 // its first key in the key set
	start   uint32 // offset of its first byte
	seen    uint64 // bits of its keys, see bit
}

// NewScanner makes a scanner that reads the envelope at the given paths of each event. It returns
// an error for a path or a limit that cannot be.
func NewScanner(f Fields, l Limits) (*Scanner, error) {
	return newScanner(f.captures(), l, false)
}

func newScanner(fields []field, l Limits, cloud bool) (*Scanner, error) {
	if l.EventBytes == 0 {
		l.EventBytes = defaultEventBytes
	}
	if l.Depth == 0 {
		l.Depth = defaultDepth
	}
	if l.EventBytes < 0 || l.EventBytes > maxEventBytes {
		return nil, fmt.Errorf("cannot take events of %d bytes: expected 1 to %d",
			l.EventBytes, maxEventBytes)
	}
	if l.Depth < 0 || l.Depth > maxDepth {
		return nil, fmt.Errorf("cannot take events of depth %d: expected 1 to %d", l.Depth, maxDepth)
	}
	if cloud {
		l.Depth++ // the limit is that of the data
	}
	s := &Scanner{limits: l, cloud: cloud}
	s.frames = make([]frame, 0, l.Depth+1)
	s.keys.seed = seed
	s.paths.nodes = make([]node, rootNode+1)
	for _, f := range fields {
		if err := s.paths.add(f); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// seed and secrets are random in each process, so that nobody can choose keys that collide.
var (
	seed    = maphash.MakeSeed()
	secrets = [2]uint64{rand.Uint64(), rand.Uint64()}
)

// Scan checks that json is exactly one object, with white space around it at most, and fills env
// with what it says of itself; Arrival, Reply and Index stay as they are. The slices of env are
// parts of json or of the scanner, and valid until either changes. The error is an *Error, valid
// until the scanner's next call, with an offset from the first byte of json.
func (s *Scanner) Scan(json []byte, env *Envelope) error {
	if _, err := s.one(json, env); err != nil {
		return err
	}
	return nil
}

// Check checks that json is exactly one JSON value of any kind, with white space around it at most.
// Its error is as that of Scan.
func (s *Scanner) Check(json []byte) error {
	if _, _, _, ok := s.whole(json); !ok {
		return &s.err
	}
	return nil
}

// one is Scan, and returns the object as well.
func (s *Scanner) one(json []byte, env *Envelope) (object []byte, fault *Error) {
	text, start, end, ok := s.whole(json)
	if !ok {
		return nil, &s.err
	}
	if object = s.finish(text, start, end, env); s.failed {
		return nil, &s.err
	}
	return object, nil
}

// whole scans the one value that json has, which is then text[start:end].
func (s *Scanner) whole(json []byte) (text []byte, start, end int, ok bool) {
	start = skipSpace(json, 0)
	s.begin(start, false)
	last := len(json)
	for last > start && json[last-1] <= ' ' && spaces>>json[last-1]&1 != 0 {
		last--
	}
	text = json[:last]
	if len(text)-start > s.limits.EventBytes {
		s.note(TooLarge, start, "the event is larger than the limit")
		return nil, 0, 0, false
	}
	end = s.value(text, start)
	if end >= 0 && end < len(text) {
		s.fault(text, end, msgTrailing)
	}
	return text, start, end, !s.failed
}

// begin makes the scanner ready for the value at offset at.
func (s *Scanner) begin(at int, skip bool) {
	s.failed, s.skip = false, skip
	s.end = at + s.limits.EventBytes
	s.spans, s.time = [captures]span{}, 0
	s.frames = s.frames[:0]
	s.node, s.capture = rootNode, 0
	s.keys.drop(0)
	s.keys.shrink()
	if cap(s.scratch) > keepScratch {
		s.scratch = nil
	}
	s.scratch = s.scratch[:0]
}

const msgTrailing = "expected the end of the text after the value"

const keepScratch = 64 << 10 // bytes of scratch that a scanner keeps between events

// finish looks at the value that was scanned from start to end as a whole, and fills env.
func (s *Scanner) finish(b []byte, start, end int, env *Envelope) (object []byte) {
	if b[start] != '{' {
		s.note(NotObject, start, "expected an object")
		return nil
	}
	if end > s.end {
		s.note(TooLarge, start, "the event is larger than the limit")
		return nil
	}
	if s.cloud {
		return s.finishCloud(b, start, env)
	}
	s.fill(b, env)
	return b[start:end:end]
}

// fault records that the grammar is broken at offset i and returns -1, which ends the scan.
func (s *Scanner) fault(b []byte, i int, msg string) int {
	found := foundEnd
	if i < len(b) {
		found = int(b[i])
	}
	// A fault that was noted before came first, but this one decides what can still be read.
	s.err = Error{Malformed, i, msg, found}
	s.failed = true
	return -1
}

// note records a fault that leaves the grammar intact, if it is the first, and reports whether the
// scan has to end.
func (s *Scanner) note(why Fault, i int, msg string) (stop bool) {
	if !s.failed {
		s.err = Error{why, i, msg, foundNothing}
		s.failed = true
	}
	return !s.skip
}

// value scans the value that begins at or after offset i and returns the offset after it. It
// returns -1 if a fault ended the scan; faults that did not are in s.err all the same.
//
// It is one loop over a stack of open objects and arrays: the upper half reads the value that has
// to come, the lower half what may follow a value.
func (s *Scanner) value(b []byte, i int) int {
	s.keys.input = b
	for {
		i = skipSpace(b, i)
		start := i
		if i == len(b) {
			return s.fault(b, i, "expected a value")
		}
		switch c := b[i]; c {
		case '"':
			end, seen := plain(b, i+1)
			if seen&highs == 0 && end < len(b) && b[end] == '"' {
				s.escaped, i = false, end+1
			} else {
				i = s.text(b, i+1, end, seen)
			}
		case '{', '[':
			var empty bool
			if i, empty = s.open(b, i); !empty && i >= 0 {
				continue
			}
		case 't':
			i = s.word(b, i, "true")
		case 'f':
			i = s.word(b, i, "false")
		case 'n':
			i = s.word(b, i, "null")
		default:
			i = s.number(b, i)
		}
		if i < 0 {
			return -1
		}
		if s.capture != 0 && !s.take(b, start, i) {
			return -1
		}
		if i = s.after(b, i); i < 0 || len(s.frames) == 0 {
			return i
		}
	}
}

// after goes from the end of a value to where the next one begins: past the ends of objects and
// arrays, and past a key. If no value has to come any more, s.frames is empty.
func (s *Scanner) after(b []byte, i int) int {
	for len(s.frames) > 0 {
		f := &s.frames[len(s.frames)-1]
		i = skipSpace(b, i)
		if i == len(b) {
			return s.fault(b, i, f.wanted())
		}
		c := b[i]
		i++
		switch {
		case c == ',' && f.close == '}':
			return s.key(b, skipSpace(b, i))
		case c == ',':
			return i
		case c != f.close:
			return s.fault(b, i-1, f.wanted())
		}
		if s.pop(b, i) {
			return -1
		}
	}
	return i
}

func (f *frame) wanted() string {
	if f.close == '}' {
		return "expected ',' or '}'"
	}
	return "expected ',' or ']'"
}

// open enters the object or array at b[i]. If it is empty, open leaves it at once and returns the
// offset after it; else the offset where its first value has to begin.
func (s *Scanner) open(b []byte, i int) (next int, empty bool) {
	if len(s.frames) >= s.limits.Depth {
		if s.note(TooDeep, i, "the event is nested deeper than the limit") {
			return -1, false
		}
		if len(s.frames) >= skipDepth {
			s.skip = false
			return -1, false
		}
	}
	closing, start := b[i]+2, i // '{'+2 is '}', '['+2 is ']'
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == closing {
		return i + 1, true
	}
	s.frames = append(s.frames, frame{})
	f := &s.frames[len(s.frames)-1]
	f.close, f.capture = closing, s.capture
	f.base, f.start = uint32(len(s.keys.list)), uint32(start)
	s.capture = 0
	if closing == '}' {
		f.node = s.node
		return s.key(b, i), false
	}
	s.node = 0
	return i, false
}

// pop leaves the innermost object or array, which ends before offset i.
func (s *Scanner) pop(b []byte, i int) (stop bool) {
	f := &s.frames[len(s.frames)-1]
	s.keys.drop(int(f.base))
	s.frames = s.frames[:len(s.frames)-1]
	if f.capture == 0 {
		return false
	}
	s.capture = f.capture
	return !s.take(b, int(f.start), i)
}

// key scans a key that has to begin at b[i], and the colon, and returns the offset after it.
func (s *Scanner) key(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return s.fault(b, i, "expected a key in quotes")
	}
	start := i + 1
	end, seen := plain(b, start)
	if seen&highs == 0 && end < len(b) && b[end] == '"' {
		s.escaped, i = false, end+1
	} else if i = s.text(b, start, end, seen); i < 0 {
		return -1
	}
	if !s.failed {
		if i > s.end {
			if s.note(TooLarge, start, "the event is larger than the limit") {
				return -1
			}
		} else if !s.enter(b, start, i-1) {
			return -1
		}
	}
	i = skipSpace(b, i)
	if i == len(b) || b[i] != ':' {
		return s.fault(b, i, "expected ':'")
	}
	return i + 1
}

// enter adds the key b[at:end] to its object, and looks what paths it is part of.
func (s *Scanner) enter(b []byte, at, end int) (ok bool) {
	start, text := at, b
	if s.escaped {
		at = len(s.scratch)
		s.scratch = unescape(s.scratch, b[start:end])
		text, end = s.scratch, len(s.scratch)
		s.keys.scratch = text
	}
	k, word := s.keys.next(), firstWord(text, at, end-at)
	k.word, k.at, k.n, k.slot, k.scratch = word, uint32(at), uint32(end-at), 0, s.escaped
	f := &s.frames[len(s.frames)-1]
	seen, base := bit(word, end-at), int(f.base)
	if f.seen&seen != 0 || len(s.keys.list)-base > linearKeys {
		if s.keys.add(base, len(s.frames)) {
			return !s.note(DuplicateKey, start, "the object has this key twice")
		}
	}
	f.seen |= seen
	s.node, s.capture = 0, 0
	if s.paths.nodes[f.node].bits&seen != 0 {
		s.capture, s.node = s.paths.next(f.node, k, text)
	}
	return true
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && spaces>>b[i]&1 != 0 {
		i++
	}
	return i
}

const spaces = 1<<' ' | 1<<'\t' | 1<<'\r' | 1<<'\n'

// word scans true, false or null.
func (s *Scanner) word(b []byte, i int, want string) int {
	if end := i + len(want); end <= len(b) && string(b[i:end]) == want {
		return end
	}
	return s.fault(b, i, "expected a value")
}

// number scans a number as RFC 8259 has it: no +, no leading zero, digits on both sides of a dot.
func (s *Scanner) number(b []byte, i int) int {
	if b[i] == '-' {
		i++
	} else if !isDigit(b, i) {
		return s.fault(b, i, "expected a value")
	}
	if !isDigit(b, i) {
		return s.fault(b, i, "expected a digit")
	}
	if b[i] == '0' {
		i++
	} else {
		i = digits(b, i)
	}
	if i < len(b) && b[i] == '.' {
		if i++; !isDigit(b, i) {
			return s.fault(b, i, "expected a digit")
		}
		i = digits(b, i)
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !isDigit(b, i) {
			return s.fault(b, i, "expected a digit")
		}
		i = digits(b, i)
	}
	return i
}

func isDigit(b []byte, i int) bool { return i < len(b) && b[i]-'0' <= 9 }

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}
