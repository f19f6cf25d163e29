package rule

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// param is a paramOf some type.
type param interface {
	is(name string) bool
	describe(p *Payload)
	set(text string) error
}

type paramOf[T float64 | int64 | bool | string] struct {
	name, kind, description string
	byDefault, value        T
	required                bool
}

func (p *paramOf[T]) is(name string) bool { return p.name == name }

func (p *paramOf[T]) describe(out *Payload) {
	out.Object("").UTF8("name", p.name).UTF8("type", p.kind)
	if !p.required {
		switch v := any(p.byDefault).(type) {
		case float64:
			out.F64("default", v)
		case int64:
			out.I64("default", v)
		case bool:
			out.Bool("default", v)
		case string:
			out.UTF8("default", v)
		}
	}
	if p.description != "" {
		out.UTF8("description", p.description)
	}
	out.End()
}

// set takes the JSON text of a value.
func (p *paramOf[T]) set(text string) (err error) {
	switch v := any(&p.value).(type) {
	case *float64:
		*v, err = strconv.ParseFloat(text, 64)
	case *int64:
		*v, err = strconv.ParseInt(text, 10, 64)
	case *bool:
		*v = text == "true"
		if !*v && text != "false" {
			err = errBadParams
		}
	case *string:
		*v, err = unquote(text)
	}
	return err
}

var errBadParams = errors.New("expected an object of declared params without white space")

// configure sets the parameters from what the server gives: a JSON object without white space that
// has every declared parameter.
func configure(text string) error {
	if text == "{}" && len(declared.params) == 0 {
		return nil
	}
	set, rest := 0, text
	for sep := byte('{'); sep != '}'; set++ {
		if rest == "" || rest[0] != sep {
			return errBadParams
		}
		key, after := cut(rest[1:])
		name, err := unquote(key)
		if err != nil || after == "" || after[0] != ':' {
			return errBadParams
		}
		value, after := cut(after[1:])
		p := find(name)
		if p == nil {
			return errors.New("param " + strconv.Quote(name) + " is not declared")
		}
		if err := p.set(value); err != nil {
			return errors.New("param " + strconv.Quote(name) + " is " + value)
		}
		if rest = after; rest == "}" {
			sep = '}'
		} else {
			sep = ','
		}
	}
	if set != len(declared.params) {
		return errors.New("expected " + strconv.Itoa(len(declared.params)) + " params, got " +
			strconv.Itoa(set))
	}
	return nil
}

// cut splits s behind the string, number or literal that it begins with.
func cut(s string) (value, rest string) {
	quoted := s != "" && s[0] == '"'
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case quoted && c == '"':
			return s[:i+1], s[i+1:]
		case !quoted && (c == ',' || c == '}' || c == ':'):
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// unquote reads a JSON string.
func unquote(s string) (string, error) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", errBadParams
	}
	s = s[1 : len(s)-1]
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", errBadParams
		}
		switch s[i] {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, n := unicodeEscape(s[i-1:])
			if n == 0 {
				return "", errBadParams
			}
			out = utf8.AppendRune(out, r)
			i += n - 2
		default:
			out = append(out, s[i])
		}
	}
	return string(out), nil
}

// unicodeEscape reads \uXXXX, or two of them that are a surrogate pair, at the begin of s and gives
// the length read, or 0. Half of a pair is U+FFFD.
func unicodeEscape(s string) (rune, int) {
	r := hex4(s)
	if r < 0 {
		return 0, 0
	}
	if utf16.IsSurrogate(r) {
		if pair := utf16.DecodeRune(r, hex4(s[6:])); pair != utf8.RuneError {
			return pair, 12
		}
		return utf8.RuneError, 6
	}
	return r, 6
}

func hex4(s string) rune {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(s[2:6], 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}
