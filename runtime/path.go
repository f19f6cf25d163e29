package runtime

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"
)

// place is where a column's value comes from.
type place uint8

const (
	inObject place = iota // at a path of the event's JSON object
	wholeObject
	ofID
	ofType
	ofSource
	ofTime
	ofKey
)

// step is one part of a path: a key, or an index if key is empty and index is not negative.
type step struct {
	key   string
	index int
}

// parsePath reads a field's path: `$`, `@type` and the like, or keys and indexes such as
// `items[0].price`.
func parsePath(path string) (place, []step, error) {
	switch path {
	case "$":
		return wholeObject, nil, nil
	case "@id":
		return ofID, nil, nil
	case "@type":
		return ofType, nil, nil
	case "@source":
		return ofSource, nil, nil
	case "@time":
		return ofTime, nil, nil
	case "@key":
		return ofKey, nil, nil
	}
	var steps []step
	for part := range strings.SplitSeq(path, ".") {
		key, rest, indexed := strings.Cut(part, "[")
		if key == "" || strings.HasPrefix(key, "@") || strings.ContainsAny(key, "]$") {
			return 0, nil, fmt.Errorf("path %q: expected $, @type, @id, @source, @time, @key, "+
				"or keys and indexes such as user.id or items[0].price", path)
		}
		steps = append(steps, step{key: key, index: -1})
		for indexed {
			var digits string
			var closed bool
			digits, rest, closed = strings.Cut(rest, "]")
			i, err := strconv.ParseUint(digits, 10, 20)
			if err != nil || !closed {
				return 0, nil, fmt.Errorf("path %q: expected an index, not %q", path, digits)
			}
			steps = append(steps, step{index: int(i)})
			if rest == "" {
				break
			}
			if rest[0] != '[' {
				return 0, nil, fmt.Errorf("path %q: expected '.' or '[' after ']'", path)
			}
			rest = rest[1:]
		}
	}
	return inObject, steps, nil
}

// find walks the steps; nil means that the event has no such value.
func find(v *fastjson.Value, steps []step) *fastjson.Value {
	for i := range steps {
		s := &steps[i]
		if s.index < 0 {
			if v.Type() != fastjson.TypeObject {
				return nil
			}
			v = v.Get(s.key)
		} else {
			a := v.GetArray()
			if s.index >= len(a) {
				return nil
			}
			v = a[s.index]
		}
		if v == nil {
			return nil
		}
	}
	return v
}

// appendJSON appends the text of v without white space. Unlike the library's MarshalTo it writes
// control characters as JSON has them, not as Go does.
func appendJSON(dst []byte, v *fastjson.Value) []byte {
	switch v.Type() {
	case fastjson.TypeObject:
		dst = append(dst, '{')
		first := true
		v.GetObject().Visit(func(key []byte, val *fastjson.Value) {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(appendString(dst, key), ':')
			dst = appendJSON(dst, val)
		})
		return append(dst, '}')
	case fastjson.TypeArray:
		dst = append(dst, '[')
		for i, e := range v.GetArray() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, e)
		}
		return append(dst, ']')
	case fastjson.TypeString:
		return appendString(dst, v.GetStringBytes())
	default: // numbers and literals stand as they came
		return v.MarshalTo(dst)
	}
}

const hexDigits = "0123456789abcdef"

// appendString appends s, which is UTF-8, as a JSON string.
func appendString[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// appendCompact appends valid JSON without the white space between its parts.
func appendCompact(dst, src []byte) []byte {
	from, inString := 0, false
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			dst = append(dst, src[from:i]...)
			from = i + 1
		}
	}
	return append(dst, src[from:]...)
}
