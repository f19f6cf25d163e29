package rule

import (
	"strconv"
	"unsafe"
)

// Level is how grave a line of the log is.
type Level int32

// The levels.
const (
	Debug Level = iota
	Info
	Warn
	Error
)

var line = make([]byte, 0, 256)

// Log writes one line to the rule's log, made of its parts without anything between them: strings,
// bytes, bools, integers, floats. Other types are "?"; of an error pass err.Error().
func Log(level Level, parts ...any) {
	line = line[:0]
	for _, part := range parts {
		line = appendPart(line, part)
	}
	log(int32(level), unsafe.Pointer(unsafe.SliceData(line)), int32(len(line)))
}

// appendPart calls no method of the part, so that passing one does not allocate.
func appendPart(dst []byte, part any) []byte {
	switch v := part.(type) {
	case string:
		return append(dst, v...)
	case []byte:
		return append(dst, v...)
	case bool:
		return strconv.AppendBool(dst, v)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case int32:
		return strconv.AppendInt(dst, int64(v), 10)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case uint:
		return strconv.AppendUint(dst, uint64(v), 10)
	case uint32:
		return strconv.AppendUint(dst, uint64(v), 10)
	case uint64:
		return strconv.AppendUint(dst, v, 10)
	case float32:
		return strconv.AppendFloat(dst, float64(v), 'g', -1, 32)
	case float64:
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	}
	return append(dst, '?')
}
