package event

import (
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// Fields says where an event's envelope is: dotted paths into the object, such as "user.id". An
// empty path means that events have no such text.
//
// A string is taken unescaped; a number, true or false by its text; null is as good as absent.
// Time is RFC 3339 in a string, or a number of seconds, milliseconds, microseconds or nanoseconds
// since 1970-01-01 UTC, told apart by their size. Anything else is a BadEnvelope, as is a text of
// more than MaxText bytes.
type Fields struct {
	ID, Type, Source, Time, Key string
}

// What a value can be captured for. The last four are of CloudEvents alone.
const (
	captureID = iota
	captureType
	captureSource
	captureTime
	captureKey
	captureVersion // specversion
	captureDataKey // the key's path in the data
	captureData    // the data, whatever it is
	captureBase64  // data_base64, whatever it is
	captures
)

const maxSegments = 16 // of a path

// field is a path and what the value there is captured for.
type field struct {
	name    string // for messages
	path    []string
	capture int
}

func (f Fields) captures() []field {
	all := []field{
		{"id", split(f.ID), captureID},
		{"type", split(f.Type), captureType},
		{"source", split(f.Source), captureSource},
		{"time", split(f.Time), captureTime},
		{"key", split(f.Key), captureKey},
	}
	some := all[:0]
	for _, f := range all {
		if f.path != nil {
			some = append(some, f)
		}
	}
	return some
}

func split(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(path, ".")
}

// paths is the tree of all paths, so that one look at a key tells what it is part of. Nodes are
// numbered; 0 is the node of an object that no path enters.
type paths struct {
	nodes []node
}

type node struct {
	bits     uint64 // of the branches' keys, see bit: most keys are in no path
	branches []branch
}

const rootNode = 1

// branch is a key that some path has at one node.
type branch struct {
	key     key // word and n only
	name    string
	capture uint16 // what a value there is captured for, a bit each
	node    int16  // where paths go on, or 0
}

func (p *paths) add(f field) error {
	if len(f.path) > maxSegments {
		return fmt.Errorf("cannot use the %s path %q: expected at most %d keys",
			f.name, strings.Join(f.path, "."), maxSegments)
	}
	at := int16(rootNode)
	for i, name := range f.path {
		if name == "" || !utf8.ValidString(name) {
			return fmt.Errorf("cannot use the %s path %q: expected keys with dots between them",
				f.name, strings.Join(f.path, "."))
		}
		b := p.branch(at, name)
		if i == len(f.path)-1 {
			b.capture |= 1 << f.capture
			break
		}
		if b.node == 0 {
			b.node = int16(len(p.nodes))
			at = b.node
			p.nodes = append(p.nodes, node{})
			continue
		}
		at = b.node
	}
	return nil
}

// branch returns the branch for a key at a node, which it makes if there is none.
func (p *paths) branch(at int16, name string) *branch {
	n := &p.nodes[at]
	for i := range n.branches {
		if n.branches[i].name == name {
			return &n.branches[i]
		}
	}
	k := key{n: uint32(len(name)), word: firstWord([]byte(name), 0, len(name))}
	n.bits |= bit(k.word, len(name))
	n.branches = append(n.branches, branch{key: k, name: name})
	return &n.branches[len(n.branches)-1]
}

// next returns what the value of key k, whose bytes are in text, is captured for at a node, and
// the node where paths go on.
func (p *paths) next(at int16, k *key, text []byte) (capture uint16, node int16) {
	branches := p.nodes[at].branches
	for i := range branches {
		b := &branches[i]
		if b.key.word != k.word || b.key.n != k.n {
			continue
		}
		if k.n <= 8 || string(text[k.at:k.at+k.n]) == b.name {
			return b.capture, b.node
		}
	}
	return 0, 0
}

// span is where a captured text is.
type span struct {
	at, n   uint32
	scratch bool // in the scratch, else in the input
	is      bool // there is one
}

// take captures the value b[start:end] for everything in s.capture.
func (s *Scanner) take(b []byte, start, end int) (ok bool) {
	mask := s.capture
	s.capture = 0
	for ; mask != 0; mask &= mask - 1 {
		if s.failed || b[start] == 'n' {
			return true
		}
		c := bits.TrailingZeros16(mask)
		if c >= captureData {
			s.spans[c] = span{at: uint32(start), n: uint32(end - start), is: true}
			continue
		}
		if msg := s.takeText(b, start, end, c); msg != "" && s.note(BadEnvelope, start, msg) {
			return false
		}
	}
	return true
}

// takeText captures a text or the time, or says what was expected.
func (s *Scanner) takeText(b []byte, start, end, c int) (wrong string) {
	first := b[start]
	if first == '{' || first == '[' || s.cloud && c != captureDataKey && first != '"' {
		return expected[c]
	}
	t := span{at: uint32(start), n: uint32(end - start), is: true}
	if first == '"' {
		t.at, t.n = t.at+1, t.n-2
		if s.escaped {
			t.at = uint32(len(s.scratch))
			s.scratch = unescape(s.scratch, b[start+1:end-1])
			t.n = uint32(len(s.scratch)) - t.at
			t.scratch = true
		}
	}
	if c == captureTime {
		var ok bool
		if first == '"' {
			s.time, ok = parseTime(s.bytes(b, t))
		} else {
			s.time, ok = parseUnix(b[start:end])
		}
		if !ok {
			return expected[c]
		}
		return ""
	}
	if t.n > MaxText {
		return "expected a text of at most 1024 bytes for the envelope"
	}
	s.spans[c] = t
	return ""
}

var expected = [captures]string{
	captureID:      "expected a string or a number as the id",
	captureType:    "expected a string as the type",
	captureSource:  "expected a string as the source",
	captureTime:    "expected RFC 3339 or a unix time between 1678 and 2262 as the time",
	captureKey:     "expected a string or a number as the key",
	captureDataKey: "expected a string or a number as the key",
	captureVersion: "expected \"1.0\" as the specversion",
}

func (s *Scanner) bytes(b []byte, t span) []byte {
	if t.scratch {
		b = s.scratch
	}
	return b[t.at : t.at+t.n : t.at+t.n]
}

// fill gives env what was captured.
func (s *Scanner) fill(b []byte, env *Envelope) {
	env.ID = s.bytes(b, s.spans[captureID])
	env.Type = s.bytes(b, s.spans[captureType])
	env.Source = s.bytes(b, s.spans[captureSource])
	env.Key = s.bytes(b, s.spans[captureKey])
	env.Time = s.time
}
