package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"wasmeval/internal/event"
)

// testFile is a file of tests of one rule.
type testFile struct {
	name   string
	module string // the file
	params map[string]json.RawMessage
	fields event.Fields
	cases  []*testCase
}

// testCase is one test: events in their order, on a rule that has not seen any before.
type testCase struct {
	name   string
	line   int
	fuel   uint64 // for an event; 0: the default
	params map[string]json.RawMessage
	steps  []*testStep
}

// testStep is one event, and what the rule has to say of it. What is nil or empty is not looked at;
// but a rule that fails where no error is expected has failed the test.
type testStep struct {
	line    int
	event   json.RawMessage
	after   time.Duration
	fuel    uint64
	code    *int32
	error   string          // its kind
	payload json.RawMessage // null: none
	logs    *[]string
}

// testReader reads a file of tests. The faults are gathered, each with its line.
type testReader struct {
	yamlReader
	file *testFile
}

// readTests reads a file of tests. fields are where an envelope is found unless the file says so.
func readTests(name string, fields event.Fields) (*testFile, error) {
	r := &testReader{yamlReader: yamlReader{name: name}, file: &testFile{name: name, fields: fields}}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read tests %q: %w", name, errors.Unwrap(err))
	}
	defer f.Close()
	var doc yaml.Node
	switch err := yaml.NewDecoder(f).Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s: the file is empty: expected module and tests", name)
	case err != nil:
		return nil, r.syntax(err)
	}
	r.top(doc.Content[0])
	if len(r.faults) == 0 && (r.file.module == "" || len(r.file.cases) == 0) {
		r.fault(doc.Content[0], "", "expected module and at least one of tests")
	}
	return r.file, errors.Join(r.faults...)
}

// keys reads a mapping whose keys are those of the table.
func (r *testReader) keys(path string, n *yaml.Node, table map[string]func(string, *yaml.Node)) {
	r.mapping(path, n, func(name string, key, value *yaml.Node) {
		read, ok := table[name]
		path := strings.TrimPrefix(path+"."+name, ".")
		if !ok {
			r.fault(key, path, "unknown key: expected %s",
				strings.Join(slices.Sorted(maps.Keys(table)), ", "))
			return
		}
		for value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		read(path, value)
	})
}

// list reads each item of a list.
func (r *testReader) list(path string, n *yaml.Node, read func(path string, n *yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		r.fault(n, path, "%s: expected a list", describe(n))
		return
	}
	for i, item := range n.Content {
		for item.Kind == yaml.AliasNode {
			item = item.Alias
		}
		read(path+"["+strconv.Itoa(i)+"]", item)
	}
}

func (r *testReader) text(to *string) func(string, *yaml.Node) {
	return func(path string, n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || isNull(n) {
			r.fault(n, path, "%s: expected a text", describe(n))
			return
		}
		*to = n.Value
	}
}

func (r *testReader) top(n *yaml.Node) {
	f := r.file
	module := r.text(&f.module)
	r.keys("", n, map[string]func(string, *yaml.Node){
		"module": func(path string, n *yaml.Node) {
			if module(path, n); f.module != "" && !filepath.IsAbs(f.module) {
				f.module = filepath.Join(filepath.Dir(f.name), f.module)
			}
		},
		"params": r.params(&f.params),
		"key":    r.text(&f.fields.Key), "id": r.text(&f.fields.ID), "type": r.text(&f.fields.Type),
		"source": r.text(&f.fields.Source), "time": r.text(&f.fields.Time),
		"tests": func(path string, n *yaml.Node) { r.list(path, n, r.testCase) },
	})
	if _, err := event.NewScanner(f.fields, event.Limits{}); err != nil {
		r.fault(n, "", "%w", err)
	}
}

func (r *testReader) params(to *map[string]json.RawMessage) func(string, *yaml.Node) {
	return func(path string, n *yaml.Node) {
		*to = map[string]json.RawMessage{}
		r.mapping(path, n, func(name string, _, value *yaml.Node) {
			(*to)[name] = r.json(path+"."+name, value)
		})
	}
}

func (r *testReader) testCase(path string, n *yaml.Node) {
	c := &testCase{line: n.Line}
	r.keys(path, n, map[string]func(string, *yaml.Node){
		"name": r.text(&c.name), "fuel": r.fuel(&c.fuel), "params": r.params(&c.params),
		"events": func(path string, n *yaml.Node) {
			r.list(path, n, func(path string, n *yaml.Node) { r.step(c, path, n) })
		},
	})
	if c.name == "" || len(c.steps) == 0 {
		r.fault(n, path, "expected name and events")
	}
	for _, other := range r.file.cases {
		if other.name == c.name {
			r.fault(n, path, "the test in line %d has this name already", other.line)
		}
	}
	r.file.cases = append(r.file.cases, c)
}

func (r *testReader) step(c *testCase, path string, n *yaml.Node) {
	s := &testStep{line: n.Line}
	r.keys(path, n, map[string]func(string, *yaml.Node){
		"event": func(path string, n *yaml.Node) { s.event = r.event(path, n) },
		"after": func(path string, n *yaml.Node) {
			d, err := time.ParseDuration(n.Value)
			if err != nil || d < 0 {
				r.fault(n, path, "%s: expected a duration of 0 or more, such as 30s", describe(n))
			}
			s.after = d
		},
		"fuel": r.fuel(&s.fuel),
		"code": func(path string, n *yaml.Node) {
			code, err := strconv.ParseInt(n.Value, 10, 32)
			if err != nil || code < 0 {
				r.fault(n, path, "%s: expected a code of 0 or more", describe(n))
			}
			s.code = new(int32(code))
		},
		"error":   r.text(&s.error),
		"payload": func(path string, n *yaml.Node) { s.payload = r.json(path, n) },
		"logs": func(path string, n *yaml.Node) {
			s.logs = &[]string{}
			r.list(path, n, func(path string, n *yaml.Node) {
				var line string
				r.text(&line)(path, n)
				*s.logs = append(*s.logs, line)
			})
		},
	})
	switch {
	case s.event == nil:
		r.fault(n, path, "expected event")
	case s.error != "" && s.payload != nil:
		r.fault(n, path, "expected payload or error: a rule that fails has no payload")
	}
	c.steps = append(c.steps, s)
}

func (r *testReader) fuel(to *uint64) func(string, *yaml.Node) {
	return func(path string, n *yaml.Node) {
		fuel, err := strconv.ParseUint(n.Value, 10, 63)
		if err != nil || fuel == 0 {
			r.fault(n, path, "%s: expected a whole number above 0", describe(n))
		}
		*to = fuel
	}
}

// event reads an event: keys and values, or its JSON as a text.
func (r *testReader) event(path string, n *yaml.Node) json.RawMessage {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		return r.json(path, n)
	}
	if !json.Valid([]byte(n.Value)) {
		r.fault(n, path, "%s: expected an event, or a text that is its JSON", describe(n))
	}
	return json.RawMessage(n.Value)
}

const maxYAMLDepth = 100

// json makes JSON of a YAML value. A time stays the text that it is, and a number keeps its digits.
func (r *testReader) json(path string, n *yaml.Node) json.RawMessage {
	if strings.Count(path, ".")+strings.Count(path, "[") > maxYAMLDepth { // an anchor may hold itself
		r.fault(n, "", "values are nested deeper than %d", maxYAMLDepth)
		return nil
	}
	switch n.Kind {
	case yaml.AliasNode:
		return r.json(path, n.Alias)
	case yaml.MappingNode:
		out, comma := []byte{'{'}, ""
		r.mapping(path, n, func(name string, _, value *yaml.Node) {
			key, _ := json.Marshal(name) // a text cannot fail
			out = append(append(append(append(out, comma...), key...), ':'),
				r.json(path+"."+name, value)...)
			comma = ","
		})
		return append(out, '}')
	case yaml.SequenceNode:
		out, comma := []byte{'['}, ""
		r.list(path, n, func(path string, n *yaml.Node) {
			out = append(append(out, comma...), r.json(path, n)...)
			comma = ","
		})
		return append(out, ']')
	}
	switch n.Tag {
	case "!!null":
		return json.RawMessage("null")
	case "!!bool", "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.RawMessage(n.Value)
		}
		var v any
		if n.Decode(&v) == nil {
			if text, err := json.Marshal(v); err == nil {
				return text
			}
		}
		r.fault(n, path, "%s: expected a value that JSON has", describe(n))
	}
	text, _ := json.Marshal(n.Value) // a text cannot fail
	return text
}
