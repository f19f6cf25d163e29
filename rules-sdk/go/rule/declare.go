package rule

import (
	"math"
	"strconv"
)

const (
	maxFields = 64
	maxParams = 64
)

// declaration is what init says of the rule.
type declaration struct {
	description string
	match       []string
	columns     []*column
	params      []param
	states      []*keyed
	each        func(Row) int32
	eachBatch   func(Batch) error
	fault       string // the first one
}

var declared declaration

func fault(text string) {
	if declared.fault == "" {
		declared.fault = text
	}
}

// Describe says in one line what the rule does.
func Describe(text string) { declared.description = text }

// Match adds event types that the rule wants: "*" for all events, "payment.*" for types that begin
// with "payment.", or a whole type. Without Match the rule gets all events.
func Match(patterns ...string) { declared.match = append(declared.match, patterns...) }

// Each sets the function that gives the code of a row: 0 does not match, above 0 is the rule's own
// code, below 0 is an error of that row.
func Each(f func(r Row) int32) {
	if declared.each != nil || declared.eachBatch != nil {
		fault("Each or EachBatch is called twice")
	}
	declared.each = f
}

// EachBatch sets the function that evaluates a batch by loops over whole columns and writes
// [Batch.Verdicts]. An error is logged and fails the whole batch.
func EachBatch(f func(b Batch) error) {
	if declared.each != nil || declared.eachBatch != nil {
		fault("Each or EachBatch is called twice")
	}
	declared.eachBatch = f
}

func declare(path string, kind uint32) *column {
	c := &column{path: path, kind: kind}
	for _, other := range declared.columns {
		if other.path == path && other.kind == kind {
			fault("field " + strconv.Quote(path) + " is declared twice as " + kindNames[kind])
		}
	}
	switch {
	case path == "":
		fault("a field has an empty path")
	case path == "$" && kind != kindJSON:
		fault("field \"$\" is declared as " + kindNames[kind] + ": expected json")
	case len(declared.columns) == maxFields:
		fault("more than 64 fields are declared")
	}
	declared.columns = append(declared.columns, c)
	return c
}

// F64 declares a field that is read as float64. For paths see the ABI: "amount", "user.id",
// "items[0].price", or "@type", "@id", "@source", "@time", "@key" of the envelope.
func F64(path string) F64Column { return F64Column{Column{declare(path, kindF64)}} }

// I64 declares a field that is read as an exact int64. "@time" is in nanoseconds since 1970 UTC.
func I64(path string) I64Column { return I64Column{Column{declare(path, kindI64)}} }

// Bool declares a field that is read as bool.
func Bool(path string) BoolColumn { return BoolColumn{Column{declare(path, kindBool)}} }

// UTF8 declares a field that is read as string. "@time" is RFC 3339.
func UTF8(path string) TextColumn { return TextColumn{Column{declare(path, kindUTF8)}} }

// JSON declares a field of any kind that is read as its JSON text; "$" is the whole event.
func JSON(path string) TextColumn { return TextColumn{Column{declare(path, kindJSON)}} }

// manifest gives the manifest as JSON, or what is wrong with the declarations.
func manifest() (text []byte, wrong string) {
	d := &declared
	if d.each == nil && d.eachBatch == nil {
		fault("neither Each nor EachBatch is called in init")
	}
	if d.fault != "" {
		return nil, d.fault
	}
	var p Payload
	p.reset()
	p.UTF8("description", d.description)
	if len(d.match) > 0 {
		p.Array("match")
		for _, m := range d.match {
			p.UTF8("", m)
		}
		p.End()
	}
	p.Array("fields")
	for _, c := range d.columns {
		p.Object("").UTF8("path", c.path).UTF8("type", kindNames[c.kind]).End()
	}
	p.End().Array("params")
	for _, q := range d.params {
		q.describe(&p)
	}
	if p.End(); len(d.states) > 0 {
		p.Array("state")
		for _, k := range d.states {
			k.describe(&p)
		}
	}
	return p.close(), ""
}

// Param is a parameter of the rule. Its value is set by whoever activates the rule.
type Param[T float64 | int64 | bool | string] struct{ p *paramOf[T] }

// Value returns the parameter's value; before the server has configured the rule, its default.
func (p Param[T]) Value() T { return p.p.value }

// Required takes the default away: whoever activates the rule must give a value. It returns p.
func (p Param[T]) Required() Param[T] {
	p.p.required = true
	return p
}

// ParamF64 declares a parameter. The default must be a finite number.
func ParamF64(name string, byDefault float64, description string) Param[float64] {
	if math.IsNaN(byDefault) || math.IsInf(byDefault, 0) {
		fault("param " + strconv.Quote(name) + " has a default that JSON cannot hold")
	}
	return declareParam("f64", name, byDefault, description)
}

// ParamI64 declares a parameter.
func ParamI64(name string, byDefault int64, description string) Param[int64] {
	return declareParam("i64", name, byDefault, description)
}

// ParamBool declares a parameter.
func ParamBool(name string, byDefault bool, description string) Param[bool] {
	return declareParam("bool", name, byDefault, description)
}

// ParamUTF8 declares a parameter.
func ParamUTF8(name, byDefault, description string) Param[string] {
	return declareParam("utf8", name, byDefault, description)
}

func declareParam[T float64 | int64 | bool | string](kind, name string, byDefault T,
	description string) Param[T] {
	switch {
	case name == "":
		fault("a param has an empty name")
	case find(name) != nil:
		fault("param " + strconv.Quote(name) + " is declared twice")
	case len(declared.params) == maxParams:
		fault("more than 64 params are declared")
	}
	p := &paramOf[T]{name: name, kind: kind, description: description,
		byDefault: byDefault, value: byDefault}
	declared.params = append(declared.params, p)
	return Param[T]{p}
}

func find(name string) param {
	for _, p := range declared.params {
		if p.is(name) {
			return p
		}
	}
	return nil
}
