package runtime

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/valyala/fastjson"

	"wasmeval/internal/event"
)

// pickPaths are read from each event, as each type. They begin with more keys than manyEdges.
var pickPaths = []string{"a", "b", "a.b", "a.b.c", "a[0]", "a[1].b", "a[0][1]", "long_name.x", "id",
	"é", "u", "x", "y", "skip"}

// pickColumns are the columns of all paths and types.
func pickColumns(t testing.TB) (cols []*column, which []uint32) {
	t.Helper()
	for _, p := range pickPaths {
		for _, typ := range []string{"f64", "i64", "bool", "utf8", "json"} {
			c, err := newColumn(Field{Path: p, Type: typ})
			if err != nil {
				t.Fatal(err)
			}
			cols, which = append(cols, c), append(which, uint32(len(which)))
		}
	}
	return cols, which
}

// columnsOf describes what a table has in row 0.
func columnsOf(t *table, cols []*column) string {
	var b strings.Builder
	for i, c := range cols {
		g := &t.cols[i]
		fmt.Fprintf(&b, "%s %d: %d", c.path, c.typ, g.state[0])
		if g.state[0] == valid && c.typ < typeUTF8 {
			fmt.Fprintf(&b, " %d", g.fixed[0])
		} else if g.state[0] == valid {
			fmt.Fprintf(&b, " %q", t.text[g.text[0].off:g.text[0].end])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// checkPick compares the columns of an event with those of fastjson's tree. It reports whether the
// event is good and was picked.
func checkPick(t *testing.T, text []byte) bool {
	t.Helper()
	scanner, err := event.NewScanner(event.Fields{}, event.Limits{EventBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	view := event.View{JSON: text}
	if scanner.Scan(text, &view.Envelope) != nil {
		return false
	}
	cols, which := pickColumns(t)
	var p fastjson.Parser
	obj, err := p.ParseBytes(text)
	if err != nil {
		t.Fatalf("the scanner takes %q, and fastjson does not: %v", text, err)
	}
	var tree, picked table
	tree.reset(len(cols), 1)
	tree.gather(0, &view, obj, cols, which)
	picked.reset(len(cols), 1)
	var pk picker
	for range 2 { // the second time with what the first has left behind
		picked.text = picked.text[:0]
		if !pk.pick(newPicks(cols, which), which, text) {
			return false
		}
		picked.gatherPicked(0, &view, &pk, cols, which)
		if got, want := columnsOf(&picked, cols), columnsOf(&tree, cols); got != want {
			t.Errorf("event %s: picked\n%s\nof the tree\n%s", text, got, want)
		}
	}
	// Each path alone, since the pass ends with the last value.
	for i := range cols {
		one := []uint32{uint32(i)}
		if pk.pick(newPicks(cols, one), one, text) {
			picked.gatherPicked(0, &view, &pk, cols, one)
		}
	}
	if got, want := columnsOf(&picked, cols), columnsOf(&tree, cols); got != want {
		t.Errorf("event %s: picked one by one\n%s\nof the tree\n%s", text, got, want)
	}
	return true
}

var pickEvents = []string{
	`{}`, ` { } `, `{"a":1}`, `{"a":{"b":{"c":true}},"b":"x"}`, `{"b":null,"a":[]}`,
	`{"a":[[1,2],{"b":"}]\""}],"b":-0.5e-7}`, ` { "a" : [ 1 , { "b" : [ ] } ] , "b" : { } } `,
	`{"a":9223372036854775807,"b":9223372036854775808}`, `{"a":1.0,"b":1e3}`, `{"a":1e400}`,
	`{"x":"\\","y":"\\\"","a":"q\u00e9\n"}`, `{"é":"ü","u":"\ud83d\ude00"}`,
	`{"skip":{"a":{"b":1}},"a":{"x":2,"b":{"c":3}}}`, `{"a":"","b":"\\"}`, `{"long_name":{"x":[{}]}}`,
	`{"a":[[0,[5]],2],"id":"7"}`, `{"a":{"b":[1],"c":2},"b":false}`,
	`{"x":1e+5,"y":[1E+2],"a":-0,"b":0.1}`,
	`{"a":123456789012.345,"b":1234567890123.456}`,
}

func TestPick(t *testing.T) {
	for _, text := range pickEvents {
		if !checkPick(t, []byte(text)) {
			t.Errorf("event %s was not picked", text)
		}
	}
	// A key with escapes may be any.
	if checkPick(t, []byte(`{"\u0061":1}`)) {
		t.Error("a key with escapes was picked")
	}
}

// shortFloat gives the bits that ParseFloat does, or none.
func TestShortFloat(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		digits := fmt.Sprintf("%020d", random.Uint64())[:1+random.IntN(17)]
		text := digits
		if n := random.IntN(len(digits)); n > 0 {
			text = digits[:n] + "." + digits[n:]
		}
		if random.IntN(2) == 0 {
			text = "-" + text
		}
		f, ok := shortFloat(text)
		want, err := strconv.ParseFloat(text, 64)
		if ok && (err != nil || math.Float64bits(f) != math.Float64bits(want)) {
			t.Fatalf("%s: %v, expected %v", text, f, want)
		}
		if ok != (len(digits) <= 15) {
			t.Fatalf("%s: taken is %v", text, ok)
		}
	}
	for _, text := range []string{"0", "-0", "-0.0", "0.00000000000001", "999999999999999"} {
		f, ok := shortFloat(text)
		if want, _ := strconv.ParseFloat(text, 64); !ok || math.Float64bits(f) != math.Float64bits(want) {
			t.Errorf("%s: %v %v, expected %v", text, f, ok, want)
		}
	}
	for _, text := range []string{"1e5", "1E+5", "0.000000000000001"} {
		if _, ok := shortFloat(text); ok {
			t.Errorf("%s was taken", text)
		}
	}
}

// Whatever event the scanner takes, picking its values finds what fastjson does.
func FuzzPick(f *testing.F) {
	for _, text := range pickEvents {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) { checkPick(t, text) })
}
