// Command conformance is the rule that ../../conformance/README.md describes.
package main

// build: GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false -buildmode=c-shared -ldflags='-s -w' -o conformance.wasm .

import (
	"strings"
	"unsafe"

	"wasmeval/rules-sdk/go/rule"
)

func main() {}

var (
	op, s, key, kind rule.TextColumn
	j, whole         rule.TextColumn
	f, price         rule.F64Column
	i, at            rule.I64Column
	b                rule.BoolColumn

	limit  rule.Param[float64]
	count  rule.Param[int64]
	strict rule.Param[bool]
	label  rule.Param[string]

	tumbling, sliding rule.CounterState
	cards             rule.DistinctState
	last              rule.ValueState
	known             rule.SeenState
)

func init() {
	rule.Describe("conformance of an SDK")
	rule.Match("conf.*", "exact")
	op, f, i, b, s = rule.UTF8("op"), rule.F64("f"), rule.I64("i"), rule.Bool("b"), rule.UTF8("s")
	j, whole = rule.JSON("j"), rule.JSON("$")
	key, kind, at = rule.UTF8("@key"), rule.UTF8("@type"), rule.I64("@time")
	price = rule.F64("items[0].price")
	limit = rule.ParamF64("limit", 10, "")
	count = rule.ParamI64("count", 3, "")
	strict = rule.ParamBool("strict", false, "")
	label = rule.ParamUTF8("label", "a \"b\"\né", "")
	tumbling = rule.Counter("tumbling", rule.Tumbling(rule.Minute))
	sliding = rule.Counter("sliding", rule.Sliding(rule.Minute, 60))
	cards = rule.Distinct("cards", 10*rule.Minute, 4)
	last = rule.Value("last", 32, rule.TTL(rule.Minute))
	known = rule.Seen("known")
	rule.Each(each)
}

func each(r rule.Row) int32 {
	name, _ := op.At(r)
	switch name {
	case "code":
		if n, ok := i.At(r); ok {
			return int32(n)
		}
		return 1
	case "valid":
		return validity(r)
	case "limit":
		if v, ok := f.At(r); ok && v > limit.Value() {
			return 1
		}
		return 0
	case "text":
		text, _ := s.At(r)
		return int32(len(text)) + 1
	case "spin":
		for {
		}
	case "deep":
		return deep(1)
	case "trap":
		panic("trap")
	}
	if code := payloads(r, name); code >= 0 {
		return code
	}
	return states(r, name)
}

func validity(r rule.Row) int32 {
	code := int32(1024)
	for n, c := range [...]rule.Column{f.Column, i.Column, b.Column, s.Column, j.Column,
		price.Column, key.Column, kind.Column, at.Column} {
		if c.Valid(r) {
			code |= 1 << n
		}
	}
	return code
}

//go:noinline
func deep(n int32) int32 { return deep(n+1) + n }

// payloads does what emits or logs; -1 is something else.
func payloads(r rule.Row, name string) int32 {
	switch name {
	case "echo":
		echo(r)
	case "raw":
		text, _ := whole.Bytes(r)
		r.Emit(text)
	case "params":
		r.Payload().F64("limit", limit.Value()).I64("count", count.Value()).
			Bool("strict", strict.Value()).UTF8("label", label.Value()).Emit()
	case "twice":
		r.Payload().I64("n", 1).Emit()
		r.Payload().I64("n", 2).Emit()
	case "unmatched":
		r.Payload().I64("n", 1).Emit()
		return 0
	case "emit-bad":
		return emitCode(r.Emit([]byte("{")))
	case "emit-large":
		return emitCode(r.Emit([]byte(`"` + strings.Repeat("x", 19_998) + `"`)))
	case "emit-row":
		return emitCode(outside(r).Emit([]byte("1")))
	case "log":
		rule.Log(rule.Debug, "d")
		rule.Log(rule.Info, "i")
		rule.Log(rule.Warn, "w")
		rule.Log(rule.Error, "e")
	default:
		return -1
	}
	return 1
}

func echo(r rule.Row) {
	p := r.Payload()
	if v, ok := f.At(r); ok {
		p.F64("f", v)
	}
	if v, ok := i.At(r); ok {
		p.I64("i", v)
	}
	if v, ok := b.At(r); ok {
		p.Bool("b", v)
	}
	if v, ok := s.At(r); ok {
		p.UTF8("s", v)
	}
	if v, ok := j.At(r); ok {
		p.JSON("j", v)
	}
	if v, ok := key.At(r); ok {
		p.UTF8("key", v)
	}
	if v, ok := kind.At(r); ok {
		p.UTF8("type", v)
	}
	p.Emit()
}

// outside gives a row that is in no batch, which the SDK itself refuses to make.
func outside(r rule.Row) rule.Row {
	*(*int)(unsafe.Pointer(&r)) = 65535
	return r
}

func emitCode(err error) int32 {
	switch err {
	case nil:
		return 100
	case rule.ErrRefused: // which is 1 or 2, but nothing here is outside memory
		return 101
	case rule.ErrTooLarge:
		return 103
	case rule.ErrNotJSON:
		return 104
	}
	return -1
}

// states does what needs keyed state; 0 is something else.
func states(r rule.Row, name string) int32 {
	text, _ := s.At(r)
	switch name {
	case "count", "trap-after-count":
		sum, ok := tumbling.Add(r, 1)
		if name != "count" {
			panic("trap")
		}
		return codeOf(sum, ok)
	case "sub":
		return codeOf(tumbling.By(text).Add(r, 1))
	case "slide":
		v, _ := f.At(r)
		return codeOf(sliding.Add(r, v))
	case "distinct":
		n, ok := cards.Add(r, text)
		return codeOf(float64(n), ok)
	case "seen":
		first, seen, ok := known.Mark(r)
		if ok && seen {
			r.Payload().I64("first", first).Emit()
			return 2
		}
		return codeOf(1, ok)
	}
	return value(r, name, text)
}

// codeOf is 9 where there is no state.
func codeOf(n float64, ok bool) int32 {
	if !ok {
		return 9
	}
	return int32(n)
}

func value(r rule.Row, name, text string) int32 {
	switch name {
	case "set":
		switch last.Set(r, []byte(text)) {
		case nil:
			return 1
		case rule.ErrTooLarge:
			return 5
		}
		return 9
	case "get":
		v, ok := last.Get(r)
		if !ok {
			return 2
		}
		r.Payload().UTF8("v", string(v)).Emit()
		return 1
	case "age":
		set, ok := last.Time(r)
		if !ok {
			return 0
		}
		now, _ := at.At(r)
		return int32((now-set)/1e9) + 1
	case "delete":
		if last.Delete(r) {
			return 1
		}
		return 2
	}
	return 0
}
