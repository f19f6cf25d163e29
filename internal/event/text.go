package event

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	lows  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks, by its high bit, each byte of x that ends a run of plain bytes in a string: a
// quote, a backslash or a control character. Marks above the first one may be wrong, since a
// subtraction borrows from the byte above.
func special(x uint64) uint64 {
	control := x - ' '*lows
	quote := x ^ '"'*lows - lows
	backslash := x ^ '\\'*lows - lows
	return (control | quote | backslash) &^ x & highs
}

// plain goes over plain bytes from b[i] on, to the first other one or until fewer than eight bytes
// are left. seen is the bits of those, and perhaps of some more, to tell whether all are ASCII. It is
// apart from text since a loop in a function that calls nothing stays in registers.
func plain(b []byte, i int) (end int, seen uint64) {
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i : i+8 : i+8])
		seen |= x
		if m := special(x); m != 0 {
			i += bits.TrailingZeros64(m) / 8
			break
		}
		i += 8
	}
	return i, seen
}

// TextEnd returns the offset after the string that begins at b[i], and whether it is without
// escapes. It is for the text of an event that a Scanner took; with another one it may panic.
func TextEnd(b []byte, i int) (end int, unescaped bool) {
	unescaped = true
	for i++; ; i++ {
		i, _ = plain(b, i)
		switch b[i] {
		case '"':
			return i + 1, unescaped
		case '\\':
			unescaped = false
			i++
		}
	}
}

// text scans the rest of a string whose quote stands before b[start], and returns the offset after
// the closing quote. The bytes before b[i] were seen by plain.
func (s *Scanner) text(b []byte, start, i int, seen uint64) int {
	s.escaped = false
	for {
		for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
			seen |= uint64(b[i])
			i++
		}
		switch {
		case i == len(b):
			return s.fault(b, i, "expected '\"' at the end of the string")
		case b[i] == '\\':
			s.escaped = true
			if i = s.escape(b, i+1); i < 0 {
				return -1
			}
		case b[i] == '"':
			if seen&highs != 0 && !utf8.Valid(b[start:i]) && s.noteUTF8(b, start) {
				return -1
			}
			return i + 1
		default:
			return s.fault(b, i, "expected an escape for a control character")
		}
		var more uint64
		i, more = plain(b, i)
		seen |= more
	}
}

// noteUTF8 records where the bytes from i on stop being UTF-8.
func (s *Scanner) noteUTF8(b []byte, i int) (stop bool) {
	for {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return s.note(BadUTF8, i, "expected UTF-8")
		}
		i += n
	}
}

// escape scans what follows a backslash and returns the offset after it.
func (s *Scanner) escape(b []byte, i int) int {
	if i == len(b) {
		return s.fault(b, i, "expected an escape")
	}
	if b[i] != 'u' {
		if unescaped[b[i]] == 0 {
			return s.fault(b, i, "expected one of \" \\ / b f n r t u after the backslash")
		}
		return i + 1
	}
	r := hex4(b, i+1)
	if r < 0 {
		return s.fault(b, i, "expected u with four hexadecimal digits")
	}
	i += 5
	if !utf16.IsSurrogate(r) {
		return i
	}
	if r < 0xDC00 && i+1 < len(b) && b[i] == '\\' && b[i+1] == 'u' {
		if low := hex4(b, i+2); low >= 0xDC00 && low <= 0xDFFF {
			return i + 6
		}
	}
	if s.note(BadUTF8, i-6, "expected both halves of a surrogate pair") {
		return -1
	}
	return i
}

// unescaped gives the byte that a backslash and the index stand for, or 0.
var unescaped = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// hex4 reads four hexadecimal digits at b[i:], or returns -1.
func hex4(b []byte, i int) rune {
	if i+4 > len(b) {
		return -1
	}
	r := rune(0)
	for _, c := range b[i : i+4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// unescape appends what a string's text stands for to dst. The text was scanned before and has no
// fault.
func unescape(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		if text[i] != '\\' {
			dst = append(dst, text[i])
			i++
			continue
		}
		if text[i+1] != 'u' {
			dst = append(dst, unescaped[text[i+1]])
			i += 2
			continue
		}
		r := hex4(text, i+2)
		i += 6
		if utf16.IsSurrogate(r) {
			r = utf16.DecodeRune(r, hex4(text, i+2))
			i += 6
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
