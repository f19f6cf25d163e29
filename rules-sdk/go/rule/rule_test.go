//go:build !wasip1

package rule

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"
)

// fresh takes all declarations back, before and after the test.
func fresh(t *testing.T) {
	declared = declaration{}
	t.Cleanup(func() { declared, host = declaration{}, nil })
}

func TestColumns(t *testing.T) {
	fresh(t)
	f, i, b := F64("a.f"), I64("list[1]"), Bool("b")
	s, j, whole := UTF8("s"), JSON("j"), JSON("$")
	ns := I64("@time")
	type got struct {
		f                  float64
		i, ns              int64
		b                  bool
		s, j               string
		of, oi, ob, os, oj bool
	}
	var all []got
	Each(func(r Row) int32 {
		var g got
		g.f, g.of = f.At(r)
		g.i, g.oi = i.At(r)
		g.b, g.ob = b.At(r)
		g.s, g.os = s.At(r)
		text, ok := j.Bytes(r)
		g.j, g.oj = string(text), ok
		g.ns, _ = ns.At(r)
		g.s, g.j = strings.Clone(g.s), strings.Clone(g.j)
		all = append(all, g)
		if w, ok := whole.At(r); !ok || !json.Valid([]byte(w)) {
			return -1
		}
		return int32(r.Index())
	})
	ev := []string{
		`{"a":{"f":1.5},"list":[0,9007199254740993],"b":true,"s":"hé\n","j":{"x":[1]},
			"ts":"1970-01-01T00:00:01Z"}`,
		`{}`,
		`{"a":{"f":"1"},"list":[0,1.5],"b":0,"s":7,"j":null}`,
		`{"a":7,"list":[0,1e3],"b":false,"s":"","j":""}`,
	}
	for len(ev) < 9 { // beyond one byte of a bitmap
		ev = append(ev, ev[0])
	}
	verdicts, err := Try(nil, "", ev...)
	if err != nil {
		t.Fatal(err)
	}
	full := got{1.5, 9007199254740993, 1e9, true, "hé\n", `{"x":[1]}`, true, true, true, true, true}
	want := []got{full, {ns: 1e9 + 1}, {ns: 1e9 + 2},
		{i: 1000, ns: 1e9 + 3, j: `""`, oi: true, ob: true, os: true, oj: true},
		full, full, full, full, full}
	for k := range want {
		if all[k] != want[k] || verdicts[k].Code != int32(k) {
			t.Errorf("row %d: got %+v and code %d, want %+v", k, all[k], verdicts[k].Code, want[k])
		}
	}
}

func TestEachBatch(t *testing.T) {
	fresh(t)
	f, i, b, s := F64("f"), I64("i"), Bool("b"), UTF8("s")
	fail := false
	EachBatch(func(batch Batch) error {
		ends, data := s.Values()
		if got := string(data[ends[1]:ends[2]]); got != "two" {
			t.Errorf("text of row 1 is %q", got)
		}
		if f.Nulls() != 1 || f.Validity()[0] != 0b011 || b.Values()[0] != 0b010 {
			t.Errorf("nulls %d, validity %b, bools %b", f.Nulls(), f.Validity(), b.Values())
		}
		if batch.Rows() != 3 || batch.Time() != 0 || batch.Times()[2] != 2 {
			t.Errorf("rows %d, time %d, times %d", batch.Rows(), batch.Time(), batch.Times())
		}
		out := batch.Verdicts()
		for k, v := range f.Values() {
			out[k] = int32(v) + int32(i.Values()[k])
		}
		if err := batch.Row(2).Payload().Emit(); err != nil {
			t.Errorf("emit: %v", err)
		}
		if fail {
			return errors.New("no")
		}
		return nil
	})
	ev := []string{`{"f":1,"i":2}`, `{"f":3,"b":true,"s":"two"}`, `{"i":9}`}
	v, err := Try(nil, "", ev...)
	if err != nil || v[0].Code != 3 || v[1].Code != 3 || v[2] != (Verdict{9, "{}"}) {
		t.Errorf("got %v, %v", v, err)
	}
	fail = true
	var logged string
	_, err = Try(func(_ Level, text string) { logged = text }, "", ev...)
	if err == nil || logged != "no" {
		t.Errorf("a failing batch gives %v and the log %q", err, logged)
	}
}

func TestForeignBatch(t *testing.T) {
	fresh(t)
	F64("f")
	Each(func(Row) int32 { return 1 })
	batch := buildBatch([]any{map[string]any{}}, make([]fakeEvent, 1), declared.columns)
	p := unsafe.Pointer(&batch[0])
	if code := evaluate(p); code != 0 {
		t.Fatalf("the right batch gives %d", code)
	}
	declared.columns[0].kind = kindUTF8
	if code := evaluate(p); code != notOurBatch {
		t.Errorf("another type gives %d", code)
	}
	declared.columns = nil
	if code := evaluate(p); code != notOurBatch {
		t.Errorf("another number of columns gives %d", code)
	}
}

func TestManifest(t *testing.T) {
	fresh(t)
	Describe("a \"rule\"")
	Match("a.*", "b")
	F64("x")
	UTF8("@key")
	ParamF64("f", 1e-9, "small")
	ParamI64("i", math.MinInt64, "")
	ParamBool("b", true, "")
	ParamUTF8("s", "ü\n", "")
	ParamF64("need", 0, "").Required()
	Counter("c", Sliding(Minute, 60), Keys(50))
	Distinct("d", Hour, 4, ByArrival())
	Seen("first")
	Value("v", 32, TTL(Second))
	Each(func(Row) int32 { return 0 })
	text, wrong := manifest()
	want := `{"description":"a \"rule\"","match":["a.*","b"],"fields":[{"path":"x","type":"f64"},` +
		`{"path":"@key","type":"utf8"}],"params":[` +
		`{"name":"f","type":"f64","default":1e-09,"description":"small"},` +
		`{"name":"i","type":"i64","default":-9223372036854775808},` +
		`{"name":"b","type":"bool","default":true},{"name":"s","type":"utf8","default":"ü\u000a"},` +
		`{"name":"need","type":"f64"}],"state":[` +
		`{"name":"c","kind":"counter","window_ms":60000,"buckets":60,"keys":50},` +
		`{"name":"d","kind":"distinct","window_ms":3600000,"limit":4,"time":"arrival"},` +
		`{"name":"first","kind":"seen"},{"name":"v","kind":"value","bytes":32,"ttl_ms":1000}]}`
	if wrong != "" || string(text) != want {
		t.Errorf("got  %s %s\nwant %s", text, wrong, want)
	}
}

func TestManifestFaults(t *testing.T) {
	each := func() { Each(func(Row) int32 { return 0 }) }
	for name, c := range map[string]struct {
		declare func()
		want    string
	}{
		"nothing":      {func() {}, "neither Each"},
		"twice":        {func() { each(); each() }, "called twice"},
		"same field":   {func() { each(); F64("x"); F64("x") }, `field "x" is declared twice as f64`},
		"empty field":  {func() { each(); F64("") }, "empty path"},
		"whole as f64": {func() { each(); F64("$") }, "expected json"},
		"same param":   {func() { each(); ParamI64("p", 1, ""); ParamBool("p", true, "") }, `"p"`},
		"empty param":  {func() { each(); ParamI64("", 1, "") }, "empty name"},
		"NaN":          {func() { each(); ParamF64("p", math.NaN(), "") }, "JSON cannot hold"},
		"same state":   {func() { each(); Seen("s"); Value("s", 1) }, `state "s" is declared twice`},
		"empty state":  {func() { each(); Seen("") }, "empty name"},
		"no window":    {func() { each(); Counter("c", Window{}) }, `state "c" has the window of 0 ns`},
		"microsecond":  {func() { each(); Distinct("c", Millisecond/1000, 1) }, "whole milliseconds"},
		"65 buckets":   {func() { each(); Counter("c", Sliding(65*Second, 65)) }, "65 buckets"},
		"7 buckets":    {func() { each(); Counter("c", Sliding(Second, 7)) }, "do not divide"},
		"65 values":    {func() { each(); Distinct("c", Second, 65) }, "65 values as limit"},
		"257 bytes":    {func() { each(); Value("c", 257) }, "257 bytes"},
		"no keys":      {func() { each(); Seen("c", Keys(0)) }, "has 0 keys"},
		"counter TTL":  {func() { each(); Counter("c", Tumbling(1e9), TTL(1e9)) }, "has no TTL"},
		"17 states": {func() {
			each()
			for i := range 17 {
				Seen("s" + strconv.Itoa(i))
			}
		}, "more than 16 states"},
		"65 fields": {func() {
			each()
			for i := range 65 {
				F64("f" + strconv.Itoa(i))
			}
		}, "more than 64 fields"},
		"65 params": {func() {
			each()
			for i := range 65 {
				ParamI64("p"+strconv.Itoa(i), 0, "")
			}
		}, "more than 64 params"},
	} {
		t.Run(name, func(t *testing.T) {
			fresh(t)
			c.declare()
			if text, wrong := manifest(); text != nil || !strings.Contains(wrong, c.want) {
				t.Errorf("got %s and %q, want %q", text, wrong, c.want)
			}
		})
	}
}

func TestConfigure(t *testing.T) {
	for _, c := range []struct {
		text string
		ok   bool
	}{
		{`{"f":-1.5e3,"i":9007199254740993,"b":false,"s":"a\"}{,:\u00e9\ud83d\ude00\n\/é"}`, true},
		{`{"s":"","b":true,"i":0,"f":0}`, true},
		{`{"f":1,"i":1,"b":true}`, false},
		{`{"f":1,"i":1.5,"b":true,"s":""}`, false},
		{`{"f":"1","i":1,"b":true,"s":""}`, false},
		{`{"f":1,"i":1,"b":1,"s":""}`, false},
		{`{"f":1,"i":1,"b":true,"s":1}`, false},
		{`{"f":1,"i":1,"b":true,"s":"","x":1}`, false},
		{`{"f":1,"i":1,"b":true,"s":"\u12"}`, false},
		{`{"f":1,"i":1,"b":true,"s":""`, false},
		{`{`, false}, {``, false}, {`{}`, false}, {`{"f"`, false}, {`{"f":`, false}, {`[1]`, false},
		{`{"f":1,"i":1,"b":true,"s":"\"}`, false},
	} {
		fresh(t)
		f, i := ParamF64("f", 1, ""), ParamI64("i", 1, "")
		b, s := ParamBool("b", true, ""), ParamUTF8("s", "x", "")
		err := configure(c.text)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.text, err)
		}
		if strings.HasPrefix(c.text, `{"f":-1.5e3`) && (f.Value() != -1500 ||
			i.Value() != 9007199254740993 || b.Value() || s.Value() != "a\"}{,:é😀\n/é") {
			t.Errorf("values are %v %v %v %q", f.Value(), i.Value(), b.Value(), s.Value())
		}
	}
}

func FuzzConfigure(f *testing.F) {
	f.Add(`{"s":"a\ud83dx"}`)
	f.Fuzz(func(t *testing.T, text string) {
		fresh(t)
		s := ParamUTF8("s", "", "")
		var want map[string]*string
		bad := json.Unmarshal([]byte(text), &want) != nil || len(want) != 1 || want["s"] == nil ||
			!utf8.ValidString(text) // the server gives UTF-8 alone
		if err := configure(text); err == nil && !bad && s.Value() != *want["s"] {
			t.Errorf("%q gives %q, want %q", text, s.Value(), *want["s"])
		}
	})
}

func TestPayload(t *testing.T) {
	var p Payload
	for range 2 { // the second time in the same buffer
		p.reset()
		p.F64("f", 0.1).F64("n", math.NaN()).F64("big", 1e300).F64("zero", math.Copysign(0, -1)).
			F64("whole", -3).I64("i", math.MinInt64).Bool("b", false).UTF8("q\"", "\x01\\é").
			JSON("j", `[1]`).JSON("none", "").
			Array("a").I64("", 1).Object("").Bool("x", true).End().Array("").End().End().
			Object("o").Object("open")
		got := string(p.close())
		want := `{"f":0.1,"n":null,"big":1e+300,"zero":-0,"whole":-3,"i":-9223372036854775808,` +
			`"b":false,"q\"":"\u0001\\é","j":[1],"none":null,"a":[1,{"x":true},[]],"o":{"open":{}}}`
		if got != want || !json.Valid([]byte(got)) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}

// What is written is read as the same, in as few digits as strconv needs.
func TestNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 200_000 {
		v := math.Float64frombits(r.Uint64())
		switch i % 4 {
		case 0:
			v = float64(r.IntN(2_000_000_000)-1_000_000_000) / math.Pow10(r.IntN(8))
		case 1:
			v = r.NormFloat64() * 1000
		case 2:
			v = float64(r.Int64()) / math.Pow10(r.IntN(20))
		}
		got := string(appendFloat(nil, v))
		if math.IsNaN(v) || math.IsInf(v, 0) {
			if got != "null" {
				t.Fatalf("%v gives %s", v, got)
			}
			continue
		}
		back, err := strconv.ParseFloat(got, 64)
		want := strconv.FormatFloat(v, 'f', -1, 64)
		if err != nil || back != v || !strings.Contains(got, "e") && got != want {
			t.Fatalf("%v gives %s, expected %s", v, got, want)
		}
	}
}

func TestEmitErrors(t *testing.T) {
	fresh(t)
	for code, want := range map[int32]error{0: nil, 1: ErrRefused, 2: ErrRefused, 3: ErrTooLarge,
		4: ErrNotJSON} {
		host = &fakeHost{emit: func(int, []byte) int32 { return code }}
		if err := (Row{}).Emit([]byte("{}")); err != want {
			t.Errorf("%d gives %v, want %v", code, err, want)
		}
	}
}

func TestLog(t *testing.T) {
	fresh(t)
	var got string
	host = &fakeHost{log: func(l Level, text string) { got = strconv.Itoa(int(l)) + " " + text }}
	Log(Warn, "a ", []byte("b "), true, " ", -1, " ", int32(2), " ", int64(3), " ", uint(4), " ",
		uint32(5), " ", uint64(6), " ", float32(0.1), " ", 0.2, " ", struct{}{})
	if want := "2 a b true -1 2 3 4 5 6 0.1 0.2 ?"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNoAllocations(t *testing.T) {
	fresh(t)
	f, s := F64("f"), UTF8("s")
	limit := ParamF64("limit", 1, "")
	Each(func(r Row) int32 {
		v, _ := f.At(r)
		text, _ := s.At(r)
		Log(Debug, "value ", v, " of ", text)
		r.Payload().F64("v", v).UTF8("s", text).F64("limit", limit.Value()).Emit()
		return 1
	})
	emitted := 0
	host = &fakeHost{emit: func(int, []byte) int32 { emitted++; return 0 }}
	batch := buildBatch([]any{map[string]any{"f": json.Number("2.5"), "s": "x"}, map[string]any{}},
		make([]fakeEvent, 2), declared.columns)
	p := unsafe.Pointer(&batch[0])
	if n := testing.AllocsPerRun(100, func() { evaluate(p) }); n != 0 || emitted != 202 {
		t.Errorf("%v allocations a batch, %d payloads", n, emitted)
	}
}

func TestTry(t *testing.T) {
	fresh(t)
	Match("a.*")
	x := I64("x")
	add := ParamI64("add", 1, "")
	Each(func(r Row) int32 {
		v, _ := x.At(r)
		r.Payload().I64("x", v).Emit()
		return int32(v + add.Value())
	})
	events := []string{`{"type":"b","x":1}`, `{"type":"a.b","x":5}`, `{"type":"a.b","x":-1}`}
	v, err := Try(nil, "", events...)
	if err != nil || v[0] != (Verdict{}) || v[1] != (Verdict{6, `{"x":5}`}) || v[2] != (Verdict{}) {
		t.Errorf("got %+v, %v", v, err)
	}
	v, err = Try(nil, ` {"add": 2} `, events...)
	if err != nil || v[1].Code != 7 {
		t.Errorf("with a param: %+v, %v", v, err)
	}
	if v, err = Try(nil, "", events...); err != nil || v[1].Code != 6 {
		t.Errorf("the default is not back: %+v, %v", v, err)
	}
	for _, params := range []string{`{"sub":1}`, `{"add":"1"}`, `{`} {
		if _, err := Try(nil, params, events...); err == nil {
			t.Errorf("params %s are taken", params)
		}
	}
	if _, err := Try(nil, "", `[]`); err == nil {
		t.Error("an array is taken for an event")
	}
}
