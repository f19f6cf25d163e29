package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"wasmeval/internal/sink"
)

// yamlFile is what a configuration file says of the options.
type yamlFile struct {
	values map[string]placed // by the option's path
	places map[string]string // of what routes and sinks have, by keys such as sinks[0].type
}

// placed is a value and where it stands, as file:line.
type placed struct {
	text, place string
}

// placeOf is where a key of routes or sinks stands, or what it is missing from.
func (f *yamlFile) placeOf(key string) string {
	for {
		if place, ok := f.places[key]; ok || key == "" {
			return place
		}
		key = key[:max(strings.LastIndexByte(key, '.'), 0)]
	}
}

// readYAML reads a configuration file, routes and sinks into s. The error joins all faults, each
// with file and line.
func readYAML(name string, env func(string) (string, bool), s *sink.Config) (yamlFile, error) {
	r := &yamlReader{name: name, env: env,
		file: yamlFile{values: make(map[string]placed), places: map[string]string{"": name}}}
	f, err := os.Open(name)
	if err != nil {
		return r.file, fmt.Errorf("cannot read configuration %q: %w", name, errors.Unwrap(err))
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return r.file, nil // an empty file, or comments only
	case err != nil:
		return r.file, r.syntax(err)
	}
	r.section("", doc.Content[0], s)
	var more yaml.Node
	switch err := dec.Decode(&more); {
	case errors.Is(err, io.EOF):
	case err != nil:
		r.faults = append(r.faults, r.syntax(err))
	default:
		r.fault(&more, "", "a second document: expected one")
	}
	return r.file, errors.Join(r.faults...)
}

type yamlReader struct {
	name   string
	env    func(string) (string, bool)
	file   yamlFile
	faults []error
}

func (r *yamlReader) place(n *yaml.Node) string { return r.name + ":" + strconv.Itoa(n.Line) }

func (r *yamlReader) fault(n *yaml.Node, path, format string, args ...any) {
	where := r.place(n)
	if strings.ContainsFunc(path, unicode.IsControl) {
		path = strconv.Quote(path) // a key of several lines: a fault is one
	}
	if path != "" {
		where += ": " + path
	}
	r.faults = append(r.faults, fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...)))
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// syntax puts the file's name before an error of the YAML library, in the form of our own faults.
func (r *yamlReader) syntax(err error) error {
	text := err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s:%s: %s", r.name, m[1], text[len(m[0]):])
	}
	return fmt.Errorf("%s: %s", r.name, strings.TrimPrefix(text, "yaml: "))
}

// section reads the mapping at path, which is empty for the whole file.
func (r *yamlReader) section(path string, n *yaml.Node, s *sink.Config) {
	r.mapping(path, n, func(name string, key, value *yaml.Node) {
		sub := strings.TrimPrefix(path+"."+name, ".")
		option := slices.IndexFunc(options, func(o option) bool { return o.path == sub })
		switch {
		case !slices.Contains(keysBelow(path), name): // also listen.http, which is no path here
			r.fault(key, sub, "unknown key: expected %s", strings.Join(keysBelow(path), ", "))
		case sub == "routes":
			r.decode(sub, value, reflect.ValueOf(&s.Routes).Elem())
		case sub == "sinks":
			r.decode(sub, value, reflect.ValueOf(&s.Sinks).Elem())
		case option >= 0:
			r.option(&options[option], value)
		default:
			r.section(sub, value, s)
		}
	})
}

// keysBelow lists the keys that a section may have.
func keysBelow(path string) []string {
	keys := make(map[string]bool)
	prefix := path + "."
	if path == "" {
		prefix = ""
		keys["routes"], keys["sinks"] = true, true
	}
	for i := range options {
		if rest, ok := strings.CutPrefix(options[i].path, prefix); ok {
			key, _, _ := strings.Cut(rest, ".")
			keys[key] = true
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

// mapping calls f for each key of a mapping, once.
func (r *yamlReader) mapping(path string, n *yaml.Node, f func(name string, key, value *yaml.Node)) {
	if isNull(n) {
		return // a section with nothing in it
	}
	if n.Kind != yaml.MappingNode {
		r.fault(n, path, "%s: expected keys with values", describe(n))
		return
	}
	lines := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			r.fault(key, path, "%s as a key: expected a name", describe(key))
			continue
		}
		sub := strings.TrimPrefix(path+"."+key.Value, ".")
		if first, ok := lines[key.Value]; ok {
			r.fault(key, sub, "the key is in line %d already", first)
			continue
		}
		lines[key.Value] = key.Line
		f(key.Value, key, value)
	}
}

func (r *yamlReader) option(o *option, n *yaml.Node) {
	if _, ok := o.to(new(Config)).(*[]string); ok && n.Kind == yaml.SequenceNode {
		texts := make([]string, 0, len(n.Content))
		for _, item := range n.Content {
			if text, ok := r.scalar(o.path, item, o.kind()); ok {
				texts = append(texts, text)
			}
		}
		r.file.values[o.path] = placed{strings.Join(texts, ","), r.place(n)}
		return
	}
	if text, ok := r.scalar(o.path, n, o.kind()); ok {
		r.file.values[o.path] = placed{text, r.place(n)}
	}
}

// scalar returns the text of a single value, with variables expanded.
func (r *yamlReader) scalar(path string, n *yaml.Node, kind string) (string, bool) {
	isText := kind == "text" || kind == "list"
	if n.Kind != yaml.ScalarNode || isNull(n) || isText && n.Tag == "!!bool" {
		r.fault(n, path, "%s: expected a %s", describe(n), kind)
		return "", false
	}
	text, err := expand(n.Value, r.env)
	if err != nil {
		r.fault(n, path, "%w", err)
		return "", false
	}
	return text, true
}

// decode reads a value into what stands in routes and sinks: structs with yaml tags, lists, maps of
// texts, texts, numbers, booleans and durations. A yaml.Decoder would do, but it knows neither our
// variables nor sizes with units, and it stops at the first fault of a document.
func (r *yamlReader) decode(path string, n *yaml.Node, v reflect.Value) {
	r.file.places[path] = r.place(n)
	switch v.Kind() {
	case reflect.Slice:
		if isNull(n) {
			return
		}
		if n.Kind != yaml.SequenceNode {
			r.fault(n, path, "%s: expected a list", describe(n))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			r.decode(fmt.Sprintf("%s[%d]", path, i), item, v.Index(i))
		}
	case reflect.Struct:
		fields := make(map[string]int)
		for i := range v.NumField() {
			fields[v.Type().Field(i).Tag.Get("yaml")] = i
		}
		r.mapping(path, n, func(name string, key, value *yaml.Node) {
			i, ok := fields[name]
			if !ok {
				r.fault(key, path+"."+name, "unknown key: expected %s",
					strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
				return
			}
			r.decode(path+"."+name, value, v.Field(i))
		})
	case reflect.Map:
		texts := make(map[string]string)
		r.mapping(path, n, func(name string, _, value *yaml.Node) {
			if text, ok := r.scalar(path+"."+name, value, "text"); ok {
				texts[name] = text
				r.file.places[path+"."+name] = r.place(value)
			}
		})
		v.Set(reflect.ValueOf(texts))
	default:
		r.decodeScalar(path, n, v)
	}
}

// decodeScalar lets the options' parser read the value, so that both accept the same forms.
func (r *yamlReader) decodeScalar(path string, n *yaml.Node, v reflect.Value) {
	o := option{path: path}
	switch p := v.Addr().Interface().(type) {
	case *int:
		o.to = func(*Config) any { return p }
		if strings.HasSuffix(path, "_bytes") {
			o.to = func(*Config) any { return bytesOf(p) }
		}
	case *string, *bool, *time.Duration:
		o.to = func(*Config) any { return p }
	default:
		panic(fmt.Sprintf("BUG: %s is a %T", path, p))
	}
	text, ok := r.scalar(path, n, o.kind())
	if !ok {
		return
	}
	if err := o.parse(nil, text); err != nil {
		r.fault(n, path, "%w", err)
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// describe names what stands where something else was expected.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if isNull(n) {
		return "no value"
	}
	return strconv.Quote(n.Value)
}

var variable = regexp.MustCompile(`^\{([A-Za-z_][A-Za-z0-9_]*)(:([^}]*))?\}`)

// expand replaces ${VAR} and ${VAR:default}; $$ stands for a dollar sign. A dollar sign before
// anything else is left as it is.
func expand(text string, env func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(text, "$")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		text = after
		switch {
		case strings.HasPrefix(text, "$"):
			b.WriteByte('$')
			text = text[1:]
		case strings.HasPrefix(text, "{"):
			m := variable.FindStringSubmatch(text)
			if m == nil {
				return "", fmt.Errorf("%q: expected ${VARIABLE} or ${VARIABLE:default}", "$"+text)
			}
			value, set := env(m[1])
			if !set && m[2] == "" {
				return "", fmt.Errorf("variable %s is not set and has no default", m[1])
			}
			if !set {
				value = m[3]
			}
			b.WriteString(value)
			text = text[len(m[0]):]
		default:
			b.WriteByte('$')
		}
	}
}
