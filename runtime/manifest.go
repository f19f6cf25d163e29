package runtime

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"unicode/utf8"

	"wasmeval/runtime/state"
)

const (
	maxFields = 64
	maxParams = 64
	maxMatch  = 64
	maxStates = 16
	maxText   = 1024 // bytes of a path, pattern or parameter name
)

var ruleName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

func checkName(n RuleName) error {
	if !ruleName.MatchString(string(n)) {
		return errorf(BadName, "%q is not a rule name: expected 1 to 64 of a-z, 0-9, '-', '_', '.', "+
			"beginning with a letter or digit", n)
	}
	return nil
}

// colType is a column's type as the ABI numbers it.
type colType uint32

const (
	typeF64 colType = 1 + iota
	typeI64
	typeBool
	typeUTF8
	typeJSON
)

var colTypes = map[string]colType{
	"f64": typeF64, "i64": typeI64, "bool": typeBool, "utf8": typeUTF8, "json": typeJSON,
}

// column is one field as the gatherer reads it. Columns of several rules are one if they are equal.
type column struct {
	path  string
	typ   colType
	place place
	steps []step
}

func newColumn(f Field) (*column, error) {
	typ, ok := colTypes[f.Type]
	if !ok {
		return nil, fmt.Errorf("field %.100q has type %.100q: expected f64, i64, bool, utf8 or json",
			f.Path, f.Type)
	}
	if len(f.Path) > maxText {
		return nil, fmt.Errorf("a field's path has %d bytes: expected at most %d",
			len(f.Path), maxText)
	}
	p, steps, err := parsePath(f.Path)
	if err != nil {
		return nil, err
	}
	if p == wholeObject && typ != typeJSON {
		return nil, fmt.Errorf("field \"$\" has type %q: expected json", f.Type)
	}
	return &column{path: f.Path, typ: typ, place: p, steps: steps}, nil
}

// parseManifest reads what wasmeval_manifest returned and checks all of it.
func parseManifest(text []byte) (Manifest, []*column, error) {
	var m Manifest
	if !utf8.Valid(text) {
		return m, nil, fmt.Errorf("the manifest is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, nil, fmt.Errorf("cannot read the manifest: %.300s", err)
	}
	if d.More() {
		return m, nil, fmt.Errorf("the manifest has text after its object")
	}
	if len(m.Match) == 0 {
		m.Match = []string{"*"}
	}
	if len(m.Match) > maxMatch || len(m.Fields) > maxFields || len(m.Params) > maxParams {
		return m, nil, fmt.Errorf("the manifest has %d match patterns, %d fields and %d params: "+
			"expected at most %d, %d and %d", len(m.Match), len(m.Fields), len(m.Params),
			maxMatch, maxFields, maxParams)
	}
	for _, p := range m.Match {
		if p == "" || len(p) > maxText {
			return m, nil, fmt.Errorf("match pattern %.100q: expected 1 to %d bytes", p, maxText)
		}
	}
	cols := make([]*column, len(m.Fields))
	for i, f := range m.Fields {
		c, err := newColumn(f)
		if err != nil {
			return m, nil, err
		}
		cols[i] = c
	}
	if err := checkStates(m.State); err != nil {
		return m, nil, err
	}
	return m, cols, checkParams(m.Params)
}

// checkStates checks the declared states, and fills in what they leave out.
func checkStates(list []state.Spec) error {
	if len(list) > maxStates {
		return fmt.Errorf("the manifest has %d states: expected at most %d", len(list), maxStates)
	}
	seen := map[string]bool{}
	for i, s := range list {
		if s.Name == "" || len(s.Name) > maxText || seen[s.Name] {
			return fmt.Errorf("state %.100q: expected a name that no other state has", s.Name)
		}
		seen[s.Name] = true
		var err error
		if list[i], err = s.Normal(); err != nil {
			return fmt.Errorf("state %.100q: %w", s.Name, err)
		}
	}
	return nil
}

func checkParams(params []Param) error {
	seen := map[string]bool{}
	for _, p := range params {
		if p.Name == "" || len(p.Name) > maxText || seen[p.Name] {
			return fmt.Errorf("param %.100q: expected a name that no other param has", p.Name)
		}
		seen[p.Name] = true
		switch p.Type {
		case "f64", "i64", "bool", "utf8":
		default:
			return fmt.Errorf("param %q has type %.100q: expected f64, i64, bool or utf8",
				p.Name, p.Type)
		}
		if p.Default != nil {
			if _, err := appendParam(nil, p, p.Default); err != nil {
				return fmt.Errorf("default of %w", err)
			}
		}
	}
	return nil
}

// paramsJSON is what wasmeval_configure gets: all declared params, in order, with defaults.
func paramsJSON(m *Manifest, given map[string]json.RawMessage) ([]byte, error) {
	known := map[string]bool{}
	out := []byte{'{'}
	for i, p := range m.Params {
		known[p.Name] = true
		val := p.Default
		if v, ok := given[p.Name]; ok {
			val = v
		}
		if val == nil {
			return nil, errorf(BadParams, "param %q has no default and was not given: expected a %s",
				p.Name, p.Type)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendString(out, p.Name), ':')
		var err error
		if out, err = appendParam(out, p, val); err != nil {
			return nil, &Error{Kind: BadParams, Msg: err.Error()}
		}
	}
	for name := range given {
		if !known[name] {
			return nil, errorf(BadParams, "param %.100q is not declared by the rule", name)
		}
	}
	return append(out, '}'), nil
}

// appendParam appends the JSON text of a param's value if it has the param's type.
func appendParam(dst []byte, p Param, val json.RawMessage) ([]byte, error) {
	fault := fmt.Errorf("param %q is %.100s: expected a value of type %s", p.Name, val, p.Type)
	d := json.NewDecoder(bytes.NewReader(val))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil, fault
	}
	switch v := v.(type) {
	case json.Number:
		if p.Type == "i64" {
			n, err := v.Int64()
			if err != nil {
				return nil, fault
			}
			return strconv.AppendInt(dst, n, 10), nil
		}
		f, err := v.Float64()
		if p.Type != "f64" || err != nil || math.IsInf(f, 0) {
			return nil, fault
		}
		return append(dst, v...), nil
	case bool:
		if p.Type != "bool" {
			return nil, fault
		}
		return strconv.AppendBool(dst, v), nil
	case string:
		if p.Type != "utf8" {
			return nil, fault
		}
		return appendString(dst, v), nil
	}
	return nil, fault
}
