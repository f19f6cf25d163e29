//go:build !wasip1

package rule

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unsafe"
)

// Verdict is what the rule said of one event given to [Try].
type Verdict struct {
	Code    int32
	Payload string // JSON, or ""
}

// Try evaluates events, each a JSON object, as one batch, for tests of a rule with go test; it does
// not exist in a module. params is a JSON object of the parameters that differ from their defaults,
// or "". The envelope is read from the members id, type, source, ts (RFC 3339) and key. An event
// that the rule's match does not name has code 0. Lines of the log go to log, unless that is nil.
// Keyed state is empty at first, and its clock is the events' ts: a window passes when an event
// says so, not when time does. It errs where the server would refuse the rule, the parameters or
// the whole batch.
func Try(log func(Level, string), params string, events ...string) ([]Verdict, error) {
	text, wrong := manifest()
	if wrong != "" {
		return nil, errors.New("rule: " + wrong)
	}
	host = &fakeHost{log: log, kept: map[fakeKey]*fakeState{}}
	defer func() { host = nil }()
	if err := tryParams(text, params); err != nil {
		return nil, err
	}
	verdicts := make([]Verdict, len(events))
	var rows []any
	var index []int // row to event
	for i, text := range events {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var ev map[string]any
		if err := d.Decode(&ev); err != nil {
			return nil, fmt.Errorf("cannot read event %d: %w", i, err)
		}
		if kind, _ := ev["type"].(string); matches(kind) {
			rows, index = append(rows, ev), append(index, i)
		}
	}
	if len(rows) == 0 {
		return verdicts, nil
	}
	var err error
	if host.events, err = fakeEvents(rows); err != nil {
		return nil, fmt.Errorf("cannot read the time of an event: %w", err)
	}
	host.emit = func(row int, payload []byte) int32 {
		if row < 0 || row >= len(rows) {
			return 1
		}
		if !json.Valid(payload) {
			return 4
		}
		verdicts[index[row]].Payload = string(payload)
		return 0
	}
	batch := buildBatch(rows, host.events, declared.columns)
	p := unsafe.Pointer(&batch[0])
	if code := evaluate(p); code != 0 {
		return nil, fmt.Errorf("cannot evaluate: the rule returned %d", code)
	}
	for row, code := range (Batch{p}).Verdicts() {
		if verdicts[index[row]].Code = code; code == 0 {
			verdicts[index[row]].Payload = ""
		}
	}
	return verdicts, nil
}

// tryParams configures the rule as the server does: with every param, in order.
func tryParams(manifest []byte, params string) error {
	var m struct {
		Params []struct {
			Name    string
			Default json.RawMessage
		}
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		return fmt.Errorf("cannot read the manifest: %w", err)
	}
	given := map[string]json.RawMessage{}
	if params != "" {
		if err := json.Unmarshal([]byte(params), &given); err != nil {
			return fmt.Errorf("cannot read params: %w", err)
		}
	}
	for name := range given {
		if find(name) == nil {
			return fmt.Errorf("param %q is not declared", name)
		}
	}
	var out bytes.Buffer
	for i, p := range m.Params {
		value := p.Default
		if v, ok := given[p.Name]; ok {
			value = v
		}
		if value == nil {
			return fmt.Errorf("param %q has no default and is not given", p.Name)
		}
		out.WriteByte("{,"[min(i, 1)])
		out.Write(append(appendString(nil, p.Name), ':'))
		if err := json.Compact(&out, value); err != nil {
			return fmt.Errorf("cannot read param %q: %w", p.Name, err)
		}
	}
	if len(m.Params) == 0 {
		out.WriteByte('{')
	}
	return configure(out.String() + "}")
}

func matches(kind string) bool {
	for _, m := range declared.match {
		prefix, open := strings.CutSuffix(m, "*")
		if m == "*" || m == kind || open && strings.HasPrefix(kind, prefix) {
			return true
		}
	}
	return len(declared.match) == 0
}

// buildBatch lays rows out as rules-sdk/ABI.md says.
func buildBatch(rows []any, events []fakeEvent, columns []*column) []uint64 {
	le, n := binary.LittleEndian, len(rows)
	b := make([]byte, 40+32*len(columns))
	place := func(at int, part []byte) { // appends a buffer and notes its offset at b[at:]
		le.PutUint32(b[at:], uint32(len(b)))
		b = append(b, part...)
		b = append(b, make([]byte, -len(b)&7)...)
	}
	le.PutUint32(b[0:], 1)
	le.PutUint32(b[4:], uint32(n))
	le.PutUint32(b[8:], uint32(len(columns)))
	place(12, make([]byte, 4*n))
	times := make([]byte, 0, 8*n)
	for i := range rows {
		times = le.AppendUint64(times, uint64(events[i].arrival))
	}
	le.PutUint64(b[16:], uint64(events[0].arrival))
	place(24, times)
	for i, c := range columns {
		at := 40 + 32*i
		validity, bits := make([]byte, (n+7)/8), make([]byte, (n+7)/8)
		var words, data []byte
		ends := make([]byte, 4, 4*n+4)
		nulls := 0
		for r, ev := range rows {
			word, text, ok := cell(ev, c)
			if c.path == "@time" && c.kind == kindI64 { // also of an event that names none
				word, ok = uint64(events[r].time), true
			}
			if ok {
				validity[r/8] |= 1 << (r % 8)
				bits[r/8] |= byte(word) & 1 << (r % 8)
				data = append(data, text...)
			} else {
				word, nulls = 0, nulls+1
			}
			words = le.AppendUint64(words, word)
			ends = le.AppendUint32(ends, uint32(len(data)))
		}
		le.PutUint32(b[at:], c.kind)
		le.PutUint32(b[at+4:], uint32(nulls))
		place(at+8, validity)
		switch c.kind {
		case kindF64, kindI64:
			place(at+12, words)
		case kindBool:
			place(at+12, bits)
		default:
			place(at+12, ends)
			place(at+16, data)
			le.PutUint32(b[at+20:], uint32(len(data)))
		}
	}
	le.PutUint32(b[28:], uint32(len(b)))
	out := make([]uint64, len(b)/8+1) // a word more, for empty data at the end
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&out[0])), len(b)), b)
	return out
}

// cell reads one field of an event: its bits, or its text.
func cell(ev any, c *column) (word uint64, text string, ok bool) {
	v := at(ev, c.path)
	if v == nil {
		return 0, "", false
	}
	switch c.kind {
	case kindF64:
		if num, is := v.(json.Number); is {
			f, err := num.Float64()
			return math.Float64bits(f), "", err == nil
		}
	case kindI64:
		if num, is := v.(json.Number); is {
			return integer(num)
		}
	case kindBool:
		if v == true {
			return 1, "", true
		}
		return 0, "", v == false
	case kindUTF8:
		text, ok = v.(string)
		return 0, text, ok
	case kindJSON:
		var out strings.Builder
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		err := e.Encode(v)
		return 0, strings.TrimSuffix(out.String(), "\n"), err == nil
	}
	return 0, "", false
}

// integer reads a number; 1.0 and 1e3 are integers too, where a float64 holds them exactly.
func integer(num json.Number) (word uint64, text string, ok bool) {
	n, err := num.Int64()
	if err == nil {
		return uint64(n), "", true
	}
	f, err := num.Float64()
	ok = err == nil && strings.ContainsAny(string(num), ".eE") && f == math.Trunc(f) &&
		math.Abs(f) < 1<<53
	return uint64(int64(f)), "", ok
}

// at walks a path; nil means that the event has no such value.
func at(v any, path string) any {
	switch path {
	case "$":
		return v
	case "@time":
		path = "ts"
	}
	path = strings.TrimPrefix(path, "@")
	for _, part := range strings.Split(strings.ReplaceAll(path, "[", ".["), ".") {
		if index, is := strings.CutPrefix(part, "["); is {
			list, _ := v.([]any)
			i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
			if err != nil || i < 0 || i >= len(list) {
				return nil
			}
			v = list[i]
			continue
		}
		object, _ := v.(map[string]any)
		v = object[part]
	}
	return v
}
